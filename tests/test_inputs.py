"""Raw features for a forecast: to the last bit those of the training, of the newest day too, or an error that says what to do."""

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NAME, ROOT, Project, moved
from hypothesis import given, settings
from hypothesis import strategies as st
from test_extra import INDEX, bundle_of, own

from fxhelpers import ModelRegistry, features_for, load_params, read_extra, read_prices
from fxhelpers.errors import FeaturesError, ParamsError, PriceDataError, TooFewDaysError
from fxhelpers.features import LOOK_BACK_DAYS, build_features
from fxhelpers.params import PricesParams
from fxhelpers.prices import PriceFinding, SharePrices, keep_prices, unpack_prices
from fxhelpers.registry.models import load_version
from fxhelpers.registry.pipelines import LoadedModel
from fxhelpers.training import supervised

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
PRICES = {symbol: read_prices(symbol, PricesParams()) for symbol in SYMBOLS}
WHOLE = {symbol: features_for(prices) for symbol, prices in PRICES.items()}
AAPL = PRICES["AAPL"]


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """To the last bit, with the same days and names."""
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_features_are_those_of_a_training_and_of_one_day_more(symbol: str) -> None:
    prices = PRICES[symbol]
    trained_on, _ = supervised(keep_prices(prices).frame)
    same(WHOLE[symbol].loc[trained_on.index], trained_on)
    assert WHOLE[symbol].index.difference(trained_on.index).tolist() == [prices.frame.index[-1]]
    same(features_for(prices.frame), WHOLE[symbol])


@settings(max_examples=60)
@given(symbol=st.sampled_from(SYMBOLS), end=st.integers(LOOK_BACK_DAYS, 2100), last=st.integers(1, 90))
def test_the_last_days_alone_are_the_same(symbol: str, end: int, last: int) -> None:
    """A feature is a function of its look-back, whatever it is cut from: the last bit too."""
    frame = PRICES[symbol].frame.iloc[:end]
    count = min(last, end - LOOK_BACK_DAYS + 1)
    found = features_for(frame, last=last)
    same(found, WHOLE[symbol].loc[frame.index[-count:]])
    same(features_for(frame, last=1), found.tail(1))


def test_another_scale_of_the_same_prices_moves_features_less_than_the_docstring_says() -> None:
    for symbol, prices in PRICES.items():
        scaled = prices.frame.assign(**(prices.frame[["Open", "High", "Low", "Close"]] * 0.987))
        off = ((features_for(scaled) - WHOLE[symbol]).abs().max() / WHOLE[symbol].std()).max()
        assert 0 < off < 1e-4, symbol


def champion(version: int = 1) -> LoadedModel:
    return load_version(ModelRegistry().client, NAME, version)


def test_a_version_gets_the_features_that_it_was_fitted_on(project: Project, registered: Callable[..., int]) -> None:
    model = champion(registered("regularised"))
    assert model.probe is not None
    trained_on, _ = supervised(unpack_prices(model.probe.prices).frame)
    found = features_for(AAPL, model)
    same(found.loc[trained_on.index], trained_on)
    assert list(found) == model.facts["feature_names"]
    ranges = pd.DataFrame(model.facts["feature_ranges"], index=["low", "high"]).loc[:, list(found)]
    seen = found.loc[model.facts["windows"]["training"]["first_day"] : model.facts["windows"]["training"]["last_day"]]
    np.testing.assert_array_equal(seen.min(), ranges.loc["low"])
    np.testing.assert_array_equal(seen.max(), ranges.loc["high"])
    stored = model.probe.days
    np.testing.assert_allclose(model.pipeline.predict(found.loc[stored.index]), stored, rtol=0, atol=1e-15)
    newest = features_for(AAPL, model, last=1)
    assert model.forecast(newest.iloc[0].to_dict()) == model.pipeline.predict(found)[-1]


@pytest.mark.parametrize(("archive", "schema", "kept"), [("release-0.1.0", 1, False), ("schema-2", 2, True)])
def test_versions_of_earlier_releases_get_theirs(project: Project, archive: str, schema: int, *, kept: bool) -> None:
    with tarfile.open(ROOT / "tests" / f"{archive}.tar.xz") as packed:
        packed.extractall(project.folder, filter="data")
    moved(project.folder, "file:///srv/desk")
    model = champion()
    assert model.probe is not None
    assert (model.facts["feature_schema"]["version"], bool(model.probe.prices)) == (schema, kept)
    found = features_for(AAPL, model)
    frame = AAPL.for_schema(schema)
    built = build_features(keep_prices(frame).frame if kept else frame, schema)[model.facts["feature_names"]]
    same(found, built.iloc[LOOK_BACK_DAYS - 1 :])
    same(features_for(AAPL, model, last=7), found.tail(7))
    if schema == 1:
        with pytest.raises(PriceDataError, match=r"schema 1 take another volume .* pass what read_prices returns"):
            features_for(AAPL.frame, model)


def test_a_version_with_columns_of_the_users_own_gets_them_by_its_recipe(project: Project) -> None:
    own(project, INDEX.assign(vix=0.5, more=1.0)[["vix", "ibm"]])
    bundle = bundle_of(project)
    model = champion(project.registry().register_model(bundle).version)
    own(project, INDEX.assign(vix=0.5, later=2.0), features={})  # another column since, and no model names the folder any more
    params = load_params()
    extra = read_extra("AAPL", params, model.recipe)
    assert extra is not None
    assert list(extra) == ["ibm", "vix"]
    found = features_for(AAPL, model, extra=extra)
    assert model.probe is not None
    trained_on, _ = supervised(unpack_prices(model.probe.prices).frame, model.probe.extra)
    same(found.loc[trained_on.index], trained_on)
    assert found.index[-1] == AAPL.frame.index[-1]
    same(features_for(AAPL, model, extra=extra.assign(other=1.0), last=3), found.tail(3))
    with pytest.raises(FeaturesError, match=r"needs columns from signals: ibm, vix; pass extra=read_extra"):
        features_for(AAPL, model)
    with pytest.raises(FeaturesError, match=r"needs columns from signals: vix; pass extra"):
        features_for(AAPL, model, extra=extra[["ibm"]])
    with pytest.raises(FeaturesError, match=r"it ends on 2013-02-28, prices end on 2013-03-01"):
        features_for(AAPL, model, extra=extra.iloc[:-1], last=1)
    with pytest.raises(ParamsError, match=r"overrides: the recipe \w+ has its settings; leave alpha out"):
        read_extra("AAPL", params, model.recipe, {"alpha": 1.0})
    later = extra.loc["2010-01-04":]  # type: ignore[misc]
    assert features_for(AAPL, model, extra=later).index[0] == pd.Timestamp("2010-01-04")


def test_without_a_version_columns_are_joined_as_a_training_joins_them() -> None:
    found = features_for(AAPL, extra=INDEX)
    trained_on, _ = supervised(keep_prices(AAPL).frame, INDEX)
    same(found.loc[trained_on.index], trained_on)
    with pytest.raises(FeaturesError, match="cannot have the name 'gap'"):
        features_for(AAPL, extra=INDEX.rename(columns={"ibm": "gap"}))


def test_a_foreign_version_has_features_of_its_own(project: Project, foresightx: Callable[..., Path]) -> None:
    root = foresightx("AAPL").parent.parent
    project.write(paths={name: str(root / name) for name in ("models", "metadata", "results")})
    registry = ModelRegistry()
    model = champion(registry.register_model(registry.load_model_info(symbol="AAPL")).version)
    with pytest.raises(FeaturesError, match=rf"version 1 of {NAME} was not trained on features of fxhelpers; compute its own"):
        features_for(AAPL, model)


def test_a_version_of_another_symbol_or_a_later_schema_is_refused(project: Project, registered: Callable[..., int]) -> None:
    model = champion(registered("regularised"))
    with pytest.raises(PriceDataError, match="forecasts AAPL, and these are prices of IBM"):
        features_for(PRICES["IBM"], model)
    with pytest.raises(FeaturesError, match="takes no columns of your own, and extra was passed"):
        features_for(AAPL, model, extra=INDEX)
    later = replace(model, facts={**model.facts, "feature_schema": {"version": 3}})
    with pytest.raises(FeaturesError, match="trained on features of schema 3; this fxhelpers computes 1 and 2: upgrade it"):
        features_for(AAPL, later)


def bad(name: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.copy()
        changed.loc[changed.index[-7], name] = value
        return changed

    return change


FRAMES: dict[str, tuple[Callable[[pd.DataFrame], Any], type[Exception], str]] = {
    "too few": (lambda frame: frame.tail(199), TooFewDaysError, "199 days of prices, at least 200 are required"),
    "none": (lambda frame: frame.head(0), TooFewDaysError, "0 days of prices"),
    "newest first": (lambda frame: frame.iloc[::-1], PriceDataError, "its index is not of days, increasing and each once"),
    "twice": (lambda frame: frame.iloc[[*range(900), 899]], PriceDataError, "its index is not of days"),
    "no days": (lambda frame: frame.reset_index(drop=True), PriceDataError, "its index is not of days"),
    "no volume": (lambda frame: frame.drop(columns="Volume"), PriceDataError, "no column Volume"),
    "features": (build_features, PriceDataError, "no column Open, High, Low, Close, Volume"),
    "text": (lambda frame: frame.astype({"Close": str}), PriceDataError, "a column does not hold numbers"),
    "missing": (bad("Close", np.nan), PriceDataError, "on 2013-02-21 a price is not a number above zero"),
    "infinite": (bad("Volume", np.inf), PriceDataError, "on 2013-02-21 a price is not a number"),
    "zero": (bad("Low", 0.0), PriceDataError, "on 2013-02-21 a price is not a number above zero"),
    "negative": (bad("Volume", -1.0), PriceDataError, "on 2013-02-21 .* the volume is negative"),
}


@pytest.mark.parametrize("fault", FRAMES)
@pytest.mark.parametrize("last", [None, 1])
def test_what_are_no_daily_prices_is_refused(fault: str, last: int | None) -> None:
    change, kind, message = FRAMES[fault]
    with pytest.raises(kind, match=message) as refused:
        features_for(change(AAPL.frame), last=last)
    assert len(str(refused.value)) <= 300
    assert type(refused.value) is kind


def test_prices_that_were_refused_have_no_features() -> None:
    finding = PriceFinding(check="crossed", severity="refused", message="High below Low on 2013-02-21")
    examined: SharePrices = replace(AAPL, findings=(*AAPL.findings, finding))
    with pytest.raises(PriceDataError, match="High below Low on 2013-02-21"):
        features_for(examined)


def test_a_count_of_days_is_positive() -> None:
    for last in (0, -1):
        with pytest.raises(ParamsError, match=rf"last: expected at least 1 day, found {last}"):
            features_for(AAPL, last=last)
    assert len(features_for(AAPL, last=100_000)) == len(AAPL.frame) - LOOK_BACK_DAYS + 1


def test_a_newest_day_without_a_feature_is_an_error_and_no_shorter_frame() -> None:
    """Prices so small that single precision takes them for zero."""
    tiny = AAPL.frame.copy()
    tiny.iloc[-3:, :4] *= 1e-60
    with (
        np.errstate(all="ignore"),
        pytest.raises(FeaturesError, match=r"return_1, .* of 2013-03-01 cannot be computed"),
    ):
        features_for(tiny, last=2)

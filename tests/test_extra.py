"""Columns of the user's own: read or refused, joined by day, kept, and the same at a comparison; none of them looks ahead."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NAME, Project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxhelpers import ModelRegistry, evaluate_bundle, load_params, load_prices, read_extra, read_prices, train_model, write_bundle
from fxhelpers.bundles import Bundle, check_recipe, load_bundle
from fxhelpers.errors import BundleError, FeaturesError, ParamsError, PredictionsChangedError, RollingForecastsError
from fxhelpers.features import LOOK_BACK_DAYS
from fxhelpers.params import PricesParams, TrainingParams
from fxhelpers.prices import columns_on, keep_columns, read_columns, unpack_columns
from fxhelpers.registry.models import load_version
from fxhelpers.scoring import VersionInputs
from fxhelpers.training import Origin, supervised

PRICES = load_prices("AAPL", PricesParams())
INDEX = pd.DataFrame({"ibm": load_prices("IBM", PricesParams())["Close"].pct_change()}).dropna()
"""A column that is known at the close: another share's return."""
SHORT = PRICES.iloc[:700]
MINE = {"estimator": "Ridge", "alpha": 100.0, "features": {"extra": "signals"}, "refit": True}


def training(**model: Any) -> TrainingParams:
    rolling = {"first_day": 300, "every_days": 40}
    return TrainingParams.model_validate({"model": "mine", "models": {"mine": {**MINE, **model}}, "rolling": rolling})


def own(project: Project, columns: pd.DataFrame, **model: Any) -> Path:
    """Let the project's model ``mine`` take these columns, and return their file."""
    models = {**project.settings["training"]["models"], "mine": {**MINE, **model}}
    project.write(training={"models": models})
    path = project.folder / "signals" / "AAPL.csv"
    path.parent.mkdir(exist_ok=True)
    columns.rename_axis("Date").to_csv(path)
    return path


def bundle_of(project: Project, **options: Any) -> Bundle:
    params = load_params(project.folder / "params.yaml")
    prices = read_prices("AAPL", params.prices, **options)
    made = train_model("AAPL", prices, params.training, model="mine", extra=read_extra("AAPL", params, "mine"))
    return write_bundle(made.model, made.scaler, made.metadata, params.paths)


@pytest.mark.usefixtures("thorough")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_later_value_changes_no_forecast(data: st.DataObject) -> None:
    """What a column holds after a day changes no rolling-origin forecast of that day or before, to the last bit."""
    params = training(candidates={"alpha": [1.0, 100.0, 10_000.0]})
    columns = INDEX.assign(size=INDEX["ibm"].abs()).loc[SHORT.index[1] : SHORT.index[-1]]
    whole = train_model("AAPL", SHORT, params, extra=columns).rolling
    assert whole is not None
    day = data.draw(st.sampled_from(list(whole.forecasts.index[:-2])), label="day")
    later = columns.index[columns.index > day]
    changed = columns.copy()
    which = data.draw(st.lists(st.sampled_from(list(later)), min_size=1, unique=True), label="changed days")
    values = st.floats(-1e6, 1e6, allow_subnormal=False)
    changed.loc[which] = data.draw(st.lists(st.lists(values, min_size=2, max_size=2), min_size=len(which), max_size=len(which)))
    again = train_model("AAPL", SHORT, params, extra=changed).rolling
    assert again is not None
    np.testing.assert_array_equal(again.forecasts.loc[:day], whole.forecasts.loc[:day])

    def until(origins: tuple[Origin, ...]) -> list[Origin]:
        return [origin for origin in origins if pd.Timestamp(origin.day) <= day]

    assert until(again.origins) == until(whole.origins)


def test_the_value_of_a_day_is_used_for_that_day() -> None:
    """It counts at its own close: the forecast of that day moves, and that of the day before does not."""
    columns = INDEX.loc[SHORT.index[1] : SHORT.index[-1]]
    day = SHORT.index[600]
    one, two = (
        train_model("AAPL", SHORT, training(), extra=extra).rolling
        for extra in (columns, columns.where(columns.index.to_numpy()[:, None] != day, 1.0))
    )
    assert one is not None
    assert two is not None
    moved = one.forecasts.index[one.forecasts != two.forecasts]
    assert moved[0] == day
    features, _ = supervised(SHORT, columns)
    pd.testing.assert_series_equal(features["ibm"], columns["ibm"].loc[features.index], check_names=False, check_freq=False)
    assert features.index[0] == SHORT.index[LOOK_BACK_DAYS - 1]


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "no date": ("day,a\n2020-01-02,1\n", "no column Date in its first line; there: day, a"),
    "nothing": ("", "no column Date"),
    "two dates": ("Date,date,a\n2020-01-02,2020-01-02,1\n", "more than one column Date"),
    "no row": ("Date,a\n", "no row below its first line"),
    "no column": ("Date\n2020-01-02\n", "expected 1 to 100 columns besides Date, found 0"),
    "many": ("Date," + ",".join(f"c{n}" for n in range(101)) + "\n2020-01-02" + ",1" * 101, "1 to 100 columns .* found 101"),
    "no name": (",Date,a\n0,2020-01-02,1\n", "column 1 besides Date needs a name"),
    "long name": (f"Date,{'a' * 65}\n2020-01-02,1\n", "needs a name of 1 to 64 printable characters"),
    "twice": ("Date,a,A\n2020-01-02,1,2\n", "more than one column 'A'"),
    "built in": ("Date,RSI_14\n2020-01-02,1\n", "cannot have the name 'RSI_14'"),
    "target": ("Date,Target_Return\n2020-01-02,1\n", "cannot have the name 'Target_Return'"),
    "target of a frame": ("Date,target\n2020-01-02,1\n", "cannot have the name 'target'"),
    "not a date": ("Date,a\n2020-01-02,1\n\n2020-02-30,2\n2020-03-02,3\n", "line 4: the date '2020-02-30' is not a date"),
    "no day": ("Date,a\n2020-01-02,1\n,2\n2020-03-02,3\n", "line 3: the date '' is not a date"),
    "no form": ("Date,a\nx,1\ny,2\n", "dates such as 'x' are in no known form"),
    "two forms": ("Date,a\n02/03/2020,1\n03/04/2020,1\n", "dates could be MM/DD/YYYY or DD/MM/YYYY"),
    "a clock": ("Date,a\n2020-01-02 18:00,1\n2020-01-03 18:00,1\n", "line 2: .*is a moment: write the day at whose close"),
    "a zone": ("Date,a\n2020-01-02,1\n2020-01-03T23:00:00Z,1\n", "line 3: .*is a moment"),
    "seconds": ("Date,a\n1577923200,1\n1578009600,1\n", "line 2: .*is a moment"),
    "twice a day": ("Date,a\n2020-01-02,1\n2020-01-03,1\n2020-01-02,1\n", "line 4: the date '2020-01-02' is there twice"),
    "no order": ("Date,a\n2020-01-02,1\n2020-01-07,1\n2020-01-03,1\n2020-01-08,1\n", "line 4: .*is not in order"),
    "text": (
        "Date,a,b\n2020-01-02,1,2\n2020-01-03,1,up\n2020-01-06,1,down\n",
        r"line 3: 'up' in column b is not a number .2 times",
    ),
    "a unit": ("Date,a\n2020-01-02,5%\n2020-01-03,0.05\n", "line 2: '5%' in column a is not a number"),
    "a truth": ("Date,a\n2020-01-02,1\n2020-01-03,True\n", "line 3: 'True' in column a is not a number"),
    "infinite": ("Date,a\n2020-01-02,1\n2020-01-03,-inf\n", "line 3: '-inf' in column a is not a finite number"),
    "too large": ("Date,a\n2020-01-02,1\n2020-01-03,1e400\n", "line 3: '1e400' in column a is not a finite number"),
    "commas": ('Date,a\n2020-01-02,"1,234"\n2020-01-03,"2,345"\n', "decimal comma, or groups of thousands"),
    "ragged": ("Date,a\n2020-01-02,1\n2020-01-03,2,3\n2020-01-06,1\n", "line 3 has not the header's 2 cells: '2020-01-03,2,3'"),
    "a quote": ('Date,a\n2020-01-02,1\n2020-01-03,"2\n2020-01-06,1\n', "line 3"),
    "a web page": ("<!DOCTYPE html><html>", "a web page"),
    "a workbook": (b"PK\x03\x04\x00\x00", "an Excel workbook"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_not_a_day_or_a_number_is_refused_with_file_and_line(tmp_path: Path, project: Project, fault: str) -> None:
    text, message = REFUSED[fault]
    path = own(project, INDEX)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FeaturesError, match=message) as refused:
        read_extra("AAPL", load_params(), "mine")
    assert str(refused.value).startswith(f"{path}: ")
    assert len(str(refused.value).removeprefix(str(path))) <= 300


def test_a_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    expected = pd.DataFrame({"a": [1.5, 2.0], "b": [3.0, np.nan]}, pd.DatetimeIndex(["2020-01-02", "2020-01-03"], name="Date"))
    for text in (
        "Date,b,a\n2020-01-02,3,1.5\n2020-01-03,,2\n",
        "\ufeffdate;a;b\r\n03.01.2020;2;\r\n02.01.2020;1,5;3\r\n",  # newest first
        "a,Date,b\n1.5e0,2020-01-02 00:00:00,3\n\n2,2020-01-03 00:00:00,n/a\n,,\n",
    ):
        path = tmp_path / "X.csv"
        path.write_text(text)
        pd.testing.assert_frame_equal(read_columns(path, ()), expected, check_index_type=False, check_freq=False)


def test_a_symbol_without_a_file_is_refused(project: Project) -> None:
    path = own(project, INDEX)
    params = load_params()
    with pytest.raises(FeaturesError, match=r"signals/IBM.csv: no such file .*features.extra .* there: AAPL"):
        read_extra("IBM", params, "mine")
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(FeaturesError, match="there: no folder"):
        read_extra("AAPL", params, "mine")
    assert read_extra("AAPL", params) is None
    elsewhere = {"features": {"extra": "others"}}
    with pytest.raises(FeaturesError, match=r"others/AAPL.csv: no such file"):
        read_extra("AAPL", params, overrides=elsewhere)
    with pytest.raises(ParamsError, match=r"'mein' is not defined .did you mean 'mine'"):
        read_extra("AAPL", params, "mein")


@pytest.mark.parametrize("folder", ["../signals", "/tmp/signals", "a/../../b", "."])  # noqa: S108 (it is refused)
def test_a_folder_is_one_of_the_project(project: Project, folder: str) -> None:
    models = {"mine": {**MINE, "features": {"extra": folder}}}
    with pytest.raises(ParamsError, match=r"features.extra: expected a folder below that of params.yaml, such as signals"):
        load_params(project.write(training={"model": "mine", "models": models}))


def test_one_folder_has_one_spelling(project: Project) -> None:
    own(project, INDEX, features={"extra": "./signals/"})
    assert load_params().training.models["mine"].features.extra == "signals"


DAYS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing": (
        lambda found: found.drop(found.index[[700, 701, 702, 900]]),
        r"signals/AAPL.csv: no value on 4 of 3,269 days of prices, first 2002-12-16, 2002-12-17, 2002-12-18\. .* nothing is",
    ),
    "empty": (
        lambda found: found.where(found.index.to_numpy()[:, None] != pd.Timestamp("2010-03-03")),
        r"no value on 1 of 3,269 days of prices, first 2010-03-03 .empty: ibm.",
    ),
    "empty at first": (
        lambda found: found.assign(late=found["ibm"].where(found.index > "2001-01-02")),
        r"no value on \d+ of 3,269 days of prices, first 2000-03-02, .*empty: late",
    ),
    "the end": (lambda found: found.iloc[:-5], "it ends on 2013-02-22, prices end on 2013-03-01"),
    "both": (lambda found: found.drop(found.index[700]).iloc[:-5], "first 2002-12-16; it ends on 2013-02-22, prices end on"),
    "too late": (
        lambda found: found.set_axis(found.index + pd.Timedelta(days=8000)),
        r"the first row is of \S+, and prices end on 2013-03-01",
    ),
}


@pytest.mark.parametrize("fault", DAYS)
def test_days_of_prices_without_a_value_are_refused_by_name(fault: str) -> None:
    change, message = DAYS[fault]
    with pytest.raises(FeaturesError, match=message) as refused:
        train_model("AAPL", PRICES, training(), extra=change(INDEX))
    assert len(str(refused.value)) <= 300


def test_days_before_the_file_have_no_features_and_rows_of_other_days_are_left_out() -> None:
    saturdays = pd.DataFrame({"ibm": 7.0}, pd.date_range("2002-01-05", periods=3, freq="7D"))
    columns = pd.concat([INDEX.loc["2002-01-02":], saturdays]).sort_index()  # type: ignore[misc]
    made = train_model("AAPL", PRICES, training(), extra=columns)
    assert made.metadata["windows"]["training"]["first_day"] == "2002-01-02"
    count = len(PRICES.loc["2002-01-02":])  # type: ignore[misc]
    assert made.features == (
        "46 features, 1 of them from signals/AAPL.csv (ibm); "
        f"3 of its {count + 3:,} rows are of days without prices, and left out."
    )
    kept = unpack_columns(made.metadata["extra"])
    pd.testing.assert_frame_equal(kept, INDEX.loc["2002-01-02":], check_freq=False, check_index_type=False)  # type: ignore[misc]
    assert "7.0" not in str(made.metadata["feature_ranges"]["ibm"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (None, "features.extra of the model is 'signals', and extra was not passed: pass extra=read_extra"),
        (INDEX.assign(ibm="x"), "the column ibm holds str, not numbers"),
        (INDEX.iloc[::-1], "expected an index of days"),
        (INDEX.set_axis(INDEX.index + pd.Timedelta(hours=18)), "expected an index of days, without a time of day"),
        (INDEX.reset_index(drop=True), "expected an index of days"),
        (INDEX.rename(columns={"ibm": "gap"}), "cannot have the name 'gap'"),
        (INDEX.rename(columns={"ibm": 7}), "column 1 besides Date needs a name"),
        (INDEX[[]], "found 0"),
        (INDEX.replace(INDEX.iloc[9, 0], np.inf), "the column ibm is not a finite number, up to 1e.100, on 2000-03-15"),
    ],
)
def test_a_frame_is_checked_as_a_file_is(extra: pd.DataFrame | None, message: str) -> None:
    with pytest.raises(FeaturesError, match=message):
        train_model("AAPL", PRICES, training(), extra=extra)


def test_a_model_without_columns_takes_none() -> None:
    with pytest.raises(FeaturesError, match=r"features.extra of the model is '', and extra was passed"):
        train_model("AAPL", PRICES, training(features={}), extra=INDEX)


def test_the_columns_are_part_of_the_recipe() -> None:
    one, other, none = (
        train_model("AAPL", SHORT, training(**model), extra=extra).metadata["recipe"]
        for model, extra in (({}, INDEX), ({}, INDEX.assign(b=1.0)), ({"features": {}}, None))
    )
    assert one["features"] == {"schema": 2, "extra": {"folder": "signals", "columns": ["ibm"]}}
    assert other["features"]["extra"]["columns"] == ["b", "ibm"]
    assert none["features"] == {"schema": 2}


def test_forecasts_are_taken_over_only_with_the_same_columns() -> None:
    early, params = PRICES.iloc[:-90], training()
    before = train_model("AAPL", early, params, extra=INDEX)
    whole = train_model("AAPL", PRICES, params, extra=INDEX)

    def changed(factor: float) -> pd.DataFrame:
        return INDEX.assign(ibm=INDEX["ibm"].mask(INDEX.index == INDEX.index[1000], INDEX["ibm"] * factor))

    def taken(extra: pd.DataFrame) -> Any:
        return train_model("AAPL", PRICES, params, extra=extra, earlier=[before.metadata])

    same = taken(changed(1 + 1e-11))
    assert "0 taken over" not in same.cost
    kept = unpack_columns(same.metadata["extra"])
    pd.testing.assert_frame_equal(kept, INDEX.loc[PRICES.index[1] :], check_freq=False, check_index_type=False, rtol=0, atol=0)
    assert same.rolling is not None
    assert whole.rolling is not None
    np.testing.assert_allclose(same.rolling.forecasts, whole.rolling.forecasts, rtol=1e-9, atol=1e-12)
    for extra in (changed(1 + 1e-7), changed(-1), INDEX.iloc[1:]):
        assert " 0 taken over" in taken(extra).cost


def test_what_a_bundle_keeps_comes_out_to_the_last_bit_and_edits_are_refused() -> None:
    columns, _ = columns_on(INDEX.assign(a=np.arange(len(INDEX)) / 3)[["a", "ibm"]], pd.DatetimeIndex(PRICES.index), "here")
    stored = keep_columns(columns, "signals")
    pd.testing.assert_frame_equal(unpack_columns(stored), columns, check_exact=True, check_freq=False)
    edits: tuple[dict[str, Any], ...] = (
        {"columns": ["a", "b"]},
        {"columns": ["a"]},
        {"columns": 7},
        {"kept": stored["kept"][:-8]},
        {"kept": "!"},
        {"kept": keep_columns(columns * 2, "signals")["kept"]},
        {"last_day": "2013-03-02"},
        {"sha256": "0" * 64},
    )
    for edit in edits:
        with pytest.raises(ValueError, match=r"."):
            unpack_columns({**stored, **edit})


def test_a_bundle_whose_columns_were_edited_is_refused(project: Project) -> None:
    own(project, INDEX)
    bundle = bundle_of(project)
    assert len(check_recipe(bundle)) >= 3
    metadata = bundle.metadata_path.read_text()
    paths = load_params().paths
    for edit, message in (
        ((bundle.metadata["extra"]["sha256"], "0" * 64), "extra: the columns of extra do not have the SHA-256"),
        (
            ('"folder": "signals",\n    "columns"', '"folder": "others",\n    "columns"'),
            "extra must hold the columns that the recipe",
        ),
    ):
        assert metadata.count(edit[0]) == 1
        bundle.metadata_path.write_text(metadata.replace(*edit))
        with pytest.raises(BundleError, match=message):
            load_bundle(paths, symbol="AAPL")
    kept = unpack_columns(bundle.metadata["extra"])
    forged = keep_columns(kept.set_axis(np.roll(kept.index, 1)).sort_index().rename_axis("Date"), "signals")  # of the day before
    edited = metadata
    for key in ("kept", "sha256"):
        edited = edited.replace(bundle.metadata["extra"][key], forged[key])
    bundle.metadata_path.write_text(edited)
    with pytest.raises(RollingForecastsError, match="127 of the 128 stored forecasts are not those of"):
        check_recipe(load_bundle(paths, symbol="AAPL"))


def test_a_bundle_that_was_not_refitted_is_evaluated_with_its_columns(project: Project) -> None:
    own(project, INDEX, refit=False)
    bundle = bundle_of(project, end="2012-06-29")
    assert bundle.rolling is None
    now = evaluate_bundle(bundle, read_prices("AAPL", load_params().prices))
    then = evaluate_bundle(bundle, read_prices("AAPL", load_params().prices, end="2012-06-29"))
    assert now.metrics == then.metrics
    assert now.metrics["test_samples"] == bundle.metadata["windows"]["test"]["days"]


def scored(project: Project, version: int) -> Any:
    registry = ModelRegistry(project.folder / "params.yaml")
    inputs = VersionInputs("AAPL", registry.params)
    one = inputs.score(load_version(registry.client, NAME, version))
    return one, inputs.prices


def test_a_version_is_scored_on_its_columns_as_they_are_now(project: Project) -> None:
    path = own(project, INDEX)
    bundle = bundle_of(project, end="2012-06-29")
    version = project.registry().register_model(bundle).version
    one, prices = scored(project, version)
    kept = one.model.probe.extra
    pd.testing.assert_frame_equal(kept, bundle.extra, check_exact=True)
    assert "kept" not in one.model.facts["extra"]
    assert one.days.index[-1] == PRICES.index[-2]
    assert one.replay(prices).again == 128
    one.check_recipe("seed")

    later = INDEX.assign(ibm=INDEX["ibm"].mask(INDEX.index > "2012-06-29", 0.5))  # days that it was not trained on
    own(project, later)
    one, prices = scored(project, version)
    assert not one.replay(prices).restated
    own(project, INDEX.assign(ibm=INDEX["ibm"] * (1 + 1e-8)))
    one, prices = scored(project, version)
    assert not one.replay(prices).restated
    own(project, INDEX.iloc[300:])  # a file that begins later
    one, prices = scored(project, version)
    assert not one.replay(prices).restated

    own(project, INDEX.assign(ibm=INDEX["ibm"].mask(INDEX.index == "2008-02-14", 0.5)))
    one, prices = scored(project, version)
    message = (
        r"version 1: columns from signals changed on 1 of 3,103 days, 2008-02-14 .ibm 0.5 now, \S+ then.; forecasts move .* "
        r"Correct the columns, train again, or compare all versions on the columns as they are now: -p accept_restated true"
    )
    with pytest.raises(PredictionsChangedError, match=message):
        one.replay(prices)
    assert "changed on 1 of 3,103 days" in one.replay(prices, accept_restated=True).restated

    own(project, INDEX.drop(pd.Timestamp("2012-12-03")))
    with pytest.raises(FeaturesError, match=r"signals/AAPL.csv: no value on 1 of 3,269 days of prices, first 2012-12-03"):
        scored(project, version)
    own(project, INDEX.rename(columns={"ibm": "msft"}))
    with pytest.raises(FeaturesError, match=rf"{re.escape(str(path))}: no column ibm, which the recipe \S+ takes; there: msft"):
        scored(project, version)


@pytest.mark.usefixtures("thorough")
def test_from_a_signal_to_a_comparison(project: Project) -> None:
    """Train with an index column, register, and compare with a champion that has none."""
    own(project, INDEX)
    params = load_params(project.folder / "params.yaml")
    without: dict[str, Any] = {"model": "mine", "overrides": {"features": {}}}
    plain = train_model("AAPL", read_prices("AAPL", params.prices), params.training, **without)
    registry = project.registry()
    champion = write_bundle(plain.model, plain.scaler, plain.metadata, params.paths)
    registry.register_model(champion, stage="Production")
    challenger = registry.register_model(bundle_of(project)).version
    proposal = registry.compare("AAPL", challenger)
    frame = proposal.comparison.frame
    assert (frame.challenger, frame.champion) == (challenger, 1)
    assert frame.replayed[challenger] == (128, 128)
    assert "ibm" in frame.drift.index
    assert frame.recipes[1] != frame.recipes[challenger]
    own(project, INDEX * 2)
    with pytest.raises(PredictionsChangedError, match=r"columns from signals changed on 3,2\d\d of 3,269 days"):
        registry.compare("AAPL", challenger)
    restated = registry.compare("AAPL", challenger, accept_restated=True).comparison.frame
    assert "columns from signals changed" in restated.restated[challenger]

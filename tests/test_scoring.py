"""From versions to one frame: days that none has seen, each version's own features, and inputs that are still what they were."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NAME, ROOT, Project
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from fxhelpers import ModelRegistry, load_prices
from fxhelpers.comparison import MOVED, TARGET
from fxhelpers.errors import BundleError, NotComparableError, ParamsError, PredictionsChangedError
from fxhelpers.foresightx import convert
from fxhelpers.foresightx._checkout import Foreign
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.scoring import evaluation_frame

Register = Callable[..., int]


def own_prices(project: Project, change: Callable[[pd.DataFrame], object] | None = None) -> None:
    """Let the project read AAPL's prices from a folder, and perhaps change them there."""
    folder = project.folder / "prices"
    folder.mkdir(exist_ok=True)
    sample = load_prices("AAPL", ModelRegistry(ROOT / "params.yaml").params.prices)
    if change:
        change(sample)
    sample.to_csv(folder / "AAPL.csv")
    project.write(prices={"source": "csv", "folder": "prices"})


_CONVERTED: dict[tuple[bytes, ...], dict[Path, Foreign]] = {}


@pytest.fixture(autouse=True)
def converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the child read the same pickles once for all tests here: each reading takes seconds."""

    def remembered(files: dict[Path, bytes], **rules: Any) -> dict[Path, Foreign]:
        known = _CONVERTED.setdefault(tuple(files.values()), {})
        known.update({} if known else convert(files, **rules))
        return dict(zip(files, known.values(), strict=True))

    monkeypatch.setattr("fxhelpers.bundles._files.convert", remembered)


def test_only_days_that_no_version_has_seen_are_compared(registered: Register, project: Project) -> None:
    """The later training decides: its last day, the horizon and the policy's embargo are left out."""
    old = registered("regularised")
    newer = project.registry(training={"test_size": 0.1}, promotion={"evaluation": {"embargo_days": 5}})
    new = newer.register_model(project.bundle()).version
    frame = evaluation_frame(newer.client, NAME, "AAPL", challengers=[new], champion=old)
    seen = pd.Timestamp(frame.facts[new]["windows"]["validation"]["last_day"])
    assert seen > pd.Timestamp(frame.facts[old]["windows"]["validation"]["last_day"])
    prices = load_prices("AAPL", newer.params.prices)
    between = prices.index[(prices.index > seen) & (prices.index < frame.days.index[0])]
    assert len(between) == 1 + 5
    assert frame.days.notna().all(axis=None)
    assert frame.digest == evaluation_frame(newer.client, NAME, "AAPL", challengers=[new], champion=old).digest
    assert frame.replayed == {new: (128, 128), old: (128, 128)}
    assert set(frame.footprint.index) == {"version 1", "version 2"}
    assert (frame.footprint > 0).all(axis=None)
    assert frame.footprint["latency"].max() < 0.1
    assert len(frame.drift) == 45


def test_days_that_a_version_saw_are_refused_by_name(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = project.registry(prices={"end": "2010-01-29"})
    with pytest.raises(NotComparableError, match=r"no unseen day .* end on 2010-01-28.*version 1 up to 2010-0"):
        registry.compare("AAPL")
    registry = project.registry(prices={"end": None})
    with pytest.raises(NotComparableError, match=r"AAPL: version 1 saw days from 2009-06-01 on; .* start is 2010-02-10"):
        registry.compare("AAPL", start="2009-06-01")
    with pytest.raises(NotComparableError, match=r"no day to compare on between 2014-01-01 and the last"):
        registry.compare("AAPL", start="2014-01-01")
    with pytest.raises(NotComparableError, match=r"between the first and 2009-12-31: the unseen days are"):
        registry.compare("AAPL", end="2009-12-31")


def test_the_window_can_be_chosen_among_the_unseen_days(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = ModelRegistry()
    comparison = registry.compare("AAPL", start="2011-01-03", end="2012-06-29").comparison
    assert comparison is not None
    assert (comparison.first_day, comparison.last_day) == ("2011-01-03", "2012-06-29")
    one = registry.compare("AAPL", start="2011-01-03", end="2011-01-03")
    assert (one.verdict.outcome, "only 1 days are unseen by every compared version" in one.verdict.reason) == ("keep", True)
    for words, message in (
        ({"start": "03.01.2011"}, "start: expected a day such as 2012-06-29, found '03.01.2011'"),
        ({"start": "2012-01-03", "end": "2011-01-03"}, "start: 2012-01-03 is after end: 2011-01-03"),
    ):
        with pytest.raises(ParamsError, match=message):
            registry.compare("AAPL", **words)  # type: ignore[arg-type]


@pytest.mark.usefixtures("thorough")
def test_restated_prices_are_refused_with_the_difference(registered: Register, project: Project) -> None:
    """A split that the vendor applied to a part of the prices: the old model would see another share."""
    registered("regularised", stage="Production")
    challenger = registered("lighter")

    def split(prices: pd.DataFrame) -> None:
        prices.loc[:"2008-06-30", ["Open", "High", "Low", "Close"]] /= 2  # type: ignore[misc]

    own_prices(project, split)
    registry = ModelRegistry()
    restated = (
        r"version \d: prices changed on 1,175 of 3,270 days, 2008-07-01 to 2013-03-01 .Open \S+ now, \S+ then.; forecasts move "
        r"by up to \S+ standard deviations. Correct the prices, .* -p accept_restated true"
    )
    with pytest.raises(PredictionsChangedError, match=restated):
        registry.propose("AAPL", challenger, apply=True)
    last = read_ledger(registry.client, NAME).outcomes[-1]
    assert (last.result, last.to_version) == ("failed", 1)
    assert "prices changed on" in last.reason
    with pytest.raises(ParamsError, match="accept_restated: comparing on restated prices requires a reason"):
        registry.propose("AAPL", challenger, accept_restated=True)
    decided = registry.promote(
        registry.propose("AAPL", challenger, apply=True, accept_restated=True, reason="the vendor's split")
    )
    assert decided.intent.facts.accept_restated
    assert "accepted: version" in (decided.reason or "")
    assert "all versions are compared on the prices as they are now" in (decided.reason or "")
    shown = registry.compare("AAPL", challenger, accept_restated=True).comparison
    assert shown is not None
    assert shown.days_frame()["largest move of a stored forecast"].str.endswith("standard deviations").all()


def rounded(scale: float) -> Callable[[pd.DataFrame], None]:
    def change(prices: pd.DataFrame) -> None:
        prices[["Open", "High", "Low", "Close"]] = (prices[["Open", "High", "Low", "Close"]] * scale).round(2)
        prices["Volume"] = prices["Volume"].round()

    return change


def test_prices_that_were_rescaled_by_a_dividend_and_rounded_anew_are_the_same_and_a_cent_is_not(project: Project) -> None:
    own_prices(project, rounded(10))
    registry = ModelRegistry()
    version = registry.register_model(project.bundle()).version
    own_prices(project, rounded(9.94))
    comparison = registry.compare("AAPL", version).comparison
    assert comparison is not None
    assert 0 < comparison.frame.moved[version] < 0.2
    assert comparison.frame.replayed[version][0] == 128

    def by_a_cent(prices: pd.DataFrame) -> None:
        rounded(10)(prices)
        prices.loc["2005-02-28", "Close"] += 0.01

    own_prices(project, by_a_cent)
    with pytest.raises(PredictionsChangedError, match=r"prices changed on 1 of 3,270 days, 2005-02-28 .Close"):
        registry.compare("AAPL", version)


def test_prices_that_begin_later_are_the_same(project: Project) -> None:
    own_prices(project)
    registry = ModelRegistry()
    version = registry.register_model(project.bundle()).version
    path = project.folder / "prices" / "AAPL.csv"
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *rows[21:]]))
    comparison = registry.compare("AAPL", version).comparison
    assert comparison is not None
    assert comparison.frame.moved[version] < MOVED


def test_doubtful_prices_on_the_days_compared_need_a_reason(registered: Register, project: Project) -> None:
    registered("regularised")

    def stuck(prices: pd.DataFrame) -> None:
        days = prices.index[-100:-92]
        prices.loc[days, ["Open", "High", "Low", "Close"]] = prices.loc[days[0], ["Open", "High", "Low", "Close"]].to_numpy()
        prices.loc[days[1:], "Volume"] = 0.0

    own_prices(project, stuck)
    project.write(prices={"source": "csv", "folder": "prices"}, promotion={"evaluation": {"max_stale_days": None}})
    registry = ModelRegistry()
    words = {"accept_restated": True, "reason": "a halt"}
    refused = registry.propose("AAPL", **words)  # type: ignore[arg-type]
    gates = {gate.id: gate for gate in refused.verdict.gates}
    assert (gates["doubts"].result, refused.verdict.outcome) == ("fail", "keep")
    assert "doubtful days between" in refused.verdict.reason
    accepted = registry.propose("AAPL", accept_doubts=True, **words)  # type: ignore[arg-type]
    assert {gate.id: gate.result for gate in accepted.verdict.gates}["doubts"] == "warn"
    assert "accepted:" in accepted.verdict.reason
    with pytest.raises(ParamsError, match="accept_doubts: accepting doubtful prices requires a reason"):
        registry.propose("AAPL", accept_doubts=True)


@pytest.mark.usefixtures("thorough")
def test_prices_that_were_restated_as_a_whole_change_nothing(registered: Register, project: Project) -> None:
    registered("regularised", stage="Production")
    registered("lighter")

    def split(prices: pd.DataFrame) -> None:
        prices[["Open", "High", "Low", "Close"]] /= 7
        prices["Volume"] *= 7

    before = ModelRegistry().compare("AAPL")
    own_prices(project, split)
    after = ModelRegistry().compare("AAPL")
    assert after.comparison is not None
    assert before.comparison is not None
    assert after.verdict.outcome == before.verdict.outcome
    pd.testing.assert_frame_equal(after.comparison.measures, before.comparison.measures, rtol=1e-4)


NAMES = [f"Close_Lag_{lag}" for lag in range(1, 11)] + [f"RSI_{days}" for days in range(2, 22)]


@pytest.fixture
def leaky(project: Project) -> Callable[..., ModelRegistry]:
    """A ForesightX checkout of pure noise: trained on the first 85 % of its features file, "tested" on the last 25 %."""

    def make(days: int = 2000, *, timestamp: str = "2025-12-20T03:41:23.123456", predictions: bool = True) -> ModelRegistry:
        import json
        import pickle
        import warnings

        rng = np.random.default_rng(0)
        index = pd.bdate_range(end="2025-12-19", periods=days)
        features = pd.DataFrame(rng.normal(100, 15, (days, len(NAMES))), index=index, columns=NAMES)
        target = pd.Series(rng.normal(0, 0.02, days), index, name="Target_Return")
        trained = int(0.85 * days)
        scaler = StandardScaler().fit(features.iloc[:trained].to_numpy())
        model = MLPRegressor(hidden_layer_sizes=(64,), learning_rate_init=0.005, max_iter=100, random_state=42)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(scaler.transform(features.iloc[:trained].to_numpy()), target.iloc[:trained] * 50)
        model.coefs_[-1], model.intercepts_[-1] = model.coefs_[-1] / 50, model.intercepts_[-1] / 50
        root = project.folder / "ForesightX"
        folders = {name: root / name for name in ("models", "metadata", "results", "features")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        (folders["models"] / "mlp_model_NOISE.pkl").write_bytes(pickle.dumps(model))
        (folders["models"] / "mlp_scaler_NOISE.pkl").write_bytes(pickle.dumps(scaler))
        metadata = {"symbol": "NOISE", "timestamp": timestamp, "model_type": "MLP", "architecture": [64]}
        stats = {**metadata, "features_count": len(NAMES), "feature_names": NAMES}
        (folders["metadata"] / "mlp_model_stats_NOISE.json").write_text(json.dumps(stats))
        features.assign(Target_Return=target).rename_axis("Date").reset_index().to_csv(
            folders["features"] / "features_NOISE.csv", index=False
        )
        tested = features.index[int(0.75 * days) :]
        forecast = model.predict(scaler.transform(features.loc[tested].to_numpy()))
        hits = float((np.sign(forecast) == np.sign(target[tested])).mean())
        evaluation = {
            "symbol": "NOISE",
            "model_info": {"training_timestamp": timestamp},
            "test_metrics": {"direction_accuracy": hits},
        }
        (folders["results"] / "evaluation_metrics_NOISE.json").write_text(json.dumps(evaluation))
        if predictions:
            table = pd.DataFrame({"Date": tested, "Actual": target[tested].to_numpy(), "Predicted": forecast})
            table.to_csv(folders["results"] / "predictions_NOISE.csv", index=False)
        registry = project.registry(paths={name: str(folder) for name, folder in folders.items()})
        registry.run_registration_pipeline(symbol="NOISE")
        return registry

    return make


def test_the_originals_leak_is_reproduced_and_refused(leaky: Callable[..., ModelRegistry]) -> None:
    registry = leaky()
    claimed = registry.load_model_info(symbol="NOISE").test_metrics["direction_accuracy"]
    assert claimed > 0.6  # on pure noise: two fifths of the "test" days were trained on
    with pytest.raises(
        NotComparableError, match=r"NOISE: version 1 saw days from 2024-\d\d-\d\d on; .* first 85% of its features"
    ):
        registry.compare("NOISE", start=f"{pd.bdate_range(end='2025-12-19', periods=2000)[1500]:%Y-%m-%d}")
    proposal = registry.propose("NOISE", apply=True)
    assert proposal.comparison is not None
    assert len(proposal.comparison.target) == 300 - 1 - 1
    assert proposal.comparison.measures.loc["version 1", "hit_rate"] == pytest.approx(0.5, abs=0.08)
    assert proposal.comparison.frame.replayed == {1: (500, 500)}
    decision = registry.promote(proposal)
    assert (decision.result, decision.verdict) == ("refused", "keep")
    assert "is not significantly better than forecasting zero" in decision.reason


@pytest.mark.usefixtures("thorough")
def test_the_end_of_a_foreign_training_can_be_given_or_is_the_day_of_the_training(leaky: Callable[..., ModelRegistry]) -> None:
    registry = leaky(timestamp="20170629_120000", predictions=False)  # trained before its features file begins
    comparison = registry.compare("NOISE").comparison
    assert comparison is not None
    assert comparison.frame.facts[1]["seen"]["last_day"] == "2017-06-29"
    assert comparison.frame.replayed == {1: (0, 0)}
    assert "too few stored forecasts of version 1 could be reproduced" in registry.compare("NOISE").verdict.reason
    assert "the last training day of version 1 is the day of its training" in registry.compare("NOISE").verdict.reason
    stated = registry.compare("NOISE", training_end="2024-12-31").comparison
    assert stated is not None
    assert stated.first_day == "2025-01-03"
    assert stated.frame.facts[1]["seen"]["basis"] == "as the parameter training_end says"


@pytest.mark.usefixtures("thorough")
def test_a_features_file_that_grew_at_its_beginning_gives_no_seen_day_away(leaky: Callable[..., ModelRegistry]) -> None:
    """85 % of the longer file end before the training did; the days of its predictions tell."""
    registry = leaky(1000)
    before = registry.compare("NOISE").comparison
    path = registry.params.paths.features / "features_NOISE.csv"
    table = pd.read_csv(path)
    older = table.assign(Date=pd.bdate_range(end="2021-01-01", periods=1000).strftime("%Y-%m-%d"))
    pd.concat([older, table]).to_csv(path, index=False)
    after = registry.compare("NOISE").comparison
    assert before is not None
    assert after is not None
    assert after.first_day == before.first_day


@pytest.mark.usefixtures("thorough")
def test_a_features_file_that_does_not_fit_is_refused_by_name(leaky: Callable[..., ModelRegistry]) -> None:
    registry = leaky(600)
    path = registry.params.paths.features / "features_NOISE.csv"
    table = pd.read_csv(path)
    for change, error, message in (
        (table.drop(columns="Date"), BundleError, "expected a column Date, written as YYYY-MM-DD"),
        (table.iloc[::-1], BundleError, "its dates are repeated or out of order"),
        (table.drop(columns="RSI_2"), NotComparableError, "1 of its 30 features are not among the 29 available ones"),
        (table.drop(columns="Target_Return"), NotComparableError, "no column Target_Return"),
        (table.assign(RSI_2="none"), NotComparableError, "no day has all of its 30 features"),
        (table.assign(RSI_2=table["RSI_2"] + 9), PredictionsChangedError, "of 150 stored forecasts differ"),
    ):
        change.to_csv(path, index=False)
        with pytest.raises(error, match=message):
            registry.compare("NOISE")
    # the last change, as a dividend would make it to features that hold prices: all are compared as they are now
    proposal = registry.compare("NOISE", accept_restated=True)
    assert proposal.comparison is not None
    assert "150 of 150 stored forecasts differ" in proposal.comparison.frame.restated[1]
    assert {gate.id: gate.result for gate in proposal.verdict.gates}["replay"] == "warn"


def test_versions_that_forecast_different_returns_are_not_compared(registered: Register, project: Project) -> None:
    """A target in the features file that is not that of the prices: of another share, or adjusted otherwise."""
    registered("regularised", stage="Production")
    registry = ModelRegistry()
    prices = load_prices("AAPL", registry.params.prices)
    from fxhelpers.features import build_features, next_day_return
    from fxhelpers.foresightx import read_features
    from fxhelpers.frames import _target
    from fxhelpers.scoring import VersionInputs

    scored = VersionInputs("AAPL", registry.params)
    folder = registry.params.paths.features
    folder.mkdir(parents=True)
    table = build_features(prices).assign(Target_Return=next_day_return(prices) * 1.01).rename_axis("Date")
    table.to_csv(folder / "features_AAPL.csv")
    assert TARGET == "target"
    assert len(read_features(folder / "features_AAPL.csv")) == len(prices)
    from fxhelpers.registry.models import load_version

    ours = scored.score(load_version(registry.client, NAME, 1))
    other = replace(ours, days=ours.days.assign(target=ours.days["target"] * 1.01), basis="")
    with pytest.raises(NotComparableError, match=r"version 1 and version 2 forecast different returns: they differ by .* on"):
        _target("AAPL", {1: ours, 2: other}, ours.days.index, pd.Series(dtype=float))


def test_a_bundle_without_stored_forecasts_still_registers(
    project: Project, tmp_path: Path, foresightx: Callable[..., Path]
) -> None:
    registry = ModelRegistry()
    bundle = registry.load_model_info(model_path=foresightx())
    assert bundle.forecasts.empty
    broken = foresightx(symbol="BAD")
    shutil.copy(broken.parent.parent / "results" / "evaluation_metrics_BAD.json", tmp_path / "kept.json")
    (broken.parent.parent / "results" / "predictions_BAD.csv").write_text("Date,Predicted\nnever,much\n")
    with pytest.raises(BundleError, match=r"predictions_BAD\.csv: its forecasts cannot be read"):
        registry.load_model_info(model_path=broken)

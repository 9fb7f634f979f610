import contextlib
import gzip
import html
import json
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from conftest import Project
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from fxhelpers import evaluate_bundle, load_params, load_prices, write_evaluation
from fxhelpers.bundles import Bundle, load_bundle
from fxhelpers.bundles._files import latest_bundle
from fxhelpers.errors import BundleError, BundleNotFoundError, NotComparableError, UntrustedBundleError
from fxhelpers.foresightx import latest_features
from fxhelpers.params import BundlesParams, PathsParams
from fxhelpers.system import sha256


@pytest.fixture
def paths(project: Project) -> PathsParams:
    return load_params().paths


@pytest.fixture
def bundle(project: Project) -> Bundle:
    return project.bundle()


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bundle_has_foresightx_names_and_keys_and_ours(bundle: Bundle, paths: PathsParams) -> None:
    stamp = bundle.timestamp
    assert bundle.model_path == paths.models / f"mlp_model_AAPL_{stamp}.skops"
    assert bundle.scaler_path == paths.models / f"mlp_scaler_AAPL_{stamp}.skops"
    assert bundle.metadata_path == paths.metadata / f"mlp_model_stats_AAPL_{stamp}.json"
    theirs = "symbol timestamp model_type architecture features_count feature_names metrics model_file scaler_file config"
    assert set(theirs.split()) <= set(bundle.metadata)
    assert {"val_rmse", "val_mae", "iterations", "training_time"} <= set(bundle.metrics)
    assert {"activation", "solver", "learning_rate_init", "iterations"} <= set(bundle.config)
    assert {"windows", "prices", "target", "feature_schema", "files", "format_version", "libraries"} <= set(bundle.metadata)
    assert set(paths.models.iterdir()) == {bundle.model_path, bundle.scaler_path}


def test_two_bundles_of_one_second_do_not_overwrite_each_other(project: Project, paths: PathsParams) -> None:
    stamps = {project.bundle(max_iter=2).timestamp for _ in range(3)}
    assert len(stamps) == 3
    assert len(list(paths.models.glob("*.skops"))) == 6


def test_the_latest_bundle_is_found_and_a_longer_symbol_is_another(project: Project, paths: PathsParams) -> None:
    project.bundle()
    latest = project.bundle()
    other = latest.model_path.with_name(f"mlp_model_AAPL_X_{latest.timestamp}.skops")
    other.write_bytes(b"of another symbol")
    assert load_bundle(paths, symbol="AAPL").timestamp == latest.timestamp


def test_a_path_alone_is_enough(bundle: Bundle, paths: PathsParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.model_path.parent)
    assert load_bundle(paths, model_path=bundle.model_path.name).digest == bundle.digest
    with pytest.raises(BundleError, match="a bundle of AAPL, but symbol is IBM"):
        load_bundle(paths, model_path=bundle.model_path, symbol="IBM")
    with pytest.raises(BundleNotFoundError, match=r"nowhere.pkl: no such file"):
        load_bundle(paths, model_path="nowhere.pkl")
    with pytest.raises(BundleError, match="a model file is named mlp_model_SYMBOL"):
        load_bundle(paths, model_path=bundle.metadata_path)


@pytest.mark.parametrize(("stamp", "timestamp"), [("", "2025-12-20T03:41:23.123456"), ("20251220_034123", "20251220_034123")])
def test_both_generations_of_foresightx_are_read(
    foresightx: Callable[..., Path], project: Project, stamp: str, timestamp: str
) -> None:
    model_path = foresightx(stamp=stamp, timestamp=timestamp)
    root = model_path.parent.parent
    paths = load_params(project.write(paths={name: str(root / name) for name in ("models", "metadata", "results")})).paths
    bundle = load_bundle(paths, symbol="TATAMOTORS.BO")
    assert (
        bundle.digest == load_bundle(PathsParams(), model_path=model_path).digest
    )  # the neighbouring folders are found from a path
    assert (bundle["architecture"], bundle["features_count"], bundle["timestamp"]) == ([8, 4], 8, timestamp)
    assert bundle.metrics["val_rmse"] == 0.25
    assert bundle.metrics["test_rmse"] == 0.3  # the evaluation of this training was merged
    row = np.full((1, 8), 100.0)
    expected = bundle.model_object.predict(bundle.scaler_object.transform(row))
    np.testing.assert_array_equal(bundle.pipeline().predict(pd.DataFrame(row, columns=bundle.feature_names)), expected)


def test_a_model_without_a_random_state_is_read_too(foresightx: Callable[..., Path]) -> None:
    path = foresightx()
    fitted = pickle.loads(path.read_bytes())  # noqa: S301 (written above)
    fitted.set_params(random_state=None, max_iter=2, early_stopping=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(np.eye(8), np.arange(8.0))
    path.write_bytes(pickle.dumps(fitted))
    assert load_bundle(PathsParams(), model_path=path).features_count == 8


def test_the_newest_of_mixed_generations_wins(foresightx: Callable[..., Path], project: Project) -> None:
    foresightx(stamp="20251219_000000", timestamp="20251219_000000", seed=1)
    foresightx(stamp="", timestamp="2025-12-20T00:00:00")
    root = foresightx(stamp="20251218_000000", timestamp="20251218_000000", seed=2).parent.parent
    paths = load_params(project.write(paths={name: str(root / name) for name in ("models", "metadata", "results")})).paths
    assert load_bundle(paths, symbol="TATAMOTORS.BO").timestamp == "2025-12-20T00:00:00"


class Tomorrow(datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=1)


@pytest.mark.parametrize("file_time_too", [False, True])
def test_a_clock_that_was_ahead_makes_no_bundle_the_latest(
    project: Project, paths: PathsParams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, file_time_too: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("fxhelpers.bundles._files.datetime", Tomorrow)
        ahead = project.bundle(max_iter=2)
        assert "states the time" in ahead.chosen  # at once, where it is written
    if file_time_too:
        os.utime(ahead.model_path, (time.time() + 86400,) * 2)
    now = project.bundle(max_iter=2)
    caplog.clear()
    found = load_bundle(paths, symbol="AAPL")
    assert found.model_path == now.model_path
    assert re.search(rf"{ahead.model_path.name}: .* (is|which is) in the future", caplog.text)
    assert found.chosen.startswith(
        f"the latest of 2: its data end on {found.metadata['windows']['validation']['last_day']}, as in 1"
    )
    assert ahead.model_path.name in found.chosen
    assert found.chosen in html.unescape(found._repr_html_())


def test_the_latest_bundle_is_the_one_of_the_latest_days_and_its_rivals_are_only_looked_at(
    project: Project, paths: PathsParams, caplog: pytest.LogCaptureFixture
) -> None:
    newest = project.bundle(max_iter=2)
    project.write(prices={"end": "2010-12-31"})
    older = project.bundle(max_iter=2)  # written last
    older.model_path.write_bytes(b"not even read")
    found = load_bundle(paths, symbol="AAPL")
    assert found.model_path == newest.model_path
    assert f"{older.model_path.name} was written after {newest.model_path.name}, but its data end earlier, on 200" in caplog.text
    older.metadata_path.unlink()  # nothing says its days now, so only times are left
    with pytest.raises(BundleNotFoundError, match=f"{older.metadata_path.name}: missing"):
        load_bundle(paths, symbol="AAPL")
    older.model_path.rename(older.model_path.with_name("mlp_model_AAPL_20200101_000000.skops"))
    found = load_bundle(paths, symbol="AAPL")
    assert found.model_path == newest.model_path
    assert found.chosen == (
        "the latest of 2 by the time of writing, as mlp_model_AAPL_20200101_000000.skops does not state the days of its data"
    )


def test_the_latest_of_foreign_bundles_is_found_by_their_features_file(
    foresightx: Callable[..., Path], project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    models = [foresightx(stamp=f"2025{day}_120000", timestamp=f"2025{day}_120000") for day in ("0310", "0401")]
    root = models[0].parent.parent
    paths = load_params(project.write(paths={name: str(root / name) for name in ("models", "metadata", "results")})).paths
    choice = latest_bundle(models, [], paths, BundlesParams())
    assert (choice.paths, choice.warnings) == (models[::-1], [])
    assert choice.why == f"the latest of 2 by the time of writing, as {models[1].name} does not state the days of its data"
    features = root / "data" / "features"
    features.mkdir(parents=True)
    whole, short = (features / f"features_TATAMOTORS.BO_{stamp}.csv" for stamp in ("20250320_180000", "20300101_000000"))
    days = pd.DataFrame({"Date": pd.bdate_range("2024-01-01", "2025-03-20").strftime("%Y-%m-%d"), "Close_Lag_1": 1.0})
    days.to_csv(whole, index=False)
    days.head(100).to_csv(short, index=False)  # fewer days, whatever its name says
    assert latest_features([features], "TATAMOTORS.BO") == [whole, short]
    assert f"{short.name}: it states the time 2030-01-01 00:00, which is in the future" in caplog.text
    choice = latest_bundle(models, [whole, short], paths, BundlesParams())
    assert (choice.paths, choice.why) == (models[::-1], "the latest of 2: its data end on 2025-01-14")
    future = foresightx(stamp="20300101_000000", timestamp="2030-01-01T00:00:00")
    os.utime(future, (datetime(2025, 3, 12, tzinfo=UTC).timestamp(),) * 2)
    choice = latest_bundle([*models, future], [whole], paths, BundlesParams())
    assert choice.paths == [models[1], future, models[0]]
    assert f"{future.name}: it states the time 2030-01-01 00:00" in choice.warnings[0]


def test_files_of_one_time_are_a_tie_that_is_said(foresightx: Callable[..., Path], project: Project) -> None:
    path = foresightx(stamp="20250310_120000", timestamp="20250310_120000")
    for old in (path, path.with_name(path.name.replace("model", "scaler"))):
        Path(f"{old}.gz").write_bytes(gzip.compress(old.read_bytes()))
    root = path.parent.parent
    paths = load_params(project.write(paths={name: str(root / name) for name in ("models", "metadata", "results")})).paths
    assert f"{path.name}.gz and {path.name} have the same time" in load_bundle(paths, symbol="TATAMOTORS.BO").chosen


def test_an_evaluation_from_the_future_is_not_the_latest(
    bundle: Bundle, paths: PathsParams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation = evaluate_bundle(bundle, load_prices("AAPL", load_params().prices))
    with monkeypatch.context() as patch:
        patch.setattr("fxhelpers.bundles._files.datetime", Tomorrow)
        ahead = write_evaluation(bundle, {**evaluation.metrics, "test_rmse": 9.0}, evaluation.predictions, paths)
    latest = write_evaluation(bundle, evaluation.metrics, evaluation.predictions, paths)
    assert load_bundle(paths, symbol="AAPL").evaluation_path == latest
    assert f"{ahead.name}: it states the time" in caplog.text


def checkout(bundle: Bundle, folder: Path) -> Path:
    """Copy a bundle into the folders of another checkout, and return its model file there."""
    for path in (bundle.model_path, bundle.scaler_path, bundle.metadata_path):
        to = folder / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    return folder / "models" / bundle.model_path.name


def test_what_lies_beside_a_model_comes_first_and_what_differs_is_an_error(
    bundle: Bundle, paths: PathsParams, tmp_path: Path
) -> None:
    evaluation = evaluate_bundle(bundle, load_prices("AAPL", load_params().prices))
    kept = write_evaluation(bundle, evaluation.metrics, evaluation.predictions, paths)
    model = checkout(bundle, tmp_path / "elsewhere")
    root = model.parent.parent
    found = load_bundle(paths, model_path=model)
    assert (found.metadata_path, found.digest) == (root / "metadata" / bundle.metadata_path.name, bundle.digest)
    assert found.evaluation_path == kept  # there is none beside it
    (root / "results").mkdir()
    beside = root / "results" / kept.name
    beside.write_bytes(kept.read_bytes())
    for folder in (root / "data" / "features", paths.features):
        folder.mkdir(parents=True)
        (folder / "features_AAPL.csv").write_text("Date,return_1\n2012-01-03,0.1\n")
    found = load_bundle(paths, model_path=model)
    assert (found.evaluation_path, found.features_path) == (beside, root / "data" / "features" / "features_AAPL.csv")
    for one, other in (
        (found.metadata_path, bundle.metadata_path),
        (beside, kept),
        (found.features_path, paths.features / "features_AAPL.csv"),
    ):
        assert one is not None
        whole = one.read_bytes()
        one.write_bytes(whole.replace(b"0", b"1"))
        if one is not found.features_path:
            edit(one, **{key: value for key, value in json.loads(whole).items() if key in {"timestamp", "model_info"}}, added=1)
        with pytest.raises(BundleError, match=f"{re.escape(str(one))} and {re.escape(str(other))} have one name, but differ"):
            load_bundle(paths, model_path=model)
        one.write_bytes(whole)
    (root / "metadata" / bundle.metadata_path.name).unlink()
    assert load_bundle(paths, model_path=model).metadata_path == bundle.metadata_path  # as params.yaml says


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": [128, 96, 32]}, r"architecture is \[128, 96, 32\], but mlp_model_AAPL_.*.skops has \[4\]"),
        ({"config": {"hidden_layer_sizes": [16]}}, r"config.hidden_layer_sizes is \[16\], but .* has \[4\]"),
        ({"config": {"solver": "sgd"}}, "config.solver is 'sgd', but .* has 'adam'"),
        ({"config": {"activation": "tanh"}}, "config.activation is 'tanh', but .* has 'relu'"),
    ],
)
def test_metadata_of_another_model_are_found_out_by_the_weights(
    bundle: Bundle, paths: PathsParams, changes: dict[str, object], message: str
) -> None:
    edit(bundle.metadata_path, **changes)
    with pytest.raises(BundleError, match=f"mlp_model_stats_AAPL_.*.json: {message}"):
        load_bundle(paths, model_path=bundle.model_path)


def test_a_foreign_model_is_not_described_by_its_neighbours_metadata(foresightx: Callable[..., Path]) -> None:
    """A 16-unit model was registered as [128, 96, 32] by SGD, with the errors of that one."""
    path = foresightx()
    fitted = pickle.loads(path.read_bytes())  # noqa: S301 (written above)
    fitted.set_params(hidden_layer_sizes=(16,), solver="lbfgs", early_stopping=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(np.random.default_rng(0).normal(size=(60, 8)), np.arange(60.0))
    path.write_bytes(pickle.dumps(fitted))
    with pytest.raises(BundleError, match=r"architecture is \[8, 4\], but mlp_model_TATAMOTORS.BO.pkl has \[16\]"):
        load_bundle(PathsParams(), model_path=path)
    edit(path.parent.parent / "metadata" / "mlp_model_stats_TATAMOTORS.BO.json", architecture=[16], config={"solver": "lbfgs"})
    evaluation = path.parent.parent / "results" / "evaluation_metrics_TATAMOTORS.BO.json"
    edit(evaluation, model_info={"training_timestamp": "2025-12-20T03:41:23.123456", "architecture": [8, 4]})
    with pytest.raises(BundleError, match=rf"{evaluation.name}: it evaluates a model with architecture \[8, 4\]"):
        load_bundle(PathsParams(), model_path=path)


def test_only_the_evaluation_of_this_training_is_merged_and_the_latest_of_them(project: Project, paths: PathsParams) -> None:
    old = project.bundle()
    prices = load_prices("AAPL", load_params().prices)
    evaluation = evaluate_bundle(old, prices)
    write_evaluation(old, {**evaluation.metrics, "test_rmse": 9.0}, evaluation.predictions, paths)
    write_evaluation(old, evaluation.metrics, evaluation.predictions, paths)
    new = project.bundle()
    assert new.evaluation_path is None
    assert "test_rmse" not in new.metrics
    again = load_bundle(paths, model_path=old.model_path)
    assert again.metrics["test_rmse"] == evaluation.metrics["test_rmse"]
    assert "test_mape" not in again.metrics  # not a number: a percentage of almost nothing
    assert again.digest == old.digest  # an evaluation is not part of the bundle's identity


def test_a_broken_evaluation_is_named(project: Project, paths: PathsParams) -> None:
    project.bundle()
    paths.results.mkdir(parents=True)
    broken = paths.results / "evaluation_metrics_AAPL_20260101_000000.json"
    for text in ('{"model_info": null}', '{"model_info": {}, "test_metrics": []}', '{"model_info": {'):
        broken.write_text(text)
        with pytest.raises(BundleError, match=broken.name):
            load_bundle(paths, symbol="AAPL")


def test_a_flipped_bit_anywhere_is_a_clear_error_or_harmless(bundle: Bundle, paths: PathsParams) -> None:
    rng = np.random.default_rng(0)
    edit(bundle.metadata_path, files={})
    good = bundle.model_path.read_bytes()
    for position in rng.integers(0, len(good), 150):
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        bundle.model_path.write_bytes(bad)
        with contextlib.suppress(BundleError):
            load_bundle(paths, symbol="AAPL")


def test_evaluation_says_whether_the_prices_are_those_of_the_training(bundle: Bundle) -> None:
    prices = load_prices("AAPL", load_params().prices)
    assert evaluate_bundle(bundle, prices).same_prices
    assert not evaluate_bundle(bundle, prices * 0.5).same_prices


def test_nothing_there_says_how_to_train(project: Project, paths: PathsParams) -> None:
    with pytest.raises(BundleNotFoundError, match=r"No model files found for IBM in .*fx run train -p symbol IBM"):
        load_bundle(paths, symbol="IBM")


@pytest.mark.parametrize("which", ["scaler_path", "metadata_path"])
def test_a_missing_file_is_named(bundle: Bundle, paths: PathsParams, which: str) -> None:
    bundle[which].unlink()
    with pytest.raises(BundleNotFoundError, match=f"{bundle[which].name}: missing"):
        load_bundle(paths, symbol="AAPL")


@pytest.mark.parametrize("which", ["model_path", "scaler_path", "metadata_path"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(bundle: Bundle, paths: PathsParams, which: str, kept: float) -> None:
    path = bundle[which]
    edit(bundle.metadata_path, files={})  # so that not merely the digest speaks
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(BundleError, match=path.name):
        load_bundle(paths, symbol="AAPL")


def test_a_manifest_names_every_file(bundle: Bundle, paths: PathsParams) -> None:
    edit(bundle.metadata_path, files={bundle.model_path.name: bundle.metadata["files"][bundle.model_path.name]})
    with pytest.raises(BundleError, match=f"{bundle.scaler_path.name}: .* lists the bundle's files with their SHA-256"):
        load_bundle(paths, symbol="AAPL")


def test_a_pickle_whose_digest_is_another_is_not_even_read(
    foresightx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foresightx()
    scaler = path.with_name(path.name.replace("model", "scaler"))
    edit(
        path.parent.parent / "metadata" / "mlp_model_stats_TATAMOTORS.BO.json",
        files={path.name: sha256(path.read_bytes()), scaler.name: "0" * 64},
    )
    monkeypatch.setattr("fxhelpers.foresightx._checkout.SECONDS", 0)  # a child would be ended at once
    with pytest.raises(BundleError, match=f"{scaler.name}: its bytes are not those that mlp_model_stats"):
        load_bundle(PathsParams(), model_path=path)


@pytest.mark.usefixtures("thorough")
def test_a_foreign_model_gives_the_forecasts_of_its_training_again(
    foresightx: Callable[..., Path], project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    model_path = foresightx()
    root = model_path.parent.parent
    features, results = root / "data" / "features", root / "results"
    features.mkdir(parents=True)
    names = load_bundle(PathsParams(), model_path=model_path).feature_names
    days = pd.date_range("2024-01-01", periods=40, name="Date")
    table = pd.DataFrame(np.random.default_rng(3).normal(100, 15, (40, 8)), columns=names, index=days).assign(Target_Return=0.01)
    model, scaler = (
        pickle.loads((root / "models" / f"mlp_{kind}_TATAMOTORS.BO.pkl").read_bytes())  # noqa: S301 (written by the fixture)
        for kind in ("model", "scaler")
    )
    predicted = pd.Series(model.predict(scaler.transform(table[names].to_numpy())), index=days).tail(10)
    forecasts = pd.DataFrame({"Actual": 0.01, "Predicted": predicted})
    predictions = results / "predictions_TATAMOTORS.BO.csv"
    forecasts.to_csv(predictions)
    paths = PathsParams(features=features)
    load_bundle(paths, model_path=model_path)
    assert "no features file has the days of" in caplog.text
    table.to_csv(features / "features_TATAMOTORS.BO_20240201_000000.csv")
    (table * 1.5).to_csv(features / "features_TATAMOTORS.BO_20240301_000000.csv")  # restated since; the older file still is right
    caplog.clear()
    assert load_bundle(paths, model_path=model_path).features_path is not None
    assert caplog.text == ""
    forecasts.assign(Predicted=predicted * (1 + 1e-3 * (predicted.index == days[-2]))).to_csv(predictions)
    (features / "features_TATAMOTORS.BO_20240301_000000.csv").unlink()
    with pytest.raises(BundleError, match=rf"forecasts .* for {days[-2]:%Y-%m-%d} from .*, but .* has .*; 1 of 10 days differ"):
        load_bundle(paths, model_path=model_path)


def test_a_changed_byte_is_noticed(bundle: Bundle, paths: PathsParams) -> None:
    content = bytearray(bundle.model_path.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.model_path.write_bytes(content)
    with pytest.raises(BundleError, match="its bytes are not those that"):
        load_bundle(paths, symbol="AAPL")


def test_contradictions_are_named(bundle: Bundle, paths: PathsParams) -> None:
    good = bundle.metadata_path.read_text()
    for changes, message in [
        ({"symbol": "IBM"}, "metadata of IBM, but the model file is for AAPL"),
        ({"features_count": 7}, "features_count is 7, but feature_names lists 45"),
        ({"feature_names": ["a", "b"], "features_count": 2}, "made for 45 features, but .* lists 2"),
        ({"feature_names": bundle.feature_names[::-1]}, "made for other features, or another order"),
        ({"feature_names": []}, "no feature_names; found the keys"),
        ({"feature_names": "abcd"}, "feature_names: Input should be a valid list, found 'abcd'"),
        ({"feature_names": [*bundle.feature_names[:-1], bundle.feature_names[0]]}, "lists 'return_1' more than once"),
        ({"windows": {"test": {"first_day": "no", "last_day": "2012-01-01"}}}, r"windows.test.first_day: .*, found 'no'"),
        ({"windows": {"test": None}}, "windows.test: .*, found None"),
        ({"target": {"training_mean": "x"}}, "target.training_mean: .*, found 'x'"),
        ({"prices": 5}, "prices: .*, found 5"),
        ({"config": json.loads("[" * 40 + "]" * 40)}, "nested more than 20 deep"),
        ({"feature_names": [*bundle.feature_names[:-1], "\ud800"]}, r"feature_names\.44: a name must be printable"),
        ({"forecasts": {"days": [None], "values": [0.1]}}, "its forecasts"),
        ({"forecasts": {"days": ["2012-01-01"], "values": [10**400]}}, "its forecasts cannot be read"),
        ({"feature_names": [1, 2]}, r"feature_names\.0: Input should be a valid string, found 1"),
        ({"features_count": "45"}, "features_count: Input should be a valid integer, found '45'"),
        ({"files": None}, "files: Input should be a valid dictionary, found None"),
        ({"config": 5}, "config: Input should be a valid dictionary, found 5"),
        ({"format_version": 2}, "format_version 2, this fxhelpers reads up to 1; install a newer"),
    ]:
        bundle.metadata_path.write_text(good)
        edit(bundle.metadata_path, **changes)
        with pytest.raises(BundleError, match=message):
            load_bundle(paths, symbol="AAPL")


def test_what_is_no_file_is_not_waited_for(bundle: Bundle, paths: PathsParams) -> None:
    for path in (bundle.scaler_path, bundle.metadata_path):
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(BundleError, match=f"{path.name}: not a file; it was not read"):
            load_bundle(paths, symbol="AAPL")
        path.unlink()
        path.write_bytes(kept)
    with pytest.raises(BundleNotFoundError, match="no such file"):
        load_bundle(paths, model_path="x" * 400)


def test_numbers_that_no_database_holds_are_no_metrics(bundle: Bundle, paths: PathsParams) -> None:
    edit(bundle.metadata_path, metrics={"a": 10**400, "b": float("nan"), "c": float("inf"), "d": True, "e": 0.5})
    assert load_bundle(paths, symbol="AAPL").metrics == {"e": 0.5}


@pytest.mark.parametrize("crippled", ["activation", "coefs_", "nan", "two"])
def test_a_model_that_cannot_forecast_is_refused(bundle: Bundle, paths: PathsParams, crippled: str) -> None:
    model = bundle.model_object.regressor_
    if crippled == "activation":
        model.activation = "none that there is"
    elif crippled == "coefs_":
        del model.coefs_
    elif crippled == "nan":
        model.intercepts_[-1][:] = np.nan
    else:
        model.coefs_[-1], model.intercepts_[-1] = np.ones((4, 2)), np.ones(2)
    bundle.model_path.write_bytes(skops.io.dumps(bundle.model_object))
    edit(bundle.metadata_path, files={})
    with pytest.raises(BundleError, match=r"cannot forecast a typical day|expected one finite number per day"):
        load_bundle(paths, symbol="AAPL")


def test_a_scaler_of_another_width_is_refused(bundle: Bundle, paths: PathsParams) -> None:
    bundle.scaler_path.write_bytes(skops.io.dumps(StandardScaler().fit(np.eye(3))))
    edit(bundle.metadata_path, files={})
    with pytest.raises(BundleError, match=r"mlp_scaler_AAPL.*made for 3 features, but .* lists 45"):
        load_bundle(paths, symbol="AAPL")


def test_a_skops_file_of_another_type_is_not_loaded(bundle: Bundle, paths: PathsParams) -> None:
    bundle.model_path.write_bytes(skops.io.dumps({"model": LinearRegression(), "attack": os.path.join}))
    edit(bundle.metadata_path, files={})
    with pytest.raises(UntrustedBundleError, match=r"requires posixpath.join \(as FunctionNode\), sklearn.linear_model"):
        load_bundle(paths, symbol="AAPL")


def test_a_foreign_bundle_cannot_be_evaluated_here_and_says_why(foresightx: Callable[..., Path]) -> None:
    bundle = load_bundle(PathsParams(), model_path=foresightx())
    with pytest.raises(NotComparableError, match="8 of its 8 features are not among the 45 available ones, first 'Close_Lag_1'"):
        evaluate_bundle(bundle, load_prices("AAPL", load_params().prices))


def test_an_unknown_key_of_a_result_lists_the_known_ones(bundle: Bundle) -> None:
    assert bundle["symbol"] == "AAPL"
    assert set(dict(bundle)) >= {"model_path", "metrics", "architecture", "feature_names"}
    with pytest.raises(KeyError, match="'simbol' is not a key of Bundle; keys: symbol"):
        bundle["simbol"]

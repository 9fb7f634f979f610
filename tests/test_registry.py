"""The six documented methods, against a real registry, and what plain MLflow makes of it."""

import io
import logging
import os
import shutil
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
import time_machine
from conftest import NAME, Project, half_registered
from mlflow.exceptions import MlflowException
from sklearn.pipeline import Pipeline

from fxhelpers import ModelRegistry, evaluate_bundle, load_params, load_prices, write_evaluation
from fxhelpers.bundles import Bundle, load_bundle
from fxhelpers.errors import (
    BundleNotFoundError,
    ModelTamperedError,
    NotComparableError,
    ParamsError,
    RegistryError,
    RegistryUnavailableError,
    StageError,
    VersionNotFoundError,
)
from fxhelpers.registry.models import load_version
from fxhelpers.registry.pipelines import _example
from fxhelpers.training import supervised


def run_of(registry: ModelRegistry, version: int) -> mlflow.entities.Run:
    found = registry.client.version(NAME, version)
    with registry.client.session("read a run") as client:
        return client.get_run(found.run_id)


def files_of(registry: ModelRegistry, version: int) -> set[str]:
    found = registry.client.version(NAME, version)
    with registry.client.session("list files") as client:
        return {f.path for folder in ("model", "artifacts") for f in client.list_artifacts(found.run_id, folder)}


def test_the_documented_examples_run_as_written(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """The code of the user's document, with the import path changed."""
    project.bundle()
    registry = ModelRegistry()
    model_info = registry.load_model_info(symbol="AAPL")
    result = registry.register_model(model_info)
    assert (result["version"], result["stage"], result["symbol"]) == (1, "Staging", "AAPL")
    result = registry.register_model(model_info, stage="Production")
    assert (result["version"], result["stage"]) == (1, "Production")
    for v in registry.get_model_versions("MLP_Stock_Predictor_AAPL"):
        print(f"Version {v['version']}: {v['stage']} {v['status']} {v['creation_timestamp']} {v['run_id']}")
    project.bundle()
    registry.run_registration_pipeline(symbol="AAPL")
    registry.transition_stage(model_name="MLP_Stock_Predictor_AAPL", version=2, stage="Production")
    registry.transition_stage(model_name="MLP_Stock_Predictor_AAPL", version=1, stage="Archived")
    prod_model = registry.get_production_model("MLP_Stock_Predictor_AAPL")
    assert prod_model is not None
    print(f"Production: v{prod_model['version']}")
    assert prod_model["stage"] == "Production"
    printed = capsys.readouterr().out
    assert "Version 1: Production READY" in printed
    assert "Production: v2" in printed


def test_the_documented_service_finds_the_same_registry_with_plain_mlflow(project: Project) -> None:
    project.bundle()
    registry = ModelRegistry()
    registry.run_registration_pipeline(symbol="AAPL", stage="Production")
    prod_info = registry.get_production_model("MLP_Stock_Predictor_AAPL")
    assert prod_info is not None
    model = mlflow.sklearn.load_model(f"models:/MLP_Stock_Predictor_AAPL/{prod_info['version']}")
    features, _ = supervised(load_prices("AAPL", registry.params.prices))
    assert np.isfinite(model.predict(features.tail(3))).all()
    assert "MLFLOW_TRACKING_URI" not in os.environ  # which would win over the params.yaml of another project


def test_a_tracking_uri_that_the_program_chose_is_left_alone(project: Project) -> None:
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    assert ModelRegistry(project.folder / "params.yaml").get_production_model(NAME) is None
    assert mlflow.get_tracking_uri() == "sqlite:///elsewhere.db"


def test_plain_mlflow_loads_every_documented_uri_and_predicts_from_raw_features(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = project.bundle()
    registry = ModelRegistry()
    registry.register_model(bundle, stage="Production")
    features, _ = supervised(load_prices("AAPL", registry.params.prices))
    expected = bundle.model_object.predict(bundle.scaler_object.transform(features))
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(registry.params.mlflow.tracking_uri)
    for uri in (f"models:/{NAME}/Production", f"models:/{NAME}@champion", f"models:/{NAME}/1"):
        np.testing.assert_array_equal(mlflow.sklearn.load_model(uri).predict(features), expected)
    served = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    np.testing.assert_array_equal(served.predict(features), expected)
    assert [column.name for column in served.metadata.signature.inputs] == bundle.feature_names
    assert served.input_example.shape == (2, bundle.features_count)


def test_a_version_takes_its_features_by_name_and_nothing_else(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code written for the user's document scales first, and hands over an array: 235 % a day, once."""
    bundle = project.bundle()
    registry = ModelRegistry()
    registry.register_model(bundle, stage="Production")
    features = supervised(load_prices("AAPL", registry.params.prices))[0].tail(3)
    scaled = bundle.scaler_object.transform(features)
    expected = bundle.model_object.predict(scaled)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(registry.params.mlflow.tracking_uri)
    plain, served = (flavor.load_model(f"models:/{NAME}/Production") for flavor in (mlflow.sklearn, mlflow.pyfunc))
    champion = registry.load_champion("AAPL")
    assert champion is not None
    for model in (plain, champion.pipeline, champion.load_again(), bundle.pipeline()):
        for unnamed in (scaled, scaled.tolist(), scaled[:1], features.to_numpy()):
            with pytest.raises(ValueError, match="columns using strings is only supported for dataframes"):
                model.predict(unnamed)
        shuffled = features.iloc[:, ::-1].assign(Close=1.0, Date="2013-01-01")
        np.testing.assert_array_equal(model.predict(shuffled), expected)
        np.testing.assert_allclose(model.predict(features[features.columns].tail(1)), expected[-1:], rtol=1e-12)
        with pytest.raises(ValueError, match=r"columns are missing: \{'roc_5'\}"):
            model.predict(features.drop(columns="roc_5"))
        with pytest.raises(ValueError, match="X has 44 features, but ColumnTransformer is expecting 45 features"):
            model.predict(scaled[:, 1:])
        assert list(model.feature_names_in_) == bundle.feature_names
    np.testing.assert_array_equal(served.predict(features.iloc[:, ::-1].assign(Close=1.0)), expected)
    for unnamed in (scaled, scaled.tolist(), pd.DataFrame(scaled)):
        with pytest.raises(MlflowException, match="Model is missing inputs"):
            served.predict(unnamed)
    with zipfile.ZipFile(io.BytesIO(champion.content)) as file:
        assert b"fxhelpers" not in file.read("schema.json")  # scikit-learn alone does it


@pytest.mark.usefixtures("thorough")
def test_a_version_of_an_earlier_release_loads_replays_compares_and_takes_names_only(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, registry = project.bundle(), ModelRegistry()
    with monkeypatch.context() as yesterday:
        yesterday.setattr(Bundle, "pipeline", lambda b: Pipeline([("scaler", b.scaler_object), ("model", b.model_object)]))
        registry.register_model(bundle, stage="Production")
    champion = registry.load_champion("AAPL")
    assert champion is not None
    with zipfile.ZipFile(io.BytesIO(champion.content)) as file:
        assert b"ColumnTransformer" not in file.read("schema.json")
    assert champion.replay() == 256
    features = supervised(load_prices("AAPL", registry.params.prices))[0].tail(3)
    np.testing.assert_array_equal(champion.pipeline.predict(features.iloc[:, ::-1]), champion.pipeline.predict(features))
    with pytest.raises(ValueError, match="only supported for dataframes"):
        champion.pipeline.predict(features.to_numpy())
    assert registry.register_model(bundle).version == 1  # the same bundle is the same version, whatever its pipeline looks like
    assert registry.register_model(project.bundle(alpha=10.0)).version == 2
    assert registry.compare("AAPL", version=2).comparison is not None
    assert registry.verify("AAPL", deep=True).problems == []


def test_what_the_document_lists_is_logged(project: Project) -> None:
    bundle = project.bundle()
    registry = ModelRegistry()
    evaluation = evaluate_bundle(bundle, load_prices("AAPL", registry.params.prices))
    write_evaluation(bundle, evaluation.metrics, evaluation.predictions, registry.params.paths)
    registry.register_model(registry.load_model_info(symbol="AAPL"), tags={"dataset_version": "2025-12", "count": 3})
    run = run_of(registry, 1)
    assert {"symbol", "model_type", "architecture", "features_count", "timestamp", "config_activation", "config_solver"} <= set(
        run.data.params
    )
    metrics = {"val_rmse", "val_mae", "iterations", "training_time", "test_rmse", "test_mae", "direction_accuracy"}
    assert metrics <= set(run.data.metrics)
    tags = {
        "model_family": "MLP",
        "task": "regression",
        "target": "stock_returns",
        "symbol": "AAPL",
        "version_timestamp": bundle.timestamp,
    }
    found = registry.client.version(NAME, 1)
    for where in (run.data.tags, found.tags):
        assert {**tags, "dataset_version": "2025-12", "count": "3"}.items() <= where.items()
    assert "hidden layers [4]" in found.description
    assert run.info.status == "FINISHED"
    assert {"model/model.skops", f"artifacts/{bundle.scaler_path.name}", f"artifacts/{bundle.metadata_path.name}"} <= files_of(
        registry, 1
    )


def test_the_same_bundle_again_is_the_same_version_and_says_so(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    bundle = project.bundle()
    registry = ModelRegistry()
    first = registry.register_model(bundle)
    again = registry.register_model(registry.load_model_info(symbol="AAPL"), description="The better text")
    assert (first.version, first.created, again.version, again.created) == (1, True, 1, False)
    assert "this bundle is version 1 already" in caplog.text
    assert [v.description for v in registry.get_model_versions(NAME)] == ["The better text"]


@pytest.mark.parametrize("stage", [None, "Prodction", "Staging", "None", "Archived", "Production"])
def test_registering_again_never_takes_the_champion_out_of_production(project: Project, stage: str | None) -> None:
    bundle = project.bundle()
    registry = ModelRegistry()
    registry.register_model(bundle, stage="Production")
    assert registry.register_model(bundle, stage=stage).stage == "Production"
    assert registry.get_production_model(NAME) is not None


def test_a_registration_that_was_killed_after_its_version_is_completed_by_the_next(project: Project) -> None:
    bundle = project.bundle()
    registry = ModelRegistry()
    half_registered(registry, bundle)  # and then the process dies
    result = registry.register_model(bundle)
    assert (result.version, result.created, result.stage) == (1, False, "Staging")
    challenger = registry.client.challenger(NAME)
    assert challenger is not None
    assert challenger.version == 1


@pytest.mark.parametrize("tag", ["fx.model_sha256", "fx.decision", "symbol"])
def test_our_own_tags_cannot_be_overwritten(project: Project, tag: str) -> None:
    with pytest.raises(ParamsError, match=f"tags: {tag}: set by fxhelpers itself"):
        ModelRegistry().register_model(project.bundle(), tags={tag: "mine"})
    assert ModelRegistry().get_model_versions(NAME) == []


def test_a_features_file_that_does_not_fit_stops_no_registration(
    foresightx: Callable[..., Path], project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ModelRegistry()
    bundle = registry.load_model_info(model_path=foresightx())
    header, path = ",".join(bundle.feature_names), project.folder / "features.csv"
    for content in (
        "",
        "Date\n",
        "a,b\n1\n1,2,3\n",
        f"{header}\n{'text,' * 7}text\n",
        f"{header}\n{'inf,' * 7}inf\n",
        f"{header}\n\n",
    ):
        path.write_text(content)
        assert len(_example(replace(bundle, features_path=path))) == 2
    assert f"{path} does not fit this bundle" in caplog.text
    assert registry.register_model(replace(bundle, features_path=path)).version == 1


@pytest.mark.parametrize(
    ("setting", "stage"), [("None", "None"), ("Staging", "Staging"), ("Archived", "Archived"), (None, "None")]
)
def test_default_stage_is_the_stage_of_a_new_version(project: Project, setting: str | None, stage: str) -> None:
    bundle = project.bundle()
    assert project.registry(model_registry={"default_stage": setting}).register_model(bundle).stage == stage


def test_track_experiments_off_logs_neither_parameters_nor_metrics(project: Project) -> None:
    registry = project.registry(model_registry={"track_experiments": False})
    registry.register_model(project.bundle())
    run = run_of(registry, 1)
    assert (run.data.params, run.data.metrics) == ({}, {})


def test_save_artifacts_off_keeps_the_model_alone(project: Project) -> None:
    registry = project.registry(model_registry={"save_artifacts": False})
    registry.register_model(project.bundle())
    files = files_of(registry, 1)
    assert "model/model.skops" in files
    assert not [f for f in files if f.startswith("artifacts/")]
    assert registry.compare("AAPL").comparison is not None  # which does not need them


def test_retention_days_say_when_a_staging_version_is_due(project: Project) -> None:
    registry = project.registry(model_registry={"retention_days": 30})
    registry.register_model(project.bundle())
    version = registry.get_model_versions(NAME)[0]
    due = version.archive_due(30)
    assert due is not None
    assert (due - version.created).days == 30
    assert list(registry.versions_frame("AAPL")["archive after"]) == [f"{due:%Y-%m-%d}"]
    registry.transition_stage(NAME, 1, "Archived")
    assert list(registry.versions_frame("AAPL")["archive after"]) == [""]


def test_an_invalid_stage_warns_when_registering_and_raises_when_moving(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ModelRegistry()
    result = registry.register_model(project.bundle(), stage="Testing")
    assert result.stage == "None"
    assert "Invalid stage 'Testing'. Using None. Valid stages: None, Staging, Production, Archived" in caplog.text
    with pytest.raises(StageError, match=r"Invalid stage 'Testing'\. Valid stages: Staging, Production, Archived"):
        registry.transition_stage(NAME, 1, "Testing")
    for wrong in ("latest", 0, "0", -1, True, 1.0, "1.0", None, 10**12):
        with pytest.raises(StageError, match="must be a number, 1 or more, found"):
            registry.transition_stage(NAME, wrong, "Staging")  # type: ignore[arg-type]
    assert registry.transition_stage(NAME, "1", "Staging").version == 1  # as MLflow writes it
    with pytest.raises(VersionNotFoundError, match="version 7"):
        registry.transition_stage(NAME, 7, "Staging")


def test_nobody_there_is_none_and_an_empty_list(project: Project) -> None:
    registry = ModelRegistry()
    assert registry.get_production_model("MLP_Stock_Predictor_NOBODY") is None
    assert registry.get_model_versions("MLP_Stock_Predictor_NOBODY") == []
    with pytest.raises(BundleNotFoundError, match="No model files found for AAPL"):
        registry.run_registration_pipeline()


HOSTILE = (
    "../x",
    "..",
    "/etc/passwd",
    "A" * 300,
    "O'Neil",
    'say "AAPL"',
    "Übër",
    "AAPL\u202e",
    "AAPL\n",
    "AAPL' OR '1'='1",
    "AAPL' or name != '",
    "%",
    "AAPL'; DROP TABLE runs; --",
    "tags.`fx.model` = 'x'",
    "",
)


@pytest.mark.parametrize("symbol", HOSTILE)
def test_a_symbol_is_data_whatever_it_holds(project: Project, symbol: str) -> None:
    registry = ModelRegistry()
    before = set(project.folder.rglob("*"))
    calls: list[Callable[[], object]] = [
        lambda: registry.run_registration_pipeline(symbol=symbol),
        lambda: registry.compare(symbol),
        lambda: registry.propose(symbol, apply=True),
        lambda: registry.rollback(symbol, apply=True, reason="x"),
        lambda: registry.retain(symbol, apply=True),
        lambda: registry.history(symbol),
        lambda: registry.load_champion(symbol),
        lambda: registry.versions_frame(symbol),
        lambda: load_prices(symbol, registry.params.prices),
    ]
    for call in calls:
        with pytest.raises(ParamsError, match=r"is not a ticker; use 1 to 32 letters"):
            call()
    assert set(project.folder.rglob("*")) == before


@pytest.mark.usefixtures("thorough")
def test_a_tickers_dots_and_signs_make_a_bundle_a_version_and_a_history_of_its_own(
    project: Project, foresightx: Callable[..., Path]
) -> None:
    registry = ModelRegistry()
    for symbol in ("BRK.B", "^GSPC", "BRK"):
        registry.register_model(registry.load_model_info(model_path=foresightx(symbol)), stage="Production")
        assert [v.version for v in registry.get_model_versions(registry.model_name(symbol))] == [1]
        assert len(registry.history(symbol).ledger.decisions) == 1
    assert not registry.verify().problems


@pytest.mark.usefixtures("thorough")
def test_the_name_of_a_model_is_data_whatever_it_holds(project: Project, trained: dict[str, Path]) -> None:
    registry = ModelRegistry()
    bundle = load_bundle(load_params(trained["regularised"] / "params.yaml").paths, symbol="AAPL")
    registry.register_model(bundle)
    refused = []
    for name in (*HOSTILE[:-1], "fx-lock.X", "a/b", "a:b", "both ' and \"", " x"):
        try:
            assert registry.get_model_versions(name) == []
            assert registry.get_production_model(name) is None
            registry.register_model(bundle, model_name=name)
        except (ParamsError, VersionNotFoundError) as error:
            assert repr(name)[:20] in str(error)  # noqa: PT017 (either is right)
            refused.append(name)
        else:
            assert [v.version for v in registry.get_model_versions(name)] == [1]
    assert {"../x", "..", "/etc/passwd", "A" * 300, "fx-lock.X", " x"} <= set(refused)
    assert {"%", "O'Neil", "AAPL'; DROP TABLE runs; --"}.isdisjoint(refused)
    registry.transition_stage("%", 1, "Production")
    assert [v.stage for v in registry.get_model_versions("O'Neil")] == ["Staging"]
    assert registry.get_production_model(NAME) is None


@pytest.mark.parametrize(
    ("mlflow_section", "reason"),
    [
        ({"enabled": False}, r"MLflow is disabled in configuration.*Set `mlflow.enabled: true` in .*params.yaml"),
        (
            {"tracking_uri": "dagshub", "dagshub_username": "a", "dagshub_repo": "b"},
            r"DAGSHUB_TOKEN not found in environment variables.*Export DAGSHUB_TOKEN, or write it into .*\.env",
        ),
    ],
)
def test_without_a_registry_bundles_are_read_and_each_call_says_what_to_do(
    project: Project, mlflow_section: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = project.bundle()
    with caplog.at_level(logging.WARNING):
        registry = project.registry(mlflow=mlflow_section)
    assert "Model registry will not be available" in caplog.text
    assert registry.load_model_info(symbol="AAPL").digest == bundle.digest
    calls: list[Callable[[], object]] = [
        lambda: registry.register_model(bundle),
        lambda: registry.get_model_versions(NAME),
        lambda: registry.transition_stage(NAME, 1, "Staging"),
        lambda: registry.get_production_model(NAME),
        registry.run_registration_pipeline,
        lambda: registry.compare("AAPL"),
        lambda: registry.load_champion("AAPL"),
    ]
    for call in calls:
        with pytest.raises(RegistryUnavailableError, match=reason):
            call()


def test_a_server_that_does_not_answer_is_an_error_that_names_the_setting(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:s3cret@127.0.0.1:9")
    registry = ModelRegistry()
    with pytest.raises(RegistryUnavailableError, match=r"no answer from .*127.0.0.1:9; check MLFLOW_TRACKING_URI") as caught:
        registry.get_production_model(NAME)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in repr(registry.params)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///{folder}/garbage.db", "not a database"),
        ("sqlite:////proc/nowhere/mlflow.db", "No such file or directory"),
        ("postgresql://me:s3cret@127.0.0.1:9/db", "psycopg"),
    ],
)
def test_a_registry_that_cannot_be_opened_is_an_error_that_names_the_setting(
    project: Project, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    (project.folder / "garbage.db").write_bytes(b"this is no database at all" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=project.folder))
    with pytest.raises(
        RegistryUnavailableError, match=r"check MLFLOW_TRACKING_URI in .*mlflow.tracking_uri in .*params.yaml"
    ) as caught:
        ModelRegistry().get_model_versions(NAME)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_bytes_that_changed_in_the_store_are_not_loaded(project: Project) -> None:
    registry = ModelRegistry()
    registry.register_model(project.bundle(), stage="Production")
    champion = registry.load_champion("AAPL")
    assert champion is not None
    assert champion.version.version == 1
    with registry.client.session("find files") as client:
        root = Path(unquote(urlsplit(client.get_run(champion.version.run_id).info.artifact_uri).path)) / "model"
    for name in ("model.skops", "MLmodel"):
        good = (root / name).read_bytes()
        (root / name).write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
        with pytest.raises(ModelTamperedError, match="the stored files have SHA-256"):
            registry.load_champion("AAPL")
        (root / name).write_bytes(good)
    registry.load_champion("AAPL")
    shutil.rmtree(root)
    with pytest.raises(RegistryError, match=r"cannot load version 1 of MLP_Stock_Predictor_AAPL.*artifacts"):
        registry.load_champion("AAPL")


def test_a_version_that_something_else_registered_is_listed_but_not_loaded(project: Project) -> None:
    registry = ModelRegistry()
    with registry.client.session("register by hand") as client:
        client.create_registered_model(NAME)
        client.create_model_version(NAME, source="file:///nowhere")
    assert [v.version for v in registry.get_model_versions(NAME)] == [1]
    with pytest.raises(NotComparableError, match="was not registered by fxhelpers"):
        load_version(registry.client, NAME, 1)


def test_the_features_file_of_a_foresightx_checkout_gives_the_input_example(
    foresightx: Callable[..., Path], project: Project
) -> None:
    root = foresightx().parent.parent
    names = ["Close_Lag_1", "Close_Lag_2", "Close_Lag_3", "Close_Lag_5", "Close_Lag_10", "RSI_14", "MACD_Signal", "VWAP"]
    rows = pd.DataFrame(np.arange(24.0).reshape(3, 8), columns=names).assign(Date="2025-12-19", Target_Return=0.01)
    folders = {"models": root / "models", "metadata": root / "metadata", "results": root / "results", "features": root / "data"}
    (root / "data").mkdir()
    rows.to_csv(root / "data" / "features_TATAMOTORS.BO_20251219_120000.csv", index=False)
    registry = project.registry(paths={name: str(folder) for name, folder in folders.items()})
    result = registry.run_registration_pipeline(symbol="TATAMOTORS.BO")
    assert result.metrics["test_rmse"] == 0.3
    with registry.client.session("read the example") as client:
        local = client.download_artifacts(result.run_id, "model")
    example = mlflow.models.Model.load(local).load_input_example(local)
    pd.testing.assert_frame_equal(example, rows[names].tail(2).reset_index(drop=True))


@pytest.mark.parametrize(("stamp", "timestamp"), [("", "2025-12-20T03:41:23.123456"), ("20251220_034123", "20251220_034123")])
def test_a_foresightx_bundle_registers_unchanged_and_serves(
    foresightx: Callable[..., Path], project: Project, stamp: str, timestamp: str
) -> None:
    model_path = foresightx(stamp=stamp, timestamp=timestamp)
    registry = ModelRegistry()
    bundle = registry.load_model_info(model_path=model_path)
    result = registry.register_model(bundle, stage="Production")
    assert result.model_name == "MLP_Stock_Predictor_TATAMOTORS.BO"
    loaded = registry.load_champion("TATAMOTORS.BO")
    assert loaded is not None
    rows = pd.DataFrame(np.random.default_rng(1).normal(100, 15, (50, 8)), columns=bundle.feature_names)
    expected = bundle.model_object.predict(bundle.scaler_object.transform(rows.to_numpy()))
    np.testing.assert_array_equal(loaded.pipeline.predict(rows), expected)
    with pytest.raises(NotComparableError, match=r"put features_TATAMOTORS.BO.csv into .*paths\.features"):
        registry.compare("TATAMOTORS.BO")


def test_the_time_is_that_of_the_database_or_of_its_file_system(project: Project, postgresql: Callable[..., str]) -> None:
    now = datetime.now(UTC)
    with time_machine.travel(now + timedelta(hours=2), tick=True):  # of this process, and no other
        for registry in (project.registry(), project.registry(mlflow={"tracking_uri": postgresql()})):
            told = registry.client.server_time()
            assert told is not None
            assert told.utcoffset() == timedelta(0)
            assert abs(told - now) < timedelta(minutes=1)

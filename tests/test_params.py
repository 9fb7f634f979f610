import os
from pathlib import Path

import pytest
from conftest import ROOT, Project

from fxhelpers import ModelRegistry, load_params
from fxhelpers.errors import ParamsError, RegistryUnavailableError
from fxhelpers.params import check_symbol, safe_uri, yaml_value


def test_the_nearest_file_upwards_applies_and_fx_params_wins(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = project.folder / "notebooks_of_mine" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert load_params().file == project.folder / "params.yaml"
    other = project.folder / "other.yaml"
    other.write_text("default_symbol: IBM\n")
    monkeypatch.setenv("FX_PARAMS", str(other))
    assert load_params().default_symbol == "IBM"


def test_no_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    with pytest.raises(ParamsError, match=r"no params.yaml in / or any folder above.*FX_PARAMS"):
        load_params()
    with pytest.raises(ParamsError, match="no such file"):
        load_params(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlflow: {enable: true}", "mlflow.enable: unknown key; the nearest known one is 'enabled'"),
        ("model_registery: {}", "model_registery: unknown key; the nearest known one is 'model_registry'"),
        ("training: {models: {regularised: {alfa: 1}}}", "training.models.regularised.alfa: .* is 'alpha'"),
        ("training: {models: {regularised: {candidates: {alpha: [-1]}}}}", "greater than or equal to 0, found -1"),
        ("training: {model: huge}", "'huge' is not one of models"),
        (
            "model_registry: {default_stage: Testing}",
            "default_stage: .*'None', 'Staging', 'Production' or 'Archived', found 'Testing'",
        ),
        ("model_registry: {retention_days: 0}", "retention_days: .*greater than or equal to 1, found 0"),
        ("default_symbol: ../x", "'../x' is not a ticker"),
        ("mlflow: {tracking_uri: dagshub}", "needs mlflow.dagshub_username and mlflow.dagshub_repo"),
        ("- a list", "found list"),
        ("a: [", "cannot be read as YAML"),
        ("prices: {start: 2005-02-30}", "cannot be read as YAML: day is out of range"),
        (
            "mlflow: {dagshub_username: someone}",
            "dagshub_username names a repository on DagsHub, which needs mlflow.dagshub_repo",
        ),
        (
            "mlflow: {dagshub_repo: models}",
            "dagshub_repo names a repository on DagsHub, which needs mlflow.dagshub_username",
        ),
        ("prices: {columns: {Klose: Close}}", "prices: columns: unknown key; the nearest known one is 'Close'"),
        ("prices: {columns: {Close: Last, Open: Last}}", "columns: one column of the file is named for two parts"),
        ("prices: {start: 2012-01-03, end: 2011-01-03}", "start: 2012-01-03 is after end: 2011-01-03"),
        ("prices: {source: csv}\n\nmlflow: {}\nprices:\n  source: sample", "the key 'prices' is there twice, on lines 1 and 4"),
        ("training:\n  models:\n    a:\n      alpha: 1\n      'alpha': 2", "the key 'alpha' is there twice, on lines 4 and 5"),
        ("promotion: {gates: [{id: g, id: h}]}", "the key 'id' is there twice, on line 1;"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", "the key '<<' is there twice, on lines 3 and 4"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_the_remedy(project: Project, text: str, message: str) -> None:
    path = project.folder / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=message) as caught:
        load_params(path)
    assert str(path) in str(caught.value)


def test_merged_keys_are_given_once(project: Project) -> None:
    """Those of another mapping give way to a mapping's own, in every order of reading."""
    path = project.folder / "merged.yaml"
    path.write_text("""
training:
  model: c
  models:
    a: &a {hidden_layer_sizes: [4], alpha: 1}
    b: &b {<<: *a, alpha: 2}
    c: {<<: *b, alpha: 3}
    d: {<<: [*a, *b], max_iter: 7}
""")
    models = load_params(path).training.models
    assert [models[name].alpha for name in "abcd"] == [1, 2, 3, 1]
    assert {tuple(model.hidden_layer_sizes) for model in models.values()} == {(4,)}


DOCUMENTED = """
model_registry:
  track_experiments: true
  save_artifacts: true
  compare_metrics: true
  auto_archive: true
  retention_days: 90
  default_stage: "Staging"
mlflow:
  enabled: true
  dagshub_username: 'TheAditya-10'
  dagshub_repo: 'ForesightX'
  experiment_name: 'MLP_Stock_Prediction'
"""
"""The configuration of the users' own document, to the letter."""


def test_the_users_own_sections_are_understood_as_written(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    path = project.folder / "documented.yaml"
    path.write_text(DOCUMENTED)
    registry = ModelRegistry(path)
    assert registry.params.model_registry.default_stage == "Staging"
    assert registry.params.mlflow.tracking_uri == "https://dagshub.com/TheAditya-10/ForesightX.mlflow"
    assert "DAGSHUB_TOKEN not found in environment variables" in caplog.text
    assert "Model registry will not be available" in caplog.text
    with pytest.raises(RegistryUnavailableError, match="DAGSHUB_TOKEN not found"):
        registry.get_model_versions("MLP_Stock_Predictor_AAPL")


@pytest.mark.parametrize(
    ("mlflow", "uri"),
    [
        ("", "sqlite:///{folder}/outputs/registry/mlflow.db"),
        ("{dagshub_username: '', dagshub_repo: ''}", "sqlite:///{folder}/outputs/registry/mlflow.db"),
        ("{dagshub_username: a, dagshub_repo: b}", "https://dagshub.com/a/b.mlflow"),
        ("{tracking_uri: '', dagshub_username: a, dagshub_repo: b}", "https://dagshub.com/a/b.mlflow"),
        ("{tracking_uri: dagshub, dagshub_username: a, dagshub_repo: b}", "https://dagshub.com/a/b.mlflow"),
        ("{tracking_uri: 'sqlite:///my.db', dagshub_username: a, dagshub_repo: b}", "sqlite:///{folder}/my.db"),
        ("{tracking_uri: 'http://host:5000', dagshub_username: a}", "http://host:5000"),
    ],
)
def test_what_is_written_says_which_registry_it_is(project: Project, mlflow: str, uri: str) -> None:
    path = project.folder / "some.yaml"
    path.write_text(f"mlflow: {mlflow or '{}'}\n")
    assert load_params(path).mlflow.tracking_uri == uri.format(folder=project.folder)


def test_a_given_uri_wins_over_names_that_are_not_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project.folder / "some.yaml"
    path.write_text("mlflow: {dagshub_username: a}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://registry.example:5000")
    assert load_params(path).mlflow.tracking_uri == "https://registry.example:5000"


def test_paths_start_at_the_file_not_at_the_current_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project.write(paths={"models": "ForesightX/models", "results": "/elsewhere/results"})
    monkeypatch.chdir("/")
    params = load_params(path)
    assert params.paths.models == project.folder / "ForesightX" / "models"
    assert params.paths.results == Path("/elsewhere/results")
    assert params.prices.folder == project.folder / "prices"


def test_the_environments_tracking_uri_wins(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://registry.example:5000")
    assert load_params().mlflow.tracking_uri == "https://registry.example:5000"


def test_dagshub_takes_its_token_from_the_environment_or_dotenv_and_shows_it_nowhere(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.write(mlflow={"tracking_uri": "dagshub", "dagshub_username": "someone", "dagshub_repo": "models"})
    missing = load_params(path)
    assert missing.mlflow.tracking_uri == "https://dagshub.com/someone/models.mlflow"
    assert missing.registry_missing is not None
    assert "DAGSHUB_TOKEN not found in environment variables" in missing.registry_missing
    (project.folder / ".env").write_text("DAGSHUB_TOKEN=from-dotenv\n")
    from_file = load_params(path)
    assert from_file.registry_missing is None
    assert from_file.credentials["MLFLOW_TRACKING_PASSWORD"] == "from-dotenv"  # noqa: S105 (planted)
    monkeypatch.setenv("DAGSHUB_TOKEN", "from-environment")
    assert load_params(path).credentials["MLFLOW_TRACKING_PASSWORD"] == "from-environment"  # noqa: S105 (planted)
    assert "from-dotenv" not in repr(from_file) + str(from_file.model_dump())
    assert "DAGSHUB_TOKEN" not in os.environ or os.environ["DAGSHUB_TOKEN"] == "from-environment"  # noqa: S105


def test_a_host_that_merely_ends_like_dagshub_gets_no_token(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSHUB_TOKEN", "secret")
    for start in ("https://evildagshub.com", "https://dagshub.com.evil.example", "http://dagshub.com"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{start}/a/b.mlflow")
        assert load_params().credentials == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://dagshub.com/a/b.mlflow")
    assert load_params().credentials == {"MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "secret"}


def test_a_password_in_the_uri_is_lent_to_mlflow_and_shown_nowhere(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%40ss@registry.example/x")
    params = load_params()
    assert params.credentials == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss"}
    assert params.registry_uri == params.mlflow.tracking_uri == "https://registry.example/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:p%40ss@registry.example/x")
    params = load_params()
    assert params.registry_uri == "postgresql://me:p%40ss@registry.example/x"  # MLflow takes it in no other way
    assert "p%40ss" not in repr(params) + str(params.model_dump())


def test_candidates_are_read_as_the_key_itself_is(project: Project) -> None:
    path = project.folder / "candidates.yaml"
    path.write_text("training: {model: a, models: {a: {alpha: 1e-4, candidates: {alpha: [1e-4, 1]}}}}")
    assert load_params(path).training.models["a"].candidates == {"alpha": [1e-4, 1.0]}


def test_a_password_in_a_uri_is_not_shown() -> None:
    assert safe_uri("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert safe_uri("sqlite:////a/b.db") == "sqlite:////a/b.db"


@pytest.mark.parametrize("symbol", ["AAPL", "BRK.B", "^GSPC", "TATAMOTORS.BO", "EURUSD=X", "BF-B", "a"])
def test_tickers_pass(symbol: str) -> None:
    assert check_symbol(symbol) == symbol


@pytest.mark.parametrize(
    "symbol",
    ["", "../x", "a/b", "a\\b", "A" * 300, "A..B", ".env", "a b", "AAPL'", "é", 7, None, "AAPL\n", "AAPL_20251220_034123"],
)
def test_what_could_not_name_a_file_safely_is_refused(symbol: object) -> None:
    with pytest.raises(ParamsError, match="not a ticker"):
        check_symbol(symbol)


def test_the_shipped_file_shows_every_key_there_is() -> None:
    import yaml

    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    params = load_params(ROOT / "params.yaml")
    for section in ("prices", "training", "bundles", "model_registry", "mlflow", "paths"):
        assert set(shipped[section]) == set(type(getattr(params, section)).model_fields)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("htp://host:5000", r"htp:// is unknown \(did you mean 'http'\?\)"),
        ("http://", "the host is missing; expected http://HOST:PORT"),
        ("http:/host:5000", "the host is missing"),
        ("https://me:S3CRET-word@host:70000/x", "Port out of range"),
        ("https://me:S3CRET-word@[host/x", "Invalid IPv6 URL"),
        ("http://host:5000 ", "no white space"),
        ("sqlite://outputs/mlflow.db", "three slashes"),
        ("HTTP://me:S3CRET-word@host", "must be lowercase"),
        ("outputs/registry", "the address has no scheme; expected dagshub, or one of http://"),
        ("localhost:5000", "localhost:// is unknown"),
    ],
)
def test_an_address_is_checked_when_it_is_read(project: Project, monkeypatch: pytest.MonkeyPatch, uri: str, says: str) -> None:
    path = project.write(mlflow={"tracking_uri": uri})
    with pytest.raises(ParamsError, match=rf"params.yaml: mlflow.tracking_uri: .*{says}") as caught:
        load_params(path)
    assert "S3CRET" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ParamsError, match=f"^MLFLOW_TRACKING_URI in the environment: .*{says}"):
        load_params(path)


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("mlflow", "experiment_name", " x", "without white space at its beginning or end"),
        ("mlflow", "experiment_name", "a\nb", "a name must be printable"),
        ("mlflow", "dagshub_username", "me/you", "letters, digits"),
        ("mlflow", "dagshub_repo", "a b", "letters, digits"),
        ("paths", "records", "~/records", "write the path out, without ~"),
        ("paths", "models", "a\0b", "unprintable"),
        ("prices", "folder", "~/prices", "write the path out"),
        ("paths", "models", "params.yaml", "expected a folder, and .* is a file"),
    ],
)
def test_names_and_paths_are_checked_when_they_are_read(project: Project, section: str, key: str, value: str, says: str) -> None:
    with pytest.raises(ParamsError, match=rf"{section}\.{key}: .*{says}"):
        load_params(project.write(**{section: {key: value}}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "nan"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "0"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "-1"),
        ("DAGSHUB_TOKEN", "two words"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/no/such/file"),
    ],
)
def test_what_the_environment_sets_is_checked_too(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=f"^{name} in the environment"):
        load_params(project.write(mlflow={"tracking_uri": "https://registry.example"}))


@pytest.mark.parametrize("ticker", ["ON", "NO", "Yes", "off", "007", "010", "0777", "Y"])
def test_a_ticker_is_the_text_that_stands_there(ticker: str, tmp_path: Path) -> None:
    """YAML 1.1 makes truths and octal numbers of some."""
    (tmp_path / "params.yaml").write_text(f"default_symbol: {ticker}\n")
    assert load_params(tmp_path / "params.yaml").default_symbol == ticker
    assert yaml_value(f"[{ticker}]") == [ticker]


@pytest.mark.parametrize("text", ["true", "TRUE", "7203", "1.5e+3", "2020-01-02", "~", "0x10", ".nan"])
def test_what_yaml_cannot_take_for_text_says_how_to_write_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"default_symbol: {text}\n")
    with pytest.raises(ParamsError, match="to enter text, such as a ticker, put it in quotes"):
        load_params(tmp_path / "params.yaml")


def test_truths_numbers_and_days_are_read_as_before(tmp_path: Path) -> None:
    text = """
mlflow: {enabled: off}
model_registry: {track_experiments: Yes, save_artifacts: NO, retention_days: 090}
prices: {start: 2005-01-03, end: "2010-12-31"}
promotion: {evaluation: {min_days: 1_000, cost: 1e-4}}
training: {model: m, models: {m: {candidates: {early_stopping: [yes, no], alpha: [1e-4, 010]}}}}
"""
    (tmp_path / "params.yaml").write_text(text)
    params = load_params(tmp_path / "params.yaml")
    assert params.mlflow.enabled is params.model_registry.save_artifacts is False
    assert params.model_registry.track_experiments is True
    assert params.model_registry.retention_days == 90
    assert (str(params.prices.start), str(params.prices.end)) == ("2005-01-03", "2010-12-31")
    assert (params.promotion.evaluation.min_days, params.promotion.evaluation.cost) == (1000, 1e-4)
    assert params.training.models["m"].candidates == {"early_stopping": [True, False], "alpha": [1e-4, 10.0]}
    assert yaml_value("{since: 2011-01-03, at: 12:30}") == {"since": "2011-01-03", "at": "12:30"}

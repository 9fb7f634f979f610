import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import NAME, ROOT, Project
from mlflow import MlflowClient

from fxhelpers import ModelRegistry, load_prices
from fxhelpers.cli import _project, cli
from fxhelpers.cli._run import REFUSED
from fxhelpers.params import PricesParams

FX = str(Path(sys.executable).with_name("fx"))


def fx(*arguments: str, code: int = 0) -> str:
    """Run a command in this process: starting another one for each takes seconds."""
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return str(result.output)


def test_a_run_prints_its_summary_and_where_it_was_saved(project: Project) -> None:
    project.bundle("IBM")
    printed = fx("run", "register", "-p", "symbol", "IBM", "-p", "tags", "{team: rates}")
    (record,) = project.records("IBM")
    assert "version  1" in printed
    assert "created  yes" in printed
    assert f"registry  sqlite:///{project.folder}/outputs/registry/mlflow.db" in printed
    assert f"saved as  outputs/records/IBM/{record.name}" in printed


@pytest.mark.usefixtures("thorough")
def test_a_refused_promotion_is_a_completed_run_unless_promotion_is_required(
    project: Project, registered: Callable[..., int]
) -> None:
    registered("original")
    assert "verdict  keep" in fx("run", "promote", "--require-promotion", "-p", "apply", "true", code=REFUSED)
    registered("regularised")
    assert "verdict  promote" in fx("run", "promote", "--require-promotion", "-p", "apply", "true")


def browser(folder: Path, name: str) -> Path:
    """A program that writes down what it is to open."""
    folder.mkdir()
    program = folder / name
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {folder}/opened\n')
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("name", ["browser", "xdg-open"])
def test_records_opens_the_gallery_at_a_symbol(project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = project.folder / "programs"
    folder.mkdir()
    program = folder / name
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/opened\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program) if name == "browser" else "")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    done = subprocess.run([FX, "records", "IBM"], check=True, capture_output=True, text=True)
    assert done.stdout == "OK: 0 models, 0 decisions checked\noutputs/records/index.html\n"
    assert f"Registry: sqlite:///{project.folder}/outputs/registry/mlflow.db" in done.stderr
    end, opened = time.monotonic() + 20, folder / "opened"
    while not (opened.exists() and opened.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    page = project.folder / "outputs" / "records" / "index.html"
    assert opened.read_text() == f"{page.as_uri()}#symbol=IBM\n"
    assert page.is_file()


def test_a_mistyped_symbol_is_an_error_that_names_the_nearest_and_no_symbol_afterwards(
    project: Project, registered: Callable[..., int]
) -> None:
    registered("regularised")
    (project.folder / "outputs" / "models").mkdir()
    (project.folder / "outputs" / "models" / "mlp_model_AAPL.skops").touch()
    for command in ("records", "history", "verify"):
        assert "(did you mean 'AAPL'" in fx(command, "APPL", code=1)
    assert "(did you mean 'AAPL'" in fx("run", "compare", "-p", "symbol", "APPL", code=1)
    registry, name = ModelRegistry(), ModelRegistry.model_name("APPL")
    attempts: list[Callable[[], object]] = [
        lambda: registry.retain("APPL"),
        lambda: registry.propose("APPL", 1, apply=True),
        lambda: registry.propose("APPL", challengers=[1, 2], apply=True),
        lambda: registry.rollback("APPL", 1, apply=True, reason="a drill"),
        lambda: registry.load_model_info(symbol="APPL"),
    ]
    for attempt in attempts:
        with pytest.raises(LookupError, match=r"did you mean 'AAPL'"):
            attempt()
    with pytest.raises(LookupError, match="not found"):
        registry.transition_stage(name, 1, "Archived")
    assert len(project.records("APPL")) == 1  # what was tried is kept
    assert "OK: 1 model, 1 decision checked" in fx("verify")
    assert registry.overview().summary()["symbols"] == 1


@pytest.mark.usefixtures("thorough")
@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("words", [["probe.ipynb", "--quiet"], ["probe.ipynb", "--quiet", "--symbols", "AAPL"]])
def test_a_record_for_which_there_is_no_room_is_one_line(project: Project, words: list[str]) -> None:
    """As on a disk that is full in the middle of a run."""
    project.probe("print('x' * 300_000)", "open('went-on', 'w').close()")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); "
        "from fxhelpers.cli import main; sys.argv[0] = 'fx'; main()"
    )
    done = subprocess.run([sys.executable, "-c", limited, "run", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the record cannot be written" in done.stdout + done.stderr
    assert "File too large" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("went-on").exists()


@pytest.mark.usefixtures("thorough")
def test_runs_side_by_side_do_not_meet(project: Project) -> None:
    """Kernels of one folder once shared their sockets: one run's answers came to the other."""
    command = [FX, "run", "train", "--quiet", "-p", "overrides", "{max_iter: 5}", "-p", "symbol"]
    symbols = ("AAPL", "IBM")
    started = [subprocess.Popen([*command, s], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for s in symbols]
    for symbol, process in zip(symbols, started, strict=True):
        printed = process.communicate(timeout=120)[0]
        assert process.returncode == 0, printed
        assert f"symbol  {symbol}" in printed
        assert "Invalid" not in printed


def test_settings_elsewhere_still_find_the_projects_notebooks(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("settings") / "other.yaml"
    elsewhere.write_text("prices: {source: sample}\n")
    monkeypatch.setenv("FX_PARAMS", str(elsewhere))
    fx("run", "train", "-p", "symbol", "IBM", "-p", "overrides", "{max_iter: 5}")
    assert len(list((elsewhere.parent / "outputs" / "models").iterdir())) == 2


@pytest.mark.usefixtures("thorough")
def test_every_run_says_which_registry_it_was_for(project: Project) -> None:
    """The users' document names a repository on DagsHub and no URI; a run that needs no registry runs without a token."""
    project.settings["mlflow"] = {"enabled": True, "dagshub_username": "TheAditya-10", "dagshub_repo": "ForesightX"}
    project.write()
    uri = "https://dagshub.com/TheAditya-10/ForesightX.mlflow"
    assert f"registry  {uri}" in fx("run", "train", "-p", "overrides", "{max_iter: 2}")
    printed = fx("run", "register", code=1)
    assert f"registry  {uri}" in printed
    assert "DAGSHUB_TOKEN not found in environment variables" in printed
    for record in project.records():
        assert json.loads(record.read_text())["metadata"]["fxhelpers"]["record"]["registry"] == uri
        assert uri in record.with_suffix(".html").read_text()
    project.write(mlflow={"enabled": False})
    assert "registry  none (mlflow.enabled is false)" in fx("run", "evaluate")


def test_a_password_in_the_registrys_uri_is_in_no_record(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert "s3cret" not in fx("run", "compare", code=1)
    assert "s3cret" not in project.records()[0].read_text()


@pytest.mark.usefixtures("thorough")
def test_the_command_itself_prints_and_exits_so_too(project: Project) -> None:
    done = subprocess.run([FX, "run", "register", "--quiet"], check=False, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "Error: BundleNotFoundError: No model files found for AAPL" in done.stderr
    assert "saved as  outputs/records/AAPL/" in done.stdout


def test_a_killed_kernel_is_one_line_and_leaves_its_record(project: Project) -> None:
    nb = json.loads((ROOT / "notebooks" / "train.ipynb").read_text())
    nb["cells"][2]["source"] = ["import os, signal\n", "os.kill(os.getpid(), signal.SIGKILL)"]
    Path("dying.ipynb").write_text(json.dumps(nb))
    printed = fx("run", "dying.ipynb", code=1)
    assert "DeadKernelError" in printed
    assert project.records()[0].name in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "promte"], "no notebook 'promte' (did you mean 'promote'?)"),
        (["run", "train", "-p", "symbol", "FB"], "TooFewDaysError: FB (sample): 196 days"),
        (["rollback", "ZZZ", "--to", "none", "--reason", "x"], "unknown symbol ZZZ: no version and no decision"),
        (["run", "train", "-p", "symbl", "IBM"], "unknown parameter 'symbl' (did you mean 'symbol'?)"),
        (["run", "train", "-p", "overrides", "{alpha: 1, alpha: 2}"], "the key 'alpha' is there twice, on line 1;"),
        (
            ["run", "compare", "-p", "gates", "[{id: g, min: 1, min: 2}]"],
            "parameter gates: '[{id: g, min: 1, min: 2}]': the key 'min'",
        ),
        (["run", "compare", "-p", "challengers", "[3"], "parameter challengers: '[3': cannot be read as YAML"),
        (["run", "train", "--symbols", "IBM", "-p", "overrides", "{a: 1, a: 2}"], "the key 'a' is there twice"),
    ],
)
def test_errors_are_one_line_and_exit_with_one(project: Project, arguments: list[str], message: str) -> None:
    assert message in fx(*arguments, code=1)


@pytest.mark.parametrize("words", [["--version", "0"], ["--version", "-1"], ["--to", "1"], ["--to", "none", "--version", "1"]])
def test_a_rollback_to_what_is_no_version_does_not_begin(project: Project, words: list[str]) -> None:
    assert "Error: " in fx("rollback", "AAPL", "--reason", "x", *words, code=2)
    assert project.records() == []


def test_without_a_project_the_error_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    result = CliRunner().invoke(cli, ["run", "train"])
    assert result.exit_code == 1
    assert "no params.yaml in /" in result.output


def test_init_makes_a_project_and_keeps_what_exists(project: Project) -> None:
    folder = project.folder / "new project"
    folder.mkdir()
    (folder / "params.yaml").write_text("prices: {source: sample}\n")
    printed = fx("init", "new project")
    assert "kept  params.yaml" in printed
    assert "created  .env.example" in printed
    assert f"Next: cd '{folder.name}', then fx demo" in printed
    assert (folder / "params.yaml").read_text() == "prices: {source: sample}\n"
    originals = {path.name: path.read_bytes() for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.name: path.read_bytes() for path in (folder / "notebooks").iterdir()} == originals
    assert {path.name for path in folder.iterdir()} == {
        "notebooks",
        "params.yaml",
        ".env.example",
        ".gitignore",
        ".fxhelpers.json",
    }
    assert "name the FOLDER of the new project" in fx("init", code=2)
    assert "is the repository of fxhelpers" in fx("init", "--upgrade", str(ROOT), code=1)
    assert "no params.yaml in" in fx("init", "--upgrade", "elsewhere", code=1)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_upgrade_replaces_notebooks_that_nobody_edited_and_leaves_the_new_one_next_to_the_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = project.folder / "release"
    fx("init", "release")
    (source / ".fxhelpers.json").unlink()
    monkeypatch.setattr(_project, "template_folder", lambda: source)  # as that of the next release
    fx("init", "mine")
    mine, new = project.folder / "mine" / "notebooks", source / "notebooks"
    for name in ("train", "compare", "history"):
        edit(new / f"{name}.ipynb", '"\\n",', '"A new sentence.\\n",')
    edit(mine / "compare.ipynb", "AAPL", "IBM")
    edit(mine / "evaluate.ipynb", "AAPL", "IBM")
    edit(
        mine / "history.ipynb",
        '"outputs": []',
        '"outputs": [{"name": "stdout", "output_type": "stream", "text": "as it was run"}]',
    )
    (mine / "retain.ipynb").unlink()
    edited = {name: (mine / f"{name}.ipynb").read_bytes() for name in ("compare", "evaluate")}
    printed = fx("init", "--upgrade", "mine")
    results = {
        name: result for result, name in (line.split() for line in printed.splitlines() if line[:1] == " " and "ipynb" in line)
    }
    assert {name.partition("/")[2].partition(".")[0]: result for name, result in results.items() if result != "unchanged"} == {
        "compare": "kept+new",
        "evaluate": "kept",
        "history": "updated",
        "retain": "created",
        "train": "updated",
    }
    assert [line for line in printed.splitlines() if line.startswith("+++")] == [
        f"+++ notebooks/{name}.ipynb (new)" for name in ("compare", "history", "train")
    ]
    assert "\n+A new sentence." in printed
    assert '\n-symbol: str = "IBM"  # ticker' in printed
    for name in ("train", "history"):
        assert (mine / f"{name}.ipynb").read_bytes() == (new / f"{name}.ipynb").read_bytes()
    assert {name: (mine / f"{name}.ipynb").read_bytes() for name in edited} == edited
    assert (mine / "compare.ipynb.new").read_bytes() == (new / "compare.ipynb").read_bytes()
    assert [path.name for path in mine.glob("*.new")] == ["compare.ipynb.new"]
    again = fx("init", "--upgrade", "mine")
    assert "+++" not in again
    assert "kept  notebooks/compare.ipynb" in again
    (mine / "compare.ipynb.new").replace(mine / "compare.ipynb")  # taken over
    edit(new / "compare.ipynb", "A new sentence.", "Another sentence.")
    assert "updated  notebooks/compare.ipynb" in fx("init", "--upgrade", "mine")
    (mine.parent / ".fxhelpers.json").write_text("{")
    assert "not what fx init wrote; delete it" in fx("init", "--upgrade", "mine", code=1)


def test_without_notebooks_the_error_says_how_to_get_them(project: Project) -> None:
    (project.folder / "notebooks").unlink()
    printed = fx("run", "register", code=1)
    assert f"no notebook 'register': {project.folder}/notebooks has no notebooks; fx init {project.folder} adds those" in printed
    fx("init", str(project.folder))
    assert "No model files found for AAPL" in fx("run", "register", code=1)


def test_versions_lists_each_with_its_alias_who_registered_it_and_its_rmse(
    project: Project, registered: Callable[..., int]
) -> None:
    registered("original", stage="Production")
    registered("regularised")
    plain = MlflowClient(ModelRegistry().params.registry_uri)
    plain.create_model_version(NAME, str(project.folder))  # which no run and no decision knows
    one, two, three = json.loads(fx("versions", "AAPL", "--json"))
    assert (one["version"], one["stage"], one["alias"], one["model"]) == (1, "Production", "champion", "original")
    assert (two["version"], two["alias"], two["model"]) == (2, "challenger", "regularised")
    assert one["validation_rmse"] == pytest.approx(
        plain.get_run(plain.get_model_version(NAME, "1").run_id).data.metrics["val_rmse"]
    )
    assert one["by"] == two["by"] == ModelRegistry().history("AAPL").ledger.decisions[0].actor
    assert (three["version"], three["by"], three["model"], three["validation_rmse"]) == (3, None, None, None)
    assert [row["model"] for row in csv.DictReader(fx("versions", "AAPL", "--csv").splitlines())] == [
        "original",
        "regularised",
        "",
    ]
    printed = fx("versions", "AAPL")
    assert "Production" in printed
    assert "val. RMSE" in printed
    assert "(did you mean 'AAPL'?)" in fx("versions", "APPL", code=1)


def test_status_lists_every_symbol_from_two_searches(
    project: Project, registered: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"No model is registered at sqlite:///{project.folder}/" in fx("status")
    registered("original", stage="Production")
    registered("lighter")
    plain = MlflowClient(ModelRegistry().params.registry_uri)
    for n in range(400):
        plain.create_registered_model(f"MLP_Stock_Predictor_S{n}")
    calls = []
    for name in [name for name in dir(MlflowClient) if name.startswith(("search_", "get_"))]:
        call = getattr(MlflowClient, name)
        monkeypatch.setattr(MlflowClient, name, lambda *a, _n=name, _c=call, **k: (calls.append(_n), _c(*a, **k))[1])
    rows = {row["symbol"]: row for row in json.loads(fx("status", "--json"))}
    assert calls.count("search_runs") == calls.count("search_registered_models") == 1
    assert len(calls) < 10
    assert len(rows) == 401
    assert (rows["AAPL"]["version"], rows["AAPL"]["rests_on"], rows["AAPL"]["warning"]) == (1, "manual", "")
    assert rows["S399"]["version"] is None
    printed = fx("status").splitlines()
    assert printed[0].strip() == "401 symbols"
    assert sum(" none " in line for line in printed) == 400
    plain.set_registered_model_alias(NAME, "champion", "2")
    assert "ledger and registry do not match: fx verify AAPL" in fx("status")


def test_prices_shows_how_a_file_is_read_and_exits_with_one_where_it_would_be_refused(project: Project) -> None:
    sample = load_prices("AAPL", PricesParams())
    sample.to_csv(project.folder / "download.csv")
    printed = fx("prices", "AAPL", "download.csv")
    for part in (
        "read from           download.csv",
        "sessions missing    0 of XNYS",
        "2000-09-29  -51.9%",
        "OK, nothing doubtful.",
    ):
        assert part in printed
    days = sample.index[-9:]
    sample.loc[days, "Close"] = sample["High"].loc[days] * 1.5
    sample.to_csv(project.folder / "download.csv")
    assert "Usable, with 2 doubts (see above)." in fx("prices", "AAPL", "download.csv")
    sample.iloc[1, 1], sample.iloc[7, 1] = np.nan, -1.0
    sample.to_csv(project.folder / "download.csv")
    told = json.loads(fx("prices", "AAPL", "download.csv", "--json", code=1))
    assert told["refused"]
    assert {"missing", "zero", "crossed", "outside"} <= {finding["check"] for finding in told["findings"]}
    assert (told["days"], len(told["largest_moves"])) == (3270, 10)
    assert "no prices for 'NONE'" in fx("prices", "NONE", code=1)
    assert "nope.csv: cannot be read: No such file or directory" in fx("prices", "AAPL", "nope.csv", code=1)
    sample.iloc[:100].to_csv(project.folder / "download.csv")
    assert "TOO FEW: 100 days of prices" in fx("prices", "FB", code=1).replace("196", "100")


def test_the_help_is_whole_sentences() -> None:
    assert [line for line in fx("--help").splitlines()[1:] if line.endswith("...")] == []


def test_python_m_is_fx() -> None:
    done = subprocess.run([sys.executable, "-m", "fxhelpers", "--help"], check=True, capture_output=True, text=True)
    assert "promote stock-return models" in done.stdout


def test_importing_the_package_imports_nothing_heavy_and_changes_nothing() -> None:
    code = (
        "import os, sys, warnings, logging; env = dict(os.environ); filters = list(warnings.filters); import fxhelpers.cli;"
        "heavy = {'mlflow', 'sklearn', 'pandas', 'numpy', 'matplotlib', 'papermill', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy; assert dict(os.environ) == env; assert warnings.filters == filters;"
        "assert not logging.root.handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": ""})

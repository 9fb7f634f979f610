import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT, Project

from fxhelpers.cli import REFUSED, cli

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


def test_a_refused_promotion_is_a_completed_run_unless_promotion_is_required(
    project: Project, registered: Callable[..., int]
) -> None:
    registered("original")
    assert "verdict  keep" in fx("run", "promote", "--require-promotion", "-p", "apply", "true", code=REFUSED)
    registered("regularised")
    assert "verdict  promote" in fx("run", "promote", "--require-promotion", "-p", "apply", "true")


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
        (["run", "train", "-p", "symbol", "FB"], "PriceDataError: FB (sample): 196 days"),
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


def test_without_a_project_the_error_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    result = CliRunner().invoke(cli, ["run", "train"])
    assert result.exit_code == 1
    assert "no params.yaml in /" in result.output


def test_python_m_is_fx() -> None:
    done = subprocess.run([sys.executable, "-m", "fxhelpers", "--help"], check=True, capture_output=True, text=True)
    assert "promote stock-return models" in done.stdout


def test_importing_the_package_imports_nothing_heavy_and_changes_nothing() -> None:
    code = (
        "import os, sys, warnings, logging; env = dict(os.environ); filters = list(warnings.filters); import fxhelpers;"
        "heavy = {'mlflow', 'sklearn', 'pandas', 'numpy', 'matplotlib', 'papermill', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy; assert dict(os.environ) == env; assert warnings.filters == filters;"
        "assert not logging.root.handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": ""})

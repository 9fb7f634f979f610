"""Papermill's own command, as users type it: on a terminal, in a pipe, from any folder. And papermill's own notebooks."""

import base64
import copy
import http.server
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from conftest import PAPERMILL, ROOT, Project
from nbformat.v4 import new_code_cell, new_notebook
from papermill.cli import papermill as command
from papermill.engines import papermill_engines
from test_cli import fx

from fxhelpers.batch import Batch
from fxhelpers.errors import RunRefusedError
from fxhelpers.params import load_params
from fxhelpers.runs import parameters as checking
from fxhelpers.runs import run_notebook
from fxhelpers.runs.source import COMMAND_LINE, read_command_line
from fxhelpers.runs.source import PAPERMILL as KNOWN
from fxhelpers.system import sha256

PARAMETERS = 'symbol: str = "AAPL"  # ticker\ncount: int = 1\napply: bool = False\nextra: dict = {}\ndays: list = []'


@pytest.fixture
def probe(project: Project) -> Path:
    return project.probe("print(symbol, count, apply)", parameters=PARAMETERS)


def typed(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run papermill's command; standard output is a pipe."""
    return subprocess.run([*PAPERMILL, *arguments], check=False, capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


def on_a_terminal(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Run a command on a pseudo-terminal; return its status, what the terminal shows, and what went to standard error."""
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=folder, start_new_session=True, text=True
    ) as process:
        os.close(theirs)
        shown = bytearray()
        reading = threading.Thread(target=lambda: shown.extend(_all_of(terminal)))
        reading.start()
        assert process.stderr is not None
        error = process.stderr.read()
        code = process.wait(timeout=60)
        reading.join()
    os.close(terminal)
    return code, shown.decode(), error


def _all_of(terminal: int) -> bytes:
    content = b""
    try:
        while part := os.read(terminal, 65536):
            content += part
    except OSError:  # nobody writes to it any more
        pass
    return content


def files(folder: Path) -> set[str]:
    """All files but the registry's own."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith("outputs/registry/")}


def ran(record: Path) -> dict[str, str]:
    return dict(nbformat.read(record, as_version=4).metadata["fxhelpers"]["record"])


def executed_in_place(path: Path, **parameters: object) -> Path:
    """What a run leaves whose output is its own notebook, by an engine that does not mind."""
    papermill.execute_notebook(path, path, parameters, engine_name="nbclient", progress_bar=False)
    return path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Papermill's command with an output, in this process: starting another one takes seconds."""

    def run(*arguments: str, code: int = 1) -> str:
        line = ["probe.ipynb", "out.ipynb", *arguments]
        monkeypatch.setattr(sys, "argv", ["/usr/bin/papermill", *line])
        monkeypatch.setattr(checking, "COMMAND_LINE", read_command_line())
        result = CliRunner().invoke(command, line)
        assert result.exit_code == code, result.output
        return result.output

    return run


def test_what_we_know_of_papermills_command_line_is_what_it_takes() -> None:
    """A new release of papermill may take more: then runs/source.py must list it."""

    def options(of: object) -> set[tuple[object, ...]]:
        of = [p for p in of.get_params(command.make_context("papermill", ["a"])) if p.param_type_name == "option"]  # type: ignore[attr-defined]
        return {(frozenset(p.opts), frozenset(p.secondary_opts), p.nargs, p.multiple, p.is_flag) for p in of}

    assert options(KNOWN) == options(command)
    assert [p.name for p in command.params if p.param_type_name == "argument"] == ["notebook_path", "output_path"]
    assert command.allow_interspersed_args


def test_every_engine_can_be_copied_as_papermills_own_tests_do() -> None:
    copied = copy.deepcopy(papermill_engines)
    assert copied.get_engine("fxhelpers") is copied.get_engine() is papermill_engines.get_engine()
    assert all(isinstance(engine, type) for engine in copied._engines.values())


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("command_line", ["notebooks: register.ipynb -p symbol AAPL", ".: notebooks/probe.ipynb -p symbol AAPL"])
def test_the_users_own_command_runs_as_it_stands_on_a_terminal(
    project: Project, probe: Path, trained: dict[str, Path], command_line: str
) -> None:
    (project.folder / "notebooks").unlink()
    shutil.copytree(ROOT / "notebooks", project.folder / "notebooks")
    probe.rename(project.folder / "notebooks" / "probe.ipynb")
    for name in ("models", "metadata"):
        shutil.copytree(trained["regularised"] / "outputs" / name, project.folder / "outputs" / name)
    before = files(project.folder)
    folder, _, arguments = command_line.partition(": ")
    code, shown, message = on_a_terminal(PAPERMILL[0], *arguments.split(), folder=project.folder / folder)
    assert (code, shown.strip()) == (0, ""), message
    (record,) = project.records()
    assert f"The record is {record}\n" in message
    new = {f"AAPL/{record.name}", f"AAPL/{record.stem}.html", "index.html", "index.data.html", ".index.lock"}
    assert files(project.folder) - before - {"outputs/records/.folder"} == {f"outputs/records/{name}" for name in new}
    assert nbformat.read(record, as_version=4).metadata.papermill.output_path is None


@pytest.mark.usefixtures("thorough")
def test_a_notebook_that_is_named_is_run_and_not_overwritten_where_standard_input_is_a_pipe(
    probe: Path, project: Project
) -> None:
    """As in `cat symbols.txt | while read symbol; do papermill …`, by ssh, in CI."""
    before = probe.read_bytes()
    done = typed("probe.ipynb", "-r", "symbol", "IBM", input="MSFT\nGOOG\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metadata"]["papermill"]["parameters"] == {"symbol": "IBM"}
    assert len(project.records("IBM")) == 1
    prepared = typed("probe.ipynb", "--prepare-only", "-r", "symbol", "IBM", input=probe.read_text())
    assert 'symbol = \\"IBM\\"' in prepared.stdout
    assert probe.read_bytes() == before


@pytest.mark.usefixtures("thorough")
def test_a_piped_notebook_still_goes_to_the_output_that_is_named(probe: Path, project: Project) -> None:
    papermill.execute_notebook(probe, "out.ipynb", progress_bar=False, preloaded=True)
    done = typed("out.ipynb", "-p", "count", "2", input=probe.read_text())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "AAPL 2 False" in Path("out.ipynb").read_text()
    assert {ran(record)["source_sha256"] for record in project.records()} == {sha256(probe.read_bytes())}


@pytest.mark.parametrize(
    ("arguments", "supplied"),
    [
        (["probe.ipynb", "-psymbol", "IBM"], True),
        (["--parameters=symbol", "IBM", "--cwd", "x", "-kpython3", "probe.ipynb"], True),
        (["--no-progress-bar", "--", "probe.ipynb"], True),
        (["--engine=fxhelpers", "probe.ipynb", "-y", "{symbol: IBM}"], True),
        (["probe.ipynb", "out.ipynb"], False),
        (["probe.ipynb", "-"], False),
        (["other.ipynb"], False),
        (["missing.ipynb"], False),
        (["."], False),
        (["probe.ipynb", "-p", "symbol"], False),
        (["probe.ipynb", "--unknown"], False),
        (["probe.ipynb", "--help-notebook"], False),
        (["probe.ipynb", "--version"], False),
        (["probe.ipynb", "-h"], False),
        ([], False),
    ],
)
def test_an_output_is_supplied_where_one_notebook_of_ours_is_named(
    probe: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], *, supplied: bool
) -> None:
    nbformat.write(new_notebook(cells=[new_code_cell("'fxhelpers'")]), "other.ipynb")
    for program in (["/usr/bin/papermill"], ["-m"]):
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "papermill", *arguments])
        monkeypatch.setattr(sys, "argv", [*program, *arguments])
        read_command_line()
        assert sys.argv == [*program, *arguments, *(["-"] if supplied else [])]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fx", *arguments])
    assert read_command_line() is COMMAND_LINE is None
    assert sys.argv == ["/usr/bin/fx", *arguments]


def test_notebooks_of_others_keep_papermills_behaviour_on_a_terminal(project: Project) -> None:
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), "other.ipynb")
    code, _, message = on_a_terminal(sys.executable, "-m", "papermill", "other.ipynb", folder=project.folder)
    assert code == 2
    assert "Missing argument 'OUTPUT_PATH'" in message


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["-p", "symbol", "MSFT", "-p", "symbol", "AAPL"], "symbol is given twice: 'MSFT' and 'AAPL'"),
        (["-r", "count", "7", "--parameters", "count", "8"], "count is given twice: '8' and '7'"),
        (["-y", "{count: 3}", "-p", "count", "4"], "count is given twice: 3 and '4'"),
        (["-b", base64.b64encode(b"count: 3").decode(), "-y", "count: 4"], "count is given twice: 3 and 4"),
    ],
)
def test_a_parameter_that_is_given_twice_is_an_error(
    probe: Path, project: Project, in_this_process: Callable[..., str], arguments: list[str], found: str
) -> None:
    assert in_this_process(*arguments) == f"Error: parameter {found}; give it once. Nothing was run.\n"
    assert files(project.folder) == {"params.yaml", "probe.ipynb"}


def test_what_stands_in_a_file_may_be_replaced_on_the_command_line(probe: Path, in_this_process: Callable[..., str]) -> None:
    Path("base.yaml").write_text("count: 1\nsymbol: IBM\n")
    in_this_process("-f", "base.yaml", "-p", "count", "2", code=0)
    assert "IBM 2 False" in Path("out.ipynb").read_text()


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["-p", "symbol", "007"], "with papermill: -r symbol 007"),
        (["-p", "symbol", "1.10"], "with papermill: -r symbol 1.10"),
        (["-y", "symbol: 7203"], "put it in quotes"),
        (["-p", "apply", "false"], "with papermill: -p apply False"),
        (["-p", "apply", "maybe"], "give True or False"),
        (["-r", "count", "3"], "with papermill: -p count 3"),
        (["-p", "extra", "{alpha: 10}"], "with papermill: -y 'extra: {alpha: 10}'"),
    ],
)
def test_advice_names_what_was_typed(probe: Path, in_this_process: Callable[..., str], arguments: list[str], advice: str) -> None:
    assert in_this_process(*arguments).endswith(f"; {advice}. Nothing was run.\n")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("symbol: ON", "parameter symbol is ambiguous: 'ON' is True to papermill"),
        ("symbol: NO", "'NO' is False to papermill"),
        ("symbol: 007", "'007' is 7 to papermill"),
        ("count: 010", "parameter count is ambiguous: '010' is 8 to papermill"),
        ("count: 1:30", "'1:30' is 90 to papermill"),
        ("names: [NO, 3]", "parameter names is ambiguous: ['NO', 3] is [False, 3] to papermill"),
        ("symbol: 7203", "parameter symbol must be str, found int 7203; put it in quotes"),
    ],
)
@pytest.mark.parametrize("by", ["-y", "-f", "-b"])
def test_what_yaml_reads_in_another_way_than_people_is_refused_with_both_readings(
    in_this_process: Callable[..., str], project: Project, written: str, told: str, by: str
) -> None:
    project.probe(parameters='symbol: str = "AAPL"  # ticker\ncount: int = 3  # some\nnames: list = []  # of them')
    Path("more.yaml").write_text(written)
    given = {"-y": written, "-f": "more.yaml", "-b": base64.b64encode(written.encode()).decode()}[by]
    output = " ".join(in_this_process(by, given).split())
    assert told in output
    assert "Nothing was run." in output
    assert not project.records()


def test_fx_takes_each_parameter_and_option_once(probe: Path, project: Project) -> None:
    twice = ["-p", "symbol", "MSFT", "-p", "symbol", "AAPL"]
    assert "symbol is given twice: 'MSFT' and 'AAPL'; give it once. Nothing was run." in fx("run", "probe.ipynb", *twice, code=1)
    batch = ["--symbols", "AAPL,IBM", "-p", "count", "1", "-p", "count", "2"]
    assert "count is given twice: '1' and '2'" in fx("run", "probe.ipynb", *batch, code=1)
    secret = ["-p", "extra", "ghp_0123456789abcdefghijABCDEFGHIJ456789", "-p", "extra", "{}"]
    assert "0123456789" not in fx("run", "probe.ipynb", *secret, code=1)
    assert "--version is given twice" in fx("rollback", "AAPL", "--reason", "x", "--version", "1", "--version", "2", code=2)
    assert files(project.folder) == {"params.yaml", "probe.ipynb"}


def test_what_an_earlier_run_injected_is_no_default_however_the_notebook_is_run(probe: Path, project: Project) -> None:
    executed_in_place(probe, symbol="IBM", apply=True)
    refusal = r"probe\.ipynb holds parameters of an earlier run \(symbol, apply\), which are no defaults"
    with pytest.raises(RunRefusedError, match=refusal):
        papermill.execute_notebook(probe, "out.ipynb", progress_bar=False)
    with pytest.raises(RunRefusedError, match=refusal):
        run_notebook(probe, {"count": 2})
    with pytest.raises(RunRefusedError, match=refusal):
        Batch(probe, load_params(), jobs=1, preloaded=False)
    with pytest.raises(RunRefusedError, match="the notebook holds parameters of an earlier run"):
        papermill.execute_notebook(nbformat.read(probe, as_version=4), None, progress_bar=False)
    assert files(project.folder) == {"params.yaml", "probe.ipynb"}


def test_a_record_is_no_notebook_to_run(probe: Path, project: Project) -> None:
    record = run_notebook(probe, {"apply": True}, preloaded=True).record
    with pytest.raises(RunRefusedError, match=r"holds parameters of an earlier run \(apply\)"):
        papermill.execute_notebook(record, None, progress_bar=False)
    assert project.records() == [record]


def test_metadata_that_an_earlier_run_left_say_nothing_of_this_one(probe: Path, project: Project) -> None:
    executed_in_place(probe, symbol="IBM")
    nb = nbformat.read(probe, as_version=4)
    nb.cells = [cell for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    nbformat.write(nb, probe)
    result = run_notebook(probe, {}, preloaded=True)
    assert result.record.parent.name == "AAPL"
    assert nbformat.read(result.record, as_version=4).metadata.papermill.parameters == {}


@pytest.mark.parametrize("output", ["probe.ipynb", "link.ipynb", "notebooks/compare.ipynb"])
def test_no_notebook_is_overwritten_by_an_executed_one(probe: Path, output: str) -> None:
    Path("link.ipynb").symlink_to("probe.ipynb")
    before = Path(output).read_bytes()
    with pytest.raises(RunRefusedError, match="is a notebook to run, and would be overwritten by an executed one"):
        papermill.execute_notebook("probe.ipynb", output, {"apply": True}, progress_bar=False)
    assert Path(output).read_bytes() == before


@pytest.mark.usefixtures("thorough")
def test_wherever_a_notebook_comes_from_and_runs_its_digest_and_settings_are_its_own(
    probe: Path, project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "params.yaml").write_text("default_symbol: MSFT\n")
    folder = project.folder / "mine"
    folder.mkdir()
    probe = probe.rename(folder / "probe.ipynb")
    execute: Callable[..., object] = partial(papermill.execute_notebook, progress_bar=False, preloaded=True)
    execute("mine/probe.ipynb", None, cwd=elsewhere)
    execute(nbformat.read(probe, as_version=4), None)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        execute(f"http://127.0.0.1:{server.server_port}/probe.ipynb", None, cwd=elsewhere)
        server.shutdown()
    monkeypatch.chdir(elsewhere)
    execute(probe, None)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FX_PARAMS", "../params.yaml")
    execute("probe.ipynb", None, cwd=elsewhere)
    assert [ran(record)["source_sha256"] for record in project.records()] == [sha256(probe.read_bytes())] * 5
    assert not (elsewhere / "outputs").exists()
    monkeypatch.setenv("FX_PARAMS", str(elsewhere / "params.yaml"))
    execute("probe.ipynb", None)
    assert len(list((elsewhere / "outputs" / "records" / "AAPL").glob("*.ipynb"))) == 1

"""Preloaded kernels do what ordinary ones do, and end when whoever asked for them ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Project

from fxhelpers.runs import RunResult, run_notebook

PROBE = """\
import gc, json, logging, multiprocessing, os, pickle, signal, sys, time
import matplotlib, matplotlib.pyplot, pandas
class Mine:
    pass
alike = {
    "main": [__name__, sys.modules["__main__"].__dict__ is globals(), hasattr(sys.modules["__main__"], "__file__")],
    "pickled": type(pickle.loads(pickle.dumps(Mine()))) is Mine,
    "where": [os.getcwd(), sys.argv[0].endswith("ipykernel_launcher.py") or sys.argv[0], sys.path],
    "env": sorted(key for key in os.environ if key not in ("JPY_PARENT_PID", "FX_RECORD", "FX_JOURNAL", "PYDEVD_USE_FRAME_EVAL")),
    "set later": os.environ.get("SET_LATER"),
    "time": [os.environ.get("TZ"), time.strftime("%Z")],
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
    "pandas": [pandas.get_option(name) for name in ("display.max_columns", "display.max_rows", "display.width")],
    "leads": os.getpgid(0) == os.getpid() == os.getsid(0),
    "backend": matplotlib.get_backend(),
    "gc": [gc.isenabled(), gc.get_threshold()],
    "logging": [logging.getLogger().level, [type(h).__name__ for h in logging.getLogger().handlers]],
    "daemon": multiprocessing.current_process().daemon,
    "stdin": sys.stdin is None or sys.stdin.isatty(),
}
print(json.dumps(alike))
"""


@pytest.fixture
def probe(project: Project) -> Callable[..., Path]:
    return project.probe


def outputs(result: RunResult) -> list[Any]:
    assert result.error is None
    return [output for cell in json.loads(result.record.read_text())["cells"] for output in cell.get("outputs", [])]


def printed(result: RunResult) -> str:
    return "".join("".join(output["text"]) for output in outputs(result) if output["output_type"] == "stream")


def header(result: RunResult) -> dict[str, Any]:
    return dict(json.loads(result.record.read_text())["metadata"]["fxhelpers"]["record"])


@pytest.mark.usefixtures("thorough")
def test_a_preloaded_kernel_finds_what_an_ordinary_one_finds(probe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = probe(PROBE)
    run_notebook(path, {}, preloaded=True)  # the forkserver is there from now on, with the environment as it was
    monkeypatch.setenv("SET_LATER", "yes")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    (ours, theirs) = (run_notebook(path, {}, preloaded=preloaded) for preloaded in (True, False))
    found, expected = (json.loads(printed(result)) for result in (ours, theirs))
    found["where"][1] = expected["where"][1] = True  # the name of the launcher, with its folder or without
    assert found == expected
    assert found["set later"] == "yes"
    assert (header(ours)["kernel"], header(theirs)["kernel"]) == ("preloaded", "ordinary")


def test_a_preloaded_kernel_trusts_by_default_what_our_models_are_made_of(probe: Callable[..., Path]) -> None:
    code = """
    import skops.io as sio
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.utils import all_estimators

    files = [sio.dumps(Ridge()), sio.dumps(PCA())]
    print([sio.get_untrusted_types(data=file) for file in files], len(all_estimators()) > 100)
    print(sio.loads(files[1], trusted=["sklearn.decomposition._pca.PCA"]))
    """
    shown = printed(run_notebook(probe(code), {}, preloaded=True))
    assert shown.splitlines() == ["[[], ['sklearn.decomposition._pca.PCA']] True", "PCA()"]


def test_each_preloaded_kernel_draws_its_own_random_numbers_and_keeps_nothing(probe: Callable[..., Path]) -> None:
    path = probe(
        "import random, numpy, sklearn\nprint(random.random(), numpy.random.rand(), hasattr(sklearn, 'left'))\nsklearn.left = 1"
    )
    drawn = [printed(run_notebook(path, {}, preloaded=True)).split() for _ in range(3)]
    assert len({numbers[0] for numbers in drawn}) == len({numbers[1] for numbers in drawn}) == 3
    assert {numbers[2] for numbers in drawn} == {"False"}


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("backend", ["agg", "module://matplotlib_inline.backend_inline"])
def test_figures_are_drawn_whatever_backend_the_caller_has(
    probe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("MPLBACKEND", backend)
    path = probe("import matplotlib.pyplot as plt\nplt.plot([1, 2]);", "plt.subplots()[1].bar([1], [2]);")
    images = [output["data"]["image/png"] for output in outputs(run_notebook(path, {}, preloaded=True)) if "data" in output]
    assert len(images) == 2


@pytest.mark.usefixtures("thorough")
def test_both_ways_give_the_same_outputs_to_the_last_pixel(project: Project, registered: Callable[..., int]) -> None:
    registered("original")
    registered("regularised", stage="Production")
    registered("lighter")
    seen: list[list[str]] = []
    for preloaded in (True, False):
        result = run_notebook(ROOT / "notebooks" / "compare.ipynb", {"symbol": "AAPL"}, preloaded=preloaded)
        texts = [json.dumps({**output, "execution_count": 0}) for output in outputs(result)]
        seen.append([text.replace(result.record.name, "RECORD") for text in texts if '"latency"' not in text])  # no two are alike
    assert "".join(seen[0]).count("image/png") >= 4
    assert len(seen[0]) > 10
    assert seen[0] == seen[1]


SCRIPT = """\
import sys
from pathlib import Path
from fxhelpers.runs import run_notebook
print("this script runs", flush=True)
result = run_notebook(Path(sys.argv[1]), {}, preloaded=True)
print(result.status, flush=True)
"""


@pytest.mark.usefixtures("thorough")
def test_a_script_without_a_guard_is_not_run_again(probe: Callable[..., Path], project: Project) -> None:
    (project.folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", str(probe("print(__name__)"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "this script runs\ncompleted\n"
    assert done.stderr == ""


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_ends_with_a_runner_that_was_killed(
    probe: Callable[..., Path], project: Project, number: signal.Signals
) -> None:
    path = probe(
        "import os, pathlib, subprocess, time",
        "child = subprocess.Popen(['sleep', '120'])",
        "pathlib.Path('pids').write_text(f'{os.getpid()} {child.pid}')",
        "time.sleep(120)",
    )
    (project.folder / "script.py").write_text(SCRIPT)
    runner = subprocess.Popen([sys.executable, "script.py", str(path)])
    pids = project.folder / "pids"
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    started = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    started += psutil.Process(runner.pid).children(recursive=True)
    os.kill(runner.pid, number)
    runner.wait(20)
    psutil.wait_procs(started, timeout=10)
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_kernel_of_another_python_is_refused_and_not_replaced(
    probe: Callable[..., Path], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = project.folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    other = {
        "argv": ["/usr/bin/other-python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Other",
        "language": "python",
    }
    spec.write_text(json.dumps(other))
    monkeypatch.setenv("JUPYTER_PATH", str(project.folder / "jupyter"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("sys.argv[1]", repr(str(probe("1"))))], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "other-python" in done.stderr
    assert "--no-preload" in done.stderr


def test_a_single_run_forks_its_kernel_whatever_python_is_on_the_path(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # as for .venv/bin/fx in an environment that is not activated
    result = run_notebook(project.probe("from fxhelpers import summary; summary('probe', result='fine')"), {}, preloaded=None)
    assert header(result)["kernel"] == "preloaded"


def test_a_single_run_takes_the_kernel_that_the_specification_names(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = project.folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    launcher = project.folder / "another-python"
    launcher.write_text(f'#!/bin/sh\necho started > launched\nexec {sys.executable} "$@"\n')
    launcher.chmod(0o755)
    argv = [str(launcher), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Another", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(project.folder / "jupyter"))
    notebook = project.probe("from fxhelpers import summary; summary('probe', result='fine')")
    assert run_notebook(notebook, {}, preloaded=None).summary["result"] == "fine"
    assert (project.folder / "launched").exists()


def wait_for(true: Callable[[], object], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)

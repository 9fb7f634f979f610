"""Commands, calls of MLflow and long histories, side by side with the build before they were made faster.

That build is a worktree of this repository's own history; both builds run with the same libraries.
"""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import calls, growing
from benchmarks.measuring import ROOT, Cost, Row, compared, interleaved, measure_workers, progress, run_command, using
from benchmarks.projects import many_bundles, new_project

BEFORE = "6665eea1ede4d80b278eb5bf5d5a173503283d4b"
_BIN = Path(sys.executable).parent
_REGISTRY = [sys.executable, "-c", "import mlflow.store.tracking.sqlalchemy_store"]
_LOOKING = {"history": ("AAPL",), "status": (), "versions": ("AAPL",), "verify": ("AAPL",)}
_ACTING = {
    "rollback": ("at most 0.5", ["rollback", "AAPL", "--reason", "drill"]),
    "run compare": ("at most 0.6", ["run", "compare", "-p", "symbol", "AAPL"]),
    "run promote": ("at most 0.6", ["run", "promote", "-p", "symbol", "AAPL"]),
}


def rows(folder: Path, *, quick: bool) -> list[Row]:
    repeats = 2 if quick else 5
    with worktree(folder / "before") as before:
        builds = {"now": ROOT, "before": before}
        made = _commands(folder / "commands", builds, repeats)
        made += _registrations(folder / "registrations", builds, repeats)
        made += _calls(folder / "calls", builds, repeats)
        return made + _growth(folder / "growth", builds, repeats, quick=quick)


@contextmanager
def worktree(folder: Path) -> Iterator[Path]:
    """Check out the build before, and remove it afterwards."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), BEFORE], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def project_of(folder: Path, build: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(build / "params.yaml", folder)
    shutil.copytree(build / "notebooks", folder / "notebooks")
    return folder


def fx(build: Path, project: Path, *arguments: str, polls: bool = False) -> Cost:
    with using(build):
        return run_command([_BIN / "fx", *arguments], project, polls=polls)


def _commands(folder: Path, builds: dict[str, Path], repeats: int) -> list[Row]:
    """Measure commands in a project with two champions, and a challenger."""
    projects = {name: project_of(folder / name, build) for name, build in builds.items()}
    for name, project in projects.items():
        progress(f"  three versions, by the build {name}")
        for model, end in (("regularised", "2011-12-30"), ("ridge", "2012-06-29"), ("ridge", "2013-02-28")):
            train = ["train", "-p", "symbol", "AAPL", "-p", "model", model, "-p", "end", end]
            register = ["register", "-p", "symbol", "AAPL", "-p", "stage", "Staging" if end > "2013" else "Production"]
            for notebook in (train, register):
                fx(builds[name], project, "run", *notebook, "--quiet")

    def run(name: str, *arguments: str, polls: bool = False) -> Cost:
        return fx(builds[name], projects[name], *arguments, polls=polls)

    made = []
    bare = run_command(_REGISTRY, folder, polls=True).peak
    for command, about in _LOOKING.items():
        progress(f"  fx {command}")
        peak = run("now", command, *about, polls=True).peak
        several = {
            "now": lambda command=command, about=about: run("now", command, *about),
            "bare": lambda: run_command(_REGISTRY, folder),
        }
        found = {name: ([cost.wall for cost in costs], 0.0) for name, costs in interleaved(several, repeats).items()}
        ours, rival = (found["now"][0], peak), (found["bare"][0], bare)
        made.append(compared(f"fx {command} / import mlflow.store.tracking.sqlalchemy_store", ours, rival, goal="at most 1.25"))
    for command, (goal, arguments) in _ACTING.items():
        progress(f"  fx {command}")
        made.append(against_before(f"fx {command}", lambda name, **words: run(name, *arguments, **words), repeats, goal))  # noqa: B023
    return made


def against_before(what: str, run: Callable[..., Cost], repeats: int, goal: str) -> Row:
    peaks = {name: run(name, polls=True).peak for name in ("now", "before")}
    found = interleaved({name: lambda name=name: run(name) for name in peaks}, repeats)
    walls = {name: ([cost.wall for cost in costs], peaks[name]) for name, costs in found.items()}
    return compared(f"{what} / the build before", walls["now"], walls["before"], goal=goal)


def _registrations(folder: Path, builds: dict[str, Path], repeats: int) -> list[Row]:
    """Register bundles that are no version yet, by `fx` and by papermill."""
    bundles, symbols = many_bundles(folder / "bundles", 2 * (repeats + 1))
    projects = {name: new_project(folder / name, like=bundles) for name in builds}
    for name, project in projects.items():
        shutil.rmtree(project / "notebooks")
        shutil.copytree(builds[name] / "notebooks", project / "notebooks")
    left = {name: iter(symbols) for name in builds}
    commands: dict[str, Callable[[str], list[str | Path]]] = {
        "fx run register": lambda symbol: [_BIN / "fx", "run", "register", "--quiet", "-p", "symbol", symbol],
        "papermill register.ipynb": lambda symbol: [
            *(_BIN / "papermill", "--no-progress-bar", "notebooks/register.ipynb", "out.ipynb", "-p", "symbol", symbol)
        ],
    }
    made = []
    for what, command in commands.items():
        progress(f"  {what}")

        def run(name: str, *, polls: bool = False) -> Cost:
            with using(builds[name]):
                return run_command(command(next(left[name])), projects[name], polls=polls)  # noqa: B023

        made.append(against_before(what, run, repeats, "at most 0.6"))
    return made


def _calls(folder: Path, builds: dict[str, Path], repeats: int) -> list[Row]:
    """Count and time a registration and a promotion on a server, behind a proxy that adds 25 ms to each request."""
    folder.mkdir()
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in [name for _ in range(repeats) for name in builds]:
        progress(f"  25 ms a request: {name}")
        log = folder / f"{name}-{secrets.token_hex(4)}"
        log.mkdir()
        with using(builds[name]) as environment, (log / "log").open("w") as errors:
            command = [sys.executable, calls.__file__, str(log)]
            done = subprocess.run(command, env=environment, cwd=log, stdout=subprocess.PIPE, stderr=errors, check=False)
        if done.returncode:
            raise RuntimeError((log / "log").read_text()[-3000:])
        for what, values in json.loads(done.stdout).items():
            for key, value in values.items():
                found.setdefault(what, {}).setdefault(key, {}).setdefault(name, []).append(value)
    made = []
    for what, keys in found.items():
        counts = {name: f"{values[0]:.0f} calls" for name, values in keys["calls"].items()}
        ratio = f"{keys['calls']['now'][0] / keys['calls']['before'][0]:.2f}"
        text = f"{what}: calls of MLflow / by the build before"
        made.append(Row(what=text, ours=counts["now"], rival=counts["before"], ratio=ratio, goal="at most 15 calls", memory=""))
        ours, rival = ((keys["seconds"][name], 0.0) for name in ("now", "before"))
        made.append(compared(f"{what}, 25 ms more a request / the build before", ours, rival, goal="at most 0.55"))
    return made


def _growth(folder: Path, builds: dict[str, Path], repeats: int, *, quick: bool) -> list[Row]:
    folder.mkdir()
    size = 1_000 if quick else 10_000
    progress(f"  a history of {size:,} versions")
    history = growing.new_history(folder / "history", size)
    made = []
    for name in ("history", "get_model_versions", "register_model"):
        projects = {build: shutil.copytree(history, folder / f"{name}-{build}", symlinks=True) for build in builds}
        asked = {build: (growing.answering, {"project": project, "name": name}) for build, project in projects.items()}
        made.append(_side_by_side(f"{name} at {size:,} versions", asked, builds, repeats, "at most 0.5"))
    count = 3_000 if quick else 30_000
    growing.many_records(folder / "records", count)
    asked = {build: (growing.verifying, {"project": folder / "records"}) for build in builds}
    made.append(_side_by_side(f"verify with {count:,} records", asked, builds, repeats, "at most 0.15"))
    for size in [100, 1_000] if quick else [100, 10_000, 100_000]:
        project = new_project(folder / f"gallery-{size}", like=folder / "records")
        record = growing.long_gallery(project, size)
        asked = {build: (growing.adding, {"record": record}) for build in builds}
        made.append(_side_by_side(f"one record more in a gallery of {size:,}", asked, builds, repeats, "flat"))
    return made


def _side_by_side(what: str, asked: dict[str, Any], builds: dict[str, Path], repeats: int, goal: str) -> Row:
    progress(f"  {what}")
    with tempfile.TemporaryDirectory() as folder:
        found = measure_workers(asked, Path(folder), repeats=repeats, builds=builds)
    return compared(f"{what} / the build before", found["now"], found["before"], goal=goal)

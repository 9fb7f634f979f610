"""Commands, side by side with the build before they were made faster.

That build is a worktree of this repository's own history; both builds run with the same libraries.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring import ROOT, Cost, Row, compared, interleaved, progress, run_command, using
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
    with both_builds(folder) as builds:
        return [*_commands(folder / "commands", builds, repeats), *_registrations(folder / "registrations", builds, repeats)]


@contextmanager
def both_builds(folder: Path) -> Iterator[dict[str, Path]]:
    """Check out the build before in a folder, and remove it afterwards; yield the folders of both by their names."""
    before, git = folder / "before", ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(before), BEFORE], check=True)
    try:
        yield {"now": ROOT, "before": before}
    finally:
        subprocess.run([*git, "remove", "--force", str(before)], check=True)


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

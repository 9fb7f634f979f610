"""Questions to long histories, many records and long galleries, side by side with the build before."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.before import both_builds
from benchmarks.growth import spec
from benchmarks.histories import SYMBOL, new_history
from benchmarks.measuring import ROOT, Row, compared, measure_workers, progress, using
from benchmarks.projects import bundle_maker, new_project
from fxhelpers import ModelRegistry
from fxhelpers.reports import add_record
from fxhelpers.reports.gallery import DATA, rebuild_gallery


def rows(folder: Path, *, quick: bool) -> list[Row]:
    with both_builds(folder) as builds:
        return _rows(folder, builds, 2 if quick else 5, quick=quick)


def _rows(folder: Path, builds: dict[str, Path], repeats: int, *, quick: bool) -> list[Row]:
    size = 1_000 if quick else 10_000
    progress(f"  a history of {size:,} versions")
    history = new_history(folder / "history", size)
    made = []
    for name in ("history", "get_model_versions", "register_model"):
        projects = {build: shutil.copytree(history, folder / f"{name}-{build}", symlinks=True) for build in builds}
        asked = {build: (spec, {"project": project, "name": name}) for build, project in projects.items()}
        made.append(_side_by_side(f"{name} at {size:,} versions", asked, builds, repeats, "at most 0.5"))
    count = 3_000 if quick else 30_000
    many_records(folder / "records", count)
    asked = {build: (verifying, {"project": folder / "records"}) for build in builds}
    made.append(_side_by_side(f"verify with {count:,} records", asked, builds, repeats, "at most 0.15"))
    for size in [100, 1_000] if quick else [100, 10_000, 100_000]:
        project = new_project(folder / f"gallery-{size}", like=folder / "records")
        record = long_gallery(project, size)
        asked = {build: (adding, {"record": record}) for build in builds}
        made.append(_side_by_side(f"one record more in a gallery of {size:,}", asked, builds, repeats, "flat"))
    return made


def _side_by_side(what: str, asked: dict[str, Any], builds: dict[str, Path], repeats: int, goal: str) -> Row:
    progress(f"  {what}")
    with tempfile.TemporaryDirectory() as folder:
        found = measure_workers(asked, Path(folder), repeats=repeats, builds=builds)
    return compared(f"{what} / the build before", found["now"], found["before"], goal=goal)


def many_records(project: Path, count: int) -> None:
    """Make a project with one version, and so many records of its training, which are one file under many names."""
    registry = ModelRegistry(new_project(project) / "params.yaml")
    registry.register_model(bundle_maker(registry.params, SYMBOL)())
    record = _record(project)
    for number in range(count - 1):
        os.link(record, record.with_name(f"{record.stem}-{number}.ipynb"))


def _record(project: Path) -> Path:
    command = [Path(sys.executable).parent / "fx", "run", "train", "--quiet", "-p", "symbol", SYMBOL]
    with using(ROOT) as environment:
        subprocess.run(command, check=True, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    (record,) = (project / "outputs" / "records" / SYMBOL).glob("*.ipynb")
    return record


def verifying(project: str) -> Callable[[], Callable[[], object]]:
    registry = ModelRegistry(Path(project) / "params.yaml")
    return lambda: lambda: registry.verify(SYMBOL)


def long_gallery(project: Path, count: int) -> Path:
    """Make a gallery of one record, and repeat its line under other names; return the record."""
    record = _record(project)
    rebuild_gallery(record.parent.parent)
    data = record.parent.parent / DATA
    (line,) = (line for line in data.read_text().splitlines() if line.startswith('{"name":'))
    more = (line.replace(record.name, f"{number}-{record.name}") for number in range(count - 1))
    with data.open("a") as file:
        file.writelines(f"{text}\n" for text in more)
    return record


def adding(record: str) -> Callable[[], Callable[[], object]]:
    return lambda: lambda: add_record(Path(record))

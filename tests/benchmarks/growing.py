"""Questions to long histories, many records and long galleries, for a build to answer."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.histories import NAME, SYMBOL, new_history
from benchmarks.measuring import using
from benchmarks.projects import bundle_maker, new_project
from fxhelpers import ModelRegistry
from fxhelpers.reports import add_record
from fxhelpers.reports.gallery import DATA, rebuild_gallery

__all__ = ["adding", "answering", "long_gallery", "many_records", "new_history", "verifying"]


def answering(project: str, name: str) -> Callable[[], Callable[[], object]]:
    registry = ModelRegistry(Path(project) / "params.yaml")
    new_bundle = bundle_maker(registry.params, SYMBOL) if name == "register_model" else None

    def prepare() -> Callable[[], object]:
        if new_bundle:
            bundle = new_bundle()
            return lambda: registry.register_model(bundle)
        return lambda: getattr(registry, name)(NAME if name.startswith("get_") else SYMBOL)

    return prepare


def many_records(project: Path, count: int) -> None:
    """Make a project with one version, and so many records of its training, which are one file under many names."""
    registry = ModelRegistry(new_project(project) / "params.yaml")
    registry.register_model(bundle_maker(registry.params, SYMBOL)())
    record = _record(project)
    for number in range(count - 1):
        os.link(record, record.with_name(f"{record.stem}-{number}.ipynb"))


def _record(project: Path) -> Path:
    command = [Path(sys.executable).parent / "fx", "run", "train", "--quiet", "-p", "symbol", SYMBOL]
    with using(Path(__file__).parents[2]) as environment:
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

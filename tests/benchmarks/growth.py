"""How the time of a question grows with the number of versions and decisions of one model."""

from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.histories import NAME, SYMBOL, new_history
from benchmarks.measuring import Row, exponent, measure_workers, progress, shown
from benchmarks.projects import bundle_maker
from fxhelpers import ModelRegistry

_GOALS = {
    "get_production_model": "about 0",
    "get_model_versions": "at most 1",
    "history": "at most 1",
    "verify": "at most 1",
    "register_model": "at most 1",
}


def rows(folder: Path, *, quick: bool) -> list[Row]:
    sizes = [10, 100, 1_000] if quick else [10, 100, 1_000, 10_000]
    for size in sizes:
        progress(f"  a history of {size:,} versions")
        new_history(folder / str(size), size)
    made = []
    for name, goal in _GOALS.items():
        progress(f"  {name}")
        workers = {str(size): (spec, {"project": folder / str(size), "name": name}) for size in sizes}
        found = measure_workers(workers, folder, repeats=5)
        small, large = ((size, found[str(size)][0]) for size in (100, sizes[-1]))
        row = Row(
            what=f"{name} at {sizes[-1]:,} versions / at {', '.join(f'{size:,}' for size in sizes[:-1])}",
            ours=shown(median(large[1])),
            rival=", ".join(shown(median(found[str(size)][0])) for size in sizes[:-1]),
            ratio=f"exponent {exponent(small, large):.2f}",
            goal=goal,
            memory=f"{found[str(sizes[-1])][1]:.0f} / {found['100'][1]:.0f}",
        )
        made.append(row)
    return made


def spec(project: str, name: str) -> Callable[[], Callable[[], object]]:
    registry = ModelRegistry(Path(project) / "params.yaml")
    new_bundle = bundle_maker(registry.params, SYMBOL) if name == "register_model" else None

    def prepare() -> Callable[[], object]:
        if new_bundle:
            bundle = new_bundle()
            return lambda: registry.register_model(bundle)
        about = NAME if name.startswith("get_") else SYMBOL
        return lambda: getattr(registry, name)(about)

    return prepare

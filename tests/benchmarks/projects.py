"""Projects in temporary folders: settings, synthetic prices, and an embedded registry whose tables are made already."""

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from synthetic import write_bundles, write_prices

from benchmarks.measuring import ROOT
from fxhelpers import ModelRegistry, load_params, load_prices, train_model, write_bundle
from fxhelpers.bundles import Bundle
from fxhelpers.params import Params
from fxhelpers.registry import RegistryClient

DATABASE = Path("outputs/registry/mlflow.db")


def new_project(folder: Path, *, like: Path | None = None) -> Path:
    """Make a project with an empty registry; ``like`` names one whose prices, bundles and settings it takes over."""
    folder.mkdir(parents=True)
    if like is None:
        settings = yaml.safe_load((ROOT / "params.yaml").read_text())
        settings["prices"]["source"], settings["training"]["refit"] = "csv", False
        (folder / "params.yaml").write_text(yaml.safe_dump(settings))
        RegistryClient(load_params(folder / "params.yaml")).champion("nobody")  # this makes the tables, in seconds
        shutil.copy(folder / DATABASE, folder / "empty.db")
    else:
        for name in ("params.yaml", "empty.db"):
            shutil.copy(like / name, folder)
        (folder / DATABASE).parent.mkdir(parents=True)
        shutil.copy(folder / "empty.db", folder / DATABASE)
        for name in ("prices", "outputs/models", "outputs/metadata"):
            if (like / name).is_dir():
                shutil.copytree(like / name, folder / name)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")  # of a link the settings of the repository would apply
    return folder


def many_bundles(folder: Path, count: int) -> tuple[Path, list[str]]:
    """Make a project with so many symbols, and a bundle of each."""
    project = new_project(folder)
    symbols = write_prices(project / "prices", count)
    write_bundles(symbols, load_params(project / "params.yaml"))
    return project, symbols


def bundle_maker(params: Params, symbol: str = "S001") -> Callable[[], Bundle]:
    """Train once; return what writes the same model as another bundle each time."""
    if not (params.prices.folder / f"{symbol}.csv").exists():
        write_prices(params.prices.folder, 1)
    quick = {"hidden_layer_sizes": [16], "alpha": 100.0, "max_iter": 20}
    made = train_model(symbol, load_prices(symbol, params.prices), params.training, overrides=quick, source="synthetic")
    return lambda: write_bundle(made.model, made.scaler, made.metadata, params.paths)


def many_champions(folder: Path, count: int) -> tuple[Path, list[str]]:
    """Make a project with so many symbols that have a champion: one training, under many names, on the same prices."""
    project = new_project(folder)
    first, *others = symbols = [f"S{number:03d}" for number in range(1, count + 1)]
    write_prices(project / "prices", 1)
    for symbol in others:
        shutil.copy(project / "prices" / f"{first}.csv", project / "prices" / f"{symbol}.csv")
    registry = ModelRegistry(project / "params.yaml")
    params = registry.params
    quick = {"hidden_layer_sizes": [16], "alpha": 100.0, "max_iter": 20}
    made = train_model(first, load_prices(first, params.prices), params.training, overrides=quick, source="synthetic")
    for symbol in symbols:
        bundle = write_bundle(made.model, made.scaler, {**made.metadata, "symbol": symbol}, params.paths)
        registry.register_model(bundle, stage="Production")
    return project, symbols

"""`register_model` against MLflow's own `log_model`."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import Row, compared, measure_workers
from benchmarks.projects import bundle_maker, new_project
from fxhelpers import ModelRegistry, load_params

_RIVALS = {
    "its defaults": (True, "at least 10 x faster"),
    "explicit requirements": (False, "at most 2"),
    "the same, with our example and signature": (False, "at most 2"),
}


def rows(folder: Path, *, quick: bool) -> list[Row]:
    first = new_project(folder / "ours")
    for place in range(len(_RIVALS)):
        new_project(folder / f"rival{place}", like=first)
    calls = {"ours": (ours, {"project": first})}
    calls |= {name: (plain, {"project": folder / f"rival{place}", "extent": place}) for place, name in enumerate(_RIVALS)}
    found = measure_workers(calls, folder, repeats=5 if quick else 9)
    return [
        compared(f"register_model / log_model, {name}", found["ours"], found[name], goal=goal, faster=faster)
        for name, (faster, goal) in _RIVALS.items()
    ]


def ours(project: str) -> Callable[[], Callable[[], object]]:
    registry = ModelRegistry(Path(project) / "params.yaml")
    new_bundle = bundle_maker(registry.params)

    def prepare() -> Callable[[], object]:
        bundle = new_bundle()
        return lambda: registry.register_model(bundle)

    return prepare


def plain(project: str, extent: int) -> Callable[[], Callable[[], object]]:
    """Log with MLflow alone: 0 as little as works, 1 with requirements, 2 with all that we store."""
    import mlflow
    from mlflow.models import infer_signature

    from fxhelpers.estimators import TRUSTED_TYPES

    params = load_params(Path(project) / "params.yaml")
    new_bundle = bundle_maker(params)
    mlflow.set_tracking_uri(params.registry_uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("plain", artifact_location=(Path(project) / "files").as_uri()))
    libraries = [f"{library}=={version(library)}" for library in ("mlflow", "scikit-learn", "skops", "numpy", "pandas")]

    def prepare() -> Callable[[], object]:
        bundle = new_bundle()
        pipeline, example = bundle.pipeline(), bundle.typical_days()
        given = {"name": "model", "registered_model_name": "plain", "skops_trusted_types": [*TRUSTED_TYPES]}

        def call() -> None:
            if extent > 0:
                given["pip_requirements"] = libraries
            if extent > 1:
                given.update(input_example=example, signature=infer_signature(example, pipeline.predict(example)))
            mlflow.sklearn.log_model(pipeline, **given)

        return call

    return prepare

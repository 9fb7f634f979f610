"""Every notebook keeps to its form, and runs on real prices through papermill's own command line."""

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import requests
from conftest import NAME, PAPERMILL, ROOT, Project, jupyterlab, run_all
from nbconvert.filters import strip_ansi
from nbformat.v4 import new_code_cell, new_notebook
from papermill.iorw import load_notebook_node

from fxhelpers import ModelRegistry, errors
from fxhelpers.records import read_summary
from fxhelpers.runs import run_notebook
from fxhelpers.runs.parameters import notebook_parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_the_form(path: Path) -> None:
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    mark = dict(nb.metadata["fxhelpers"])
    assert mark.pop("notebook") == path.stem
    folders = {name: f"_{name}" for name in ("portfolio", "index", "watch")} | {"forecast": "_forecasts"}
    assert mark.pop("folder", None) == folders.get(path.stem)
    assert mark.pop("looks", False) == (path.stem in {"history", "compare", "index"})
    assert set(mark) == (set() if path.stem in {"portfolio", "forecast", "watch"} else {"reads"})
    assert set(mark.get("reads", [])) <= {"prices", "bundle", "evaluation", "versions"}
    first, parameters, imports = nb.cells[:3]
    assert first.source.startswith("# ")
    assert "**Reads**" in first.source
    assert "**Changes**" in first.source
    assert f"fx {'' if path.stem in {'forecast', 'watch'} else 'run '}{path.stem}" in first.source
    assert sum(cell.source.count("\n# ") + cell.source.startswith("# ") for cell in nb.cells if cell.cell_type == "markdown") == 1
    assert parameters.metadata["tags"] == ["parameters"]
    assert imports.source.startswith("from fxhelpers import ")
    assert nb.cells[-1].source.startswith(f'summary(\n    "{path.stem}"')
    for cell in nb.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@each
def test_parameters_are_one_documented_line_each_that_papermill_understands(path: Path) -> None:
    nb = load_notebook_node(str(path))
    lines = nb.cells[1].source.splitlines()
    known = notebook_parameters(nb)
    assert len(known) == len(lines)
    for line, parameter in zip(lines, known.values(), strict=True):
        assert line.startswith(f"{parameter.name}: {parameter.inferred_type_name} = ")
        assert parameter.help
        assert parameter.inferred_type_name in {"str", "int", "float", "bool", "list", "dict"}


@each
def test_notebooks_only_call_and_show(path: Path) -> None:
    """No def, class, try, loop, path arithmetic, sys.path or MLflow."""
    forbidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.For, ast.While, ast.With, ast.Lambda)
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, forbidden), ast.unparse(node)
            if isinstance(node, ast.ImportFrom):
                assert node.module == "fxhelpers"
            assert not isinstance(node, ast.Import), ast.unparse(node)
            if isinstance(node, ast.Name):
                assert node.id not in {"mlflow", "sys", "os", "Path", "open"}


@pytest.mark.usefixtures("thorough")
def test_from_the_folder_of_the_notebooks_the_project_above_applies(project: Project) -> None:
    folder = project.folder / "notebooks"
    folder.unlink()  # a real folder: a link would lead back to the repository
    shutil.copytree(ROOT / "notebooks", folder)
    quick = ["-y", "overrides: {max_iter: 5}"]
    subprocess.run([*PAPERMILL, "train.ipynb", "-", "-p", "symbol", "IBM", *quick], check=True, capture_output=True, cwd=folder)
    assert len(project.records("IBM")) == 1
    assert len(list((project.folder / "outputs" / "models").iterdir())) == 2


def outputs(nb: Any) -> list[Any]:
    return [output for cell in nb.cells for output in cell.get("outputs", [])]


@pytest.mark.usefixtures("thorough")
def test_run_all_in_jupyterlab_works_with_all_defaults_and_changes_nothing_in_production(
    project: Project, registered: Callable[..., int]
) -> None:
    folder = project.folder / "notebooks"
    folder.unlink()  # a real folder: from a link the settings of the repository would apply
    folder.mkdir()
    champion = registered("original", stage="Production")
    order = ["index", "train", "evaluate", "compare", "promote", "forecast", "watch", "rollback", "retain", "history"]
    order += ["portfolio", "backtest"]
    assert sorted([*order, "register"]) == [path.stem for path in NOTEBOOKS]  # which decides, and so is refused there
    seen = {}
    for name in order:
        if name == "compare":
            assert ModelRegistry().run_registration_pipeline("AAPL").version == 2
        if name == "backtest":
            project.write(training={"refit": True, "rolling": {"first_day": 500, "every_days": 250}})
        nb = run_all(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4), folder)
        seen[name] = read_summary(nb)
        assert seen[name] is not None, name
        assert seen[name]["record"] is None
        assert not any("application/json" in output.get("data", {}) for output in outputs(nb)), "JupyterLab would show that"
        frames = [output for output in outputs(nb) if 'class="dataframe"' in json.dumps(output)]
        assert frames == [], "a frame as pandas shows it; table(frame) shows it well"
    assert (seen["index"]["champions"], seen["promote"]["version"], seen["promote"]["applied"]) == (1, 2, False)
    assert (seen["compare"]["gates_tried"], seen["history"]["in_production"], seen["portfolio"]["runs"]) == (None, [champion], 0)
    found = ModelRegistry().get_production_model(NAME)
    assert found is not None
    assert found.version == champion
    assert not (project.folder / "outputs" / "records").exists()


@pytest.mark.usefixtures("thorough")
def test_apply_is_refused_in_jupyterlab(project: Project, registered: Callable[..., int]) -> None:
    """In an ordinary kernel, whose record nobody keeps; papermill ends with the same line as ever."""
    registered("regularised")
    command = [*PAPERMILL, "--engine", "nbclient", "notebooks/promote.ipynb", "seen.ipynb", "-p", "apply", "True"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{errors.NoRecordError.__name__}: ")
    assert "fx run promote -p symbol AAPL -p version 1 -p apply true" in last
    assert ModelRegistry().get_production_model(NAME) is None


def test_an_error_of_ours_is_its_message_and_any_other_has_its_traceback(project: Project) -> None:
    compare = 'from fxhelpers import ModelRegistry\nModelRegistry().compare("APPL")'
    cells = [new_code_cell(source) for source in (compare, "1 / 0", compare.replace(".compare", ".compere"))]
    nb = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for cell in nb.cells:
        cell.metadata["tags"] = ["raises-exception"]
    ours, *bugs = outputs(run_all(nb, project.folder))
    assert ours.ename == "VersionNotFoundError"
    assert ours.evalue.startswith("MLP_Stock_Predictor_APPL has no version to compare at sqlite:///")
    assert [strip_ansi(line) for line in ours.traceback] == [f"{ours.ename}: {ours.evalue}"]
    assert [bug.ename for bug in bugs] == ["ZeroDivisionError", "AttributeError"]
    assert all("Traceback (most recent call last)" in strip_ansi("\n".join(bug.traceback)) for bug in bugs)


def test_promote_shows_that_nothing_was_compared(project: Project, registered: Callable[..., int]) -> None:
    registered("original")
    project.write(model_registry={"compare_metrics": False})
    result = run_notebook(ROOT / "notebooks" / "promote.ipynb", {"apply": True}, preloaded=True)
    assert "Not compared: model_registry.compare_metrics is false" in result.record.read_text()
    assert ModelRegistry().get_production_model(NAME) is not None


def test_evaluate_says_so_where_mlflow_is_off(project: Project) -> None:
    project.bundle()
    project.write(mlflow={"enabled": False})
    result = run_notebook(ROOT / "notebooks" / "evaluate.ipynb", {}, preloaded=True)
    assert "MLflow run: none, mlflow.enabled is false in params.yaml" in result.record.read_text()
    assert len(list((project.folder / "outputs" / "results").iterdir())) == 2


@pytest.mark.usefixtures("thorough")
def test_make_lab_opens_the_start_page_and_asks_nobody_for_news(tmp_path: Path) -> None:
    """In a home that is empty and stays so, but for what any server leaves there."""
    with jupyterlab(tmp_path, ROOT) as uri:
        settings = requests.get(f"{uri}/lab/api/settings/@jupyterlab/apputils-extension:notification", timeout=30)
        asked = settings.json()["schema"]["properties"]
        assert (asked["fetchNews"]["default"], asked["checkForUpdates"]["default"]) == ("false", False)
        assert requests.get(f"{uri}/", timeout=30).url.endswith("/lab/tree/notebooks/index.ipynb")
        assert requests.get(f"{uri}/lab/api/news", timeout=30).json() == {"news": []}
        assert requests.get(f"{uri}/lab/api/update", timeout=30).json() == {"notification": None}
    assert not (tmp_path / ".jupyter").exists()

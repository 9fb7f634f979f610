"""Every notebook keeps to its form, and runs on real prices through papermill's own command line."""

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import NAME, PAPERMILL, ROOT, Project
from papermill.iorw import load_notebook_node

from fxhelpers import ModelRegistry, errors
from fxhelpers.engine import notebook_parameters
from fxhelpers.records import read_summary

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each
def test_the_form(path: Path) -> None:
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    mark = dict(nb.metadata["fxhelpers"])
    assert mark.pop("notebook") == path.stem
    about = {"folder": "_portfolio"} if path.stem == "portfolio" else {"reads": mark.get("reads")}
    assert mark == about
    assert set(mark.get("reads", [])) <= {"prices", "bundle", "evaluation", "versions"}
    first, parameters, imports = nb.cells[:3]
    assert first.source.startswith("# ")
    assert "**Reads**" in first.source
    assert "**Changes**" in first.source
    assert f"fx run {path.stem}" in first.source
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


def test_from_the_folder_of_the_notebooks_the_project_above_applies(project: Project) -> None:
    folder = project.folder / "notebooks"
    folder.unlink()  # a real folder: a link would lead back to the repository
    shutil.copytree(ROOT / "notebooks", folder)
    quick = ["-y", "overrides: {max_iter: 5}"]
    subprocess.run([*PAPERMILL, "train.ipynb", "-", "-p", "symbol", "IBM", *quick], check=True, capture_output=True, cwd=folder)
    assert len(project.records("IBM")) == 1
    assert len(list((project.folder / "outputs" / "models").iterdir())) == 2


def test_run_all_in_jupyterlab_changes_nothing_in_production_and_apply_is_refused(
    project: Project, registered: Callable[..., int]
) -> None:
    """What JupyterLab does: a kernel of its own, and nobody who keeps the record."""
    registered("regularised")
    plain = [*PAPERMILL, "--engine", "nbclient", "notebooks/promote.ipynb", "seen.ipynb"]
    subprocess.run(plain, check=True, capture_output=True)
    summary = read_summary(json.loads(Path("seen.ipynb").read_text()))
    assert summary is not None
    assert (summary["verdict"], summary["applied"], summary["record"]) == ("promote", False, None)
    refused = subprocess.run([*plain, "-p", "apply", "True"], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert errors.NoRecordError.__name__ in refused.stderr
    assert "fx run promote -p symbol AAPL -p version 1 -p apply true" in refused.stderr
    assert ModelRegistry().get_production_model(NAME) is None


def test_promote_shows_that_nothing_was_compared(project: Project, registered: Callable[..., int]) -> None:
    registered("original")
    project.write(model_registry={"compare_metrics": False})
    subprocess.run([*PAPERMILL, "notebooks/promote.ipynb", "seen.ipynb", "-p", "apply", "True"], check=True, capture_output=True)
    assert "Not compared: model_registry.compare_metrics is false" in Path("seen.ipynb").read_text()
    assert ModelRegistry().get_production_model(NAME) is not None


def test_evaluate_says_so_where_mlflow_is_off(project: Project) -> None:
    project.bundle()
    project.write(mlflow={"enabled": False})
    subprocess.run([*PAPERMILL, "notebooks/evaluate.ipynb", "seen.ipynb"], check=True, capture_output=True)
    assert "MLflow run: none, mlflow.enabled is false in params.yaml" in Path("seen.ipynb").read_text()
    assert len(list((project.folder / "outputs" / "results").iterdir())) == 2

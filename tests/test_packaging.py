"""What a user installs is what was declared."""

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from numpydoc.validate import validate
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import fxhelpers
from fxhelpers.registry._calls import SUPPORTED_MLFLOW
from fxhelpers.reports.report import report_of
from fxhelpers.system import sha256

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
USERS_NINE = {"jupyterlab", "papermill", "mlflow", "scikit-learn", "joblib", "pandas", "matplotlib", "pyyaml", "nbval"}
IN_A_SENTENCE = {
    *("get_model_versions", "get_production_model", "history", "load_champion", "log_evaluation"),
    *("model_name", "overview", "promote", "retain", "verify", "versions_frame"),
}
"""Methods whose summary says what their parameters are."""
LOCK = (ROOT / "requirements.lock").read_text()


def declared() -> dict[str, str]:
    found = [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]
    return {requirement.name: str(requirement.specifier) for requirement in found}


def test_environment_yml_equals_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    *conda, last = environment["dependencies"]
    from_conda = {Requirement(text).name: str(Requirement(text).specifier) for text in conda}
    assert from_conda.pop("python") == PYPROJECT["project"]["requires-python"]
    from_conda.pop("pip")
    *pip, editable = last["pip"]
    assert editable == "-e ."
    from_pip = {Requirement(text).name: str(Requirement(text).specifier) for text in pip}
    assert set(from_conda) == USERS_NINE
    assert {**from_conda, **from_pip} == declared()


def test_every_dependency_is_bound_to_the_majors_that_were_tried() -> None:
    extras = [Requirement(text) for texts in PYPROJECT["project"]["optional-dependencies"].values() for text in texts]
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))
    for requirement in [*(Requirement(text) for text in PYPROJECT["project"]["dependencies"]), *extras]:
        assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, requirement
        pin = pins.get(requirement.name.lower())
        assert pin is None or pin in requirement.specifier, requirement
    assert SpecifierSet(SUPPORTED_MLFLOW) == SpecifierSet(declared()["mlflow"])


def test_a_scheduled_run_takes_the_newest_of_everything(tmp_path: Path) -> None:
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "newest.yml").read_text())
    assert flow[True]["schedule"]  # YAML reads `on` as a truth
    steps = {step.get("name", ""): step.get("run", "") for step in flow["jobs"]["test"]["steps"]}
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(shlex.split(steps["Leave the bounds out"].replace("-E -i", "-E -i.bak")), check=True, cwd=tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for texts in project["optional-dependencies"].values() for text in texts)]
    assert {bound.operator for text in texts for bound in Requirement(text).specifier} == {">="}
    assert "--upgrade-strategy eager" in steps["Install the newest of everything"]
    assert "pytest" in steps["Try"]


def test_the_lock_pins_every_dependency_with_hashes_and_names_no_host() -> None:
    pins = re.findall(r"^([a-z0-9-]+)==", LOCK, re.MULTILINE)
    wanted = {name.lower().replace("_", "-") for name in declared()}
    assert wanted <= set(pins)
    assert "://" not in LOCK
    assert "index" not in LOCK
    for block in re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block[:60]
    for system in ("linux", "darwin"):
        assert f"sys_platform == '{system}'" in LOCK


def test_the_example_is_what_the_notebook_gives_today() -> None:
    folder = ROOT / "outputs" / "examples"
    content = (folder / "promotion.ipynb").read_bytes()
    told = json.loads(content)["metadata"]["fxhelpers"]["record"]
    stale = "make examples: the example is of another notebook than that in notebooks/, or of another kind of page"
    assert told["source_sha256"] == sha256((ROOT / "notebooks" / "promote.ipynb").read_bytes()), stale
    assert report_of(told["name"], content) == (folder / "promotion.html").read_text(), stale
    assert told["status"] == "completed"


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run make in a copy of what it reads, where pip finds no package."""
    (folder / "tests").mkdir(exist_ok=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "tests/mlflow-2.7.1.lock"):
        shutil.copy(ROOT / name, folder / name)
    command = ["make", *words, f"PYTHON={sys.executable}"]
    env = {**os.environ, "PIP_NO_INDEX": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=env, timeout=120)


@pytest.mark.parametrize("words", [("demo",), ("test-servers",), ("clean",), ("demo", "VENV=.venv/")])
@pytest.mark.parametrize("kind", ["link", "link to one of ours", "folder", "file"])
def test_make_refuses_an_environment_that_it_did_not_make(tmp_path: Path, words: tuple[str, ...], kind: str) -> None:
    folder = tmp_path / "project"
    environment = folder / (".venv-mlflow-2.7.1" if "servers" in words[0] else ".venv")
    theirs = tmp_path / "theirs" if "link" in kind else environment
    folder.mkdir()
    if kind == "file":
        theirs.write_text("precious")
    else:
        theirs.mkdir()
        for name in ("precious", *((".locked", ".ready") if "ours" in kind else ())):
            (theirs / name).write_text("precious")
    if theirs != environment:
        environment.symlink_to(theirs)
    done = make(folder, *words)
    assert done.returncode
    assert "did not make, and would be emptied: move it away, or name another folder, such as make " in done.stderr
    assert (theirs if kind == "file" else theirs / "precious").read_text() == "precious"
    assert environment.is_symlink() == ("link" in kind)


@pytest.mark.usefixtures("thorough")
def test_make_empties_and_removes_what_it_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in (".locked", "left"):
        (tmp_path / "mine" / name).touch()
    os.utime(tmp_path / "mine" / ".locked", (0, 0))
    assert "No matching distribution found" in make(tmp_path, "demo", "VENV=mine").stderr
    assert not (tmp_path / "mine" / "left").exists()
    assert (tmp_path / "mine" / ".locked").stat().st_mtime < (tmp_path / "requirements.lock").stat().st_mtime  # so it goes on
    assert make(tmp_path, "clean", "VENV=mine").returncode == 0
    assert not (tmp_path / "mine").exists()


@pytest.mark.usefixtures("thorough")
def test_a_wheel_is_enough(tmp_path: Path) -> None:
    """Install the wheel into an empty environment that borrows its dependencies, and work in a project of fx init."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], check=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # whose own .pth, of the repository, is not read

    def run(*words: str, folder: Path = tmp_path / "project") -> str:
        done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    fx, quiet = str(python.with_name("fx")), ("--quiet", "-p", "symbol", "AAPL")
    where = "import fxhelpers.cli; print(fxhelpers.cli.__file__)"
    assert Path(run(str(python), "-c", where, folder=tmp_path).strip()).is_relative_to(site)
    assert "created  notebooks/train.ipynb" in run(fx, "init", "project", folder=tmp_path)
    run(fx, "run", "train", *quiet)
    assert "version  1" in run(fx, "run", "register", *quiet)
    assert "verdict  promote" in run(fx, "run", "promote", *quiet, "-p", "apply", "true")
    assert "version 1" in run(fx, "history", "AAPL")
    assert "no evidence of skill" in run(fx, "status")
    assert "champion" in run(fx, "versions", "AAPL")
    run(str(python), "-m", "papermill", "notebooks/compare.ipynb", "out.ipynb", "-p", "symbol", "AAPL", "--no-progress-bar")
    run(fx, "verify", "--deep")
    records = [json.loads(path.read_text()) for path in (tmp_path / "project" / "outputs" / "records" / "AAPL").glob("*.ipynb")]
    assert [nb["metadata"]["fxhelpers"]["record"]["status"] for nb in records] == ["completed"] * 4
    train = site / "fxhelpers" / "project" / "notebooks" / "train.ipynb"
    train.write_text(train.read_text().replace("AAPL", "MSFT"))  # as that of the next release
    assert "updated  notebooks/train.ipynb" in run(fx, "init", "--upgrade")


def test_type_checkers_see_the_table_of_public_names() -> None:
    tree = ast.parse(Path(fxhelpers.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: str(node.module).partition(".")[2] for node in imports for alias in node.names}
    assert seen == fxhelpers._PUBLIC


def test_every_public_name_is_there_and_documented() -> None:
    assert dir(fxhelpers) == sorted(set(fxhelpers.__all__))
    for name in fxhelpers.__all__:
        value = getattr(fxhelpers, name)
        assert value.__doc__, name
        if inspect.ismodule(value):
            continue
        methods = [method for method in vars(value) if not method.startswith("_")] if inspect.isclass(value) else []
        for full in (f"{value.__module__}.{word}" for word in (name, *(f"{name}.{method}" for method in methods))):
            checks = set(PYPROJECT["tool"]["numpydoc_validation"]["checks"])
            checks -= {"PR01"} if full.rpartition(".")[2] in IN_A_SENTENCE else set()
            assert [message for code, message in validate(full)["errors"] if code in checks] == [], full


def test_every_error_is_an_fxerror_and_a_builtin_and_is_drawn_in_the_tree() -> None:
    from fxhelpers import errors

    tree = errors.__doc__ or ""
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.FxError)]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__name__ in tree
        builtin = {base for base in kind.__mro__ if base.__module__ == "builtins"} - {Exception, BaseException, object}
        assert builtin or kind is errors.FxError

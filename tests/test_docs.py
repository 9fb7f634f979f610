"""What README and docs tell people to type works as it stands there."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from conftest import NAME, ROOT, Project
from papermill.__main__ import papermill
from settings_page import formats_page, settings_page

from fxhelpers import ModelRegistry, load_params, load_prices
from fxhelpers.cli import cli
from fxhelpers.params import Params

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "outputs" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:fx|make) [^`…]*|papermill [^`…]*[.]ipynb[^`…]*)`")
each_page = pytest.mark.parametrize("page", PAGES)


def blocks(page: str, language: str = "") -> list[str]:
    return [text for _, kind, text in _FENCE.findall(PAGES[page]) if kind == language]


def prose(page: str) -> str:
    return _FENCE.sub("", PAGES[page])


def commands(tool: str) -> list[Any]:
    """Return the distinct commands of a tool in all pages, as lists of words."""
    known: dict[str, str] = {}
    for page in PAGES:
        lines = [part.strip() for block in blocks(page) for line in block.splitlines() for part in line.split("&&")]
        for line in [*lines, *_INLINE.findall(prose(page))]:
            words = shlex.split(line.removeprefix(".venv/bin/"), comments=True)
            if words and words[0] == tool:
                known.setdefault(shlex.join(words), page)
    return [pytest.param(shlex.split(command), id=f"{page}: {command}") for command, page in known.items()]


def parameters_of(notebook: str) -> set[str]:
    nb = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    (cell,) = (cell for cell in nb["cells"] if "parameters" in cell["metadata"].get("tags", []))
    return {line.partition(":")[0] for line in "".join(cell["source"]).splitlines()}


def check_fx(command: list[str]) -> None:
    """Let the command line parse a command, and look for its notebook and its parameters."""
    with click.Context(cli) as context:
        name, known, arguments = cli.resolve_command(context, command[1:])
        assert known is not None
        bare = len(command) == 2  # the name of a command, in a sentence
        with known.make_context(name, list(arguments), parent=context, resilient_parsing=bare) as made:
            given = {parameter for parameter, _ in made.params.get("parameters") or ()}
            assert not given or given <= {*parameters_of(made.params["notebook"]), "NAME"}
            assert bare or name != "run" or (ROOT / "notebooks" / f"{made.params['notebook']}.ipynb").is_file()


@pytest.mark.parametrize("command", commands("fx"))
def test_every_fx_command_is_one_that_fx_knows(command: list[str], project: Project) -> None:
    check_fx(command)


@pytest.mark.parametrize("command", commands("papermill"))
def test_every_papermill_command_is_one_that_papermill_knows(command: list[str]) -> None:
    with papermill.make_context("papermill", command[1:]) as made:
        path = Path(made.params["notebook_path"])
        assert {name for name, _ in made.params["parameters"]} <= parameters_of(path.stem)
        assert (ROOT / path).is_file() or (ROOT / "notebooks" / path).is_file()


@pytest.mark.parametrize("command", commands("make"))
def test_every_make_command_is_one_that_the_makefile_knows(command: list[str]) -> None:
    done = subprocess.run([command[0], "-n", *command[1:]], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@each_page
def test_yaml_is_settings_and_python_is_python(page: str) -> None:
    for block in blocks(page, "yaml"):
        Params.model_validate(yaml.safe_load(block))
    for block in blocks(page, "python"):
        ast.parse(block)


@each_page
def test_a_page_has_one_heading_and_says_at_once_what_it_answers(page: str) -> None:
    lines = [line for line in prose(page).splitlines() if line]
    assert [line for line in lines if line.startswith("# ")] == lines[:1]
    assert re.match(r"[*]*[A-Z]", lines[1]), lines[1]
    assert re.search(r"[.?:*]$", prose(page).split("\n\n")[1].strip())


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(str(file.resolve().relative_to(ROOT))), target


def test_the_readme_leads_to_every_page_and_is_short() -> None:
    assert len(PAGES["README.md"].split()) <= 1200
    for page in PAGES:
        assert page == "README.md" or f"]({page})" in PAGES["README.md"], page


def test_the_page_of_settings_is_what_the_models_say() -> None:
    assert settings_page() == PAGES["docs/settings.md"], "make docs"
    assert formats_page() == PAGES["docs/formats.md"], "make docs"


def test_the_comments_of_params_yaml_are_the_descriptions_of_the_models() -> None:
    schema = Params.model_json_schema()
    found = comments(yaml.compose((ROOT / "params.yaml").read_text()))
    assert len(found) > 30
    for path, comment in found.items():
        if not path.startswith("training.models."):  # whose keys are names
            *sections, key = path.split(".")
            model = schema
            for section in sections:
                model = schema["$defs"][model["properties"][section]["$ref"].rpartition("/")[2]]
            assert model["properties"][key]["description"] == comment, path


def comments(node: yaml.Node, path: str = "") -> dict[str, str]:
    """Return the comment in the line of each key of ``params.yaml``."""
    found: dict[str, str] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        line = key.start_mark.buffer[key.start_mark.pointer :].partition("\n")[0]
        found |= {f"{path}{key.value}": line.partition("# ")[2].strip()} if "# " in line else {}
        found |= comments(value, f"{path}{key.value}.")
    return found


def test_the_page_of_notebooks_has_all_of_them() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGES["docs/notebooks.md"], re.MULTILINE)) == {
        path.stem for path in (ROOT / "notebooks").glob("*.ipynb")
    }


def test_the_map_has_every_room_and_what_contributing_names_is_there() -> None:
    page = PAGES["CONTRIBUTING.md"]
    table = page.partition("## The map")[2].partition("\n\nOnly ")[0]
    rooms = {room for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for room in re.findall(r"`(\w+)`", row)}
    there = {path.stem for path in (ROOT / "fxhelpers").iterdir() if path.suffix in {"", ".py"} and path.stem[0] not in "_."}
    assert rooms == there
    for path in re.findall(r"`((?:fxhelpers|tests|docs|notebooks)/[\w/.]*)`", page):
        assert (ROOT / path).exists() or path == "notebooks/describe.ipynb", path
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for name in re.findall(r"`(test_\w+)…?`", page):
        assert f"def {name}" in tests, name


def test_the_reason_that_the_readme_quotes_is_that_of_the_example() -> None:
    nb = json.loads((ROOT / "outputs" / "examples" / "promotion.ipynb").read_text())
    (summary,) = (
        data["application/vnd.fxhelpers.summary+json"]
        for cell in nb["cells"]
        for data in (output.get("data", {}) for output in cell.get("outputs", []))
        if "application/vnd.fxhelpers.summary+json" in data
    )
    (quoted,) = re.findall(r"^regularised: (.*) …$", PAGES["README.md"], re.MULTILINE)
    assert summary["reason"].startswith(quoted)


def typed(block: str) -> list[list[str]]:
    (found,) = (text for text in blocks("README.md") if block in text)
    return [shlex.split(line, comments=True) for line in found.splitlines() if line.startswith("fx ")]


def run(command: list[str]) -> str:
    more = ["--no-open"] if command[1] == "records" else []
    done = subprocess.run(
        [Path(sys.executable).with_name("fx"), *command[1:], *more], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.mark.usefixtures("thorough")
def test_from_ones_own_prices_to_a_champion(project: Project) -> None:
    project.settings = {**yaml.safe_load((ROOT / "params.yaml").read_text()), "prices": {"source": "csv", "folder": "prices"}}
    project.settings["promotion"]["evaluation"]["max_stale_days"] = None  # these prices are old
    (project.folder / "prices").mkdir()
    prices = load_prices("AAPL", load_params().prices).reset_index()
    prices.to_csv(project.folder / "prices" / "MINE.csv", index=False)
    project.write()
    for command in typed("fx run train -p symbol MINE"):
        run(command)
    registry = ModelRegistry()
    champion = registry.get_production_model(registry.model_name("MINE"))
    assert champion is not None
    assert champion.version == 1
    assert registry.verify("MINE", deep=True).findings == ()


@pytest.mark.usefixtures("thorough")
def test_what_may_follow_the_demo(project: Project, registered: Callable[..., int]) -> None:
    for model in ("original", "regularised"):
        registered(model, stage="Production")
    serves = []
    for command in typed("fx rollback AAPL --version 1"):
        run(command)
        champion = ModelRegistry().get_production_model(NAME)
        assert champion is not None
        serves.append(champion.version)
    assert serves == [2, 2, 1, 2, 2]


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_runs_as_written(page: str, project: Project) -> None:
    project.bundle()
    ModelRegistry().run_registration_pipeline(stage="Production")
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)  # noqa: S102 (our own page)
    assert names.get("champion") or names.get("forecasts") or hasattr(names["model"], "predict")

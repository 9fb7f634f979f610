"""What the README tells people to type works as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from conftest import ROOT, Project

from fxhelpers import load_params, load_prices
from fxhelpers.cli import cli

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", README, re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if line.startswith("fx ")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_one_that_fx_knows(command: list[str], project: Project) -> None:
    with click.Context(cli) as context:
        name, known, arguments = cli.resolve_command(context, command[1:])
        assert known is not None
        known.make_context(name, list(arguments), parent=context).close()
    if name == "run":
        assert (ROOT / "notebooks" / f"{arguments[0]}.ipynb").exists()


def test_the_reasons_that_it_quotes_are_those_of_the_example() -> None:
    nb = json.loads((ROOT / "outputs" / "examples" / "promotion.ipynb").read_text())
    (summary,) = (
        data["application/vnd.fxhelpers.summary+json"]
        for cell in nb["cells"]
        for data in (output.get("data", {}) for output in cell.get("outputs", []))
        if "application/vnd.fxhelpers.summary+json" in data
    )
    assert f"regularised: {summary['reason']}" in " ".join(README.split())


def typed(block: str) -> list[list[str]]:
    (found,) = (text for text in BLOCKS if block in text)
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
    (project.folder / "prices").mkdir()
    prices = load_prices("AAPL", load_params().prices).reset_index()
    prices.to_csv(project.folder / "prices" / "MINE.csv", index=False)
    project.write()
    message = [run(command) for command in typed("fx run train -p symbol MINE")]
    assert "Version 1 serves now" in message[-2]
    assert "no problem in 2 decisions" in message[-1]


@pytest.mark.usefixtures("thorough")
def test_what_may_follow_the_demo(project: Project, registered: Callable[..., int]) -> None:
    for model in ("original", "regularised"):
        registered(model, stage="Production")
    message = [run(command) for command in typed("fx rollback AAPL --version 1")]
    assert "Version 1 serves now, version 2 did before." in message[2]
    assert "Version 2 serves now, version 1 did before." in message[3]
    assert "no problem" in message[-1]

"""The demo: three models of one share through the whole lifecycle, each step a notebook with its record."""

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fxhelpers.cli import find_notebook, shown_path
from fxhelpers.errors import FxError
from fxhelpers.model_registry import ModelRegistry
from fxhelpers.records import promotion_label
from fxhelpers.runs.running import RunResult, run_notebook

_MODELS = {
    "original": "ForesightX's own settings",
    "regularised": "a heavy brake on the weights",
    "lighter": "a lighter brake",
}
_STEPS = ("train", "evaluate", "register", "compare", "promote")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    model: str
    notebook: str
    result: RunResult


def run_demo(symbol: str) -> None:
    """Train, evaluate, register, compare and promote three models of one share, and print what came of it."""
    paths = {notebook: find_notebook(notebook) for notebook in _STEPS}
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    done: list[_Step] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=len(_MODELS) * len(_STEPS))
        for model, words in _MODELS.items():
            for notebook, path in paths.items():
                progress.update(task, description=f"{notebook} {model} ({words})")
                done.append(_Step(model=model, notebook=notebook, result=_run(symbol, model, path)))
                if not console.is_terminal:
                    console.print(f"{notebook:>9} {model}: {_told(done[-1])}")
                progress.advance(task)
        progress.update(task, description="done")
    console.print(_table(symbol, done))
    _explain(console, symbol, done)


def _run(symbol: str, model: str, path: Path) -> RunResult:
    parameters: dict[str, object] = {"symbol": symbol}
    if path.stem == "train":
        parameters["model"] = model
    if path.stem == "promote":
        parameters["apply"] = True
    result = run_notebook(path, parameters)
    if result.error:
        msg = f"{path.stem} of {model} failed: {result.error}; its record: {shown_path(result.record)}"
        raise FxError(msg)
    return result


def _told(step: _Step) -> str:
    summary = step.result.summary or {}
    told = {
        "train": "validation RMSE {rmse_over_zero:.3f} x forecasting zero",
        "evaluate": "test RMSE {rmse_over_zero:.3f} x forecasting zero",
        "register": "version {version}, {stage}",
        "compare": "{verdict}",
        "promote": "{verdict}, champion: {champion_after}",
    }
    mark = promotion_label(summary)
    message = told[step.notebook].format(**{key: "none" if value is None else value for key, value in summary.items()})
    return f"{message} ({mark})" if mark else message


def _table(symbol: str, done: list[_Step]) -> Table:
    table = Table(title=f"{symbol}: what happened", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("step", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("verdict", max_width=20)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("record", overflow="fold")
    for step in done:
        summary = step.result.summary or {}
        table.add_row(
            f"{step.notebook} {step.model}",
            str(summary.get("version") or "-"),
            ", ".join(filter(None, (summary.get("verdict"), promotion_label(summary)))) or "-",
            f"{step.result.seconds:.1f}",
            step.result.record.name,
            end_section=step.notebook == _STEPS[-1],
        )
    return table


def _explain(console: Console, symbol: str, done: list[_Step]) -> None:
    for step in done:
        if step.notebook == _STEPS[-1]:
            console.print(f"[bold]{step.model}[/bold]: {(step.result.summary or {}).get('reason')}", soft_wrap=True)
    seconds = sum(step.result.seconds for step in done)
    folder = shown_path(done[-1].result.record.parent)
    console.print(f"\n{len(done)} notebooks in {seconds:.0f} s; their records are in {folder}/")
    registry = ModelRegistry()
    console.print(f"fx verify {symbol} --deep: {registry.verify(symbol, deep=True).message}")
    console.print(f"Who was in Production when, and why: fx history {symbol}")
    console.print("Explore the notebooks: make lab. MLflow's pages on the registry: make ui.")
    champion = registry.get_production_model(registry.model_name(symbol))
    if champion:
        console.print(f"The champion of {symbol} loads with plain MLflow: models:/{champion.name}@champion")
    else:
        console.print(f"No version of {symbol} serves: the policy in params.yaml let none pass.")

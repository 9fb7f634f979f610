"""``fx demo``: recipes of real prices through the whole lifecycle."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fxhelpers.cli._project import find_notebook
from fxhelpers.cli._run import quick_imports
from fxhelpers.cli._show import print_frame, shown_path
from fxhelpers.errors import FxError

if TYPE_CHECKING:
    from fxhelpers.runs import RunResult


class _Act(NamedTuple):
    """One model of ``params.yaml``, and what the demo does with it."""

    title: str
    model: str
    words: str
    days_left: int  # of the newest prices, which its training does not see
    notebooks: tuple[str, ...]


_WHOLE = ("train", "register", "compare", "promote")
_QUARTER = 63  # trading days
_ACTS = (
    _Act("original", "original", "ForesightX's own settings, fitted once", _QUARTER, _WHOLE),
    _Act("regularised", "regularised", "strong regularization, refitted to the last day", _QUARTER, _WHOLE),
    _Act("refresh", "regularised", "the same recipe, a quarter later", 0, ("train", "register", "promote")),
    _Act("ridge", "ridge", "another recipe: a ridge regression", 0, _WHOLE),
)
_LINES = {
    "train": "RMSE {rmse_over_zero:.3f} x forecasting zero",
    "register": "version {version}, {stage}",
    "compare": "{verdict}",
    "promote": "{verdict}, champion: {champion_after}",
}
"""What to print of the summary of each notebook."""


@click.command()
@click.option("--symbol", default="AAPL", show_default=True, help="Ticker that the price source knows.")
def demo(symbol: str) -> None:
    """Take three recipes through the whole lifecycle.

    On real prices: one is refused, one promoted and refreshed, one contests it, as the numbers say.
    """
    with quick_imports():
        from fxhelpers.kernels import start_preloading

        start_preloading()  # while this process imports, too
        import pandas as pd
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        import fxhelpers.runs  # noqa: F401 (the slowest import, which a Ctrl-C may not interrupt)
        from fxhelpers.records import promotion_label

    paths = {notebook: find_notebook(notebook) for notebook in _LINES}  # all of them, before the first one runs
    steps = [(act, paths[notebook]) for act in _ACTS for notebook in act.notebooks]
    console, rows, results = Console(), [], []
    days = _days(symbol)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=len(steps))
        for act, path in steps:
            progress.update(task, description=f"{path.stem} {act.title} ({act.words})")
            result = _run_step(symbol, act, path, end=days[-1 - act.days_left])
            summary = {key: "none" if value is None else value for key, value in (result.summary or {}).items()}
            label = promotion_label(result.summary or {})
            if not console.is_terminal:
                line = _LINES[path.stem].format(**summary)
                click.echo(f"{path.stem:>9} {act.title}: {line}{f' ({label})' if label else ''}")
            verdict = ", ".join(filter(None, (summary.get("verdict"), label)))
            row = [f"{path.stem} {act.title}", summary.get("version"), verdict, f"{result.seconds:.1f}", result.record.name]
            rows.append([value or "-" for value in row])
            results.append((act, result))
            progress.advance(task)
        progress.update(task, description="done")
    print_frame(pd.DataFrame(rows, columns=["step", "version", "verdict", "seconds", "record"]), f"{symbol}: results")
    _explain(symbol, results)


def _days(symbol: str) -> list[str]:
    from fxhelpers.params import load_params
    from fxhelpers.prices import read_prices

    return [f"{day:%Y-%m-%d}" for day in read_prices(symbol, load_params().prices).frame.index]


def _run_step(symbol: str, act: _Act, path: Path, *, end: str) -> "RunResult":
    from fxhelpers.runs import run_notebook

    more: dict[str, dict[str, Any]] = {"train": {"model": act.model, "end": end}, "promote": {"apply": True}}
    result = run_notebook(path, {"symbol": symbol, **more.get(path.stem, {})}, preloaded=None)
    if result.error:
        msg = f"{path.stem} of {act.title} failed: {result.error}; its record: {shown_path(result.record)}"
        raise FxError(msg)
    return result


def _explain(symbol: str, results: "list[tuple[_Act, RunResult]]") -> None:
    from fxhelpers.model_registry import ModelRegistry

    for act, result in results:
        if "reason" in (summary := result.summary or {}) and summary.get("notebook") == "promote":
            click.echo(f"{click.style(act.title, bold=True)}: {summary['reason']}")
    seconds, folder = sum(result.seconds for _, result in results), shown_path(results[-1][1].record.parent)
    click.echo(f"\n{len(results)} notebooks in {seconds:.0f} s. Their records: {folder}/")
    registry = ModelRegistry()
    click.echo(f"fx verify {symbol} --deep: {registry.verify(symbol, deep=True).message}")
    click.echo(f"Which version served when, and why: fx history {symbol}")
    click.echo("The notebooks: jupyter lab. MLflow's own pages: fx ui.")
    champion = registry.get_production_model(registry.model_name(symbol))
    if champion:
        click.echo(f"The champion of {symbol} loads with plain MLflow: models:/{champion.name}@champion")
    else:
        click.echo(f"No version of {symbol} serves: none passed the policy in params.yaml.")

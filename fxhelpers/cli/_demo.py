"""``fx demo``: three models of one share through the whole lifecycle, each step a notebook with its record."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxhelpers.cli._project import find_notebook
from fxhelpers.cli._run import quick_imports
from fxhelpers.cli._show import print_frame, shown_path
from fxhelpers.errors import FxError

if TYPE_CHECKING:
    from fxhelpers.runs import RunResult

_MODELS = {
    "original": "ForesightX's own settings",
    "regularised": "strong regularization",
    "lighter": "lighter regularization",
}
_STEPS = {
    "train": "validation RMSE {rmse_over_zero:.3f} x forecasting zero",
    "evaluate": "test RMSE {rmse_over_zero:.3f} x forecasting zero",
    "register": "version {version}, {stage}",
    "compare": "{verdict}",
    "promote": "{verdict}, champion: {champion_after}",
}
"""Notebooks, and what to print of the summary of each."""


@click.command()
@click.option("--symbol", default="AAPL", show_default=True, help="Ticker that the price source knows.")
def demo(symbol: str) -> None:
    """Take three models of real prices through the whole lifecycle."""
    with quick_imports():
        import pandas as pd
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        import fxhelpers.runs  # noqa: F401 (the slowest import, which a Ctrl-C may not interrupt)
        from fxhelpers.records import promotion_label

    paths = [find_notebook(notebook) for notebook in _STEPS]  # all of them, before the first one runs
    console, rows, results = Console(), [], []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=len(_MODELS) * len(_STEPS))
        for model, words in _MODELS.items():
            for path in paths:
                progress.update(task, description=f"{path.stem} {model} ({words})")
                result = _run(symbol, model, path)
                summary = {key: "none" if value is None else value for key, value in (result.summary or {}).items()}
                label = promotion_label(result.summary or {})
                if not console.is_terminal:
                    line = _STEPS[path.stem].format(**summary)
                    click.echo(f"{path.stem:>9} {model}: {line}{f' ({label})' if label else ''}")
                verdict = ", ".join(filter(None, (summary.get("verdict"), label)))
                row = [f"{path.stem} {model}", summary.get("version"), verdict, f"{result.seconds:.1f}", result.record.name]
                rows.append([value or "-" for value in row])
                results.append((model, result))
                progress.advance(task)
        progress.update(task, description="done")
    print_frame(pd.DataFrame(rows, columns=["step", "version", "verdict", "seconds", "record"]), f"{symbol}: results")
    _explain(symbol, results)


def _run(symbol: str, model: str, path: Path) -> "RunResult":
    from fxhelpers.runs import run_notebook

    more: dict[str, dict[str, object]] = {"train": {"model": model}, "promote": {"apply": True}}
    result = run_notebook(path, {"symbol": symbol, **more.get(path.stem, {})})
    if result.error:
        msg = f"{path.stem} of {model} failed: {result.error}; its record: {shown_path(result.record)}"
        raise FxError(msg)
    return result


def _explain(symbol: str, results: list[tuple[str, "RunResult"]]) -> None:
    from fxhelpers.model_registry import ModelRegistry

    for model, result in results:
        if "reason" in (summary := result.summary or {}) and summary.get("notebook") == "promote":
            click.echo(f"{click.style(model, bold=True)}: {summary['reason']}")
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

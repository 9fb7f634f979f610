"""``fx run`` and ``fx rollback``: one notebook for one symbol, or for many as a batch."""

import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxhelpers.cli._project import find_notebook
from fxhelpers.cli._show import LINES, shown_path
from fxhelpers.display import shown

if TYPE_CHECKING:
    from fxhelpers.batch import Batch
    from fxhelpers.runs import RunResult


ALARM = 5  # exit status of ``fx watch`` if there is an alarm

REFUSED = 3  # exit status of ``fx run --require-promotion`` if the version is not promoted

STOPPED = 130  # exit status of a batch that Ctrl-C or SIGTERM ended


@click.command()
@click.argument("notebook")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter of the notebook. Repeat for more.",
)
@click.option(
    "--require-promotion",
    is_flag=True,
    help=f"Exit with {REFUSED} unless the version is champion, or the verdict (without apply) is to promote it.",
)
@click.option("--symbols", metavar="LIST", help="Run once per symbol, as one batch: AAPL,MSFT or @FILE or all.")
@click.option("--jobs", type=click.IntRange(1), help="Parallel runs (with --symbols).  [default: two per core]")
@click.option("--resume", is_flag=True, help="Skip symbols with a sealed record of the same inputs (with --symbols).")
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Run on the workers of this Dask scheduler, e.g. tcp://10.0.0.1:8786 (with --symbols).",
)
@click.option("--fdr", type=float, help="False discovery rate to control over all promotions (promote with --symbols).")
@click.option("--pooled", is_flag=True, help="Judge the recipe once, on all symbols (promote with --symbols).")
@click.option("--no-preload", is_flag=True, help="Start each kernel from scratch, which takes seconds (with --symbols).")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def run(notebook: str, parameters: tuple[tuple[str, str], ...], *, require_promotion: bool, quiet: bool, **batch: Any) -> None:  # noqa: ANN401 (options of a batch)
    """Run NOTEBOOK and keep its record.

    NOTEBOOK is a name (train, evaluate, register, compare, promote, …) or a path. --symbols runs it for many symbols.
    """
    if batch["symbols"] is not None:
        if require_promotion:
            msg = "--require-promotion is for a single symbol; the record of a batch lists which symbols were promoted"
            raise click.UsageError(msg)
        if batch["pooled"] and batch["fdr"] is not None:
            msg = "--pooled judges one recipe once for all symbols, --fdr adjusts a p of each: give one of them"
            raise click.UsageError(msg)
        _run_batch(notebook, parameters, quiet=quiet, **batch)
        return
    given = [f"--{name.replace('_', '-')}" for name, value in batch.items() if value]
    if given:
        msg = f"{', '.join(given)}: only together with --symbols"
        raise click.UsageError(msg)
    summary = _run(notebook, parameters, quiet=quiet)
    serves = summary.get("champion_after") is not None and summary.get("champion_after") == summary.get("version")
    would = summary.get("verdict") == "promote" and summary.get("result") == "only shown"
    if require_promotion and not serves and not would:
        raise SystemExit(REFUSED)


@click.command()
@click.argument("symbol")
@click.option("--reason", required=True, help="Why. It is kept in the ledger.")
@click.option("--version", type=click.IntRange(1), help="Version to serve.  [default: the previous champion]")
@click.option("--to", type=click.Choice(["none"]), help="none: leave the symbol without a champion.")
@click.option("--approved-by", default="", help="Who approved it.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def rollback(symbol: str, reason: str, version: int | None, to: str | None, approved_by: str, *, quiet: bool) -> None:
    """Make the previous champion of SYMBOL champion again.

    The decision and its record are kept. The same command once more undoes it.
    """
    if to and version:
        msg = "--to none leaves no version serving, --version names one: give only one of them"
        raise click.UsageError(msg)
    words = {"to": to or "", "reason": reason, "approved_by": approved_by}
    _run("rollback", {"symbol": symbol, "version": version or 0, "apply": True, **words}.items(), quiet=quiet)


def _symbols(given: tuple[str, ...]) -> list[str]:
    """Return the symbols on a command line: names, lists with commas, or one @FILE; none means all that have a champion."""
    if not given:
        return []
    from fxhelpers.batch import read_symbols
    from fxhelpers.params import load_params

    return read_symbols(",".join(given), [], load_params(), option="SYMBOLS")


@click.command()
@click.argument("symbols", nargs=-1)
@click.option(
    "--as-of", default="", metavar="DAY", help="Last session whose prices are used.  [default: the newest that has ended]"
)
@click.option("--accept-doubts", is_flag=True, help="Forecast on doubtful prices, too.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def forecast(symbols: tuple[str, ...], as_of: str, *, accept_doubts: bool, quiet: bool) -> None:
    """Forecast the next session, and put it on record.

    SYMBOLS are tickers, or @FILE with a list of them.  [default: all that have a champion]
    """
    parameters = {"symbols": _symbols(symbols), "as_of": as_of, "accept_doubts": accept_doubts, "apply": True}
    summary = _run("forecast", parameters.items(), quiet=quiet)
    if not summary.get("live", 0) + summary.get("late", 0):
        raise SystemExit(1)


@click.command()
@click.argument("symbols", nargs=-1)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def watch(symbols: tuple[str, ...], *, quiet: bool) -> None:
    """Look whether what serves is still better than forecasting zero.

    By its live forecasts; SYMBOLS are tickers, or @FILE.  [default: all that have a champion] Exits with 5 on an alarm.
    """
    summary = _run("watch", {"symbols": _symbols(symbols), "apply": True}.items(), quiet=quiet)
    if summary.get("alarm"):
        raise SystemExit(ALARM)


def _run_batch(
    notebook: str,
    pairs: Iterable[tuple[str, Any]],
    *,
    symbols: str,
    fdr: float | None,
    pooled: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    with quick_imports():
        if not (options["no_preload"] or options["cluster"]):
            from fxhelpers.kernels import start_preloading

            start_preloading()  # while this process imports, too
        from rich.console import Console

        from fxhelpers.batch import Batch, display, read_symbols, run_family, run_pooled
        from fxhelpers.params import load_params
        from fxhelpers.runs.parameters import unique_parameters

    params = load_params()
    parameters = unique_parameters(pairs, params.folder)
    jobs = options["jobs"] or 2 * (os.cpu_count() or 1)
    words = {"cluster": options["cluster"], "resume": options["resume"], "preloaded": not options["no_preload"]}
    batch = Batch(find_notebook(notebook), params, jobs=jobs, **words)
    notes: list[str] = []
    chosen = read_symbols(symbols, batch.reads, params, notes)
    if "symbol" in parameters:
        msg = "-p symbol: --symbols names the symbols already"
        raise click.UsageError(msg)
    parameters = batch.begin(chosen, parameters, fdr=fdr, notes=notes, **({"one_test": True} if pooled else {}))
    with display(Console(stderr=True), quiet=quiet) as begin:
        if pooled:
            outcomes = run_pooled(batch, chosen, parameters, begin)
        elif fdr is None:
            outcomes = batch.run(dict.fromkeys(chosen, parameters), begin(batch.kind, len(chosen)))
        else:
            outcomes = run_family(batch, chosen, parameters, fdr, lambda phase: begin(phase, len(chosen)))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    failed = [outcome for outcome in outcomes if outcome.error]
    click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs of {batch.kind} completed")
    for outcome in failed[:LINES]:
        click.echo(f"{outcome.symbol:>18}  {outcome.message}")
    portfolio = _end_batch(batch)
    if portfolio is None:
        again = shlex.join(["fx", *sys.argv[1:], *([] if options["resume"] else ["--resume"])])
        msg = f"stopped; runs that had started are recorded. To continue: {again} ({shown_path(batch.journal)})"
        click.echo(f"Error: {msg}", err=True)
        raise SystemExit(STOPPED)
    _print_result(portfolio)
    if failed or portfolio.error:
        raise click.ClickException(portfolio.error or f"{len(failed)} of {len(outcomes)} runs failed; see their records")


def _end_batch(batch: "Batch") -> "RunResult | None":
    """Sum up a batch that was not stopped, and send a message about it in any case."""
    from fxhelpers.batch import keep_portfolio, send_message

    portfolio = None
    try:
        portfolio = None if batch.stopped else keep_portfolio(batch)
    finally:
        for warning in send_message(batch, portfolio):
            click.echo(f"Warning: {warning}", err=True)
    return portfolio


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import quickly. A Ctrl-C waits until the imports are done: an exception in the middle of an import can get lost."""
    from fxhelpers.kernels.quick import without_address_grammar

    without_address_grammar()
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


def _run(notebook: str, pairs: Iterable[tuple[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """Run a notebook, print its summary and return it; a run that failed is an error."""
    with quick_imports():
        from fxhelpers.kernels import has_figures, start_preloading

        start_preloading(figures=has_figures(Path(notebook).stem))  # while this process imports, too
        from fxhelpers.runs import run_notebook
        from fxhelpers.runs.parameters import unique_parameters

    result = run_notebook(
        find_notebook(notebook), unique_parameters(pairs, Path.cwd()), progress=not quiet and sys.stderr.isatty(), preloaded=None
    )
    _print_result(result)
    if result.error:
        raise click.ClickException(result.error)
    return result.summary or {}


def _print_result(result: "RunResult") -> None:
    from fxhelpers.records import promotion_label, summary_rows

    summary = result.summary or {}
    label = {"label": mark.upper()} if (mark := promotion_label(summary)) else {}
    where = {"registry": result.registry or "none (mlflow.enabled is false)", "saved as": shown_path(result.record)}
    for key, value in {**label, **summary_rows(summary), **where}.items():
        click.echo(f"{key:>18}  {shown(value)}")

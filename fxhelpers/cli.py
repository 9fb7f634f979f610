"""``fx``: the commands."""

import json
import logging
import os
import shlex
import shutil
import signal
import sys
import webbrowser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fxhelpers.errors import FxError, ParamsError, RegistryError
from fxhelpers.kernels import start_preloading
from fxhelpers.results import shown

if TYPE_CHECKING:
    import pandas as pd

    from fxhelpers.ledger import ProductionPeriod
    from fxhelpers.params import Params
    from fxhelpers.runs.running import RunResult

REFUSED = 3
"""Exit status of ``fx run --require-promotion`` where the verdict is another."""

_SHOWN = 50

STOPPED = 130
"""Exit status of a batch that Ctrl-C or SIGTERM ended."""

PROBLEMS = 4
"""Exit status of ``fx verify`` where something does not fit."""


class _Command(click.Command):
    """A command that takes each option once: neither of two values is known to be the one that was meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option that is given twice."""
        for option in (given := self.make_parser(ctx).parse_args(list(args))[2]):
            if isinstance(option, click.Option) and not (option.multiple or option.is_flag) and given.count(option) > 1:
                ctx.fail(f"{option.opts[-1]} is given twice; give it once. Nothing was run.")
        return super().parse_args(ctx, args)


class _Group(click.Group):
    """Commands that report no usage, and whose expected errors are one line, not a traceback."""

    command_class = _Command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        from fxhelpers.params import NO_TELEMETRY
        from fxhelpers.processes import provide_home

        os.environ.update(NO_TELEMETRY)
        provide_home()
        try:
            return super().invoke(ctx)
        except FxError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:  # of the machine: a full disk, a folder of somebody else's
            where = f"{error.filename}: " if error.filename else ""
            msg = f"{where}{error.strerror or error}; what was written before is there"
            raise click.ClickException(msg) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fxhelpers")
def cli() -> None:
    """Register, compare and promote stock-return models; every step is a notebook, and its execution the record."""


@cli.command()
@click.argument("notebook")
@click.option(
    "-p", "--parameter", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter of the notebook."
)
@click.option(
    "--require-promotion", is_flag=True, help=f"Exit with {REFUSED} unless the version is champion, or the verdict is to make it."
)
@click.option("--symbols", metavar="LIST", help="Run it for each of AAPL,MSFT or @file or all, as one batch.")
@click.option("--jobs", type=click.IntRange(1), help="Of a batch: how many run at once.  [default: two for each core]")
@click.option("--resume", is_flag=True, help="Of a batch: run only what has no sealed record of the same inputs.")
@click.option(
    "--cluster", metavar="ADDRESS", help="Of a batch: a Dask scheduler, whose workers run it, such as tcp://10.0.0.1:8786."
)
@click.option("--fdr", type=float, help="Of a batch of promote: the share of its promotions that may be expected to be false.")
@click.option("--no-preload", is_flag=True, help="Of a batch: start each kernel as a single run does, which takes seconds.")
@click.option("--quiet", is_flag=True, help="No progress display.")
def run(notebook: str, parameters: tuple[tuple[str, str], ...], *, require_promotion: bool, quiet: bool, **batch: Any) -> None:  # noqa: ANN401 (options of a batch)
    """Run NOTEBOOK (train, register, promote, …, or a path) and keep its record; with --symbols for many symbols at once."""
    if batch["symbols"] is not None:
        if require_promotion:
            msg = "--require-promotion is for a single symbol; the batch's record tells which were promoted"
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


@cli.command()
@click.argument("symbol")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@click.option("--version", type=click.IntRange(1), help="Another version than the previous champion.")
@click.option("--to", type=click.Choice(["none"]), help="none: no version serves afterwards.")
@click.option("--approved-by", default="", help="Who agreed.")
@click.option("--quiet", is_flag=True, help="No progress display.")
def rollback(symbol: str, reason: str, version: int | None, to: str | None, approved_by: str, *, quiet: bool) -> None:
    """Make the previous champion of SYMBOL the champion again, and keep the record; the same again undoes it."""
    if to and version:
        msg = "--to none and --version: no version serves, or this one; choose"
        raise click.UsageError(msg)
    words = {"to": to or "", "reason": reason, "approved_by": approved_by}
    _run("rollback", {"symbol": symbol, "version": version or 0, "apply": True, **words}.items(), quiet=quiet)


@cli.command()
@click.argument("symbol")
@click.option(
    "--at",
    metavar="WHEN",
    help="Who was in Production on that day (2026-11-23) or at that moment (2026-11-23T03:00, or with a zone …03:00+01:00).",
)
@click.option("--json", "form", flag_value="json", help="All of it, with every entry.")
@click.option("--csv", "form", flag_value="csv", help="The decisions, or who was in Production.")
def history(symbol: str, at: str | None, form: str | None) -> None:
    """Tell which version of SYMBOL was in Production when, who decided it and why."""
    from fxhelpers.model_registry import ModelRegistry

    registry = ModelRegistry()
    told = registry.history(symbol)
    for doubt in told.doubts:
        click.echo(f"Warning: {doubt}", err=True)
    if at is not None:
        _print_periods(told.at(at), at, form)
    elif form:
        click.echo(told.to_json() if form == "json" else told.to_csv(), nl=form == "json")
    else:
        for frame, title in ((told.production_periods(), "in Production"), (told.to_frame(), "decisions")):
            more = f", the last {_SHOWN} of {len(frame)} (--csv and --json have all)" if len(frame) > _SHOWN else ""
            _print_frame(frame.tail(_SHOWN), f"{symbol}: {title}{more}")
        _say_registry(registry.params)


@cli.command()
@click.argument("symbol", required=False)
@click.option("--deep", is_flag=True, help="Also read stored forecasts, copies of records and the files of every version.")
@click.option("--repair", is_flag=True, help="First mend what is safe: stages, a missing alias, interrupted decisions.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(symbol: str | None, *, deep: bool, repair: bool, as_json: bool) -> None:
    """Check registry, ledger and records of SYMBOL, or of all, against each other; exits with 4 where there is a problem."""
    from fxhelpers.model_registry import ModelRegistry

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    registry = ModelRegistry()
    found = registry.verify(symbol, deep=deep, repair=repair)
    if as_json:
        click.echo(found.to_json())
    else:
        for finding in found.findings:
            about = f" [{finding.decision}]" if finding.decision else ""
            click.echo(f"{finding.level.upper()}  {finding.model}{about}: {finding.message}.\n    What to do: {finding.remedy}.")
        click.echo(found.message)
        _say_registry(registry.params)
    if found.problems:
        raise SystemExit(PROBLEMS)


@cli.command()
@click.argument("symbol", required=False)
@click.option("--no-open", is_flag=True, help="Only say where the page is.")
def records(symbol: str | None, *, no_open: bool) -> None:
    """Verify everything, write the gallery of all records anew and open it in a browser, at SYMBOL."""
    from fxhelpers.foresightx import bundled_symbols
    from fxhelpers.params import MODEL_PREFIX, load_params, nearest
    from fxhelpers.prices import known_symbols
    from fxhelpers.reports import end_records, rebuild_gallery
    from fxhelpers.reports.report import write_missing_reports

    params = load_params()
    end_records(params.paths.records)
    made = write_missing_reports(params.paths.records)
    if made:
        click.echo(f"{made} reports were missing and are made", err=True)
    page = rebuild_gallery(params.paths.records)
    from fxhelpers.model_registry import ModelRegistry

    try:
        found = ModelRegistry().verify()
        click.echo(found.message)
        _say_registry(params)
        if symbol:
            known = {model.removeprefix(MODEL_PREFIX) for model in found.models}
            known.update(bundled_symbols(params.paths), known_symbols(params.prices) or ())
            if symbol not in known:
                msg = (
                    f"no symbol {symbol!r}{nearest(symbol, known, most=3)}: neither the registry, {params.mlflow.tracking_uri}, "
                    f"nor a bundle nor prices.source: {params.prices.source} has it; {shown_path(page)} has all records"
                )
                raise ParamsError(msg)
    except RegistryError as error:
        click.echo(f"Warning: the page shows what was known before: {error}", err=True)
    click.echo(shown_path(page))
    if not no_open and not _open(page.as_uri() + (f"#symbol={quote(symbol)}" if symbol else "")):
        click.echo("Warning: no browser could be started; open this page yourself", err=True)


@cli.command()
@click.option("--symbol", default="AAPL", show_default=True, help="Ticker of the price source.")
def demo(symbol: str) -> None:
    """Take three models of real prices through the whole lifecycle."""
    from fxhelpers.demo import run_demo

    run_demo(symbol)


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open MLflow's own pages on the registry."""
    from fxhelpers.params import load_params

    params = load_params()
    if params.is_server:
        click.echo(f"The registry is a server: open {params.mlflow.tracking_uri}")
        return
    from fxhelpers.registry import RegistryClient

    _ = RegistryClient(params).experiment_id  # makes the database, so that the first look is not an error
    click.echo(f"MLflow on http://127.0.0.1:{port}, over {params.mlflow.tracking_uri} (Ctrl-C ends it)", err=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = params.registry_uri  # an argument would show a password to whoever types ps
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 (no shell, our own interpreter)


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5000,
    show_default=True,
    help="Port on this machine's loopback; 0: any that is free.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="For database, files and log.  [default: outputs/server]")
@click.option("--database", default="", envvar="FX_SERVER_DATABASE", help="URI of a PostgreSQL; by default one from a wheel.")
@click.option("--artifacts", default="", help="Where files go, such as s3://bucket/path.  [default: the folder]")
def server(port: int, folder: Path | None, database: str, artifacts: str) -> None:
    """Run a registry for a team: MLflow's server over PostgreSQL, on this machine's loopback."""
    from fxhelpers.params import load_params
    from fxhelpers.server import serve

    serve(folder or load_params().folder / "outputs" / "server", port=port, database=database, artifacts=artifacts)


def _run_batch(
    notebook: str,
    pairs: Iterable[tuple[str, Any]],
    *,
    symbols: str,
    fdr: float | None,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Run a notebook for many symbols, keep the record of all of it, and say how it ended."""
    with _quick_imports():
        if not (options["no_preload"] or options["cluster"]):
            start_preloading()  # while this process imports, too
        from rich.console import Console

        from fxhelpers.batch import Batch, Display, keep_portfolio, read_symbols, run_family
        from fxhelpers.params import load_params
        from fxhelpers.runs.parameters import given_once

    params = load_params()
    parameters = given_once(pairs, params.folder)
    jobs = options["jobs"] or 2 * (os.cpu_count() or 1)
    words = {"cluster": options["cluster"], "resume": options["resume"], "preloaded": not options["no_preload"]}
    batch = Batch(find_notebook(notebook), params, jobs=jobs, **words)
    notes: list[str] = []
    chosen = read_symbols(symbols, batch.reads, params, notes)
    if "symbol" in parameters:
        msg = "-p symbol: --symbols names the symbols already"
        raise click.UsageError(msg)
    parameters = batch.begin(chosen, parameters, fdr=fdr, notes=notes)
    console = Console(stderr=True)
    with Display(console, quiet=quiet) as display:
        if fdr is None:
            outcomes = batch.run(dict.fromkeys(chosen, parameters), display.phase(batch.kind, len(chosen)))
        else:
            outcomes = run_family(batch, chosen, parameters, fdr, lambda phase: display.phase(phase, len(chosen)))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    failed = [outcome for outcome in outcomes if outcome.error]
    click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs of {batch.kind} completed")
    for outcome in failed[:_SHOWN]:
        click.echo(f"{outcome.symbol:>18}  {outcome.told}")
    if batch.stopped:
        again = shlex.join(["fx", *sys.argv[1:], *([] if options["resume"] else ["--resume"])])
        msg = f"stopped; what had begun is recorded, and this goes on: {again} ({shown_path(batch.journal)})"
        click.echo(f"Error: {msg}", err=True)
        raise SystemExit(STOPPED)
    portfolio = keep_portfolio(batch)
    _tell(portfolio)
    if failed or portfolio.error:
        raise click.ClickException(portfolio.error or f"{len(failed)} of {len(outcomes)} runs failed; their records say why")


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Import without a grammar of addresses that jsonschema takes a second to build, for a check that no notebook needs.

    A Ctrl-C waits until that is done: an exception in the middle of an import
    can get lost.
    """
    from fxhelpers.processes import gc_paused

    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # this is how Python is told that it is not there
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
    try:
        with gc_paused():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _run(notebook: str, pairs: Iterable[tuple[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """Run a notebook, print its summary and return it; one that failed is an error."""
    with _quick_imports():
        from fxhelpers.runs.parameters import given_once
        from fxhelpers.runs.running import run_notebook

    path = find_notebook(notebook)
    result = run_notebook(path, given_once(pairs, Path.cwd()), progress=not quiet and sys.stderr.isatty())
    _tell(result)
    if result.error:
        raise click.ClickException(result.error)
    return result.summary or {}


def _tell(result: "RunResult") -> None:
    """Print what a notebook's summary says, for which registry it ran, and where its record is."""
    from fxhelpers.records import promotion_label, summary_rows

    told = result.summary or {}
    label = {"label": mark.upper()} if (mark := promotion_label(told)) else {}
    where = {"registry": result.registry or "none (mlflow.enabled is false)", "saved as": shown_path(result.record)}
    for key, value in {**label, **summary_rows(told), **where}.items():
        click.echo(f"{key:>18}  {shown(value)}")


def _open(address: str) -> bool:
    """Open a page in the browser that BROWSER names, or that the system prefers; tell whether one was started.

    click's own launcher makes a file's name of the address, and what follows
    its # a part of that.
    """
    opener = shutil.which("xdg-open")  # which the module leaves out where it sees no display
    return webbrowser.open(address) or bool(opener and webbrowser.get(f"{opener} %s &").open(address))


def _say_registry(params: "Params") -> None:
    """Say which registry was asked, where it disturbs no program that reads the answer."""
    click.echo(f"Registry: {params.mlflow.tracking_uri}", err=True)


def _print_periods(production_periods: list["ProductionPeriod"], at: str, form: str | None) -> None:
    from fxhelpers.ledger import labels

    if form == "json":
        click.echo(json.dumps([dict(period) for period in production_periods], indent=2))
        return
    if form == "csv":
        click.echo("version,since,until,decision,bundle")
        for period in production_periods:
            click.echo(f"{period.version},{period.since},{period.until or ''},{period.decision or ''},{period.bundle or ''}")
        return
    known = labels(version for version in (period.identity() for period in production_periods) if version)
    for version, period in ((period.identity(), period) for period in production_periods):
        began = f"by {period.decision}" if period.decision else "without a decision"
        began += f", {period.mark}" if period.mark else ""
        who = known[version] if version else "no version"
        click.echo(f"{who}, from {period.since} to {period.until or 'now'}, put there {began}")
    if not production_periods:
        click.echo(f"no version was in Production at {at}")


def _print_frame(frame: "pd.DataFrame", title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in frame.columns:
        table.add_column(str(column), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    console.print(table)


def find_notebook(name: str) -> Path:
    """Return the path of a notebook: a path, or the name of one in the project's ``notebooks/``."""
    from fxhelpers.params import load_params, nearest

    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name)
    projects = [load_params().folder, Path.cwd(), *Path.cwd().parents]
    folder = next((p / "notebooks" for p in projects if (p / "notebooks").is_dir()), projects[0] / "notebooks")
    known = sorted(path.stem for path in folder.glob("*.ipynb"))
    if name in known:
        return folder / f"{name}.ipynb"
    msg = f"no notebook {name!r}{nearest(name, known)}; in {folder} there are {', '.join(known) or 'none'}"
    raise ParamsError(msg)


def shown_path(path: Path) -> str:
    """Return a path as seen from the current folder, where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> None:
    """Run ``fx``."""
    cli()

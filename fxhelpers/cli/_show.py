"""Commands that only read: ``fx history``, ``versions``, ``status``, ``verify`` and ``records``."""

import json
import logging
import shutil
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fxhelpers.display import shown
from fxhelpers.errors import ParamsError, RegistryError, VersionNotFoundError

if TYPE_CHECKING:
    import pandas as pd

    from fxhelpers.ledger import ProductionPeriod
    from fxhelpers.model_registry import ModelRegistry
    from fxhelpers.params import Params
    from fxhelpers.registry import ModelVersion

PROBLEMS = 4  # exit status of ``fx verify`` if it found a problem

LINES = 50  # most rows that a table in the terminal has


def _form(*, csv: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options ``--json`` and ``--csv``, as one argument named ``form``."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        as_json = click.option("--json", "form", flag_value="json", help="Print everything as JSON.")
        return as_json(click.option("--csv", "form", flag_value="csv", help=csv)(command))

    return add


@click.command()
@click.argument("symbol")
@click.option(
    "--at",
    metavar="WHEN",
    help="Which version was in Production on a day (2026-11-23) or at a moment (2026-11-23T03:00, with a zone …03:00+01:00).",
)
@_form(csv="Print the decisions as CSV; with --at, the production periods.")
def history(symbol: str, at: str | None, form: str | None) -> None:
    """Show which version was in Production when, who decided, and why."""
    from fxhelpers.audit.history import shortened
    from fxhelpers.model_registry import ModelRegistry

    registry = ModelRegistry()
    found = registry.history(symbol)
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if at is not None:
        _print_periods(found.at(at), at, form)
    elif form:
        click.echo(found.to_json() if form == "json" else found.to_csv(), nl=form == "json")
    else:
        print_frame(found.production_periods(), f"{symbol}: in Production")
        decisions = found.to_frame()
        decisions["reason"] = decisions["reason"].map(shortened)
        print_frame(decisions.loc[:, (decisions != "").any()], f"{symbol}: decisions")
        _print_registry(registry.params)


@click.command()
@click.argument("symbol")
@_form(csv="Print the versions as CSV.")
def versions(symbol: str, form: str | None) -> None:
    """List the versions of SYMBOL, with stage, alias, model and RMSE."""
    import pandas as pd

    from fxhelpers.model_registry import ModelRegistry
    from fxhelpers.registry.ledger_store import read_ledger
    from fxhelpers.registry.storage import unknown_model

    registry = ModelRegistry()
    name = registry.model_name(symbol)
    found = registry.get_model_versions(name)[::-1]
    if not found:
        raise unknown_model(registry.client, name)
    challenger = registry.client.challenger(name)
    known = read_ledger(registry.client, name).registrations
    rows = []
    for version in found if form else found[-LINES:]:
        number = version.version
        champion = "champion" if version.stage == "Production" else ""
        alias = champion or ("challenger" if challenger and challenger.version == number else "")
        actors = [decision.actor for decision in known.get(number, ()) if decision.identity(number).may_be(version.identity)]
        rows.append(
            {
                "version": number,
                "stage": version.stage,
                "alias": alias,
                "registered": f"{version.created:%Y-%m-%dT%H:%M:%SZ}",
                "by": actors[0] if actors else None,
                **_measured(registry, version),
            }
        )
    frame = pd.DataFrame(rows, dtype=object)
    if form:
        _print_form(frame, form)
    else:
        print_frame(_for_people(frame, "registered"), f"{name}: versions", more=len(found) - len(frame))
        _print_registry(registry.params)


@click.command()
@click.option("--json", "form", flag_value="json", help="Print everything as JSON.")
def status(form: str | None) -> None:
    """List all symbols: which version serves, since when, and why."""
    from fxhelpers.model_registry import ModelRegistry

    registry = ModelRegistry()
    frame = registry.overview().status_frame()
    if form:
        _print_form(frame, form)
    elif frame.empty:
        uri = registry.params.mlflow.tracking_uri
        click.echo(f"No model is registered at {uri} yet. Start with fx demo, or with fx run train -p symbol AAPL.")
    else:
        frame["version"] = ["none" if version is None else version for version in frame["version"]]
        empty = [name for name in ("watch", "warning") if not frame[name].any()]
        frame = frame.drop(columns=["model", *empty])
        print_frame(_for_people(frame, "since"), f"{len(frame)} symbol{'s' * (len(frame) > 1)}", most=len(frame))
        _print_registry(registry.params)


@click.command()
@click.argument("symbol", required=False)
@click.option("--deep", is_flag=True, help="Also check stored forecasts, copies of records, and the files of every version.")
@click.option("--repair", is_flag=True, help="First repair what is safe: stages, a missing alias, interrupted decisions.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(symbol: str | None, *, deep: bool, repair: bool, as_json: bool) -> None:
    """Check registry, ledger and records against each other.

    Checks SYMBOL, or everything. Exits with 4 if there is a problem.
    """
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
        _print_registry(registry.params)
    if found.problems:
        raise SystemExit(PROBLEMS)


@click.command()
@click.argument("symbol", required=False)
@click.option("--no-open", is_flag=True, help="Print where the page is, and open no browser.")
def records(symbol: str | None, *, no_open: bool) -> None:
    """Open the gallery of all records in a browser, at SYMBOL.

    Verifies everything and rebuilds the page first.
    """
    from fxhelpers.model_registry import ModelRegistry
    from fxhelpers.params import load_params
    from fxhelpers.reports import end_records, rebuild_gallery
    from fxhelpers.reports.report import write_missing_reports

    params = load_params()
    end_records(params.paths.records)
    made = write_missing_reports(params.paths.records)
    if made:
        click.echo(f"{made} missing reports were written", err=True)
    page = rebuild_gallery(params.paths.records)
    try:
        found = ModelRegistry().verify()
        click.echo(found.message)
        _print_registry(params)
        if symbol:
            _check_symbol(symbol, found.models, params, page)
    except RegistryError as error:
        click.echo(f"Warning: the page shows the last known state: {error}", err=True)
    click.echo(shown_path(page))
    if not no_open and not _open(page.as_uri() + (f"#symbol={quote(symbol)}" if symbol else "")):
        click.echo("Warning: no browser could be started; open this page yourself", err=True)


def _check_symbol(symbol: str, models: tuple[str, ...], params: "Params", page: Path) -> None:
    """Raise :class:`ParamsError` for a symbol that neither the registry nor a bundle nor the price source has."""
    from fxhelpers.foresightx import bundled_symbols
    from fxhelpers.params import MODEL_PREFIX, nearest
    from fxhelpers.prices import known_symbols

    known = {model.removeprefix(MODEL_PREFIX) for model in models}
    known.update(bundled_symbols(params.paths), known_symbols(params.prices) or ())
    if symbol not in known:
        msg = (
            f"no symbol {symbol!r}{nearest(symbol, known, most=3)}: it is not in the registry, {params.mlflow.tracking_uri}, has "
            f"no bundle and is not in prices.source: {params.prices.source}; {shown_path(page)} has all records"
        )
        raise ParamsError(msg)


def _measured(registry: "ModelRegistry", version: "ModelVersion") -> dict[str, Any]:
    """Return the model of a version and its RMSE, as its MLflow run has them; None if they are not known."""
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    # plain MLflow makes versions without a run, and can delete a run for good
    with suppress(VersionNotFoundError), registry.client.session("read the run of a version of", version.name) as client:
        if version.run_id:
            params, metrics = (data := client.get_run(version.run_id).data).params, data.metrics
    model = params.get("config_model") or params.get("model_type")
    return {"model": model, "validation_rmse": metrics.get("val_rmse"), "test_rmse": metrics.get("test_rmse")}


def _open(address: str) -> bool:
    """Open a page, and return whether a browser started; click's launcher takes what follows a # for part of the file name."""
    opener = shutil.which("xdg-open")  # which the module leaves out if it sees no display
    return webbrowser.open(address) or bool(opener and webbrowser.get(f"{opener} %s &").open(address))


def _print_registry(params: "Params") -> None:
    """Name the registry on standard error, where it disturbs no program that reads the output."""
    click.echo(f"Registry: {params.mlflow.tracking_uri}", err=True)


def _print_periods(periods: list["ProductionPeriod"], at: str, form: str | None) -> None:
    from fxhelpers.ledger import labels

    if form == "json":
        click.echo(json.dumps([dict(period) for period in periods], indent=2))
        return
    if form == "csv":
        click.echo("version,since,until,decision,bundle")
        for p in periods:
            click.echo(f"{p.version},{p.since},{p.until or ''},{p.decision or ''},{p.bundle or ''}")
        return
    known = labels(version for version in (period.identity() for period in periods) if version)
    for version, period in ((period.identity(), period) for period in periods):
        by = f"put there by {period.decision}" if period.decision else "put there without a decision"
        label = f", {period.mark}" if period.mark else ""
        click.echo(f"{known[version] if version else 'no version'}, from {period.since} to {period.until or 'now'}, {by}{label}")
    if not periods:
        click.echo(f"no version was in Production at {at}")


def _print_form(frame: "pd.DataFrame", form: str) -> None:
    """Print a frame for programs; what is not known is null, or nothing between two commas."""
    click.echo(
        frame.to_json(orient="records", indent=2, double_precision=15) if form == "json" else frame.to_csv(index=False),
        nl=form == "json",
    )


def _for_people(frame: "pd.DataFrame", time: str) -> "pd.DataFrame":
    frame[time] = frame[time].str[:16].str.replace("T", " ")
    frame = frame.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    names = {name: name.replace("validation", "val.").replace("_", " ").replace("rmse", "RMSE") for name in frame.columns}
    return frame.rename(columns={**names, time: f"{time} (UTC)"})


def print_frame(frame: "pd.DataFrame", title: str, *, most: int = LINES, more: int = 0) -> None:
    """Print the last rows of a frame as a table; ``more`` rows were left out before."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    count = len(frame) + more
    title += f", the last {min(most, len(frame))} of {count} (--csv and --json print all)" if count > most else ""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in frame.columns:
        table.add_column(str(column), overflow="fold")
    for row in frame.tail(most).itertuples(index=False):
        table.add_row(*map(shown, row))
    console.print(table)


def shown_path(path: Path) -> str:
    """Return a path relative to the current folder if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

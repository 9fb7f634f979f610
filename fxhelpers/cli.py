"""``fx``: the commands."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxhelpers.errors import FxError, ParamsError

if TYPE_CHECKING:
    import pandas as pd

    from fxhelpers.ledger import Reign

REFUSED = 3
"""Exit status of ``fx run --require-promotion`` where the verdict is another."""

_SHOWN = 50

PROBLEMS = 4
"""Exit status of ``fx verify`` where something does not fit."""


class _Group(click.Group):
    """Commands that report no usage, and whose expected errors are one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        from fxhelpers.params import NO_TELEMETRY

        os.environ.update(NO_TELEMETRY)
        try:
            return super().invoke(ctx)
        except FxError as error:
            raise click.ClickException(str(error)) from error


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
@click.option("--quiet", is_flag=True, help="No progress display.")
def run(notebook: str, parameters: tuple[tuple[str, str], ...], *, require_promotion: bool, quiet: bool) -> None:
    """Run NOTEBOOK (train, register, promote, …, or a path) and keep its record."""
    summary = _run(notebook, dict(parameters), quiet=quiet)
    serves = summary.get("champion_after") is not None and summary.get("champion_after") == summary.get("version")
    would = summary.get("verdict") == "promote" and summary.get("result") == "only shown"
    if require_promotion and not serves and not would:
        raise SystemExit(REFUSED)


@cli.command()
@click.argument("symbol")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@click.option("--version", default=0, help="Another version than the previous champion.")
@click.option("--approved-by", default="", help="Who agreed.")
@click.option("--quiet", is_flag=True, help="No progress display.")
def rollback(symbol: str, reason: str, version: int, approved_by: str, *, quiet: bool) -> None:
    """Make the previous champion of SYMBOL the champion again, and keep the record; the same again undoes it."""
    words = {"reason": reason, "approved_by": approved_by}
    _run("rollback", {"symbol": symbol, "version": version, "apply": True, **words}, quiet=quiet)


@cli.command()
@click.argument("symbol")
@click.option(
    "--at", metavar="WHEN", help="Who was in Production on that day (2026-11-23) or at that moment (2026-11-23T03:00), UTC."
)
@click.option("--json", "form", flag_value="json", help="All of it, with every entry.")
@click.option("--csv", "form", flag_value="csv", help="The decisions, or who was in Production.")
def history(symbol: str, at: str | None, form: str | None) -> None:
    """Tell which version of SYMBOL was in Production when, who decided it and why."""
    from fxhelpers.model_registry import ModelRegistry

    told = ModelRegistry().history(symbol)
    for doubt in told.doubts:
        click.echo(f"Warning: {doubt}", err=True)
    if at is not None:
        _tell_reigns(told.at(at), at, form)
    elif form:
        click.echo(told.to_json() if form == "json" else told.to_csv(), nl=form == "json")
    else:
        for frame, title in ((told.reigns(), "in Production"), (told.to_frame(), "decisions")):
            more = f", the last {_SHOWN} of {len(frame)} (--csv and --json have all)" if len(frame) > _SHOWN else ""
            _print_frame(frame.tail(_SHOWN), f"{symbol}: {title}{more}")


@cli.command()
@click.argument("symbol", required=False)
@click.option("--deep", is_flag=True, help="Also read stored forecasts, copies of records and the files of every version.")
@click.option("--repair", is_flag=True, help="First mend what is safe: stages, a missing alias, interrupted decisions.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(symbol: str | None, *, deep: bool, repair: bool, as_json: bool) -> None:
    """Check registry, ledger and records of SYMBOL, or of all, against each other; exits with 4 where there is a problem."""
    from fxhelpers.model_registry import ModelRegistry

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    found = ModelRegistry().verify(symbol, deep=deep, repair=repair)
    if as_json:
        click.echo(found.to_json())
    else:
        for finding in found.findings:
            about = f" [{finding.decision}]" if finding.decision else ""
            click.echo(f"{finding.level.upper()}  {finding.model}{about}: {finding.what}.\n    What to do: {finding.do}.")
        click.echo(found.said)
    if found.problems:
        raise SystemExit(PROBLEMS)


@cli.command()
@click.option("--symbol", default="AAPL", show_default=True, help="Ticker of the price source.")
def demo(symbol: str) -> None:
    """Take three models of real prices through the whole lifecycle."""
    from fxhelpers.demo import run_demo

    run_demo(symbol)


@cli.command()
@click.option("--port", default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open MLflow's own pages on the registry."""
    from fxhelpers.params import load_params

    params = load_params()
    if params.mlflow.tracking_uri.startswith(("http://", "https://")):
        click.echo(f"The registry is a server: open {params.mlflow.tracking_uri}")
        return
    from fxhelpers.registry import RegistryClient

    _ = RegistryClient(params).experiment_id  # makes the database, so that the first look is not an error
    click.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", err=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = params.registry_uri  # an argument would show a password to whoever types ps
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 (no shell, our own interpreter)


@cli.command()
@click.option("--port", default=5000, show_default=True, help="Port on this machine's loopback; 0: any that is free.")
@click.option("--folder", type=click.Path(path_type=Path), help="For database, files and log.  [default: outputs/server]")
@click.option("--database", default="", envvar="FX_SERVER_DATABASE", help="URI of a PostgreSQL; by default one from a wheel.")
@click.option("--artifacts", default="", help="Where files go, such as s3://bucket/path.  [default: the folder]")
def server(port: int, folder: Path | None, database: str, artifacts: str) -> None:
    """Run a registry for a team: MLflow's server over PostgreSQL, on this machine's loopback."""
    from fxhelpers.params import load_params
    from fxhelpers.server import serve

    serve(folder or load_params().folder / "outputs" / "server", port=port, database=database, artifacts=artifacts)


def _run(notebook: str, parameters: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Run a notebook, print its summary and return it; one that failed is an error."""
    from fxhelpers.engine import run_notebook
    from fxhelpers.results import shown

    result = run_notebook(find_notebook(notebook), parameters, progress=not quiet and sys.stderr.isatty())
    for key, value in (result.summary or {}).items():
        click.echo(f"{key.replace('_', ' '):>18}  {shown(value)}")
    click.echo(f"{'saved as':>18}  {shown_path(result.record)}")
    if result.error:
        raise click.ClickException(result.error)
    return result.summary or {}


def _tell_reigns(reigns: list["Reign"], at: str, form: str | None) -> None:
    if form == "json":
        click.echo(json.dumps([dict(reign) for reign in reigns], indent=2))
        return
    if form == "csv":
        click.echo("version,since,until,decision")
        for reign in reigns:
            click.echo(f"{reign.version},{reign.since},{reign.until or ''},{reign.decision or ''}")
        return
    for reign in reigns:
        began = f"by {reign.decision}" if reign.decision else "without a decision"
        click.echo(f"version {reign.version}, from {reign.since} to {reign.until or 'now'}, put there {began}")
    if not reigns:
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
    """Return the path of a notebook: a path, or the name of one in the project's ``notebooks/``.

    Parameters
    ----------
    name : str
        Such as ``register`` or ``notebooks/register.ipynb``.

    Returns
    -------
    Path

    Raises
    ------
    ParamsError
        There is none; the message lists what there is.
    """
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

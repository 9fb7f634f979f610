"""``fx``: the commands."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from fxhelpers.errors import FxError, ParamsError

REFUSED = 3
"""Exit status of ``fx run --require-promotion`` where the verdict is another."""


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
    """Run NOTEBOOK (train, evaluate, register, compare, promote, or a path) and keep its record."""
    from fxhelpers.engine import run_notebook
    from fxhelpers.results import shown

    result = run_notebook(find_notebook(notebook), dict(parameters), progress=not quiet and sys.stderr.isatty())
    summary = result.summary or {}
    for key, value in summary.items():
        click.echo(f"{key.replace('_', ' '):>18}  {shown(value)}")
    click.echo(f"{'saved as':>18}  {shown_path(result.record)}")
    if result.error:
        raise click.ClickException(result.error)
    serves = summary.get("champion_after") is not None and summary.get("champion_after") == summary.get("version")
    if require_promotion and not serves and summary.get("verdict") != "promote":
        raise SystemExit(REFUSED)


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

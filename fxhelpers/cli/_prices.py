"""``fx prices``: read and check the prices of one share, without a notebook."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxhelpers.errors import ParamsError

if TYPE_CHECKING:
    from fxhelpers.params import PricesParams
    from fxhelpers.prices import SharePrices

REFUSED = 1  # exit status if the prices would be refused


@click.command()
@click.argument("symbol")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def prices(symbol: str, file: Path | None, *, as_json: bool) -> None:
    """Read and check the prices of SYMBOL.

    They come from the source in params.yaml, or from FILE. Shows how they were read, what is wrong or doubtful, the first and
    last rows, and the largest moves. Exits with 1 if they would be refused.
    """
    from fxhelpers.prices import examine_prices, largest_moves

    found = examine_prices(symbol, _settings(file), file)
    if as_json:
        moves = largest_moves(found).reset_index(names="day").to_dict(orient="records")
        click.echo(json.dumps({**found.to_json(), "largest_moves": moves}, indent=2, allow_nan=False))
    else:
        _print(found)
    if found.refused or found.too_few:
        raise SystemExit(REFUSED)


def _settings(file: Path | None) -> "PricesParams":
    """Return the settings of the project; those of an empty params.yaml for a file outside of any."""
    from fxhelpers.params import PricesParams, find_params_file, load_params

    try:
        project = find_params_file()
    except ParamsError:
        if file is None:
            raise
        return PricesParams()
    return load_params(project).prices


def _print(found: "SharePrices") -> None:
    from fxhelpers.cli._show import print_frame
    from fxhelpers.prices import describe_prices, largest_moves

    for name, value in describe_prices(found)["prices"].items():
        if not str(name).startswith(("refused", "doubtful", "note")):
            click.echo(f"{name:<20}{value}")
    for finding in found.findings:
        click.echo(f"{finding.severity.upper():<20}{finding.message}")
    if len(found.frame) > 1:
        frame = found.frame.rename_axis("Date").reset_index()
        frame["Date"] = frame["Date"].dt.strftime("%Y-%m-%d")
        for column in frame.columns[1:]:
            frame[column] = frame[column].map("{:,.0f}".format if column == "Volume" else "{:.6g}".format)
        print_frame(frame.head(3), "First rows, as they are used")
        print_frame(frame.tail(3), "Last rows, as they are used")
        print_frame(largest_moves(found).reset_index(names="day"), "Largest moves of the close")
    if found.refused:
        click.echo(f"REFUSED: {found.symbol} cannot be used with these prices.")
    elif found.too_few:
        click.echo(f"TOO FEW: {found.too_few}")
    elif found.doubts:
        click.echo(f"Usable, with {len(found.doubts)} doubt{'s' * (len(found.doubts) > 1)} (see above).")
    else:
        click.echo("OK, nothing doubtful.")

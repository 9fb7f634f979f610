"""One evening of many symbols: `fx forecast`, in seconds and in memory."""

import sys
from functools import partial
from pathlib import Path
from statistics import median

import pandas as pd

from benchmarks.measuring import Cost, Row, interleaved, progress, run_command, shown, spread
from benchmarks.projects import many_champions
from fxhelpers import load_prices
from fxhelpers.params import load_params

_BIN = Path(sys.executable).parent


def rows(folder: Path, *, quick: bool) -> list[Row]:
    some, all_, rounds = (40, 80, 2) if quick else (50, 500, 5)
    progress(f"  {all_} champions")
    project, symbols = many_champions(folder / "project", all_)
    (project / "some.txt").write_text("\n".join(symbols[:some]))
    params = load_params(project / "params.yaml")
    days = [f"{day:%Y-%m-%d}" for day in load_prices(symbols[0], params.prices).index[-2 * rounds - 6 :]]
    left = iter(days[:-1])  # each evening another one: what is on record already would not be recorded again

    def forecast(*which: str, polls: bool = False) -> Cost:
        command = [_BIN / "fx", "forecast", *which, "--as-of", next(left), "--accept-doubts", "--quiet"]
        return run_command(command, project, polls=polls)

    calls = {some: ["@some.txt"], all_: []}
    progress("  memory")
    peaks = {count: forecast(*which, polls=True).peak for count, which in calls.items()}
    found = interleaved({str(count): partial(forecast, *which) for count, which in calls.items()}, rounds)
    few, many = ([cost.wall for cost in found[str(count)]] for count in calls)
    check(project, days, all_)
    more = (median(many) - median(few)) / (all_ - some)
    return [
        Row(
            what=f"fx forecast, {all_} symbols / {some} symbols, wall clock",
            ours=spread(many),
            rival=spread(few),
            ratio=f"{shown(more)} a symbol more",
            goal="at most 60 s",
            memory=f"{peaks[all_]:.0f} / {peaks[some]:.0f}",
        ),
        Row(
            what=f"fx forecast, {all_} symbols / {some} symbols, peak memory",
            ours=f"{peaks[all_]:.0f} MiB",
            rival=f"{peaks[some]:.0f} MiB",
            ratio=f"{peaks[all_] / peaks[some]:.2f}",
            goal="at most 1.2",
            memory="",
        ),
    ]


def check(project: Path, days: list[str], count: int) -> None:
    """Raise an error unless all symbols have a number of some session: a reason why there is none costs less."""
    numbers = [pd.read_csv(path)["forecast"].notna().sum() for path in (project / "outputs" / "forecasts").glob("*.csv")]
    if max(numbers) != count or min(numbers) == 0:
        msg = f"of {count} symbols {sorted(set(numbers))} have a forecast of the sessions after {days}"
        raise RuntimeError(msg)

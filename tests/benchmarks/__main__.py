"""Run the benchmarks, all or chosen ones, in temporary folders, and print one table."""

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MPLBACKEND="agg")

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Row, progress

_SECTIONS = {
    "start": "start",
    "before": "before",
    "demo": "demos",
    "calls": "calls",
    "long": "growing",
    "train": "training",
    "register": "registering",
    "commands": "commands",
    "batch": "batch",
    "forecast": "forecasting",
    "growth": "growth",
    "bootstrap": "resampling",
}
_WIDTH = 170


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(_SECTIONS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to see that it runs")
    asked = parser.parse_args()
    unknown = set(asked.sections) - set(_SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(_SECTIONS)}")
    rows: list[tuple[str, Row]] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fx-bench-") as folder:
        for section in asked.sections or _SECTIONS:
            progress(f"{section} (after {time.perf_counter() - start:.0f} s)")
            module = importlib.import_module(f"benchmarks.{_SECTIONS[section]}")
            here = Path(folder) / section
            here.mkdir()
            rows += [(section, row) for row in module.rows(here, quick=asked.quick)]
    _print(rows, time.perf_counter() - start, quick=asked.quick)


def _print(rows: list[tuple[str, Row]], seconds: float, *, quick: bool) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    where = f"Python {platform.python_version()}, {os.cpu_count()} processors, {seconds / 60:.1f} minutes"
    title = f"{'A quick try, not a measurement' if quick else 'Benchmarks'}: medians (lowest to highest); {where}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("section", "ours / the rival", "ours", "the rival", "ratio", "goal", "peak memory, MiB"):
        table.add_column(column, overflow="fold", justify="right" if column.startswith("peak") else "left")
    before = ""
    for section, row in rows:
        table.add_row(section if section != before else "", row.what, row.ours, row.rival, row.ratio, row.goal, row.memory)
        before = section
    console.print(table)


if __name__ == "__main__":
    main()

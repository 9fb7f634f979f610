"""Many symbols: `fx run register --symbols` against `xargs` over papermill."""

import sys
from pathlib import Path
from statistics import median

from benchmarks.measuring import Cost, Row, interleaved, progress, run_command
from benchmarks.projects import many_bundles, new_project

_BIN = Path(sys.executable).parent


def rows(folder: Path, *, quick: bool) -> list[Row]:
    count, rounds = (8, 2) if quick else (50, 5)
    size, jobs = count // rounds, 2
    bundles, symbols = many_bundles(folder / "bundles", count + 2 * jobs)
    spare, symbols = symbols[count:], symbols[:count]
    theirs_in = new_project(folder / "xargs", like=bundles)
    papermill = [_BIN / "papermill", "--no-progress-bar", "notebooks/register.ipynb", "{}.ipynb", "-p", "symbol", "{}"]
    ours_in = (new_project(folder / f"fx{turn}", like=bundles) for turn in range(rounds + 1))

    def xargs(some: list[str], *, polls: bool = False) -> Cost:
        return run_command(["xargs", "-P", str(jobs), "-I", "{}", *papermill], theirs_in, stdin="\n".join(some), polls=polls)

    def fx(*, polls: bool = False) -> Cost:
        here = next(ours_in)
        (here / "symbols.txt").write_text("\n".join(symbols))
        command = [_BIN / "fx", "run", "register", "--symbols", "@symbols.txt", "--quiet"]
        return run_command(command, here, polls=polls)

    progress("  memory")
    memory = f"{fx(polls=True).peak:.0f} / {xargs(spare, polls=True).peak:.0f}"
    chunks = iter([symbols[turn * size : (turn + 1) * size] for turn in range(rounds)])
    progress(f"  in turn: xargs over {size}, fx over {count}")
    found = interleaved({"xargs": lambda: xargs(next(chunks)), "fx": fx}, rounds)
    rates = [60 * count / cost.wall for cost in found["fx"]], [60 * size / cost.wall for cost in found["xargs"]]
    row = Row(
        what=f"fx run register --symbols, {rounds} x {count} symbols / xargs -P{jobs} papermill, {rounds} x {size}",
        ours=_rate(rates[0]),
        rival=_rate(rates[1]),
        ratio=f"{median(rates[0]) / median(rates[1]):.1f} x the symbols",
        goal="at least 6 x",
        memory=memory,
    )
    return [row]


def _rate(values: list[float]) -> str:
    return f"{median(values):.0f} a minute ({min(values):.0f} to {max(values):.0f})"

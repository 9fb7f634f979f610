"""What papermill and `fx` cost beyond the libraries that every such notebook imports."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import nbformat

from benchmarks.measuring import Cost, Row, compared, interleaved, progress, run_command, shown, spread
from benchmarks.projects import many_bundles

_BIN = Path(sys.executable).parent
_IMPORTS = "import mlflow, sklearn, pandas; import matplotlib.pyplot as plt"


def rows(folder: Path, *, quick: bool) -> list[Row]:
    repeats = 2 if quick else 5
    project, symbols = many_bundles(folder / "project", 2 * (repeats + 1))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(_IMPORTS)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, project / "imports.ipynb")
    left: Iterator[str] = iter(symbols)  # a bundle that is a version already would not be stored again
    papermill = [_BIN / "papermill", "--no-progress-bar"]
    commands: dict[str, Callable[[], list[str | Path]]] = {
        "papermill": lambda: [*papermill, "notebooks/register.ipynb", "out.ipynb", "-p", "symbol", next(left)],
        "imports": lambda: [*papermill, "imports.ipynb", "out.ipynb"],
        "fx run": lambda: [_BIN / "fx", "run", "register", "--quiet", "-p", "symbol", next(left)],
        "fx --help": lambda: [_BIN / "fx", "--help"],
        "import": lambda: [sys.executable, "-c", "import fxhelpers"],
        "nothing": lambda: [sys.executable, "-c", "pass"],
    }

    def runner(name: str) -> Callable[[], Cost]:
        return lambda: run_command(commands[name](), project)

    progress("  memory")
    peaks = {name: run_command(command(), project, polls=True).peak for name, command in commands.items()}
    return _rows(interleaved({name: runner(name) for name in commands}, repeats), peaks)


def _rows(found: dict[str, list[Cost]], peaks: dict[str, float]) -> list[Row]:
    def costs(name: str, kind: str) -> tuple[list[float], float]:
        return [getattr(cost, kind) for cost in found[name]], peaks[name]

    told = {"papermill": "papermill register.ipynb", "fx run": "fx run register"}
    kinds = {"wall": "wall clock", "cpu": "processor time"}
    goals = {"papermill": "at most 1.2", "fx run": "-"}
    rows = [
        compared(f"{text} / a notebook of imports, {words}", costs(name, kind), costs("imports", kind), goal=goals[name])
        for name, text in told.items()
        for kind, words in kinds.items()
    ]
    bare, bare_peak = costs("nothing", "cpu")
    for name, goal, less in (("fx --help", "below 300 ms", 0.0), ("import", "below 100 ms", median(bare))):
        seconds, peak = costs(name, "cpu")
        beyond = f"{shown(median(seconds) - less)}{' more' if less else ''}"
        what = "fx --help" if name == "fx --help" else "import fxhelpers"
        memory = f"{peak:.0f} / {bare_peak:.0f}"
        what = f"{what} / bare Python, processor time"
        rows.append(Row(what=what, ours=spread(seconds), rival=spread(bare), ratio=beyond, goal=goal, memory=memory))
    return rows

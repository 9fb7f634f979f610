"""What a Jupyter kernel knows of its notebook: whether anybody keeps it as a record, and the parameters that it was given.

Our papermill engine keeps records, and checks parameters before anything
runs. In JupyterLab, nbconvert, nbclient, VS Code or another scheduler nobody
does: there these checks are made when settings are read.
"""

import ast
import os
import sys
from pathlib import Path
from typing import Any

from fxhelpers.errors import ParamsError
from fxhelpers.params.words import nearest


def unrecorded_shell() -> Any:  # noqa: ANN401 (IPython is not imported here)
    """Return the shell of a Jupyter kernel whose notebook nobody keeps as a record; None where there is no such kernel.

    A kernel that a recorded notebook started, or one of a server that was
    started there, inherits all that the environment says, but not the sockets
    that the engine chose for its own.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:  # in a terminal or a script
        return None
    journal = os.environ.get("FX_JOURNAL")
    sockets = str(getattr(kernel.parent, "ip", ""))
    return None if journal and Path(sockets).parent == Path(journal).parent else shell


def check_injected() -> None:
    """Refuse parameters that were put behind the notebook's own, and that it does not have; elsewhere than in a kernel, nothing.

    These are a cell of plain assignments right after the one whose lines are
    ``name: type = value``.
    """
    shell = unrecorded_shell()
    if shell is None:
        return
    cells = [_assigned(source) for source in shell.history_manager.input_hist_parsed]
    index = max((number for number, cell in enumerate(cells) if cell and all(cell.values())), default=len(cells))
    known, given = (cells[number] if number < len(cells) else {} for number in (index, index + 1))
    for name in () if any(given.values()) else given:
        if name not in known:
            msg = f"unknown parameter {name!r}{nearest(name, known)}; this notebook takes {', '.join(known)}. Nothing was done."
            raise ParamsError(msg)


def _assigned(source: str) -> dict[str, bool]:
    """Return the names that a cell gives a constant, and whether each has a type; none where it does anything else."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    names = {}
    for line in body:
        target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0] if isinstance(line, ast.Assign) else None
        if not isinstance(target, ast.Name) or not _is_constant(getattr(line, "value", None)):
            return {}
        names[target.id] = isinstance(line, ast.AnnAssign)
    return names


def _is_constant(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):  # float('nan'), as papermill writes it
        return isinstance(value.func, ast.Name) and value.func.id == "float"
    try:
        ast.literal_eval(value or ast.Name(""))
    except ValueError:
        return False
    return True

"""Parameters: those that a notebook declares, and whether the given ones fit, before anything runs."""

from pathlib import Path
from typing import Any

from papermill.translators import papermill_translators
from papermill.utils import find_first_tagged_cell_index

from fxhelpers.errors import FxError, ParamsError, RunRefusedError
from fxhelpers.params import Params, check_symbol, find_params_file, load_params, nearest, yaml_value

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


def notebook_parameters(nb: Any, kernel_name: str = "python3") -> dict[str, Any]:  # noqa: ANN401
    """Return the parameters of a notebook: name to papermill's description of type, default and help."""
    index = find_first_tagged_cell_index(nb, "parameters")
    if index < 0:
        return {}
    translator = papermill_translators.find_translator(kernel_name, "python")
    return {p.name: p for p in translator.inspect(nb.cells[index])}


def check_run(nb: Any, kernel_name: str) -> tuple[Params, str]:  # noqa: ANN401
    """Refuse parameters that the notebook does not have, or of another type; return settings and symbol."""
    known = notebook_parameters(nb, kernel_name)
    given = dict(nb.metadata.papermill.get("parameters", {}))
    for name, value in given.items():
        if name.startswith("PAPERMILL_"):
            continue
        if name not in known:
            msg = f"unknown parameter {name!r}{nearest(name, known)}; this notebook takes {', '.join(known)}. Nothing was run."
            raise RunRefusedError(msg)
        _check_type(name, value, known[name].inferred_type_name)
    source = Path(nb.metadata.papermill.get("input_path") or ".")
    params = load_params(_params_for(source))
    symbol = given.get("symbol", known["symbol"].default.strip("\"'") if "symbol" in known else params.default_symbol)
    return params, check_symbol(symbol)


def _check_type(name: str, value: object, expected: str) -> None:
    types = _TYPES.get(expected)
    if types is None or (isinstance(value, types) and (expected == "bool" or not isinstance(value, bool))):
        return
    how = {"str": f"-r {name} {value}", "bool": f"-p {name} True"}.get(expected, f"-y '{name}: …'")
    msg = (
        f"parameter {name} has to be {expected}, found {type(value).__name__} {value!r}; with papermill: {how}. Nothing was run."
    )
    raise RunRefusedError(msg)


def _params_for(source: Path) -> Path:
    """Return the params.yaml that applies to the current folder, or else to the notebook's."""
    try:
        return find_params_file()
    except FxError:
        return find_params_file(source.resolve().parent)


def typed(value: object, expected: str) -> object:
    """Read text from a command line as the type that the notebook declares; leave what cannot be for the check."""
    if not isinstance(value, str) or expected not in _TYPES or expected == "str":
        return value
    try:
        return float(value) if expected == "float" else yaml_value(value)
    except (ParamsError, ValueError):
        return value

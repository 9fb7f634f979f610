"""Words that users type: symbols and names, checked, and the nearest known one where there is none."""

import difflib
import importlib
import operator
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from fxhelpers.errors import ParamsError

_SECRET = re.compile(
    r"(?:^|[_\W])(?:token|password|passwd|pwd|secret|api_?key|access_?key|private_?key|credentials?)(?:$|[_\W])", re.IGNORECASE
)
MODEL_PREFIX = "MLP_Stock_Predictor_"
"""How the registered model of a symbol begins."""

_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=_-]{0,31}(?<!_\d{8}_\d{6})")  # which would be a time in a file's name
_OWN_MODELS = "fx-"
_LONGEST_NAME = 200
_SERVERS = ("http", "https")
_SCHEMES = (*_SERVERS, "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc", "uc")
_NO_VERSION = 10**9
"""More than any registry counts to; a database would say so in its own words."""


def check_symbol(symbol: object) -> str:
    """Return a symbol, such as ``BRK.B`` or ``^GSPC``, or refuse one that could not safely name a file and a model."""
    if isinstance(symbol, str) and is_symbol(symbol):
        return symbol
    shown = repr(symbol) if len(repr(symbol)) <= 60 else f"{repr(symbol)[:57]}…"  # noqa: PLR2004 (a line's worth)
    msg = f"symbol: {shown} is not a ticker: 1 to 32 letters, digits or . ^ = _ - are (for example AAPL, BRK.B, ^GSPC)"
    raise ParamsError(msg)


def is_symbol(text: str) -> bool:
    """Tell whether a text could be a ticker."""
    return bool(_SYMBOL.fullmatch(text)) and ".." not in text


def model_name(symbol: str) -> str:
    """Return the registered model of a symbol."""
    return f"{MODEL_PREFIX}{check_symbol(symbol)}"


def check_version(name: str, value: object) -> int:
    """Return a version number; :class:`ParamsError` for what is none, such as 0, ``True``, 1.5 or ``"3"``."""
    with suppress(TypeError):
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # NumPy's integers too
        if 0 < number < _NO_VERSION:
            return number
    msg = f"{name}: version numbers are expected, 1 or more, found {value!r:.60}"
    raise ParamsError(msg)


def check_model_name(name: str) -> str:
    """Return the name of a registered model, or refuse one that MLflow could not find again, or that is ours."""
    if not isinstance(name, str):
        msg = f"model_name: a text is expected, found {name!r:.60}"
        raise ParamsError(msg)
    wrong = {
        f"has {len(name)} characters; 1 to {_LONGEST_NAME} are possible": not 0 < len(name) <= _LONGEST_NAME,
        "holds / or :, or only dots, which MLflow takes for addresses": bool(set(name) & set("/:")) or not name.strip("."),
        "holds both kinds of quotes, and MLflow could not look it up": "'" in name and '"' in name,
        "holds what cannot be printed, or begins or ends with a space": not name.isprintable() or name != name.strip(),
        f"begins with {_OWN_MODELS}, as what fxhelpers itself keeps there": name.startswith(_OWN_MODELS),
    }
    why = next((text for text, applies in wrong.items() if applies), None)
    if why:
        msg = f"model_name: {name[:60]!r} {why}; choose another (by default {MODEL_PREFIX}SYMBOL)"
        raise ParamsError(msg)
    return name


def check_type(name: str) -> str:
    """Return the full name of a class that models may hold; refuse what is no class, and whatever Python itself comes with."""
    module, _, kind = name.rpartition(".")
    if not module or not all(part.isidentifier() for part in name.split(".")):
        msg = f"{name!r} is not the full name of a class, such as sklearn.preprocessing._data.RobustScaler"
        raise ValueError(msg)
    if module.partition(".")[0] in sys.stdlib_module_names:
        msg = f"{name} comes with Python, and can do anything: no model needs it, and it cannot be trusted"
        raise ValueError(msg)
    try:
        found = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError) as error:
        msg = f"{name} cannot be imported: {error}"
        raise ValueError(msg) from error
    if not isinstance(found, type):
        msg = f"{name} is a {type(found).__name__}; only classes can be trusted"
        raise ValueError(msg)  # noqa: TRY004 (pydantic reports these)
    if (found.__module__, found.__qualname__) != (module, kind):
        msg = f"{name} is named {found.__module__}.{found.__qualname__} in pickles; list that"
        raise ValueError(msg)
    return name


def check_address(uri: str) -> str:
    """Return the address of a registry; :class:`ValueError` says what is wrong with it, without the password that it may hold."""
    if not uri.isprintable() or any(letter.isspace() for letter in uri):
        msg = "an address has no white space in it"
        raise ValueError(msg)
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if parts.scheme and not uri.startswith(parts.scheme):
        msg = f"{parts.scheme}:// is written in small letters"
        raise ValueError(msg)
    if scheme in _SERVERS:
        if not parts.hostname:
            msg = f"no host is named; expected {parts.scheme}://HOST:PORT"
            raise ValueError(msg)
        _ = parts.port  # a ValueError where it is none
    elif scheme == "sqlite" and not uri.startswith(f"{parts.scheme}:///"):
        msg = "a file has three slashes, or four where its path begins with one: sqlite:///folder/mlflow.db, sqlite:////data/mlflow.db"
        raise ValueError(msg)
    elif scheme not in {*_SCHEMES, *(point.name for point in entry_points(group="mlflow.tracking_store"))}:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        what = f"{scheme}:// is unknown{nearest(scheme, _SCHEMES)}" if scheme else "no kind of address stands before it"
        msg = f"{what}; expected dagshub, or one of {known}"
        raise ValueError(msg)
    return uri


def check_name(text: str) -> str:
    """Return a name that MLflow and addresses take as it is; :class:`ValueError` for none."""
    if text != text.strip() or not text.isprintable():
        msg = "a name neither begins nor ends with white space, and is printed as it is"
        raise ValueError(msg)
    return text


def check_path(path: Path) -> Path:
    """Return a path as it is written in ``params.yaml``; :class:`ValueError` for what no system, or only a shell, understands."""
    if str(path).startswith("~") or not str(path).isprintable():
        msg = "a path is written out, without ~ and without signs that are not printed"
        raise ValueError(msg)
    return path


def looks_secret(name: str) -> bool:
    """Tell whether a name, such as ``DAGSHUB_TOKEN``, is that of a secret."""
    return bool(_SECRET.search(name))


def nearest(word: str, known: Iterable[str], *, most: int = 1) -> str:
    """Return `` (did you mean 'X'?)`` for the known words nearest to ``word``, or nothing."""
    spelt = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelt, n=most, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(spelt[name]) for name in close)}?)" if close else ""


def unknown_key(key: str, known: set[str]) -> str:
    """Say that a key is unknown, which known one is nearest, and which there are."""
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return f"unknown key; the nearest known one is {close[0]!r} (known here: {', '.join(sorted(known))})"

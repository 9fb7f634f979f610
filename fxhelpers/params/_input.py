"""User input, checked: symbols, names, addresses, YAML values, notebook parameters; and what must stay secret."""

import ast
import difflib
import importlib
import operator
import os
import re
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from fxhelpers.errors import ParamsError

HIDDEN = "[hidden]"
MODEL_PREFIX = "MLP_Stock_Predictor_"  # of the name of a symbol's registered model
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=_-]{0,31}(?<!_\d{8}_\d{6})")  # which would be the time in a file name
_SECRET = re.compile(
    r"(?:^|[_\W])(?:token|password|passwd|pwd|secret|api_?key|access_?key|private_?key|credentials?)(?:$|[_\W])", re.IGNORECASE
)
_OWN_PREFIX = "fx-"
_MAX_NAME = 200
_MAX_SHOWN = 60
_MAX_LISTED = 180
_SERVERS = ("http", "https")
_SCHEMES = (*_SERVERS, "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc", "uc")
_VERSION_LIMIT = 10**9  # above every version number; a database would fail on larger ones with a message of its own


def check_symbol(symbol: object) -> str:
    """Return a symbol, such as ``BRK.B`` or ``^GSPC``; :class:`ParamsError` for one that could not safely name a file."""
    if isinstance(symbol, str) and is_symbol(symbol):
        return symbol
    shown = repr(symbol) if len(repr(symbol)) <= _MAX_SHOWN else f"{repr(symbol)[: _MAX_SHOWN - 3]}…"
    msg = f"symbol: {shown} is not a ticker; use 1 to 32 letters, digits or . ^ = _ - (for example AAPL, BRK.B, ^GSPC)"
    raise ParamsError(msg)


def is_symbol(text: str) -> bool:
    return bool(_SYMBOL.fullmatch(text)) and ".." not in text


def model_name(symbol: str) -> str:
    return f"{MODEL_PREFIX}{check_symbol(symbol)}"


def check_version(name: str, value: object) -> int:
    """Return a version number; :class:`ParamsError` for anything else, such as 0, ``True``, 1.5 or ``"3"``."""
    with suppress(TypeError):
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # NumPy's integers too
        if 0 < number < _VERSION_LIMIT:
            return number
    msg = f"{name}: expected a version number, 1 or more; found {value!r:.60}"
    raise ParamsError(msg)


def parse_day(name: str, text: str) -> date:
    """Return a day that a user passed; :class:`ParamsError` if it is not one."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 (a day of an exchange has no zone)
    except (ValueError, TypeError) as error:
        msg = f"{name}: expected a day such as 2012-06-29, found {text!r:.60}"
        raise ParamsError(msg) from error


def check_model_name(name: str) -> str:
    """Return the name of a registered model; :class:`ParamsError` for one that MLflow could not find again, or a reserved one."""
    if not isinstance(name, str):
        msg = f"model_name: expected a text, found {name!r:.60}"
        raise ParamsError(msg)
    wrong = {
        f"has {len(name)} characters; 1 to {_MAX_NAME} are allowed": not 0 < len(name) <= _MAX_NAME,
        "holds / or :, or only dots, which MLflow reads as an address": bool(set(name) & set("/:")) or not name.strip("."),
        "holds both kinds of quotes, so MLflow could not look it up": "'" in name and '"' in name,
        "holds unprintable characters, or begins or ends with a space": not name.isprintable() or name != name.strip(),
        f"begins with {_OWN_PREFIX}, which is reserved for fxhelpers": name.startswith(_OWN_PREFIX),
    }
    why = next((message for message, applies in wrong.items() if applies), None)
    if why:
        msg = f"model_name: {name[:60]!r} {why}; choose another (default: {MODEL_PREFIX}SYMBOL)"
        raise ParamsError(msg)
    return name


def check_type(name: str) -> str:
    """Return the full name of a class that models may hold; :class:`ValueError` otherwise, and for Python's own classes."""
    module, _, kind = name.rpartition(".")
    if not module or not all(part.isidentifier() for part in name.split(".")):
        msg = f"{name!r} is not the full name of a class, such as sklearn.preprocessing._data.RobustScaler"
        raise ValueError(msg)
    if module.partition(".")[0] in sys.stdlib_module_names:
        msg = f"{name} comes with Python and could run anything: it cannot be trusted, and no model needs it"
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
        msg = f"{name} is named {found.__module__}.{found.__qualname__} in pickles; list that name"
        raise ValueError(msg)
    return name


def check_address(uri: str) -> str:
    """Return the address of a registry; :class:`ValueError` says what is wrong with it, without any password in it."""
    if not uri.isprintable() or any(letter.isspace() for letter in uri):
        msg = "an address has no white space in it"
        raise ValueError(msg)
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if parts.scheme and not uri.startswith(parts.scheme):
        msg = f"{parts.scheme}:// must be lowercase"
        raise ValueError(msg)
    if scheme in _SERVERS:
        if not parts.hostname:
            msg = f"the host is missing; expected {parts.scheme}://HOST:PORT"
            raise ValueError(msg)
        _ = parts.port  # a ValueError if it is not a port
    elif scheme == "sqlite" and not uri.startswith(f"{parts.scheme}:///"):
        msg = "a file needs three slashes, or four if its path is absolute: sqlite:///folder/mlflow.db, sqlite:////data/mlflow.db"
        raise ValueError(msg)
    elif scheme not in {*_SCHEMES, *(point.name for point in entry_points(group="mlflow.tracking_store"))}:
        what = f"{scheme}:// is unknown{nearest(scheme, _SCHEMES)}" if scheme else "the address has no scheme"
        msg = f"{what}; expected dagshub, or one of {', '.join(f'{name}://' for name in _SCHEMES)}"
        raise ValueError(msg)
    return uri


def check_name(text: str) -> str:
    """Return a name that MLflow and addresses take unchanged; :class:`ValueError` for any other."""
    if text != text.strip() or not text.isprintable():
        msg = "a name must be printable, without white space at its beginning or end"
        raise ValueError(msg)
    return text


def check_path(path: Path) -> Path:
    """Return a path; :class:`ValueError` for one that holds ``~``, which only a shell expands, or unprintable characters."""
    if str(path).startswith("~") or not str(path).isprintable():
        msg = "write the path out, without ~ and without unprintable characters"
        raise ValueError(msg)
    return path


def check_repository(name: str) -> str:
    """Return the name of a user or repository on DagsHub; :class:`ValueError` if it could not be part of an address."""
    if not re.fullmatch(r"[\w.-]*", name, re.ASCII):
        msg = "expected letters, digits, and . _ -, as in the address of a repository on DagsHub"
        raise ValueError(msg)
    return name


def nearest(word: str, known: Iterable[str], *, most: int = 1) -> str:
    """Return `` (did you mean 'X'?)`` for the known words nearest to ``word``, or nothing."""
    spelt = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelt, n=most, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(spelt[name]) for name in close)}?)" if close else ""


def unknown_key(key: str, known: set[str]) -> str:
    """Return the message about an unknown key: the nearest known one, and all of them, or the first."""
    spelt = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(key.lower(), spelt, n=1, cutoff=0.0)
    listed = textwrap.shorten(", ".join(sorted(known)), _MAX_LISTED, placeholder=" …")
    return f"unknown key; the nearest known one is {spelt[close[0]]!r} (known here: {listed})"


def looks_secret(name: str) -> bool:
    """Return whether a name, such as ``DAGSHUB_TOKEN``, is the name of a secret."""
    return bool(_SECRET.search(name))


def secrets_in(uri: str) -> list[str]:
    """Return the passwords and tokens in a URI, decoded and as written."""
    parts = urlsplit(uri)
    fields = [part.partition("=") for part in parts.query.split("&")]
    found = [parts.password or "", *(value for key, _, value in fields if looks_secret(key))]
    return [text for secret in found if secret for text in (unquote(secret), secret)]


def safe_uri(uri: str) -> str:
    """Return a URI without its user name, passwords and tokens."""
    parts = urlsplit(uri)
    login, at, host = parts.netloc.rpartition("@")
    query = "&".join(part for part in parts.query.split("&") if not looks_secret(part.partition("=")[0]))
    return uri if not login + at and query == parts.query else parts._replace(netloc=host, query=query).geturl()


_NO_VALUES = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # the keys << and =


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a duplicate key is an error; by itself it takes the last one, silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 (the stubs have another type than PyYAML)
        node = super().compose_mapping_node(anchor)  # its own keys, before those of others are merged into it
        lines: dict[object, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            name = key.value if key.tag in _NO_VALUES else self.construct_object(key)
            line = key.start_mark.line + 1
            if name in lines:
                where = f"line {line}" if lines[name] == line else f"lines {lines[name]} and {line}"
                msg = f"the key {key.value!r} is there twice, on {where}; keep one of them"
                raise ParamsError(msg)
            lines[name] = line
        return node


class _Values(_Loader):
    """The same, for single values: a day stays text."""


_BOOL, _INT, _FLOAT, _TIME = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
_PLAIN = {
    _BOOL: (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    _INT: (r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    _FLOAT: (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""Unquoted values that are not text. YAML 1.1, and so PyYAML, also reads ON, NO, 007 and 12:30 as booleans and numbers."""

for _loader, _texts in ((_Loader, ()), (_Values, (_TIME,))):
    _replaced = {*_PLAIN, *_texts}
    _loader.yaml_implicit_resolvers = {
        first: [resolver for resolver in found if resolver[0] not in _replaced]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, (_pattern, _first) in _PLAIN.items():
        _loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(text: str, loader: type[_Loader] = _Loader) -> object:
    """Return the content of YAML; :class:`ParamsError`, in one line, if it cannot be read or has a duplicate key."""
    try:
        return yaml.load(text, loader)  # noqa: S506 (a safe one)
    except ParamsError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 30th of February
        msg = f"cannot be read as YAML: {_yaml_problem(error)}"
        raise ParamsError(msg) from None  # PyYAML quotes the line, which may hold a password


def read_written_yaml(text: str) -> Any:  # noqa: ANN401
    """Return the content of YAML that a program wrote, ten times as fast; safe, but a duplicate key is no error."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe)


def _yaml_problem(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{', '.join(filter(None, (error.context, error.problem)))}{where}"


def yaml_value(text: str) -> object:
    """Read one value as in ``params.yaml``: ``3``, ``true``, ``{alpha: 10}``; :class:`ParamsError` if it is not YAML."""
    try:
        return read_yaml(text, _Values)
    except ParamsError as error:
        msg = f"{text!r:.80}: {error}"
        raise ParamsError(msg) from error


def unrecorded_shell() -> Any:  # noqa: ANN401 (IPython is not imported here)
    """Return the shell of a Jupyter kernel whose notebook is not recorded; None elsewhere.

    A kernel that a recorded notebook started, or a server started from one,
    inherits its environment, but not the sockets that the engine chose for
    the notebook's own kernel.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:  # in a terminal or a script
        return None
    journal = os.environ.get("FX_JOURNAL")
    sockets = str(getattr(kernel.parent, "ip", ""))
    return None if journal and Path(sockets).parent == Path(journal).parent else shell


def current_record() -> Path | None:
    """Return the record that this process writes into; None outside a recorded run."""
    return _of_the_run("FX_RECORD")


def current_journal() -> Path | None:
    """Return the file through which the engine learns of this process's decisions; None outside a recorded run."""
    return _of_the_run("FX_JOURNAL")


def current_runner() -> int | None:
    """Return the process that runs this process's notebook and keeps its record; None without one, or if it has ended."""
    with suppress(ValueError, ProcessLookupError):
        pid = int(os.environ.get("FX_RUNNER", ""))
        with suppress(PermissionError):
            os.kill(pid, 0)
        return pid
    return None


def _of_the_run(variable: str) -> Path | None:
    path = os.environ.get(variable) if unrecorded_shell() is None else None
    return Path(path) if path else None


def check_injected() -> None:
    """Refuse parameters that were injected into a notebook that does not have them; outside a kernel, do nothing.

    Injected parameters are a cell of plain assignments right after the cell
    whose lines are ``name: type = value``.
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
    """Return the names that a cell assigns a constant to, and whether each is annotated; nothing if it does anything else."""
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

"""Reading ``params.yaml`` and the environment."""

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError

from fxhelpers.errors import ParamsError
from fxhelpers.params._checks import check_address, looks_secret, nearest, unknown_key
from fxhelpers.params._promotion import PromotionParams, TriedGates
from fxhelpers.params._sections import FILE_NAME, Params, PathsParams, secrets_in


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


_EMBEDDED = "sqlite:///outputs/registry/mlflow.db"
"""The registry of a file that names none."""

_FOLDERS = ("PWD", "OLDPWD")  # of the shell; elsewhere the word means a password
_SHORTEST_SECRET = 8  # characters; a shorter one may stand in any text


_NO_VALUES = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # the keys << and =


class _Loader(yaml.SafeLoader):
    """PyYAML's reader, which refuses a key that a mapping has twice; by itself it takes the last one, silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 (the stubs have another type than PyYAML)
        """Compose a mapping and look at its own keys, before those of others are merged into it."""
        node = super().compose_mapping_node(anchor)
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
    """The same, for single values: a day stays the text that it is."""


_BOOL, _INT, _FLOAT, _TIME = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
_PLAIN = {
    _BOOL: (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    _INT: (r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    _FLOAT: (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""What is no text though it has no quotes. YAML 1.1, and so PyYAML, makes truths and numbers of ON, NO, 007 and 12:30, too."""


def _read_plainly(loader: type[_Loader], *texts: str) -> None:
    """Let a loader read words and figures as people mean them; what stands under the tags in ``texts`` stays text."""
    before = yaml.SafeLoader.yaml_implicit_resolvers
    other = {*_PLAIN, *texts}
    loader.yaml_implicit_resolvers = {first: [r for r in found if r[0] not in other] for first, found in before.items()}
    for tag, (pattern, first) in _PLAIN.items():
        loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), list(first))


_read_plainly(_Loader)
_read_plainly(_Values, _TIME)


def _read_yaml(text: str, loader: type[_Loader] = _Loader) -> object:
    """Return what YAML says; :class:`ParamsError` in one line where it is none, or a mapping has a key twice."""
    try:
        return yaml.load(text, loader)  # noqa: S506 (a safe one)
    except ParamsError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 30th of February
        msg = f"cannot be read as YAML: {' '.join(str(error).split())}"
        raise ParamsError(msg) from error


def load_params(path: str | Path | None = None) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path : str or Path, optional
        The file. By default the one that the environment variable
        ``FX_PARAMS`` names, else the nearest ``params.yaml`` in the current
        folder or above.

    Returns
    -------
    Params
        With absolute paths. ``MLFLOW_TRACKING_URI`` in the environment wins
        over ``mlflow.tracking_uri``, and that over the two names of a
        repository on DagsHub; without any of these the registry is a SQLite
        file. ``DAGSHUB_TOKEN`` comes from the
        environment or from a ``.env`` file beside ``params.yaml``.

    Raises
    ------
    ParamsError
        No such file, not YAML, an unknown key (the nearest known one is
        named), a key that is there twice, or a value that does not fit. In a
        notebook, also a parameter that it was given and does not have.
    """
    check_injected()
    file = Path(path).resolve() if path else find_params_file()
    try:
        raw = _read_yaml(file.read_text(encoding="utf-8"))
    except ParamsError as error:
        msg = f"{file}: {error}"
        raise ParamsError(msg) from error
    except FileNotFoundError as error:
        msg = f"{file}: no such file; FX_PARAMS or the path given has to name a params.yaml"
        raise ParamsError(msg) from error
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: cannot be read: {error}"
        raise ParamsError(msg) from error
    if raw is not None and not isinstance(raw, dict):
        msg = f"{file}: sections such as `mlflow:` are expected at the top, found {type(raw).__name__}"
        raise ParamsError(msg)
    try:
        params = Params.model_validate(raw or {})
    except ValidationError as error:
        raise ParamsError("\n".join(f"{file}: {line}" for line in _explain(error, Params))) from error
    return _resolve(params, file)


def try_gates(written: PromotionParams, gates: Iterable[Mapping[str, Any]]) -> PromotionParams:
    """Return a policy with other gates: each takes the place of the written one of its id, or is one more.

    Parameters
    ----------
    written : PromotionParams
        The ``promotion`` section of ``params.yaml``.
    gates : iterable of dict
        As they would stand there.

    Returns
    -------
    PromotionParams
        Checked as ``params.yaml`` is.

    Raises
    ------
    ParamsError
        What would be an error in ``params.yaml`` too.
    """
    asked: type[BaseModel] = TriedGates
    try:
        tried = TriedGates.model_validate({"gates": gates}).gates
        asked, instead = PromotionParams, {gate.id: gate for gate in tried}
        whole = [instead.pop(gate.id, gate) for gate in written.gates]
        more = [gate for gate in tried if gate.id in instead or tried.count(gate) > 1 or gate not in whole]
        return PromotionParams.model_validate({**dict(written), "gates": (*whole, *more)})
    except ValidationError as error:
        lines = (line if line.startswith("gates") else f"gates: {line}" for line in _explain(error, asked))
        raise ParamsError("\n".join(lines)) from error


def find_params_file(start: Path | None = None) -> Path:
    """Find the ``params.yaml`` that applies: the one that ``FX_PARAMS`` names, else the nearest one upwards."""
    named = os.environ.get("FX_PARAMS")
    if named:
        return Path(named).resolve()
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    msg = (
        f"no {FILE_NAME} in {start} or any folder above; change to a project's folder, make one with fx init FOLDER, "
        "or let FX_PARAMS name the file"
    )
    raise ParamsError(msg)


def current_record() -> Path | None:
    """Return the record that this process writes into; None outside a recorded run."""
    record = os.environ.get("FX_RECORD") if unrecorded_shell() is None else None
    return Path(record) if record else None


def current_journal() -> Path | None:
    """Return the file that tells the engine which decisions this process took; None outside a recorded run."""
    journal = os.environ.get("FX_JOURNAL") if unrecorded_shell() is None else None
    return Path(journal) if journal else None


def known_secrets(folder: Path) -> dict[str, str]:
    """Return the secrets that the environment and the folder's ``.env`` hold: name to value; of a URI, its password."""
    values = {**dotenv_values(folder / ".env"), **os.environ}
    found = {key: value for key, value in values.items() if value and looks_secret(key) and key not in _FOLDERS}
    found |= {f"the password in {key}": password for key, value in values.items() if (password := _password_in(value or ""))}
    return {key: value for key, value in found.items() if len(value) >= _SHORTEST_SECRET}


def _password_in(value: str) -> str:
    try:
        return next(iter(secrets_in(value)), "") if "://" in value else ""
    except ValueError:  # not a URI after all
        return ""


def yaml_value(text: str) -> object:
    """Read one value as ``params.yaml`` would: ``3``, ``true``, ``{alpha: 10}``; :class:`ParamsError` where it is none."""
    try:
        return _read_yaml(text, _Values)
    except ParamsError as error:
        msg = f"{text!r:.80}: {error}"
        raise ParamsError(msg) from error


def safe_uri(uri: str) -> str:
    """Return the URI without the user name, the passwords and the tokens that it may hold."""
    parts = urlsplit(uri)
    login, at, host = parts.netloc.rpartition("@")
    query = "&".join(part for part in parts.query.split("&") if not looks_secret(part.partition("=")[0]))
    return uri if not login + at and query == parts.query else parts._replace(netloc=host, query=query).geturl()


def _resolve(params: Params, file: Path) -> Params:
    """Make paths absolute and let the environment speak."""
    base = file.parent
    paths = PathsParams(**{name: base / value for name, value in params.paths})
    prices = params.prices.model_copy(update={"folder": base / params.prices.folder})
    names = {name: getattr(params.mlflow, name) for name in ("dagshub_username", "dagshub_repo")}
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.mlflow.tracking_uri or ("dagshub" if any(names.values()) else _EMBEDDED)
    where = "MLFLOW_TRACKING_URI in the environment" if os.environ.get("MLFLOW_TRACKING_URI") else f"{file}: mlflow.tracking_uri"
    try:
        _ = uri == "dagshub" or check_address(uri)
    except ValueError as error:
        msg = f"{where}: {error}"
        raise ParamsError(msg) from None  # it may hold a password
    if uri == "dagshub":
        missing = " and ".join(f"mlflow.{name}" for name, value in names.items() if not value)
        if missing:
            given = next((f"mlflow.{name} is that of a repository on DagsHub" for name, value in names.items() if value), "")
            why = given or "mlflow.tracking_uri is dagshub"
            msg = f"{file}: {why}, which needs {missing} too; or let mlflow.tracking_uri name another registry"
            raise ParamsError(msg)
        uri = "https://dagshub.com/{dagshub_username}/{dagshub_repo}.mlflow".format(**names)
    elif uri.startswith("sqlite:///") and not os.environ.get("MLFLOW_TRACKING_URI"):
        uri = f"sqlite:///{base / uri.removeprefix('sqlite:///')}"
    mlflow = params.mlflow.model_copy(update={"tracking_uri": safe_uri(uri)})
    resolved = params.model_copy(update={"paths": paths, "prices": prices, "mlflow": mlflow})
    token = os.environ.get("DAGSHUB_TOKEN") or dotenv_values(base / ".env").get("DAGSHUB_TOKEN")
    _check_environment(resolved, token)
    resolved._file = file  # noqa: SLF001 (private to this module)
    resolved._registry_uri = SecretStr(uri)  # noqa: SLF001
    resolved._dagshub_token = SecretStr(token) if token else None  # noqa: SLF001
    return resolved


def _check_environment(params: Params, token: str | None) -> None:
    """Raise :class:`ParamsError` for what the environment sets, and no call could be made with."""
    _ = params.request_seconds, params.request_retries
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        msg = "DAGSHUB_TOKEN in the environment or in .env: a token has letters, digits and signs, and no white space"
        raise ParamsError(msg)
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH") if params.is_server else ():
        path = os.environ.get(name)
        if path and not Path(path).exists():
            msg = f"{name} in the environment: there is no file {path}"
            raise ParamsError(msg)
    for name, folder in [*((f"paths.{name}", folder) for name, folder in params.paths), ("prices.folder", params.prices.folder)]:
        if folder.is_file():
            msg = f"{name}: a folder is expected, and {folder} is a file"
            raise ParamsError(msg)


def _explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Turn pydantic's findings into lines that name the key, what was found and what is known."""
    lines = []
    for found in error.errors(include_url=False):
        where = ".".join(str(part) for part in found["loc"])
        if found["type"] == "extra_forbidden":
            lines.append(f"{where}: {unknown_key(str(found['loc'][-1]), _keys_at(model, found['loc'][:-1]))}")
        else:
            message = found["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(found["input"], dict) else f", found {found['input']!r}"
            if found["type"] == "string_type" and not isinstance(found["input"], dict | list):
                shown += "; if it is meant as text, as a ticker is, put it in quotes"
            lines.append(f"{where}: {message}{shown}" if where else message)
    return lines


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """Return the keys that the model knows at a place."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is not None:
            found = _model_in(field.annotation)
            model = found or model
    return set(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 (annotations have no common type)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {dict, list, tuple, Union, UnionType}:
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None

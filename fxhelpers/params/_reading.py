"""Reading of ``params.yaml`` and the environment into :class:`Params`."""

import math
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import quote, unquote, urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, PrivateAttr, SecretStr, ValidationError

from fxhelpers.errors import ParamsError
from fxhelpers.params._input import (
    HIDDEN,
    check_address,
    check_injected,
    check_symbol,
    current_record,
    looks_secret,
    read_yaml,
    safe_uri,
    secrets_in,
    unknown_key,
)
from fxhelpers.params._models import ModelParams, Section, read_model
from fxhelpers.params._notify import Address, NotifyParams, read_addresses
from fxhelpers.params._prices import PricesParams
from fxhelpers.params._sections import (
    BundlesParams,
    MlflowParams,
    ModelRegistryParams,
    PathsParams,
    PromotionParams,
    TrainingParams,
    TriedGates,
    WatchParams,
)

FILE_NAME = "params.yaml"
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""Environment of every process that we start: MLflow reads it on import, and reports usage otherwise."""

_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")
_MIN_HIDDEN = 6  # characters of a secret: a shorter one may occur in any text
_MIN_SECRET = 8  # the same, in the environment
_FOLDERS = ("PWD", "OLDPWD")  # of the shell; elsewhere the word means a password
_DEFAULT_URI = "sqlite:///outputs/registry/mlflow.db"


class Params(Section):
    """All of ``params.yaml``, checked, with absolute paths.

    Credentials are not among the fields, and ``mlflow.tracking_uri`` does not
    hold them, so they are never printed, dumped or compared.
    """

    default_symbol: Annotated[str, AfterValidator(check_symbol)] = "AAPL"
    """symbol that a call from Python takes if it names none"""
    prices: PricesParams = PricesParams()
    """Source of the daily prices"""
    training: TrainingParams = TrainingParams()
    """Split of the days, and the models to choose from"""
    bundles: BundlesParams = BundlesParams()
    """Limits on a bundle's files"""
    model_registry: ModelRegistryParams = ModelRegistryParams()
    """Storage and stages of versions"""
    promotion: PromotionParams = PromotionParams()
    """When a challenger may replace the champion"""
    watch: WatchParams = WatchParams()
    """Evidence against what serves, and what an alarm does"""
    mlflow: MlflowParams = MlflowParams()
    """Address of the registry"""
    notify: NotifyParams = NotifyParams()
    """Messages about how runs ended"""
    paths: PathsParams = PathsParams()
    """point these at a ForesightX checkout to use its files"""

    _file: Path = PrivateAttr(default=Path(FILE_NAME))
    _dagshub_token: SecretStr | None = PrivateAttr(default=None)
    _registry_uri: SecretStr = PrivateAttr(default=SecretStr(""))
    _addresses: tuple[Address, ...] = PrivateAttr(default=())

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Who receives messages: ``notify.to``, with the addresses that variables hold."""
        return self._addresses

    @property
    def file(self) -> Path:
        """The file that this was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The project's folder, which holds ``params.yaml``."""
        return self._file.parent

    @cached_property
    def is_server(self) -> bool:
        """Whether the registry is a server, not a database that this process opens."""
        return self.mlflow.tracking_uri.startswith("http")

    @property
    def is_dagshub(self) -> bool:
        parts = urlsplit(self.mlflow.tracking_uri)
        return parts.scheme == "https" and f".{parts.hostname}".endswith(".dagshub.com")

    @property
    def credentials(self) -> dict[str, str]:
        """The login as MLflow's environment variables: the URI's user and password, or DagsHub's; empty without one."""
        parts = urlsplit(self._registry_uri.get_secret_value())
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if self.is_dagshub and self._dagshub_token is not None:
            user = self.mlflow.dagshub_username or parts.path.strip("/").partition("/")[0]
            password = self._dagshub_token.get_secret_value()
        if not password or not self.is_server:
            return {}
        return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}

    def without_secrets(self, text: str) -> str:
        """Return a text with the registry's login removed, and its password or token and those of addresses hidden."""
        text = _LOGIN.sub("", text)
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text

    @property
    def secrets(self) -> list[str]:
        """The registry's password or token, plain and as sent over the network, and those of addresses; the longest first."""
        login = {**os.environ, **self.credentials}
        user, token = login.get("MLFLOW_TRACKING_USERNAME", ""), login.get("MLFLOW_TRACKING_TOKEN", "")
        plain = {*secrets_in(self._registry_uri.get_secret_value()), login.get("MLFLOW_TRACKING_PASSWORD", ""), token}
        sent = {b64encode(f"{user}:{password}".encode()).decode() for password in plain if password}
        of_addresses = {secret for address in self._addresses for secret in address.secrets}
        return sorted({secret for secret in plain | sent | of_addresses if len(secret) >= _MIN_HIDDEN}, key=len, reverse=True)

    @property
    def registry_uri(self) -> str:
        """The URI for MLflow: without credentials for a server, with them for a database."""
        return self.mlflow.tracking_uri if self.is_server else self._registry_uri.get_secret_value()

    @property
    def client_uri(self) -> str:
        """The URI for MLflow's client: with the login, so that no other host receives it, and no other thread sees it."""
        login = self.credentials
        if not login:
            return self.registry_uri
        # requests encodes what it finds in a URI as Latin-1, servers read UTF-8
        user, password = (quote(text.encode().decode("latin-1"), safe="") for text in login.values())
        parts = urlsplit(self.registry_uri)
        return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()

    @property
    def uri_setting(self) -> str:
        """The setting that holds the registry's address, for messages."""
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return f"MLFLOW_TRACKING_URI in the environment (it takes precedence over mlflow.tracking_uri in {self.file})"
        if self.is_dagshub:
            return f"mlflow.tracking_uri, dagshub_username and dagshub_repo in {self.file}"
        return f"mlflow.tracking_uri in {self.file}"

    @property
    def login_name(self) -> str:
        return self.credentials.get("MLFLOW_TRACKING_USERNAME") or os.environ.get("MLFLOW_TRACKING_USERNAME") or "this login"

    @property
    def login_setting(self) -> str:
        """The setting that the login comes from, as what to check."""
        if self.is_dagshub and self._dagshub_token is not None:
            return "DAGSHUB_TOKEN in the environment or in .env, and that its owner may write to this repository"
        if self.credentials:
            return f"the user and the password in {self.uri_setting}"
        if os.environ.get("MLFLOW_TRACKING_TOKEN"):
            return "MLFLOW_TRACKING_TOKEN in the environment"
        if os.environ.get("MLFLOW_TRACKING_USERNAME") or os.environ.get("MLFLOW_TRACKING_PASSWORD"):
            return "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        return "that a login is set: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"

    @property
    def request_seconds(self) -> float:
        """Time limit of a call to a server, in seconds."""
        return _number("MLFLOW_HTTP_REQUEST_TIMEOUT", 120, least=0.1)

    @property
    def request_retries(self) -> int:
        """Most retries of a call to a server; without a setting, as many as the time limit allows."""
        return int(_number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", 99, least=0))

    @property
    def registry_missing(self) -> str | None:
        """Why there is no registry and what to do about it; None if there is one."""
        if not self.mlflow.enabled:
            return (
                "MLflow is disabled in configuration. Model registry will not be available. "
                f"Set `mlflow.enabled: true` in {self.file}."
            )
        login = self.credentials or os.environ.get("MLFLOW_TRACKING_TOKEN") or os.environ.get("MLFLOW_TRACKING_PASSWORD")
        if self.is_dagshub and not login:
            return (
                "DAGSHUB_TOKEN not found in environment variables. Model registry will not be available. "
                f"Export DAGSHUB_TOKEN, or write it into {self.folder / '.env'} (see .env.example)."
            )
        return None


def _number(name: str, default: float, *, least: float) -> float:
    text = os.environ.get(name) or str(default)
    with suppress(ValueError):
        if least <= (value := float(text)) < math.inf:
            return value
    msg = f"{name} in the environment: expected a number of at least {least:g}, found {text!r:.60}"
    raise ParamsError(msg)


def load_params(path: str | Path | None = None) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path : str or Path, optional
        The file. By default the one named by the environment variable
        ``FX_PARAMS``, else the nearest ``params.yaml`` in the current folder
        or above.

    Returns
    -------
    Params
        With absolute paths. ``MLFLOW_TRACKING_URI`` in the environment takes
        precedence over ``mlflow.tracking_uri``, and that over the names of a
        repository on DagsHub; without any of these the registry is a SQLite
        file. ``DAGSHUB_TOKEN`` comes from the environment or from a ``.env``
        file in the folder of ``params.yaml``.

    Raises
    ------
    ParamsError
        No such file, not YAML, an unknown key (the message suggests the
        nearest known one), a duplicate key, or a value out of bounds. In a
        notebook, also an injected parameter that the notebook does not have.
    """
    check_injected()
    file = Path(path).resolve() if path else find_params_file()
    try:
        raw = read_yaml(file.read_text(encoding="utf-8"))
    except ParamsError as error:
        msg = f"{file}: {error}"
        raise ParamsError(msg) from error
    except FileNotFoundError as error:
        msg = f"{file}: no such file; let FX_PARAMS, or the path passed, name a params.yaml"
        raise ParamsError(msg) from error
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: cannot be read: {error}"
        raise ParamsError(msg) from error
    if raw is not None and not isinstance(raw, dict):
        msg = f"{file}: expected sections such as `mlflow:` at the top, found {type(raw).__name__}"
        raise ParamsError(msg)
    try:
        params = Params.model_validate(raw or {})
    except ValidationError as error:
        raise ParamsError("\n".join(f"{file}: {line}" for line in explain(error, Params))) from error
    return _resolve(params, file)


def find_params_file(start: Path | None = None) -> Path:
    """Return the ``params.yaml`` that applies: the one that ``FX_PARAMS`` names, else the nearest one upwards."""
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


def try_gates(written: PromotionParams, gates: Iterable[Mapping[str, Any]]) -> PromotionParams:
    """Return a policy with some gates replaced, by their ids, or added; :class:`ParamsError` as for ``params.yaml``."""
    checked: type[BaseModel] = TriedGates
    try:
        tried = TriedGates.model_validate({"gates": gates}).gates
        checked, instead = PromotionParams, {gate.id: gate for gate in tried}
        whole = [instead.pop(gate.id, gate) for gate in written.gates]
        more = [gate for gate in tried if gate.id in instead or tried.count(gate) > 1 or gate not in whole]
        return PromotionParams.model_validate({**dict(written), "gates": (*whole, *more)})
    except ValidationError as error:
        lines = (line if line.startswith("gates") else f"gates: {line}" for line in explain(error, checked))
        raise ParamsError("\n".join(lines)) from error


def with_overrides(model: ModelParams, overrides: Mapping[str, Any]) -> ModelParams:
    """Return a model with some settings replaced, including their candidates; :class:`ParamsError` as for ``params.yaml``.

    Another ``estimator`` begins with scikit-learn's hyperparameters, and without candidates.
    """
    same = overrides.get("estimator", model.estimator) in {model.estimator, model.estimator.removesuffix("Regressor")}
    kept = model.model_dump() if same else model.model_dump(include={"refit", "features"})
    kept["candidates"] = {name: values for name, values in model.candidates.items() if same and name not in overrides}
    try:
        return read_model({**kept, **overrides})
    except ValidationError as error:
        raise ParamsError("\n".join(f"overrides: {line}" for line in explain(error, type(model)))) from error


def known_secrets(folder: Path) -> dict[str, str]:
    """Return the secrets in the environment and the folder's ``.env``: name to value; of a URI, its password."""
    values = {key: value for key, value in {**dotenv_values(folder / ".env"), **os.environ}.items() if value}
    found = {key: value for key, value in values.items() if looks_secret(key) and key not in _FOLDERS}
    for key, value in values.items():
        with suppress(ValueError):  # not a URI after all
            passwords = secrets_in(value) if "://" in value else []
            found |= {f"the password in {key}": password for password in passwords[:1]}
    return {key: value for key, value in found.items() if len(value) >= _MIN_SECRET}


def _resolve(params: Params, file: Path) -> Params:
    """Make paths absolute and apply the environment."""
    base = file.parent
    uri = _registry_uri(params.mlflow, file)
    resolved = params.model_copy(
        update={
            "paths": PathsParams(**{name: base / folder for name, folder in params.paths}),
            "prices": params.prices.model_copy(update={"folder": base / params.prices.folder}),
            "mlflow": params.mlflow.model_copy(update={"tracking_uri": safe_uri(uri)}),
        }
    )
    variables = {**dotenv_values(base / ".env"), **{name: value for name, value in os.environ.items() if value}}
    token = variables.get("DAGSHUB_TOKEN")
    _check_environment(resolved, token)
    try:
        resolved._addresses = read_addresses(params.notify, variables, check=current_record() is None)  # noqa: SLF001
    except ParamsError as error:
        msg = f"{file}: {error}"
        raise ParamsError(msg) from None  # it may hold a secret
    resolved._file = file  # noqa: SLF001 (private to this module)
    resolved._registry_uri = SecretStr(uri)  # noqa: SLF001
    resolved._dagshub_token = SecretStr(token) if token else None  # noqa: SLF001
    return resolved


def _registry_uri(mlflow: MlflowParams, file: Path) -> str:
    from_environment = os.environ.get("MLFLOW_TRACKING_URI")
    names = {"dagshub_username": mlflow.dagshub_username, "dagshub_repo": mlflow.dagshub_repo}
    uri = from_environment or mlflow.tracking_uri or ("dagshub" if any(names.values()) else _DEFAULT_URI)
    try:
        _ = uri == "dagshub" or check_address(uri)
    except ValueError as error:
        where = "MLFLOW_TRACKING_URI in the environment" if from_environment else f"{file}: mlflow.tracking_uri"
        msg = f"{where}: {error}"
        raise ParamsError(msg) from None  # it may hold a password
    if uri == "dagshub":
        missing = " and ".join(f"mlflow.{name}" for name, value in names.items() if not value)
        if missing:
            given = next((f"mlflow.{name} names a repository on DagsHub" for name, value in names.items() if value), "")
            why = given or "mlflow.tracking_uri is dagshub"
            msg = f"{file}: {why}, which needs {missing} too; or let mlflow.tracking_uri name another registry"
            raise ParamsError(msg)
        return "https://dagshub.com/{dagshub_username}/{dagshub_repo}.mlflow".format(**names)
    if uri.startswith("sqlite:///") and not from_environment:
        return f"sqlite:///{file.parent / uri.removeprefix('sqlite:///')}"
    return uri


def _check_environment(params: Params, token: str | None) -> None:
    """Raise :class:`ParamsError` for a variable or a folder with which no call could succeed."""
    _ = params.request_seconds, params.request_retries
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        msg = "DAGSHUB_TOKEN in the environment or in .env: a token has no white space and no letters beyond ASCII"
        raise ParamsError(msg)
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH") if params.is_server else ():
        path = os.environ.get(name)
        if path and not Path(path).exists():
            msg = f"{name} in the environment: there is no file {path}"
            raise ParamsError(msg)
    for name, folder in [*((f"paths.{name}", folder) for name, folder in params.paths), ("prices.folder", params.prices.folder)]:
        if folder.is_file():
            msg = f"{name}: expected a folder, and {folder} is a file"
            raise ParamsError(msg)


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Turn pydantic's errors into lines that name the key, what was found and what is known."""
    lines = []
    for found in error.errors(include_url=False):
        where = ".".join(str(part) for part in found["loc"])
        if found["type"] == "extra_forbidden":
            lines.append(f"{where}: {unknown_key(str(found['loc'][-1]), _keys_at(model, found['loc'][:-1]))}")
        else:
            message = found["msg"].removeprefix("Value error, ")
            secret = found["loc"][:1] == ("notify",) and "events" not in found["loc"]  # an address may hold one
            shown = "" if isinstance(found["input"], dict) or secret else f", found {found['input']!r:.80}"
            if found["type"] == "string_type" and not isinstance(found["input"], dict | list):
                shown += "; to enter text, such as a ticker, put it in quotes"
            lines.append(f"{where}: {message}{shown}" if where else message)
    return lines


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_in(field.annotation) or model
    return set(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 (annotations have no common type)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {dict, list, tuple, Union, UnionType, Annotated}:
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None

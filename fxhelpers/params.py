"""``params.yaml`` and the environment, read and checked in one place.

Nothing else in the package reads YAML or environment variables.
"""

import difflib
import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

import yaml
from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from fxhelpers.errors import ParamsError

FILE_NAME = "params.yaml"
STAGES = ("None", "Staging", "Production", "Archived")
Stage = Literal["None", "Staging", "Production", "Archived"]

_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=_-]{0,31}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class PricesParams(_Section):
    """Where daily prices come from."""

    source: Literal["sample", "csv", "yfinance"] = "sample"
    folder: Path = Path("prices")
    start: date | None = None
    end: date | None = None


class MlpParams(_Section):
    """Hyperparameters of one kind of model, named as in scikit-learn's ``MLPRegressor``."""

    hidden_layer_sizes: list[int] = [16]
    activation: Literal["identity", "logistic", "tanh", "relu"] = "relu"
    solver: Literal["adam", "sgd", "lbfgs"] = "adam"
    alpha: float = Field(default=1e-4, ge=0)
    learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant"
    learning_rate_init: float = Field(default=1e-3, gt=0)
    max_iter: int = Field(default=200, ge=1)
    early_stopping: bool = False
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    n_iter_no_change: int = Field(default=10, ge=1)
    standardise_target: bool = True
    candidates: dict[str, list[Any]] = {}

    @field_validator("hidden_layer_sizes")
    @classmethod
    def _positive_layers(cls, sizes: list[int]) -> list[int]:
        if not sizes or min(sizes) < 1:
            msg = f"every hidden layer needs at least one unit, found {sizes}"
            raise ValueError(msg)
        return sizes

    @model_validator(mode="after")
    def _candidates_are_hyperparameters(self) -> "MlpParams":
        known = set(type(self).model_fields) - {"candidates"}
        for name, values in self.candidates.items():
            if name not in known:
                msg = f"candidates: {_unknown(name, known)}"
                raise ValueError(msg)
            if not values:
                msg = f"candidates: {name} lists no value"
                raise ValueError(msg)
            for value in values:  # each candidate has to be a value that the key itself would take
                type(self)(**{name: value})
        return self


class TrainingParams(_Section):
    """How days are split, and which models exist."""

    validation_size: float = Field(default=0.15, gt=0, lt=0.5)
    test_size: float = Field(default=0.25, gt=0, lt=0.5)
    embargo_days: int = Field(default=1, ge=0)
    random_state: int = Field(default=42, ge=0, lt=2**32)
    model: str = "regularised"
    models: dict[str, MlpParams] = {"regularised": MlpParams(alpha=100.0)}

    @model_validator(mode="after")
    def _model_is_defined(self) -> "TrainingParams":
        if self.model not in self.models:
            msg = f"model: {self.model!r} is not one of models: {', '.join(self.models)}"
            raise ValueError(msg)
        return self


class ModelRegistryParams(_Section):
    """What is kept with a version, and what a promotion needs."""

    track_experiments: bool = True
    save_artifacts: bool = True
    compare_metrics: bool = True
    auto_archive: bool = True
    retention_days: int = Field(default=90, ge=1)
    default_stage: Stage = "Staging"

    @field_validator("default_stage", mode="before")
    @classmethod
    def _null_is_no_stage(cls, stage: object) -> object:
        return "None" if stage is None else stage


class MlflowParams(_Section):
    """Where the registry is."""

    enabled: bool = True
    tracking_uri: str = "sqlite:///outputs/registry/mlflow.db"
    dagshub_username: str = ""
    dagshub_repo: str = ""
    experiment_name: str = Field(default="MLP_Stock_Prediction", min_length=1)


class PathsParams(_Section):
    """Folders; relative ones start at the folder of ``params.yaml``."""

    models: Path = Path("outputs/models")
    metadata: Path = Path("outputs/metadata")
    results: Path = Path("outputs/results")
    features: Path = Path("outputs/features")
    records: Path = Path("outputs/records")


class Params(_Section):
    """All of ``params.yaml``, checked, with absolute paths.

    Credentials are not among the fields: they are never printed, dumped or
    compared.
    """

    default_symbol: str = "AAPL"
    prices: PricesParams = PricesParams()
    training: TrainingParams = TrainingParams()
    model_registry: ModelRegistryParams = ModelRegistryParams()
    mlflow: MlflowParams = MlflowParams()
    paths: PathsParams = PathsParams()

    _file: Path = PrivateAttr(default=Path(FILE_NAME))
    _dagshub_token: SecretStr | None = PrivateAttr(default=None)

    @field_validator("default_symbol")
    @classmethod
    def _symbol_is_safe(cls, symbol: str) -> str:
        return check_symbol(symbol)

    @property
    def file(self) -> Path:
        """The file that this was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The project's folder: where ``params.yaml`` lies."""
        return self._file.parent

    @property
    def is_dagshub(self) -> bool:
        """Whether the registry is DagsHub's."""
        host = urlsplit(self.mlflow.tracking_uri).hostname or ""
        return host == "dagshub.com" or host.endswith(".dagshub.com")

    @property
    def credentials(self) -> dict[str, str]:
        """Environment that MLflow needs for the time of one call: empty, or DagsHub's user and token."""
        if not self.is_dagshub or self._dagshub_token is None:
            return {}
        owner = urlsplit(self.mlflow.tracking_uri).path.split("/")[1]
        return {
            "MLFLOW_TRACKING_USERNAME": self.mlflow.dagshub_username or owner,
            "MLFLOW_TRACKING_PASSWORD": self._dagshub_token.get_secret_value(),
        }

    @property
    def registry_missing(self) -> str | None:
        """Why there is no registry and what to do about it; None where there is one."""
        if not self.mlflow.enabled:
            return (
                "MLflow is disabled in configuration. Model registry will not be available. "
                f"Set `mlflow.enabled: true` in {self.file}."
            )
        if self.is_dagshub and not self.credentials and not _has_mlflow_login(os.environ):
            return (
                "DAGSHUB_TOKEN not found in environment variables. Model registry will not be available. "
                f"Export DAGSHUB_TOKEN, or write it into {self.folder / '.env'} (see .env.example)."
            )
        return None


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
        over ``mlflow.tracking_uri``; ``DAGSHUB_TOKEN`` comes from the
        environment or from a ``.env`` file beside ``params.yaml``.

    Raises
    ------
    ParamsError
        No such file, not YAML, an unknown key (the nearest known one is
        named) or a value that does not fit.
    """
    file = Path(path).resolve() if path else find_params_file()
    try:
        text = file.read_text(encoding="utf-8")
        raw = yaml.safe_load(text)
    except FileNotFoundError as error:
        msg = f"{file}: no such file; FX_PARAMS or the path given has to name a params.yaml"
        raise ParamsError(msg) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{file}: cannot be read as YAML: {error}"
        raise ParamsError(msg) from error
    if raw is not None and not isinstance(raw, dict):
        msg = f"{file}: sections such as `mlflow:` are expected at the top, found {type(raw).__name__}"
        raise ParamsError(msg)
    try:
        params = Params.model_validate(raw or {})
    except ValidationError as error:
        raise ParamsError("\n".join(f"{file}: {line}" for line in _explain(error, Params))) from error
    return _resolve(params, file)


def find_params_file(start: Path | None = None) -> Path:
    """Find the ``params.yaml`` that applies: ``FX_PARAMS``, else the nearest one upwards.

    Parameters
    ----------
    start : Path, optional
        Folder to begin at; the current one by default.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    ParamsError
        There is none.
    """
    named = os.environ.get("FX_PARAMS")
    if named:
        return Path(named).resolve()
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    msg = f"no {FILE_NAME} in {start} or any folder above; change to the project's folder, or let FX_PARAMS name the file"
    raise ParamsError(msg)


def current_record() -> Path | None:
    """Return the record that this process writes into; None outside a recorded run."""
    record = os.environ.get("FX_RECORD")
    return Path(record) if record else None


def check_symbol(symbol: object) -> str:
    """Return the symbol, or refuse one that could not safely name a file and a model.

    Parameters
    ----------
    symbol : str
        A ticker such as ``AAPL``, ``BRK.B``, ``^GSPC`` or ``TATAMOTORS.BO``.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ParamsError
        Not a ticker.
    """
    if isinstance(symbol, str) and _SYMBOL.fullmatch(symbol) and ".." not in symbol:
        return symbol
    shown = repr(symbol) if len(repr(symbol)) <= 60 else f"{repr(symbol)[:57]}…"  # noqa: PLR2004 (a line's worth)
    msg = f"symbol: {shown} is not a ticker: 1 to 32 letters, digits or . ^ = _ - are (for example AAPL, BRK.B, ^GSPC)"
    raise ParamsError(msg)


def yaml_value(text: str) -> object:
    """Read one value as ``params.yaml`` would: ``3``, ``true``, ``{alpha: 10}``; :class:`ParamsError` where it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"{text!r} is not a value: {error}"
        raise ParamsError(msg) from error


def safe_uri(uri: str) -> str:
    """Return the URI without the user name and password that it may hold."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))


def nearest(word: str, known: Mapping[str, Any] | set[str] | list[str] | tuple[str, ...]) -> str:
    """Return `` (did you mean 'X'?)`` for the known word nearest to ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _resolve(params: Params, file: Path) -> Params:
    """Make paths absolute and let the environment speak."""
    base = file.parent
    paths = PathsParams(**{name: base / value for name, value in params.paths})
    prices = params.prices.model_copy(update={"folder": base / params.prices.folder})
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.mlflow.tracking_uri
    if uri == "dagshub":
        missing = [k for k in ("dagshub_username", "dagshub_repo") if not getattr(params.mlflow, k)]
        if missing:
            msg = f"{file}: mlflow.tracking_uri is dagshub, which needs mlflow.{' and mlflow.'.join(missing)} too"
            raise ParamsError(msg)
        uri = f"https://dagshub.com/{params.mlflow.dagshub_username}/{params.mlflow.dagshub_repo}.mlflow"
    elif uri.startswith("sqlite:///") and not os.environ.get("MLFLOW_TRACKING_URI"):
        uri = f"sqlite:///{base / uri.removeprefix('sqlite:///')}"
    mlflow = params.mlflow.model_copy(update={"tracking_uri": uri})
    resolved = params.model_copy(update={"paths": paths, "prices": prices, "mlflow": mlflow})
    token = os.environ.get("DAGSHUB_TOKEN") or dotenv_values(base / ".env").get("DAGSHUB_TOKEN")
    resolved._file = file  # noqa: SLF001 (private to this module)
    resolved._dagshub_token = SecretStr(token) if token else None  # noqa: SLF001
    return resolved


def _has_mlflow_login(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("MLFLOW_TRACKING_TOKEN") or environ.get("MLFLOW_TRACKING_PASSWORD"))


def _explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Turn pydantic's findings into lines that name the key, what was found and what is known."""
    lines = []
    for found in error.errors(include_url=False):
        where = ".".join(str(part) for part in found["loc"])
        if found["type"] == "extra_forbidden":
            lines.append(f"{where}: {_unknown(str(found['loc'][-1]), _keys_at(model, found['loc'][:-1]))}")
        else:
            message = found["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(found["input"], dict) else f", found {found['input']!r}"
            lines.append(f"{where}: {message}{shown}" if where else message)
    return lines


def _unknown(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return f"unknown key; the nearest known one is {close[0]!r} (known here: {', '.join(sorted(known))})"


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
    if get_origin(annotation) in {dict, list, Union, UnionType}:
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None

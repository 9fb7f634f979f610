"""The sections of ``params.yaml``: every key, its type, its default and its bounds."""

import math
import os
import re
from base64 import b64encode
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from fxhelpers.errors import ParamsError
from fxhelpers.params._checks import check_name, check_path, check_symbol, check_type, looks_secret, unknown_key
from fxhelpers.params._promotion import PromotionParams, Section

FILE_NAME = "params.yaml"
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""Environment of every process that we start: MLflow reads it when it is imported, and reports usage otherwise."""

HIDDEN = "[hidden]"
_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")
_SHORTEST = 6  # characters of a secret: a shorter one may stand in any text

Stage = Literal["None", "Staging", "Production", "Archived"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class PricesParams(Section):
    """Where daily prices come from."""

    source: Literal["sample", "csv", "yfinance"] = "sample"
    folder: Path = Path("prices")
    start: date | None = None
    end: date | None = None

    @field_validator("folder")
    @classmethod
    def _is_written_out(cls, path: Path) -> Path:
        return check_path(path)


class MlpParams(Section):
    """Hyperparameters of one kind of model, named as in scikit-learn's ``MLPRegressor``."""

    hidden_layer_sizes: list[int] = Field(default=[16])
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
    candidates: dict[str, list[Any]] = Field(default={})

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
                msg = f"candidates: {unknown_key(name, known)}"
                raise ValueError(msg)
            if not values:
                msg = f"candidates: {name} lists no value"
                raise ValueError(msg)
            # each candidate has to be a value that the key itself would take: 1e-4, say, which YAML reads as text
            self.candidates[name] = [getattr(type(self)(**{name: value}), name) for value in values]
        return self


class BundlesParams(Section):
    """What a bundle's files may hold, and how big they may be."""

    trusted_types: tuple[str, ...] = ()
    max_megabytes: int = Field(default=64, ge=1, le=1024)

    @field_validator("trusted_types")
    @classmethod
    def _types_are_classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_type(name)
        return names

    @property
    def max_bytes(self) -> int:
        """Bytes of one file, before and after it is unpacked."""
        return self.max_megabytes * 2**20


class TrainingParams(Section):
    """How days are split, and which models exist."""

    validation_size: float = Field(default=0.15, gt=0, lt=0.5)
    test_size: float = Field(default=0.25, gt=0, lt=0.5)
    embargo_days: int = Field(default=1, ge=0)
    random_state: int = Field(default=42, ge=0, lt=2**32)
    model: str = "regularised"
    models: dict[str, MlpParams] = Field(default={"regularised": MlpParams(alpha=100.0)})

    @model_validator(mode="after")
    def _model_is_defined(self) -> "TrainingParams":
        if self.model not in self.models:
            msg = f"model: {self.model!r} is not one of models: {', '.join(self.models)}"
            raise ValueError(msg)
        return self


class ModelRegistryParams(Section):
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


class MlflowParams(Section):
    """Where the registry is."""

    enabled: bool = True
    tracking_uri: str = ""
    dagshub_username: str = ""
    dagshub_repo: str = ""
    experiment_name: str = Field(default="MLP_Stock_Prediction", min_length=1, max_length=500)

    @field_validator("experiment_name")
    @classmethod
    def _name_is_one(cls, name: str) -> str:
        return check_name(name)

    @field_validator("dagshub_username", "dagshub_repo")
    @classmethod
    def _part_of_an_address(cls, name: str) -> str:
        if not re.fullmatch(r"[\w.-]*", name, re.ASCII):
            msg = "letters, digits, and . _ - are expected, as in the address of a repository on DagsHub"
            raise ValueError(msg)
        return name


class PathsParams(Section):
    """Folders; relative ones start at the folder of ``params.yaml``."""

    models: Path = Path("outputs/models")
    metadata: Path = Path("outputs/metadata")
    results: Path = Path("outputs/results")
    features: Path = Path("outputs/features")
    records: Path = Path("outputs/records")

    @field_validator("*")
    @classmethod
    def _is_written_out(cls, path: Path) -> Path:
        return check_path(path)


def secrets_in(uri: str) -> list[str]:
    """Return the passwords and tokens that a URI holds, as they are and as they are written there."""
    parts = urlsplit(uri)
    fields = [part.partition("=") for part in parts.query.split("&")]
    found = [parts.password or "", *(value for key, _, value in fields if looks_secret(key))]
    return [text for secret in found if secret for text in (unquote(secret), secret)]


def _number(name: str, default: float, *, least: float) -> float:
    """Return a number that the environment sets."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        msg = f"{name} in the environment: a number of at least {least:g} is expected, found {text!r:.60}"
        raise ParamsError(msg)
    return value


class Params(Section):
    """All of ``params.yaml``, checked, with absolute paths.

    Credentials are not among the fields, and ``mlflow.tracking_uri`` is
    without them: they are never printed, dumped or compared.
    """

    default_symbol: str = "AAPL"
    prices: PricesParams = PricesParams()
    training: TrainingParams = TrainingParams()
    bundles: BundlesParams = BundlesParams()
    model_registry: ModelRegistryParams = ModelRegistryParams()
    promotion: PromotionParams = PromotionParams()
    mlflow: MlflowParams = MlflowParams()
    paths: PathsParams = PathsParams()

    _file: Path = PrivateAttr(default=Path(FILE_NAME))
    _dagshub_token: SecretStr | None = PrivateAttr(default=None)
    _registry_uri: SecretStr = PrivateAttr(default=SecretStr(""))

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
    def is_server(self) -> bool:
        """Whether the registry is reached over a network, and is no database that this process opens."""
        return self.mlflow.tracking_uri.startswith("http")

    @property
    def is_dagshub(self) -> bool:
        """Whether the registry is DagsHub's."""
        parts = urlsplit(self.mlflow.tracking_uri)
        host = parts.hostname or ""
        return parts.scheme == "https" and (host == "dagshub.com" or host.endswith(".dagshub.com"))

    @property
    def credentials(self) -> dict[str, str]:
        """The login as MLflow's environment would name it: the URI's user and password, or DagsHub's, or nothing."""
        parts = urlsplit(self._registry_uri.get_secret_value())
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if self.is_dagshub and self._dagshub_token is not None:
            user = self.mlflow.dagshub_username or parts.path.strip("/").partition("/")[0]
            password = self._dagshub_token.get_secret_value()
        if not password or not self.is_server:
            return {}
        return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}

    def without_secrets(self, text: str) -> str:
        """Return a text without what must not be told: the registry's password or token, however it was written."""
        text = _LOGIN.sub("", text)
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text

    @property
    def secrets(self) -> list[str]:
        """The registry's password or token, as it is and as it is sent; the longest first."""
        uri = self._registry_uri.get_secret_value()
        login = {**os.environ, **self.credentials}
        user, token = login.get("MLFLOW_TRACKING_USERNAME", ""), login.get("MLFLOW_TRACKING_TOKEN", "")
        plain = {*secrets_in(uri), login.get("MLFLOW_TRACKING_PASSWORD", ""), token}
        sent = {b64encode(f"{user}:{password}".encode()).decode() for password in plain if password}
        return sorted({secret for secret in plain | sent if len(secret) >= _SHORTEST}, key=len, reverse=True)

    @property
    def registry_uri(self) -> str:
        """The URI for MLflow: without credentials where it takes them apart, as it is for a database."""
        return self.mlflow.tracking_uri if self.is_server else self._registry_uri.get_secret_value()

    @property
    def client_uri(self) -> str:
        """The URI for MLflow's client: with the login in it, which so is sent to no other host, and seen by no other thread."""
        login = self.credentials
        if not login:
            return self.registry_uri
        # requests encodes what it finds in a URI as Latin-1, servers read UTF-8
        user, password = (quote(text.encode().decode("latin-1"), safe="") for text in login.values())
        parts = urlsplit(self.registry_uri)
        return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()

    @property
    def uri_setting(self) -> str:
        """The setting that says where the registry is."""
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return f"MLFLOW_TRACKING_URI in the environment (it wins over mlflow.tracking_uri in {self.file})"
        if self.is_dagshub:
            return f"mlflow.tracking_uri, dagshub_username and dagshub_repo in {self.file}"
        return f"mlflow.tracking_uri in {self.file}"

    @property
    def login_name(self) -> str:
        """Who the server is told to be asked by."""
        return self.credentials.get("MLFLOW_TRACKING_USERNAME") or os.environ.get("MLFLOW_TRACKING_USERNAME") or "this login"

    @property
    def login_setting(self) -> str:
        """The setting that the login comes from."""
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
        """In which a call to a server has to end."""
        return _number("MLFLOW_HTTP_REQUEST_TIMEOUT", 120, least=0.1)

    @property
    def request_retries(self) -> int:
        """How often a call is made again, at most, where a server does not take it; by itself as often as time allows."""
        return int(_number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", 99, least=0))

    @property
    def registry_missing(self) -> str | None:
        """Why there is no registry and what to do about it; None where there is one."""
        if not self.mlflow.enabled:
            return (
                "MLflow is disabled in configuration. Model registry will not be available. "
                f"Set `mlflow.enabled: true` in {self.file}."
            )
        login = os.environ.get("MLFLOW_TRACKING_TOKEN") or os.environ.get("MLFLOW_TRACKING_PASSWORD")
        if self.is_dagshub and not self.credentials and not login:
            return (
                "DAGSHUB_TOKEN not found in environment variables. Model registry will not be available. "
                f"Export DAGSHUB_TOKEN, or write it into {self.folder / '.env'} (see .env.example)."
            )
        return None

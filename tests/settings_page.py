"""Generate ``docs/settings.md`` from the models of ``params.yaml``: ``make docs``.

Keys, types, defaults and bounds come from the models. What a key does is the
comment beside it in ``params.yaml``, or, for a key without one, a line of
``SENTENCES``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fxhelpers.params import Params, find_params_file

SENTENCES = {
    "training.models.NAME.hidden_layer_sizes": "units per hidden layer",
    "training.models.NAME.activation": "activation of the hidden layers",
    "training.models.NAME.solver": "optimizer",
    "training.models.NAME.alpha": "L2 penalty",
    "training.models.NAME.learning_rate": "learning-rate schedule; with `solver: sgd`",
    "training.models.NAME.learning_rate_init": "initial learning rate; with `sgd` and `adam`",
    "training.models.NAME.max_iter": "maximum number of epochs",
    "training.models.NAME.early_stopping": "stop when the score on a part of the training days no longer improves",
    "training.models.NAME.validation_fraction": "that part; with `early_stopping`",
    "training.models.NAME.n_iter_no_change": "epochs without improvement before training stops",
    "training.models.NAME.standardise_target": "scale returns to mean 0 and variance 1 for the fit; forecasts are scaled back",
    "training.models.NAME.candidates": "values to try per hyperparameter; the best RMSE on the validation days wins",
    "promotion.gates[].id": "name of the gate, unique in the policy",
    "promotion.gates[].metric": "measure to bound; see the list of measures in [policy](policy.md#measures)",
    "promotion.gates[].test": "test to run, instead of a bound on a measure",
    "promotion.gates[].versus": "what to compare with; without it, `min` and `max` bound the value itself",
    "promotion.gates[].slice": "bound the worst of the three thirds of the days by volatility; with `metric: rmse`",
    "promotion.gates[].min": "smallest value that passes",
    "promotion.gates[].max": "largest value that passes",
    "promotion.gates[].min_improvement": "required gain, as a fraction of the absolute value it is compared with",
    "promotion.gates[].max_regression": "tolerated loss, as a fraction of the absolute value it is compared with",
    "promotion.gates[].alpha": "level of the test, before it is divided among attempts",
    "promotion.gates[].resamples": "bootstrap resamples; more are drawn if the level needs them",
    "promotion.gates[].margin": "non-inferiority margin, as a fraction of the RMSE compared with; with `stationary_bootstrap`",
    "promotion.gates[].severity": "`fail` decides; `warn` is only reported",
}

_HEAD = """# Settings

Which keys `params.yaml` has: type, default, bounds and what each does. `make docs` generates this page; do not edit it.

- fxhelpers reads the file that `FX_PARAMS` names, or else the nearest `params.yaml` in the current folder or above. For
  papermill, whatever its `--cwd`, the search starts at the notebook's own folder, then at the current one.
- Relative paths start at the folder of `params.yaml`.
- An unknown key is an error that names the nearest known one. A key given twice is an error.
- An empty file works: it gives every key the default shown here.

## Environment variables

| variable | what it does |
| --- | --- |
| `FX_PARAMS` | path of the `params.yaml` to use |
| `MLFLOW_TRACKING_URI` | registry; wins over `mlflow.tracking_uri` |
| `DAGSHUB_TOKEN` | token for DagsHub, from the environment or from `.env` next to `params.yaml` |
| `MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD`, `MLFLOW_TRACKING_TOKEN` | login for a server, as in plain MLflow |
| `MLFLOW_HTTP_REQUEST_TIMEOUT` | seconds in which a call to a server must end; default 120 |
| `MLFLOW_HTTP_REQUEST_MAX_RETRIES` | maximum number of retries of a call; default 99 |
| `FX_SERVER_DATABASE` | PostgreSQL URI for `fx server`, as its `--database` |
"""
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "maxItems": "entries ≤ {}",
    "pattern": "`{}`",
}


def settings_page(params_file: Path) -> str:
    """Return the page; a key without comment and sentence is a KeyError."""
    schema = Params.model_json_schema()
    known = {**comments(yaml.compose(params_file.read_text())), **SENTENCES}
    page = _HEAD
    for title, text, keys in _sections("", schema, schema["$defs"]):
        rows = [
            f"| `{name}` | {_type(key)} | {_default(key, schema['$defs'])} | {_bounds(key)} | {known[path]} |"
            for path, name, key in keys
        ]
        page += "\n".join(
            ["", f"## {title}", "", text, "", "| key | type | default | bounds | what it does |", "| --- " * 5 + "|", *rows, ""]
        )
    return page


def _sections(path: str, model: dict[str, Any], models: dict[str, Any]) -> Iterator[tuple[str, str, list[tuple[str, str, Any]]]]:
    """Yield title, text and keys (path, name, schema) of a model and then of those inside it."""
    keys, inner = [], []
    for name, key in model["properties"].items():
        for where, holder in (
            (name, key),
            (f"{name}[]", key.get("items", {})),
            (f"{name}.NAME", key.get("additionalProperties", {})),
        ):
            if isinstance(holder, dict) and "$ref" in holder:
                inner.append((f"{path}{where}", models[holder["$ref"].rpartition("/")[2]]))
        if "$ref" not in key:
            keys.append((f"{path}{name}", name, key))
    if keys:
        text = model["description"].partition("\n\n")[0] if path else "Keys outside any section."
        yield f"`{path.rstrip('.')}`" if path else "Top level", text.replace("``", "`"), keys
    for place, found in inner:
        yield from _sections(f"{place}.", found, models)


def _type(key: dict[str, Any]) -> str:
    if "anyOf" in key:
        return " or ".join(map(_type, key["anyOf"]))
    choices = key.get("enum") or ([key["const"]] if "const" in key else [])
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    items = key.get("items") or key.get("additionalProperties")
    of = {"array": "list", "object": "mapping", "string": "text", "null": "null"}.get(
        key.get("type", ""), key.get("type", "value")
    )
    inner = f" of {_type(items)}" if items and "$ref" not in items and of in {"list", "mapping"} else ""
    return str(key.get("format", of)) + inner


def _default(key: dict[str, Any], models: dict[str, Any]) -> str:
    if "default" not in key:
        return "required"
    value = key["default"]
    if "$ref" in (inner := key.get("additionalProperties", {})):
        usual = models[inner["$ref"].rpartition("/")[2]]["properties"]
        value = {name: {k: v for k, v in one.items() if v != usual[k]["default"]} for name, one in value.items()}
    return "as in `params.yaml`" if len(str(value)) > 60 else f"`{json.dumps(value)}`"


def _bounds(key: dict[str, Any]) -> str:
    parts = [text.format(part[name]) for part in (key, *key.get("anyOf", [])) for name, text in _BOUNDS.items() if name in part]
    return ", ".join(parts)


def comments(node: yaml.Node, path: str = "") -> dict[str, str]:
    """Return the comment in the line of each key of ``params.yaml``."""
    found: dict[str, str] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        line = key.start_mark.buffer[key.start_mark.pointer :].partition("\n")[0]
        found |= {f"{path}{key.value}": line.partition("# ")[2].strip()} if "# " in line else {}
        found |= comments(value, f"{path}{key.value}.")
    return found


if __name__ == "__main__":
    print(settings_page(find_params_file()), end="")

"""Generate ``docs/settings.md`` and ``docs/formats.md``: ``make docs``.

Keys, types, defaults, bounds and what a key does come from the models of
``params.yaml``; formats from the table that recognizes them.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from fxhelpers.estimators import defaults
from fxhelpers.params import ESTIMATORS, HYPERPARAMETERS, LEFT_OUT, Params
from fxhelpers.prices import FORMATS

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


def settings_page() -> str:
    """Return the page; a key without description is a KeyError."""
    schema = Params.model_json_schema()
    page = _HEAD
    for title, text, keys in _sections("", schema, schema["$defs"]):
        rows = [
            f"| `{name}` | {_type(key)} | {_default(key, schema['$defs'])} | {_bounds(key)} | {key['description']} |"
            for name, key in keys
        ]
        page += "\n".join(
            ["", f"## {title}", "", text, "", "| key | type | default | bounds | what it does |", "| --- " * 5 + "|", *rows, ""]
        )
        page += _hyperparameters() if _OTHERS in title else ""
    return page


def _hyperparameters() -> str:
    """Return a table of the hyperparameters that each estimator besides the MLP takes, with scikit-learn's defaults."""
    rows = []
    for estimator in ESTIMATORS[1:]:
        usual = {name: value for name, value in defaults(estimator).items() if name in HYPERPARAMETERS[estimator]}
        listed = ", ".join(f"`{name}` ({json.dumps(value)})" for name, value in usual.items())
        rows.append(f"| `{estimator}` | {listed} |\n")
    left = "".join(f"- `{name}`: {why}.\n" for name, why in LEFT_OUT.items())
    return _HYPERPARAMETERS.format(rows="".join(rows), left=left)


_OTHERS = "of another estimator"
_HYPERPARAMETERS = """
Any other key is a hyperparameter of the estimator, with scikit-learn's name, meaning and default (in parentheses). What
scikit-learn refuses is refused at the fit.

| estimator | hyperparameters |
| --- | --- |
{rows}
Arguments of scikit-learn that are no settings:

{left}"""


def _sections(path: str, model: dict[str, Any], models: dict[str, Any]) -> Iterator[tuple[str, str, list[tuple[str, Any]]]]:
    """Yield title, text and keys (name, schema) of a model and then of those inside it."""
    keys, inner = [], []
    for name, key in model["properties"].items():
        for where, holder in (
            (name, key),
            (f"{name}[]", key.get("items", {})),
            (f"{name}.NAME", key.get("additionalProperties", {})),
        ):
            inner += [(f"{path}{where}", one) for one in _models_in(holder, models)]
        if "$ref" not in key:
            keys.append((name, key))
    if keys:
        text = model["description"].partition("\n\n")[0] if path else "Keys outside any section."
        yield f"`{path.rstrip('.')}`" if path else "Top level", text.replace("``", "`"), keys
    places = set()
    for place, found in inner:
        if place in places:  # another model in the same place: what its keys hold has been listed
            title, text, keys = next(_sections(f"{place}.", found, models))
            yield f"{title} {_OTHERS}", text, keys
        else:
            yield from _sections(f"{place}.", found, models)
        places.add(place)


def _models_in(holder: Any, models: dict[str, Any]) -> list[dict[str, Any]]:
    parts = holder.get("anyOf", [holder]) if isinstance(holder, dict) else []
    return [models[part["$ref"].rpartition("/")[2]] for part in parts if "$ref" in part]


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
    inner = f" of {_type(items)}" if items and "$ref" not in str(items) and of in {"list", "mapping"} else ""
    return str(key.get("format", of)) + inner


def _default(key: dict[str, Any], models: dict[str, Any]) -> str:
    if "default" not in key:
        return "required"
    value = key["default"]
    if found := _models_in(key.get("additionalProperties", {}), models):
        usual = found[0]["properties"]
        value = {name: {k: v for k, v in one.items() if v != usual[k]["default"]} for name, one in value.items()}
    return "as in `params.yaml`" if len(str(value)) > 60 else f"`{json.dumps(value)}`"


def _bounds(key: dict[str, Any]) -> str:
    parts = [text.format(part[name]) for part in (key, *key.get("anyOf", [])) for name, text in _BOUNDS.items() if name in part]
    return ", ".join(parts)


_FORMATS = """# Formats

Which vendors' files of prices are recognized, and how are their prices adjusted? `make docs` generates this page; do not
edit it.

A file is of a vendor if it has all the columns listed here, in any order and case; names in quotation marks must be
written like this. Other files are read by the names of their columns; [prices](prices.md#files) says how to help.
*Adjusted for* is about Open, High, Low and Close as they stand in the file. A column of adjusted closes, four adjusted
columns, or CRSP's and Compustat's factors and returns adjust them for splits and dividends; prices as traded beside an
adjusted close are recognized by how the two part. *Volume* says for what the vendor adjusts it, where that differs from
its prices. The last column says where that is said, and when it was looked up.

| format | columns | adjusted for | volume | note | source |
| --- | --- | --- | --- | --- | --- |
"""
_WORDS = {"all": "splits and dividends", "splits": "splits", "none": "nothing", "unknown": "not said in the file", "same": ""}


def formats_page() -> str:
    """Return the page of the formats."""
    rows = []
    for one in FORMATS:
        exact = [f'"{name}"' for name in sorted(one.exact)]
        columns = ", ".join(
            [*exact, *sorted(one.columns - {"tickerline"}), *(["a line of tickers"] * ("tickerline" in one.columns))]
        )
        note = "; ".join(filter(None, [one.note, "without an opening price it is refused" if one.no_open else ""]))
        cells = [
            f"`{one.name}`",
            columns,
            _WORDS[one.adjusted],
            _WORDS[one.volume],
            note,
            f"{f'<{one.source}>' if one.source else 'no statement found'}, {one.seen}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return _FORMATS + "\n".join([*rows, ""])


if __name__ == "__main__":
    print(formats_page() if "formats" in sys.argv else settings_page(), end="")

"""What the report of a record and the gallery share: templates, and the answer of a notebook in a sentence."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, Template


@cache
def page_template(name: str) -> Template:
    """Return a template of this folder; it escapes what is not marked as HTML, and can include the style sheet."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("fxhelpers.reports"), autoescape=True)


def answer_of(kind: str, summary: Mapping[str, Any]) -> str:
    """Return the answer to a notebook's question, in a sentence; "" if its summary has none.

    Parameters
    ----------
    kind : str
        Name of the notebook, such as ``train``.
    summary : dict
        Its summary, also that of an earlier release, which holds no ``answer``.
    """
    ratio, applied = summary.get("rmse_over_zero"), summary.get("applied")
    if summary.get("answer"):
        return str(summary["answer"])
    if kind in {"train", "evaluate"} and isinstance(ratio, float):
        return f"RMSE {summary.get('rmse')}: {ratio:.4f} times that of forecasting zero."
    if kind == "retain":
        counts = {verb: len(summary.get(verb) or []) for verb in ("archive", "prune")}
        told = [f"{count} {'' if applied else 'to '}{verb}{'d' * bool(applied)}" for verb, count in counts.items() if count]
        return f"Versions: {', '.join(told)}." if told else "No version is due."
    if kind == "history":
        versions = [f"version {version}" for version in summary.get("in_production") or [] if version]
        return f"In Production: {', '.join(versions) or 'no version'} ({summary.get('at')})."
    return ""

"""Records: executed notebooks on disk, and the summary that each of them ends with."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from fxhelpers.params import current_record
from fxhelpers.results import rows_html, shown

SUMMARY_MIME = "application/vnd.fxhelpers.summary+json"


class Summary:
    """What a notebook did: a table for people, JSON for programs.

    Parameters
    ----------
    notebook : str
        Its name, such as ``promote``.
    values : dict
        Text, numbers, True, False or None.
    """

    def __init__(self, notebook: str, values: dict[str, Any]) -> None:
        record = current_record()
        self.data = {"notebook": notebook, **values, "record": record.name if record else None}

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        rows = {key.replace("_", " "): value for key, value in self.data.items()}
        return {
            "text/plain": "\n".join(f"{key:>20}  {shown(value)}" for key, value in rows.items()),
            "text/html": rows_html(rows),
            SUMMARY_MIME: self.data,
        }


def summary(notebook: str, **values: Any) -> Summary:  # noqa: ANN401 (anything that JSON can hold)
    """Return the summary that closes a notebook.

    Parameters
    ----------
    notebook : str
        Its name, such as ``promote``.
    **values
        What it did, in the order to show it.

    Returns
    -------
    Summary
    """
    return Summary(notebook, {key: json.loads(json.dumps(value, default=str)) for key, value in values.items()})


def read_summary(notebook: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary of an executed notebook; None where it has none, because it did not get that far."""
    for cell in reversed(notebook["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if SUMMARY_MIME in data:
                return dict(data[SUMMARY_MIME])
    return None


def in_unrecorded_notebook() -> bool:
    """Tell whether this is a Jupyter kernel whose notebook nobody keeps as a record."""
    return current_record() is None and "ipykernel.kernelapp" in sys.modules

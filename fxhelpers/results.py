"""Results of operations: frozen dataclasses that are also mappings, and their values for people."""

import html
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any


class Keyed(Mapping[str, Any]):
    """Mixin for a dataclass whose public fields and properties are read as ``x["field"]`` too."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 (fields differ in type)
        if key not in self._keys():
            msg = f"{key!r} is not a key of {type(self).__name__}; keys: {', '.join(self._keys())}"
            raise KeyError(msg)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    @classmethod
    def _keys(cls) -> tuple[str, ...]:
        own = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        derived = [name for name, value in vars(cls).items() if isinstance(value, property)]
        return tuple(name for name in own + derived if not name.startswith("_"))


CARD = re.compile(r"<!--card-->.*?<!--/card-->", re.DOTALL)
"""Part of a notebook's output that a report leaves out, because the card at its top says it."""


def in_card(text: str) -> str:
    """Mark HTML that the card of a report repeats."""
    return f"<!--card-->{text}<!--/card-->"


def shown(value: object) -> str:
    """Return a value for people: - for None, yes or no, six digits, none for an empty list."""
    if value is None:
        return "-"
    if value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_as(value: float | None, form: str) -> str:
    """Return a number in a format such as ``{:.1%}``; - if it is missing or not finite."""
    return form.format(value) if value is not None and math.isfinite(value) else "-"


def rows_html(rows: Mapping[str, object], card: tuple[str, ...] = ()) -> str:
    """Return names and values as an HTML table, without empty ones; the rows in ``card`` are marked for the card."""
    given = {key: value for key, value in rows.items() if has_value(value)}
    lines = {key: f"<tr><th>{html.escape(key)}</th><td>{html.escape(shown(value))}</td></tr>" for key, value in given.items()}
    return left_aligned(f"<table>{''.join(in_card(line) if key in card else line for key, line in lines.items())}</table>")


def has_value(value: object) -> bool:
    """Return whether a value can be shown: False, 0 and an empty list can."""
    return value is not None and value != "" and value == value  # noqa: PLR0124 (NaN)


def left_aligned(table: str) -> str:
    """Return an HTML table with all cells aligned left and top, for text."""
    return re.sub(r"<(t[hd])\b", r"<\1 style='text-align:left; vertical-align:top'", table)

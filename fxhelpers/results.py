"""What an operation did is what it returns: frozen dataclasses that are also mappings, and read well in a notebook."""

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
"""What a report leaves out of a notebook's output, since the card at its top says it."""


def in_card(text: str) -> str:
    """Mark HTML as what the card of a report says too."""
    return f"<!--card-->{text}<!--/card-->"


def shown(value: object) -> str:
    """Return a value as people read it: - for None, yes and no, six digits, none for an empty list."""
    if value is None:
        return "-"
    if value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_as(value: float | None, form: str) -> str:
    """Return a number in a format such as ``{:.1%}``; - where there is none, or it is not finite."""
    return form.format(value) if value is not None and math.isfinite(value) else "-"


def rows_html(rows: Mapping[str, object], card: tuple[str, ...] = ()) -> str:
    """Return names and values as an HTML table, left-aligned and whole, without what has no value; ``card`` has some of them."""
    given = {key: value for key, value in rows.items() if has_value(value)}
    lines = {key: f"<tr><th>{html.escape(key)}</th><td>{html.escape(shown(value))}</td></tr>" for key, value in given.items()}
    return left_aligned(f"<table>{''.join(in_card(line) if key in card else line for key, line in lines.items())}</table>")


def has_value(value: object) -> bool:
    """Tell whether there is anything to show: no and 0 are values, and so is an empty list."""
    return value is not None and value != "" and value == value  # noqa: PLR0124 (NaN)


def left_aligned(table: str) -> str:
    """Return an HTML table whose cells begin at the left and at the top: for text, not for numbers."""
    return re.sub(r"<(t[hd])\b", r"<\1 style='text-align:left; vertical-align:top'", table)

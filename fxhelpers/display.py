"""What people see: results that are mappings too, values, HTML, and tables."""

import html
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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


_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?|-|")
_SHORT, _SHORT_HEAD = 26, 14  # characters of a cell, and of a head, that is kept on one line
_MOST_COLUMNS, _MOST_OF_TEXT = 5, 2
"""A report stacks the cells of a row on a narrow screen if there are more, or as many and more of them are text."""


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """A frame that a notebook shows well, in light and dark themes."""

    frame: "pd.DataFrame"  # the name of its columns heads the index, which is left out if it only counts
    written: tuple[str, ...] = ()  # columns that hold HTML already, such as links
    terms: Mapping[str, str] = field(default_factory=dict)  # definitions of labels of rows or columns, shown as tooltips
    notes: Iterable[str] = ()  # definitions below the table, closed until the reader opens them

    def __repr__(self) -> str:
        return self.frame.to_string(index=not self._counts)

    @property
    def _counts(self) -> bool:
        index = self.frame.index
        return index.name is None and self.frame.columns.name is None and list(index) == list(range(len(index)))

    def _repr_html_(self) -> str:
        frame = self.frame
        columns = [list(map(_text, frame[name])) for name in frame.columns]
        numbers = (all(map(_NUMBER.fullmatch, column)) and any(cell.strip("-") for cell in column) for column in columns)
        sides = ["right" if number else "left" for number in numbers]
        corner = [] if self._counts else [_cell("th", self._label(frame.columns.name or frame.index.name or ""), "left")]
        head = "".join(corner + [_cell("th", self._label(n), side) for n, side in zip(frame.columns, sides, strict=True)])
        lines = []
        for label, *values in zip(frame.index, *columns, strict=True):
            cells = [] if self._counts else [_cell("th", self._label(label), "left")]
            for name, value, side in zip(frame.columns, values, sides, strict=True):
                cells.append(_cell("td", value if name in self.written else html.escape(value), side, str(name)))
            lines.append(f"<tr>{''.join(cells)}</tr>")
        if not lines:
            lines = [f"<tr><td colspan='{len(corner) + len(columns)}' style='text-align:left'>none</td></tr>"]
        wide = len(corner) + len(columns) + (sides.count("left") > _MOST_OF_TEXT) > _MOST_COLUMNS
        stacked = " class='stack'" if wide else ""
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        notes = f"<details style='font-size:90%'><summary>Terms</summary><ul>{notes}</ul></details>" if notes else ""
        return f"<table{stacked}><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{notes}"

    def _label(self, label: object) -> str:
        """Return a label as HTML, with its definition as a tooltip if it has one."""
        text, term = html.escape(str(label)), self.terms.get(str(label))
        return f'<abbr title="{html.escape(term)}">{text}</abbr>' if term else text


def table(frame: "pd.DataFrame", terms: Mapping[str, str] | None = None) -> Table:
    """Return a frame for a notebook: numbers at the right, text at the left.

    Parameters
    ----------
    frame : DataFrame
        Of any kind.
    terms : dict, optional
        Definitions of labels of rows or columns, shown as tooltips.

    Returns
    -------
    Table
    """
    return Table(frame, terms=terms or {})


def badge(word: str, colour: str) -> str:
    """Return a word in white on a color, as HTML."""
    style = f"background:{colour}; color:white; padding:1px 8px; border-radius:4px; white-space:nowrap"
    return f"<span style='{style}'>{html.escape(word)}</span>"


def link(there: str, text: str) -> str:
    """Return a link as HTML."""
    return f'<a href="{html.escape(there)}">{html.escape(text)}</a>'


def paragraphs(lines: Iterable[str]) -> str:
    """Return sentences as HTML."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _text(value: object) -> str:
    return "-" if isinstance(value, float) and math.isnan(value) else shown(value)


def _cell(kind: str, content: str, side: str, of: str = "") -> str:
    most = _SHORT if kind == "td" else _SHORT_HEAD
    kept = "; white-space:nowrap" if len(re.sub(r"<[^>]*>", "", content)) <= most else "; overflow-wrap:anywhere"
    head = f' data-of="{html.escape(of)}"' if of else ""
    return f"<{kind} style='text-align:{side}; vertical-align:top{kept}'{head}>{content}</{kind}>"


_SECONDS_BETWEEN = 0.2


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows so many done of so many: as a bar in a notebook, which its record keeps, or on a terminal."""
    if getattr(getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)(), "kernel", None) is not None:
        from IPython.display import display

        handle: Any = display(_Bar(what, 0, 0), display_id=True)  # type: ignore[no-untyped-call]
        shown_at = [0.0]

        def show(done: int, total: int) -> None:
            if done == total or time.monotonic() - shown_at[0] > _SECONDS_BETWEEN:
                shown_at[0] = time.monotonic()
                handle.update(_Bar(what, done, total))

        yield show
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@dataclass(frozen=True, slots=True)
class _Bar:
    what: str
    done: int
    total: int

    def __repr__(self) -> str:
        return f"{self.what}: {self.done} of {self.total}"

    def _repr_html_(self) -> str:
        if self.done >= self.total:
            return f"<p>{html.escape(repr(self))}</p>"
        return f"<p>{html.escape(repr(self))} <progress value='{self.done}' max='{self.total}'></progress></p>"

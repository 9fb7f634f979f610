"""Tables in notebooks: who reads them finds numbers at the right, and nothing that nobody asked for."""

import re

import pandas as pd

from fxhelpers import table
from fxhelpers.display import Table, badge


def sides(frame: pd.DataFrame) -> list[str]:
    body = table(frame)._repr_html_().partition("<tbody>")[2]
    return re.findall(r"<td style='text-align:(\w+)", body)


def test_numbers_stand_at_the_right_and_text_at_the_left() -> None:
    frame = pd.DataFrame({"p": ["0.0123", "-"], "gain": ["+1.2%", "-0.3 %"], "of": ["version 3", "-"], "until": ["", "-"]})
    assert sides(frame) == ["right", "right", "left", "left"] * 2
    assert sides(pd.DataFrame({"n": [3270, 1], "x": [0.1234567, float("nan")]})) == ["right"] * 4
    assert (
        "<td style='text-align:right; vertical-align:top; white-space:nowrap' data-of=\"x\">0.123457</td>"
        in table(pd.DataFrame({"x": [0.1234567]}))._repr_html_()
    )


def test_rows_that_are_only_counted_show_no_numbers_and_names_head_their_column() -> None:
    frame = pd.DataFrame({"a": ["x", "y"]})
    assert "<th" not in table(frame)._repr_html_().partition("<tbody>")[2]
    assert repr(table(frame)).split() == ["a", "x", "y"]
    named = frame.set_axis([2, 1]).rename_axis(columns="version")
    assert re.findall(r">([^<]+)</th>", table(named)._repr_html_()) == ["version", "a", "2", "1"]


def test_a_table_without_rows_says_so() -> None:
    assert "<td colspan='2' style='text-align:left'>none</td>" in table(pd.DataFrame(columns=["a", "b"]))._repr_html_()


def test_what_is_text_stays_text() -> None:
    frame = pd.DataFrame({"<b>": ["<script>"], "html": [badge("✓ pass", "#00604d")]})
    told = Table(frame, ("html",))._repr_html_()
    assert "&lt;script&gt;" in told
    assert "&lt;b&gt;" in told
    assert ">✓ pass</span>" in told

"""The largest moves of a share, and what each might be."""

import numpy as np
import pandas as pd

from fxhelpers.display import shown_as
from fxhelpers.prices._share import SharePrices

_USUAL = 60  # days around a move
_BUSY = 2.5  # times the usual volume
_BACK = 0.5  # share of a move that is undone the day after


def largest_moves(prices: SharePrices, count: int = 10) -> pd.DataFrame:
    """Return the largest daily moves of the close, the largest first.

    Parameters
    ----------
    prices : SharePrices
        As ``read_prices`` returns them.
    count : int
        How many.

    Returns
    -------
    DataFrame of shape (count, 5)
        As text, for people: day, move of the close, gap from the close before
        to the open, volume as a multiple of the median of the 60 days around
        it, and what the move might be.
    """
    frame = prices.frame
    close, opened, volume = frame["Close"], frame["Open"], frame["Volume"]
    moves, gaps, after = close.pct_change(), opened / close.shift(1) - 1, close.shift(-1) / close - 1
    usual = volume.rolling(_USUAL, center=True, min_periods=1).median()
    busy = volume / usual.where(usual > 0)
    found = {day: finding for finding in prices.doubts for day in finding.days}
    rows = []
    for day in moves.abs().nlargest(count).index:
        move = float(moves[day])
        doubt = found.get(day)
        if doubt is not None:
            perhaps = f"doubtful: {_DOUBTS.get(doubt.check, doubt.check)}"
        elif -float(after[day]) * np.sign(move) > _BACK * abs(move):
            perhaps = "mostly undone the next day"
        elif busy[day] >= _BUSY:
            perhaps = "news, by its volume"
        else:
            perhaps = "a large day"
        times = shown_as(float(busy[day]), "{:.1f}")
        rows.append([f"{day:%Y-%m-%d}", f"{move:+.1%}", shown_as(float(gaps[day]), "{:+.1%}"), times, perhaps])
    columns = ["day", "move", "gap", "times usual volume", "perhaps"]
    return pd.DataFrame(rows, columns=columns).set_index("day").rename_axis(index=None, columns="day")


_DOUBTS = {
    "split": "a split that was adjusted nowhere",
    "spike": "a wrong price",
    "splice": "another share's rows begin or end",
    "outside": "Open or Close outside Low to High",
    "stuck": "prices stand still",
    "no_volume": "no volume",
    "repeated": "a repeated row",
    "midpoint": "no trade, the midpoint of bid and ask",
}

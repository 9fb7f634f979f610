"""What all figures share: size, colours, dates.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; what
they tell, a line style, a marker or a hatch tells too.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num

BLUE, ORANGE, GREEN, GREY, SKY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E", "#56B4E9"
WINDOWS = {"training": BLUE, "validation": ORANGE, "test": GREEN}


def axes(ax: Axes | None, height: float) -> Axes:
    """Return the axes that were given, or new ones of a notebook's width, so many inches high."""
    return ax if ax is not None else plt.subplots(figsize=(9, height), dpi=120, layout="constrained")[1]


def panels(rows: int, columns: int, height: float, *, sharex: bool = False) -> list[Axes]:
    """Return new axes in rows and columns, row by row."""
    figure = plt.figure(figsize=(9, height), dpi=120, layout="constrained")
    return list(np.ravel(figure.subplots(rows, columns, sharex=sharex)))


def day(text: str) -> float:
    """Return a day in the units of a date axis."""
    return float(date2num(np.datetime64(text.removesuffix("+00:00"))))  # type: ignore[no-untyped-call]


def finish(ax: Axes) -> Axes:
    """Take away what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.title.set_fontsize(11)
    return ax

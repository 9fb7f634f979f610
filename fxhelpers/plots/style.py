"""What all figures share: size, colours, dates.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; what
they tell, a line style, a marker or a hatch tells too.
"""

from io import BytesIO
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from PIL import Image

BLUE, ORANGE, GREEN, GREY, SKY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E", "#56B4E9"
WINDOWS = {"training": BLUE, "validation": ORANGE, "test": GREEN}


_DPI = 96  # a screen's; drawn at twice that
_PALETTE = 64


class Figure(matplotlib.figure.Figure):
    """A figure that notebooks show sharp and small, with a text for who does not see it."""

    @property
    def alt(self) -> str:
        """What is drawn, in words: each part's title, axes and legend, and where its lines begin and end."""
        return " ".join(_described(ax) for ax in self.axes)

    def png(self) -> tuple[bytes, dict[str, Any]]:
        """Return the figure as PNG for a screen of twice the usual sharpness, and the size and the text to show it with."""
        drawn, png = BytesIO(), BytesIO()
        self.savefig(drawn, format="png", dpi=2 * _DPI)
        image = Image.open(drawn).convert("RGB").quantize(_PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        image.save(png, "png")
        return png.getvalue(), {"width": image.width // 2, "height": image.height // 2, "alt": self.alt}


def _described(ax: Axes) -> str:
    axis = [f"{name}: {label}" for name, label in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())) if label]
    handles, labels = ax.get_legend_handles_labels()
    ends = {line.get_label(): line.get_ydata() for line in handles if hasattr(line, "get_ydata")}
    lines = [f"{label}{_ends(ends.get(label))}" for label in labels]
    parts = [ax.get_title() or "A panel without a title", *axis, *(["shown: " + ", ".join(lines)] if lines else [])]
    return "; ".join(part.replace("\n", " ") for part in parts) + "."


def _ends(values: Any) -> str:  # noqa: ANN401 (matplotlib's data)
    """Return from where to where a line goes; nothing for a point, or for what has no numbers."""
    finite = np.asarray(values, dtype=float) if values is not None and len(values) > 1 else np.array([])
    finite = finite[np.isfinite(finite)]
    return f" (from {finite[0]:.3g} to {finite[-1]:.3g})" if len(finite) else ""


def axes(ax: Axes | None, height: float) -> Axes:
    """Return the axes that were given, or new ones of a notebook's width, so many inches high."""
    return ax if ax is not None else panels(1, 1, height)[0]


def panels(rows: int, columns: int, height: float, *, sharex: bool = False) -> list[Axes]:
    """Return new axes in rows and columns, row by row."""
    shell = get_ipython()
    if shell is not None:  # matplotlib's own formatter goes before all that a figure says of itself
        shell.display_formatter.formatters["image/png"].for_type(Figure, Figure.png)
    figure = plt.figure(figsize=(9, height), dpi=_DPI, layout="constrained", FigureClass=Figure)
    return list(np.ravel(figure.subplots(rows, columns, sharex=sharex)))


def day(text: str) -> float:
    """Return a day in the units of a date axis."""
    return float(date2num(np.datetime64(text.removesuffix("+00:00"))))  # type: ignore[no-untyped-call]


def finish(ax: Axes) -> Axes:
    """Take away what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.title.set_fontsize(11)
    return ax

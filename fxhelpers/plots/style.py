"""What all figures share: size, colors, legend, dates.

A figure is as wide as a phone: a report shows two of them side by side, or one
above the other. Colors are those of Okabe and Ito, which color-blind readers
distinguish; a line style, a marker or a hatch says the same.
"""

import re
from io import BytesIO
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from PIL import Image

BLUE, ORANGE, GREEN, GREY, SKY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E", "#56B4E9"
WINDOWS = {"training": BLUE, "validation": ORANGE, "test": GREEN}

_DPI = 96  # a screen's; drawn at twice that
_WIDTH, _TEXT, _TITLE = 4.4, 8, 9.5  # inches, points, points
_SHORT_LABEL = 28  # characters; longer ones stand one below the other in the legend
_PALETTE = 64


class Figure(matplotlib.figure.Figure):
    """A figure that notebooks show sharp and small, with a description for readers who do not see it."""

    @property
    def alt(self) -> str:
        """Description of each part: title, axes and legend, and the values at which its lines begin and end."""
        return " ".join(_described(ax) for ax in self.axes)

    def png(self) -> tuple[bytes, dict[str, Any]]:
        """Return the figure as PNG at twice the usual sharpness, with the size and the description to show it with."""
        drawn, png = BytesIO(), BytesIO()
        self.savefig(drawn, format="png", dpi=2 * _DPI)
        image = Image.open(drawn).convert("RGB").quantize(_PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        image.save(png, "png")
        return png.getvalue(), {"width": image.width // 2, "height": image.height // 2, "alt": self.alt}


def _described(ax: Axes) -> str:
    axis = [f"{name}: {label}" for name, label in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())) if label]
    names = [tick.get_text() for tick in ax.get_yticklabels() if re.search("[A-Za-z]", tick.get_text())]
    rows = [f"rows: {', '.join(names)}"] if names else []
    handles, labels = ax.get_legend_handles_labels()
    ends = {line.get_label(): line.get_ydata() for line in handles if hasattr(line, "get_ydata")}
    lines = [f"{label}{_ends(ends.get(label))}" for label in labels]
    shown = ["shown: " + ", ".join(lines)] if lines else []
    return (
        "; ".join(part.replace("\n", " ") for part in [ax.get_title() or "A panel without a title", *axis, *rows, *shown]) + "."
    )


def _ends(values: Any) -> str:  # noqa: ANN401 (matplotlib's data)
    """Return the values at which a line begins and ends; "" for a point, or without numbers."""
    finite = np.asarray(values, dtype=float) if values is not None and len(values) > 1 else np.array([])
    finite = finite[np.isfinite(finite)]
    return f" (from {finite[0]:.3g} to {finite[-1]:.3g})" if len(finite) else ""


def axes(ax: Axes | None, height: float) -> Axes:
    """Return the given axes, or those of a new figure, so many inches high."""
    if ax is not None:
        return ax
    shell = get_ipython()
    if shell is not None:  # before matplotlib's own formatter, which knows no description
        shell.display_formatter.formatters["image/png"].for_type(Figure, Figure.png)
    return plt.figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", FigureClass=Figure).subplots()


def day(text: str) -> float:
    """Return a day in the units of a date axis."""
    return float(date2num(np.datetime64(text.removesuffix("+00:00"))))  # type: ignore[no-untyped-call]


def dates(ax: Axes) -> None:
    """Label an axis of days so that the labels fit a narrow figure."""
    ax.xaxis_date()
    places = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(places)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(places))  # type: ignore[no-untyped-call]


def nothing(ax: Axes, why: str) -> None:
    """Write into a figure why it shows nothing."""
    ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, fontsize=_TEXT, wrap=True)


def finish(ax: Axes) -> Axes:
    """Set the sizes of all text, put the legend below, and remove what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.title.set_fontsize(_TITLE)
    ax.tick_params(labelsize=_TEXT)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.xaxis.get_offset_text(), ax.yaxis.get_offset_text()):
        text.set_fontsize(_TEXT)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > _SHORT_LABEL else 2
        ax.figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=_TEXT)
    return ax

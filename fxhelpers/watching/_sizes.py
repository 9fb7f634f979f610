"""Size of forecasts, which is known before any return is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

_SIZE_DAYS = 63  # the most recent forecasts whose size is judged


def allowed_sizes(sizes: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest plausible size of forecasts: half the smallest to twice the largest earlier one."""
    return min(sizes) / 2, 2 * max(sizes)


def size_warning(live: pd.Series, rolling: pd.Series) -> str:
    """Whether the last live forecasts are implausibly large or small, which can be seen before any return is known.

    The rule of the gate ``size``: half the smallest to twice the largest of
    earlier sizes. A size is the RMS of the last 63 live forecasts, or of all if
    there are fewer; earlier ones are those of every run of so many rolling-origin
    days.

    Parameters
    ----------
    live, rolling : Series
        Live forecasts, and the recipe's rolling-origin forecasts; fractions,
        oldest first.

    Returns
    -------
    str
        A sentence if they are implausible, or if there are too few
        rolling-origin days to tell; else empty.

    Raises
    ------
    ValueError
        A value that is not finite.
    """
    now, before = live.to_numpy(dtype=float)[-_SIZE_DAYS:], rolling.to_numpy(dtype=float)
    check_finite(now, "live forecasts")
    check_finite(before, "rolling-origin forecasts")
    if not now.size:
        return ""
    if before.size < _SIZE_DAYS:
        return f"The size of its forecasts is not judged: {before.size} rolling-origin days, at least {_SIZE_DAYS} are required."
    runs = np.lib.stride_tricks.sliding_window_view(before, now.size)
    with np.errstate(over="ignore"):  # a broken model may forecast anything
        size, sizes = float(np.sqrt(np.mean(now**2))), np.sqrt(np.mean(runs**2, axis=1))
    low, high = allowed_sizes(sizes.tolist())
    if low <= size <= high:
        return ""
    last = f"last {now.size} live forecasts have" if now.size > 1 else "live forecast has"
    bounds = f"{100 * low:.3g} to {100 * high:.3g} %"
    return f"Its {last} a size (RMS) of {100 * size:.3g} %; the rolling-origin forecasts of its recipe allow {bounds}."


def check_finite(values: np.ndarray, what: str) -> None:
    """Raise :class:`ValueError` if a value is not finite."""
    if not np.isfinite(values).all():
        msg = f"{what} must be finite; leave out days without a return"
        raise ValueError(msg)

"""What a check of prices found."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

Severity = Literal["refused", "doubtful", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFinding:
    """One fault or peculiarity of a price file."""

    check: str  # name of the check, such as ``sessions``
    # refused: cannot be, nothing is trained; doubtful: may be, is trained and compared on, and said in the verdict; note: said
    severity: Severity
    message: str  # what was found, how often, where first, and what to do
    days: tuple[pd.Timestamp, ...] = ()  # the days concerned, increasing; empty if it is about the whole file


def how_often(count: int, where: str) -> str:
    """Return ``once on 2008-02-14``, or ``3 times, first on 2008-02-14``, for ``where`` as in ``on 2008-02-14``."""
    return f"once {where}" if count == 1 else f"{count} times, first {where}"

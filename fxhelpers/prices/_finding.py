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

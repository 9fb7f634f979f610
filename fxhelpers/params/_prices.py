"""The section ``prices`` of ``params.yaml``."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fxhelpers.params._input import unknown_key
from fxhelpers.params._models import Section
from fxhelpers.params._sections import Folder

PARTS = (
    *("Date", "Open", "High", "Low", "Close", "Volume", "Adj Open", "Adj High", "Adj Low", "Adj Close", "Adj Volume"),
    *("Split", "Ticker", "Price Divisor", "Volume Factor", "Total Return", "Return Factor"),
)
"""Parts of a price file whose columns can be named."""


def _no_exchange(name: object) -> object:
    return None if isinstance(name, str) and name.lower() in {"none", "null"} else name


class PriceChecksParams(Section):
    """What no exchange prints: bounds of the checks of daily prices."""

    max_missing: float = Field(default=0.05, ge=0, le=1)
    """largest share of the exchange's sessions that may be missing; above, prices are refused; below, the gaps are doubtful"""
    max_hole_days: int = Field(default=14, ge=5, le=400)
    """calendar days without a price that are doubtful where any day trades; with calendar: null"""
    max_outside: float = Field(default=0.01, ge=0, le=1)
    """largest share of days whose Open or Close may lie outside Low..High; above, prices are refused, below, doubtful"""
    equal_closes: int = Field(default=5, ge=3, le=100)
    """equal closes in a row that are doubtful; more where prices are so low that rounding makes them equal"""
    zero_volume_days: int = Field(default=3, ge=1, le=100)
    """days in a row without volume that are doubtful, unless there never is any"""
    jump: float = Field(default=6.0, ge=3, le=100)
    """doubtful gap between a close and the next open, in ordinary daily ranges (High to Low), divided by volume over its level"""


class PricesParams(Section):
    """Source of the daily prices, and how its files are read."""

    source: Literal["sample", "csv", "yfinance"] = "sample"
    """sample (AAPL, GOOG, IBM, MSFT 2000-2013), csv (a folder of files, one per symbol) or yfinance (optional extra)"""
    folder: Folder = Path("prices")
    """folder of the files, or one file of many symbols; with source: csv"""
    start: date | None = None
    """first day to use, e.g. 2005-01-03; null: the first there is"""
    end: date | None = None
    """last day to use; null: the last there is"""
    calendar: Annotated[str | None, BeforeValidator(_no_exchange)] = "XNYS"
    """exchange whose sessions are expected, such as XLON or XTKS, as in exchange_calendars; null: any day can trade"""
    format: str | None = None
    """vendor's format of the files, such as tiingo; null: recognized by the columns"""
    columns: dict[str, str] = Field(default={})
    """names of columns, by Date, Open, High, Low, Close, Volume, Adj Close, Ticker; those not listed are recognized"""
    adjusted: Literal["all", "splits", "none"] | None = None
    """what Open, High, Low and Close are adjusted for: all (splits and dividends), splits or none; null: as the file says"""
    checks: PriceChecksParams = PriceChecksParams()
    """Bounds of the checks"""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for part in self.columns:
            if part not in PARTS:
                msg = f"columns: {unknown_key(part, set(PARTS))}; the name in the file comes after the colon"
                raise ValueError(msg)
        if len(set(self.columns.values())) < len(self.columns):
            msg = "columns: one column of the file is named for two parts"
            raise ValueError(msg)
        if self.start and self.end and self.start > self.end:
            msg = f"start: {self.start} is after end: {self.end}"
            raise ValueError(msg)
        return self

"""A desk's evenings: prices grow by a session, the clock moves on, champions forecast and are watched."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import faults
import numpy as np
import pandas as pd
import pytest
import time_machine

import fxhelpers.registry._client
from fxhelpers import ModelRegistry, read_prices, train_model, write_bundle
from fxhelpers.bundles import Bundle
from fxhelpers.params import load_params
from fxhelpers.prices._sessions import _calendar

BEFORE = 700
"""Sessions before the first evening."""


def returns(days: int, seed: int, *, momentum: float = 0.4, flips: int | None = None) -> np.ndarray:
    """Return daily returns, each a share of the one before plus noise; from the day ``flips`` on with the other sign."""
    shocks = np.random.default_rng(seed).standard_t(6, days) * 0.01 * np.sqrt(4 / 6)
    values = np.zeros(days)
    for day in range(1, days):
        sign = -1.0 if flips is not None and day >= flips else 1.0
        values[day] = sign * momentum * values[day - 1] + np.sqrt(1 - momentum**2) * shocks[day]
    return values


def prices_of(values: np.ndarray, sessions: pd.DatetimeIndex, seed: int) -> pd.DataFrame:
    """Return prices with these returns on these sessions."""
    noise = np.random.default_rng([seed, 1])
    close = 100 * np.exp(np.cumsum(np.log1p(values)))
    opens = np.concatenate([close[:1], close[:-1]]) * (1 + 0.001 * noise.standard_normal(len(close)))
    high = np.maximum(opens, close) * (1 + 0.002 * np.abs(noise.standard_normal(len(close))))
    low = np.minimum(opens, close) * (1 - 0.002 * np.abs(noise.standard_normal(len(close))))
    volume = noise.integers(900_000, 1_100_000, len(close))
    columns = {"Open": opens, "High": high, "Low": low, "Close": close, "Volume": volume}
    return pd.DataFrame(columns, index=pd.Index(sessions, name="Date")).round(6)


class Desk:
    """A project with a champion for each share, whose clock stands after the close of a session."""

    def __init__(self, folder: Path, shares: dict[str, pd.DataFrame], clock: time_machine.Traveller) -> None:
        self.folder, self.shares, self.clock = folder, shares, clock
        self.sessions = next(iter(shares.values())).index
        self.calendar = _calendar("XNYS", "2011-01-01", "2017-12-31")

    @property
    def registry(self) -> ModelRegistry:
        return ModelRegistry(self.folder / "params.yaml")

    def close(self, number: int, *, symbols: Sequence[str] = ()) -> str:
        """Move the clock to two hours after the close of a session, with prices up to it; return the session."""
        day = self.sessions[number]
        self.clock.move_to((self.calendar.session_close(day) + pd.Timedelta(hours=2)).to_pydatetime())
        folder = self.folder / "prices"
        folder.mkdir(exist_ok=True)
        for symbol in symbols or self.shares:
            self.shares[symbol].iloc[: number + 1].to_csv(folder / f"{symbol}.csv")
        return f"{day:%Y-%m-%d}"

    def train(self, symbol: str) -> Bundle:
        params = load_params(self.folder / "params.yaml")
        made = train_model(symbol, read_prices(symbol, params.prices), params.training)
        return write_bundle(made.model, made.scaler, made.metadata, params.paths)

    def serve(self, symbol: str) -> int:
        """Train and register a version, and make it champion by hand; return its number."""
        registry = self.registry
        version = registry.register_model(self.train(symbol)).version
        registry.transition_stage(registry.model_name(symbol), version, "Production")
        return version


def sessions(count: int) -> pd.DatetimeIndex:
    """Return so many sessions of the New York Stock Exchange."""
    days: pd.DatetimeIndex = _calendar("XNYS", "2011-01-01", "2017-12-31").sessions[:count]
    return days


SETTINGS = {
    "prices": {"source": "csv", "folder": "prices", "calendar": "XNYS"},
    "training": {
        "refit": True,
        "rolling": {"first_day": 300, "every_days": 63},
        "model": "ridge",
        "models": {"ridge": {"estimator": "Ridge", "alpha": 100.0}},
    },
}
"""Sections of a desk's params.yaml."""


def without_clock(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Let the embedded registry have no clock of its own, so that all times are those of the moved one."""
    if monkeypatch:
        monkeypatch.setattr("fxhelpers.registry._client.registry_clock", lambda _: None)
    else:
        fxhelpers.registry._client.registry_clock = lambda _: None


def killed_evening(folder: Path, moment: datetime, writes: int) -> int | None:
    """Run an evening in a child that is killed right after so many commits that wrote something; return its exit code."""
    child = faults.CONTEXT.Process(target=_evening, args=(str(folder), moment, writes))
    child.start()
    child.join(300)
    return child.exitcode


def _evening(folder: str, moment: datetime, writes: int) -> None:
    os.chdir(folder)
    without_clock()
    faults.die_after(writes, writing=True)
    with time_machine.travel(moment):
        registry = ModelRegistry(Path(folder) / "params.yaml")
        registry.forecast(apply=True)
        registry.watch(apply=True)

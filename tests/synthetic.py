"""Shares that nobody trades: resampled days of real ones. They are made where they are needed, and never shipped."""

from pathlib import Path

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap

from fxhelpers import load_prices, train_model, write_bundle
from fxhelpers.bundles import Bundle
from fxhelpers.params import Params, PricesParams

_REAL = ("AAPL", "GOOG", "IBM", "MSFT")
_BLOCK_DAYS = 20  # a month, so that calm and wild weeks stay together


def write_prices(folder: Path, count: int, *, seed: int = 0) -> list[str]:
    """Write ``SYMBOL.csv`` for so many symbols, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    real = [load_prices(symbol, PricesParams(source="sample")) for symbol in _REAL]
    symbols = [f"S{number:03d}" for number in range(1, count + 1)]
    for number, symbol in enumerate(symbols):
        _resampled(real[number % len(real)], seed=[seed, number]).to_csv(folder / f"{symbol}.csv", float_format="%.6g")
    return symbols


def write_bundles(symbols: list[str], params: Params) -> list[Bundle]:
    """Train a small model of each symbol, in a few steps, and write its bundle."""
    quick = {"hidden_layer_sizes": [4], "alpha": 100.0, "max_iter": 5}
    bundles = []
    for symbol in symbols:
        made = train_model(symbol, load_prices(symbol, params.prices), params.training, overrides=quick, source="synthetic")
        bundles.append(write_bundle(made.model, made.scaler, made.metadata, params.paths))
    return bundles


def _resampled(prices: pd.DataFrame, *, seed: list[int]) -> pd.DataFrame:
    """Put blocks of days in another order: each day keeps its return, its range in relation to its close, and its volume."""
    close = prices["Close"]
    days = pd.DataFrame(
        {
            "return": np.log(close).diff(),
            **{name: prices[name] / close for name in ("Open", "High", "Low")},
            "Volume": prices["Volume"],
        }
    ).iloc[1:]
    drawn = next(StationaryBootstrap(_BLOCK_DAYS, days, seed=np.random.default_rng(seed)).bootstrap(1))[0][0]
    closes = float(close.iloc[0]) * np.exp(drawn["return"].to_numpy().cumsum())
    table = pd.DataFrame({name: drawn[name].to_numpy() * closes for name in ("Open", "High", "Low")}, index=days.index)
    table["Close"] = closes
    table["High"], table["Low"] = table.max(axis=1), table.min(axis=1)
    return table.assign(Volume=drawn["Volume"].to_numpy().round())

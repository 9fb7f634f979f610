"""Forecasters whose skill is known, because it was made."""

import numpy as np
import pandas as pd

from fxhelpers.comparison import MEAN, TARGET, ZERO, EvaluationFrame, column


def returns(days: int, seed: int = 0) -> pd.Series:
    """Daily returns with fat tails and clusters of volatility, as shares have them."""
    rng = np.random.default_rng(seed)
    volatility = np.exp(0.3 * np.sin(np.arange(days) / 40) + 0.1 * rng.standard_normal(days))
    values = 0.015 * volatility * rng.standard_t(5, days) / (5 / 3) ** 0.5
    return pd.Series(values, pd.bdate_range("2010-01-04", periods=days))


def forecaster(target: pd.Series, skill: float, seed: int) -> pd.Series:
    """A forecast that explains ``skill`` squared of the returns' variance; with skill 0 it is noise of some size."""
    noise = pd.Series(np.random.default_rng([seed, 1]).standard_normal(len(target)), target.index) * 0.015
    if skill == 0:
        return 0.1 * noise
    return skill**2 * target + skill * (1 - skill**2) ** 0.5 * noise


def frame_of(
    challenger: pd.Series,
    champion: pd.Series | None,
    target: pd.Series,
    *others: pd.Series,
    facts: dict[int, object] | None = None,
) -> EvaluationFrame:
    """Version 2 against version 1; further challengers are 3, 4, …"""
    columns = {TARGET: target, ZERO: target * 0, MEAN: target * 0 + 0.0004, column(2): challenger}
    if champion is not None:
        columns[column(1)] = champion
    columns |= {column(number): other for number, other in enumerate(others, 3)}
    return EvaluationFrame(
        symbol="XYZ",
        challenger=2,
        champion=1 if champion is not None else None,
        others=tuple(range(3, 3 + len(others))),
        days=pd.DataFrame(columns),
        facts=dict(facts or {}),  # type: ignore[arg-type]
    )


def market(days: int, symbols: int, seed: int, *, common: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Daily returns of correlated shares and their volatility, one column each: a factor, Student's t innovations, GARCH."""
    rng, before = np.random.default_rng([seed, 2]), 200
    draws = rng.standard_t(5, (days + before, 1 + symbols)) / (5 / 3) ** 0.5
    variances, variance = np.empty_like(draws), np.ones(1 + symbols)
    for day, shock in enumerate(draws):
        variances[day] = variance
        variance = 0.02 + (0.08 * shock**2 + 0.9) * variance
    parts = 0.015 * np.array([common**0.5] + symbols * [(1 - common) ** 0.5]) * variances[before:] ** 0.5
    values = parts * draws[before:]
    return values[:, :1] + values[:, 1:], (parts[:, :1] ** 2 + parts[:, 1:] ** 2) ** 0.5


def contest_losses(
    days: int, symbols: int, seed: int, *, champion: float, challenger: float, together: float = 0.7
) -> dict[str, pd.DataFrame]:
    """Squared errors, by symbol, of two recipes that explain these shares of the returns' variance, of every day.

    ``together`` correlates the two forecasts of a symbol; forecasts of different symbols are correlated as their returns are.
    """
    rng, (target, volatility) = np.random.default_rng([seed, 3]), market(days, symbols, seed)

    def noise() -> np.ndarray:
        return 0.3**0.5 * rng.standard_normal((days, 1)) + 0.7**0.5 * rng.standard_normal((days, symbols))

    shared = noise()
    errors = {}
    for who, share in (("champion", champion), ("challenger", challenger)):
        own = volatility * (together**0.5 * shared + (1 - together) ** 0.5 * noise())
        errors[who] = (target - share * target - (share * (1 - share)) ** 0.5 * own) ** 2
    index = pd.bdate_range("2010-01-04", periods=days)
    return {f"S{n}": pd.DataFrame({who: table[:, n] for who, table in errors.items()}, index) for n in range(symbols)}

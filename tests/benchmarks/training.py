"""A training with its rolling-origin forecasts, and a weekly refit, against scikit-learn's own fits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.measuring import Row, compared, measure_workers
from fxhelpers import load_prices, train_model
from fxhelpers.params import PricesParams, TrainingParams
from fxhelpers.training import supervised

_WEEK = 5  # trading days
_ALPHAS = (30.0, 100.0, 300.0)


def rows(folder: Path, *, quick: bool) -> list[Row]:
    every = 500 if quick else 63
    one, three = {"every": every, "alphas": _ALPHAS[-1:]}, {"every": every, "alphas": _ALPHAS}
    made = []
    for what, (ours, rival), arguments, goal in (
        ("train_model with its rolling-origin forecasts / the same fits", (whole, same_fits), one, "at most 1.5"),
        ("weekly refit, one setting / one fit of it", (weekly, one_fit), one, "at most 1.5"),
        ("weekly refit, three candidates / one choice and fit", (weekly, one_fit), three, "at most 1.5"),
    ):
        found = measure_workers({"ours": (ours, arguments), "scikit-learn": (rival, arguments)}, folder, repeats=5)
        made.append(
            compared(f"{what}, 3,070 days{', few origins' if quick else ''}", found["ours"], found["scikit-learn"], goal=goal)
        )
    return made


def _params(every: int, alphas: list[float]) -> TrainingParams:
    model: dict[str, Any] = {"hidden_layer_sizes": [16], "max_iter": 300, "candidates": {"alpha": alphas}}
    return TrainingParams.model_validate({"rolling": {"every_days": every}, "model": "mlp", "models": {"mlp": model}})


def whole(every: int, alphas: list[float]) -> Callable[[], Callable[[], object]]:
    prices, params = load_prices("AAPL", PricesParams()), _params(every, alphas)
    return lambda: lambda: train_model("AAPL", prices, params)


def weekly(every: int, alphas: list[float]) -> Callable[[], Callable[[], object]]:
    prices, params = load_prices("AAPL", PricesParams()), _params(every, alphas)
    earlier = train_model("AAPL", prices.iloc[:-_WEEK], params).metadata
    return lambda: lambda: train_model("AAPL", prices, params, earlier=[earlier])


def _fit(features: np.ndarray, target: np.ndarray, alpha: float) -> Any:
    with threadpool_limits(1):
        scaled = StandardScaler().fit_transform(features)
        network = MLPRegressor(hidden_layer_sizes=[16], max_iter=300, alpha=alpha, random_state=42)
        return TransformedTargetRegressor(network, transformer=StandardScaler()).fit(scaled, target)


def same_fits(every: int, alphas: list[float]) -> Callable[[], Callable[[], object]]:
    """The fits of all origins and the last one, on all cores."""
    features, target = (values.to_numpy() for values in supervised(load_prices("AAPL", PricesParams())))
    ends = [*(start - 2 for start in range(500, len(target), every)), len(target)]

    def call() -> None:
        joblib.Parallel(-1)(joblib.delayed(_fit)(features[:end], target[:end], alpha) for end in ends for alpha in alphas)

    return lambda: call


def one_fit(every: int, alphas: list[float]) -> Callable[[], Callable[[], object]]:
    """One fit on all days; of several candidates, each on the earlier days before."""
    del every
    features, target = (values.to_numpy() for values in supervised(load_prices("AAPL", PricesParams())))
    first = int(len(target) * 0.85)

    def call() -> None:
        for alpha in alphas if len(alphas) > 1 else ():
            _fit(features[:first], target[:first], alpha)
        _fit(features, target, alphas[-1])

    return lambda: call

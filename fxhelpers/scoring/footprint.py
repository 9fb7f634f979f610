"""What a version costs to keep and to call: bytes, memory, time."""

import time
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fxhelpers.registry import RegisteredModel

_WARM_UPS, _BATCHES, _CALLS = 10, 30, 5
_LONGEST = 1.5  # seconds


def footprint(models: Mapping[str, RegisteredModel], day: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Measure versions beside each other, within two seconds.

    Latency is the median over batches of the mean time of a call for one
    day, in one thread; the versions take turns, so that what else the machine
    does hits all alike. Ratios below 1.15 are noise.

    Parameters
    ----------
    models : dict of str to RegisteredModel
        By column of the evaluation frame.
    day : dict of str to DataFrame of shape (1, n_features)
        Raw features of one day for each.

    Returns
    -------
    DataFrame
        One row a version: ``artifact_bytes``, ``load_memory`` (bytes, at most,
        while it is read) and ``latency`` (seconds).
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    end = time.perf_counter() + _LONGEST
    with threadpool_limits(1):
        for name, model in models.items():
            _call(model, day[name], _WARM_UPS)
        for _ in range(_BATCHES):
            for name, model in models.items():
                times[name].append(_call(model, day[name], _CALLS) / _CALLS)
            if time.perf_counter() > end:
                break
    rows = {
        name: {
            "artifact_bytes": float(len(model.content)),
            "load_memory": float(_memory(model)),
            "latency": float(np.median(times[name])),
        }
        for name, model in models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _call(model: RegisteredModel, day: pd.DataFrame, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        model.pipeline.predict(day)
    return time.perf_counter() - start


def _memory(model: RegisteredModel) -> int:
    """Return the most bytes that were held at once while an estimator was read."""
    tracemalloc.start()
    try:
        model.load_again()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

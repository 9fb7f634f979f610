"""The comparison's bootstrap against arch alone, on the same losses."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from forecasters import forecaster, returns

from benchmarks.measuring import Row, compared, measure_workers
from fxhelpers.comparison import SEED, TestSpec
from fxhelpers.comparison._tests import block_length, bootstrap_test, confidence_set, squared_errors

_DAYS, _CHALLENGERS = 800, 20


def rows(folder: Path, *, quick: bool) -> list[Row]:
    resamples = 1_000 if quick else 10_000
    made = []
    for whole, told in ((False, "bootstrap_test / SPA"), (True, "bootstrap_test and confidence_set / SPA and MCS")):
        arguments = {"resamples": resamples, "whole": whole}
        found = measure_workers({"ours": (ours, arguments), "arch": (alone, arguments)}, folder, repeats=5)
        what = f"{told}: {_CHALLENGERS} challengers, {_DAYS} days, {resamples:,} resamples"
        made.append(compared(what, found["ours"], found["arch"], goal="-"))
    return made


def _forecasts() -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    target = returns(_DAYS)
    challengers = {str(seed): forecaster(target, 0.0, seed) for seed in range(1, _CHALLENGERS + 1)}
    return target, forecaster(target, 0.0, 0), pd.DataFrame(challengers)


def ours(resamples: int, *, whole: bool) -> Callable[[], Callable[[], object]]:
    target, rival, forecasts = _forecasts()
    spec = TestSpec(test="stationary_bootstrap", versus="champion", resamples=resamples)
    losses = squared_errors(target, forecasts.assign(champion=rival))

    def call() -> None:
        bootstrap_test(target, rival, forecasts, spec)
        if whole:
            confidence_set(losses, spec)

    return lambda: call


def alone(resamples: int, *, whole: bool) -> Callable[[], Callable[[], object]]:
    from arch.bootstrap import MCS, SPA

    target, rival, forecasts = _forecasts()
    losses, rivals = squared_errors(target, forecasts), (target - rival) ** 2

    def call() -> None:
        block = block_length(losses.rsub(rivals, axis=0))
        SPA(rivals, losses, block_size=block, reps=resamples, seed=SEED).compute()
        if whole:
            MCS(losses.assign(champion=rivals), size=0.05, block_size=block, reps=resamples, seed=SEED).compute()

    return lambda: call

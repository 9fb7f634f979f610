"""Backtests of promotion policies: what each would have served in earlier years, on one symbol's prices.

Nothing is stored and no registry is needed. Fits are those of ``training``,
frames those of ``frames``, and verdicts those of ``policy.decide``.
"""

from fxhelpers.backtest._result import Backtest
from fxhelpers.backtest._running import run_backtest

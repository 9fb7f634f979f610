"""Measures and tests of forecasts on one evaluation frame: every forecast on the same days."""

from fxhelpers.comparison._comparison import QUARTER, Comparison, loss_saved, measures_json, over_zero
from fxhelpers.comparison._frame import MEAN, MOVED, ROUNDING, TARGET, ZERO, Change, EvaluationFrame, came_again, column
from fxhelpers.comparison._measuring import STANDARD, compare, measure, population_stability
from fxhelpers.comparison._pooled import PooledResult, losses, pool, pooled_test
from fxhelpers.comparison._tests import SEED, TestResult, TestSpec, bootstrap_test

"""From one evaluation frame to measures and tests: every forecast on the same days."""

from fxhelpers.comparison._comparing import STANDARD, compare, measure
from fxhelpers.comparison._comparison import Comparison, measures_json, over_zero
from fxhelpers.comparison._frame import MEAN, ROUNDING, TARGET, ZERO, EvaluationFrame, column, population_stability
from fxhelpers.comparison._tests import SEED, TestResult, TestSpec

__all__ = [
    "MEAN",
    "ROUNDING",
    "SEED",
    "STANDARD",
    "TARGET",
    "ZERO",
    "Comparison",
    "EvaluationFrame",
    "TestResult",
    "TestSpec",
    "column",
    "compare",
    "measure",
    "measures_json",
    "over_zero",
    "population_stability",
]

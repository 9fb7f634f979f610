"""From one evaluation frame to measures and tests: every forecast on the same days."""

from fxhelpers.comparison._comparing import STANDARD, compare, measure
from fxhelpers.comparison._comparison import Comparison, measures_json
from fxhelpers.comparison._frame import EvaluationFrame, MEAN, ROUNDING, TARGET, ZERO, column, population_stability
from fxhelpers.comparison._tests import SEED, TestResult, TestSpec

__all__ = ["Comparison", "EvaluationFrame", "MEAN", "ROUNDING", "SEED", "STANDARD", "TARGET", "TestResult", "TestSpec", "ZERO", "column", "compare", "measure", "measures_json", "population_stability"]

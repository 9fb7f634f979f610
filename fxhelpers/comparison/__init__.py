"""From one evaluation frame to measures and tests: every forecast on the same days."""

from fxhelpers.comparison.answers import SEED, Answer, Question
from fxhelpers.comparison.comparing import STANDARD, compare, measure
from fxhelpers.comparison.comparison import Comparison, measures_json
from fxhelpers.comparison.drift import population_stability
from fxhelpers.comparison.frame import MEAN, ROUNDING, TARGET, ZERO, EvaluationFrame, column

__all__ = [
    "MEAN",
    "ROUNDING",
    "SEED",
    "STANDARD",
    "TARGET",
    "ZERO",
    "Answer",
    "Comparison",
    "EvaluationFrame",
    "Question",
    "column",
    "compare",
    "measure",
    "measures_json",
    "population_stability",
]

"""Parts of the sentences of gates and verdicts."""

from fxhelpers.comparison import Comparison
from fxhelpers.measures import Measure
from fxhelpers.params import GateParams


def named(comparison: Comparison, versus: str | None) -> str:
    """Return the name of a policy's ``versus`` for people."""
    words = {"zero_return": "forecasting zero", "mean_training_return": "forecasting the mean training return"}
    return f"the champion, {comparison.champion}" if versus == "champion" else words.get(str(versus), "chance")


def claimed(gate: GateParams, rival: str) -> str:
    """Return the hypothesis that a test supports."""
    if gate.test == "pesaran_timmermann":
        return "signs are forecast better than by chance"
    return f"not worse than {rival} by {gate.margin:.3%}" if gate.margin else f"lower squared errors than {rival}"


def compared(change: float, known: Measure, rival: str) -> str:
    """Return how a challenger's measure compares with a rival's, as a clause."""
    label = known.label
    if change == 0:
        return f"its {label} is exactly that of {rival}"
    if abs(change) < 1 or known.signed:  # a multiple of a negative number would say the contrary
        return f"its {label} is {100 * abs(change):.3g} % {'above' if change > 0 else 'below'} that of {rival}"
    return f"its {label} is {1 + change:,.4g} times that of {rival}"


def joined(parts: list[str]) -> str:
    """Return parts of a sentence as one: ``a, b and c``."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def percent(gain: float) -> str:
    """Return a gain, a fraction, in per cent with its sign; positive is better."""
    value = 100 * gain + 0.0
    return f"{value:+.3g} %" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:+,.0f} %"  # noqa: PLR2004 (no exponents)


def digits(p: float) -> str:
    """Return p with four decimals, or two digits below 0.001."""
    return f"{p:.4f}" if p >= 0.001 else f"{p:.2g}"  # noqa: PLR2004 (below, four digits would say nothing)

"""What can be asked of a test, and what it answers."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

SEED = 0
"""Of every bootstrap. It is fixed, so that nobody can look for a lucky one."""

RESAMPLES = 10_000
MOST_RESAMPLES = 1_000_000
"""Beyond these a bootstrap takes too long: p at a level that needs more comes from the tail of a distribution."""

EXPECTED = 5
"""Resamples that have to be expected beyond a level for p to be held against it."""

MINIMUM_DAYS = 30
"""With fewer days no test is made."""

INTERVAL = 0.95
"""Coverage of the intervals that are shown."""

POWER = 0.8
"""How often the detectable gain would be detected."""

TestName = Literal["stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A test to be made.

    Attributes
    ----------
    test : {"stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"}
    versus : {"champion", "zero_return", "mean_training_return"} or None
        None for Pesaran and Timmermann's, which asks for no rival.
    margin : float
        The rival's RMSE is multiplied by 1 + margin first: above 0 it is
        asked whether the forecast is not worse by more than that.
    alpha : float
        Level, after division by what earlier attempts have spent.
    resamples : int
        Of the bootstrap, at least.
    """

    test: TestName
    versus: str | None = None
    margin: float = 0.0
    alpha: float = 0.05
    resamples: int = RESAMPLES

    def stages(self, family: int) -> list[int]:
        """Return how many resamples to draw, and how many more as long as those leave it open whether p lies below alpha.

        Earlier attempts may have left so little of alpha that the first ones
        cannot show it. Where all that can be drawn could not either, the first
        ones are enough.
        """
        needed = math.ceil(EXPECTED / self.alpha)
        if not self.resamples < needed <= MOST_RESAMPLES // family:
            return [self.resamples]
        powers = range(math.ceil(math.log10(needed / self.resamples)))
        return [*(self.resamples * 10**power for power in powers), needed]

    def open_after(self, p: float, resamples: int) -> bool:
        """Tell whether so few of so many resamples exceeded that more could still bring p below alpha."""
        return p * (resamples + 1) <= max(EXPECTED, 10 * self.alpha * resamples)

    def unresolved(self, p: float, resamples: int) -> bool:
        """Tell whether that is still so, since the resamples are too few for alpha."""
        return self.open_after(p, resamples) and resamples * self.alpha < EXPECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a test said.

    Attributes
    ----------
    question : Question
    forecast : str
        Column of the frame that is tested.
    p : float
        One-sided; adjusted for the other challengers where there are any; NaN
        where the test was not made.
    why : str
        Why it was not made; "" where it was.
    statistic : float
        Of the test; NaN for a bootstrap.
    p_alone : float
        As if there were no other challengers.
    gain, low, high : float
        By how much the RMSE is below the rival's, as a fraction of that, and
        its 95 % interval; only of a bootstrap.
    detectable : float
        The true gain that this many days would show four times out of five,
        at this level.
    block : int
        Mean length of the bootstrap's blocks, in days.
    resamples : int
        0 for a test that draws none.
    tail : bool
        Whether these were too few for the level, so that p comes from the
        tail of Student's distribution.
    family : int
        How many challengers were tested at once.
    """

    question: Question
    forecast: str
    p: float = math.nan
    why: str = ""
    statistic: float = math.nan
    p_alone: float = math.nan
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan
    block: int = 0
    resamples: int = 0
    tail: bool = False
    family: int = 1

    @property
    def shows(self) -> float:
        """The detectable gain; NaN where it would take more than all of the rival's squared error, so that none can be shown."""
        return self.detectable if 2 * self.detectable < 1 else math.nan

    def detects(self, rival: str) -> str:
        """Say which true gain over a rival so many days would show, as a part of a sentence."""
        if math.isnan(self.shows):
            what = "with errors of this size only a gain above 100 % would be detected, and no RMSE falls by more than 100 %"
            return f"such days can show nothing over {rival}: {what}"
        return f"a true gain of {100 * self.shows:.3g} % over {rival} would be detected on such days four times out of five"

    def to_json(self) -> dict[str, Any]:
        """Return all of it with None where there is no number."""
        whole = asdict(self)
        whole |= whole.pop("question")
        whole["seed"] = SEED if self.resamples else None
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in whole.items()}

"""Attempts to promote: distinct recipes that contested the champion, or distinct comparisons where no recipe is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NEW_DAYS = 63  # trading days after which the same recipe is an attempt again


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to promote a challenger by the policy's tests."""

    key: str  # SHA-256 of the challenger's recipe, or of the evaluation frame if none is known; id of an abandoned decision
    policy: str  # SHA-256 of the policy; "" if the decision was abandoned
    number: int  # 1-based, for the symbol
    day: str  # last day compared when it was first made, YYYY-MM-DD; "" if that is not known
    time: str  # when it was first made, ISO 8601, UTC
    first: str = ""  # first day compared, YYYY-MM-DD; "" if that is not known
    frame: str = ""  # SHA-256 of the evaluation frame that it was first made on; "" if that is not known


def repeated(
    earlier: Sequence[Attempt], *, key: str, policy: str, days: "pd.DatetimeIndex", by_recipe: bool = True
) -> Attempt | None:
    """Return the earlier attempt that a comparison repeats; None if it is a new one.

    The same recipe by the same policy repeats its last attempt until there are 63 new days, if the days compared begin on the
    same day and end on the same one or later: else a window could be searched for. The same evaluation frame always does.

    Parameters
    ----------
    earlier : sequence of Attempt
        The distinct attempts so far, in order.
    key, policy : str
        SHA-256 of the challenger's recipe (or of the evaluation frame, without ``by_recipe``) and of the policy.
    days : DatetimeIndex
        Days of the evaluation frame.
    by_recipe : bool
        Whether ``key`` is that of a recipe.
    """
    last = next((attempt for attempt in reversed(earlier) if (attempt.key, attempt.policy) == (key, policy)), None)
    if last is None or not by_recipe or not last.day:
        return last
    first, latest = (f"{day:%Y-%m-%d}" for day in (days[0], days[-1]))
    if (last.first and last.first != first) or latest < last.day:
        return None
    new = sum(f"{day:%Y-%m-%d}" > last.day for day in days[-NEW_DAYS:])
    return last if new < NEW_DAYS else None


def attempt_number(
    earlier: Sequence[Attempt],
    *,
    key: str,
    policy: str,
    days: "pd.DatetimeIndex",
    by_recipe: bool = True,
    yearly_from: str = "",
) -> int:
    """Return the 1-based number of an attempt: that of the one it repeats (see :func:`repeated`), or one more than there are.

    With ``yearly_from``, a day YYYY-MM-DD, only attempts made since then are counted.
    """
    same = repeated(earlier, key=key, policy=policy, days=days, by_recipe=by_recipe)
    return same.number if same else next_number(earlier, yearly_from)


def next_number(earlier: Sequence[Attempt], yearly_from: str = "") -> int:
    """Return the number of the next new attempt; see :func:`attempt_number`."""
    return 1 + sum(attempt.time >= yearly_from for attempt in earlier)

"""The promotion policy: gates on a comparison, and the verdict that follows from them.

A gate passes, fails, warns or is not evaluated; one that was not evaluated
never counts as passed. Where a gate fails the champion is kept; where none
fails but one that has to pass was not evaluated the verdict is inconclusive,
which keeps the champion too. A gate of severity ``warn`` never decides, and
what it says stands beside the verdict.
"""

from fxhelpers.policy.family import Family
from fxhelpers.policy.judging import NO_SKILL, against_champion, already_champion, judge, policy_digest, questions
from fxhelpers.policy.verdict import Verdict

__all__ = [
    "NO_SKILL",
    "Family",
    "Verdict",
    "against_champion",
    "already_champion",
    "judge",
    "policy_digest",
    "questions",
]

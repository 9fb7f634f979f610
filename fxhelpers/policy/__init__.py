"""The promotion policy: gates on a comparison, and the verdict that follows from them.

A gate passes, fails, warns or is not evaluated, which never counts as passed.
If a gate fails, the champion is kept; if none fails but one that decides was
not evaluated, the verdict is inconclusive, which keeps the champion too. A gate
of severity ``warn`` never decides; the verdict also says what it found. That
the forecasts show no skill is in the verdict's first sentence.
"""

from fxhelpers.policy._judging import against_champion, already_champion, judge, policy_digest, required_tests
from fxhelpers.policy._verdict import Family, Verdict, digits, percent

"""The promotion policy: gates on a comparison, and the verdict that follows from them.

A gate passes, fails, warns or is not evaluated, which never counts as passed.
If a gate fails, the champion is kept; if none fails but one that decides was
not evaluated, the verdict is inconclusive, which keeps the champion too. A gate
of severity ``warn`` never decides; the verdict also says what it found. That
the forecasts show no skill is in the verdict's first sentence.

A refresh, a later refit of the champion's recipe, needs no test and is no
attempt. A contest, by another recipe, is tested, and is one.
"""

from fxhelpers.policy._concluding import against_champion
from fxhelpers.policy._judging import already_champion, contribution, decide, judge, policy_digest, required_tests
from fxhelpers.policy._pooled import Contribution, Pooled, pooled_gates
from fxhelpers.policy._pooling import pool_symbols
from fxhelpers.policy._verdict import Family, Verdict, digits, percent, short

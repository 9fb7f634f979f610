"""Anytime-valid evidence on whether what serves is worse than forecasting zero: it may be looked at every evening.

A test for one day, looked at daily, rejects sooner or later. This evidence may be read on any day, and watching may stop
on any day. :func:`watch` bets against H0, that the excess loss ``u = (y - f)**2 - y**2`` of a live forecast has a
conditional mean of at most zero. If H0 holds, no bet that is placed before its day has a positive expected gain, so
wealth rarely becomes large.

- *Bets*, as in Waudby-Smith and Ramdas (2024), doi:10.1093/jrsssb/qkad009: wealth is multiplied by ``1 + L * w``, with
  ``w = clip(u / (4 * s), -1, 1)`` and ``s`` the size of earlier ``u``. The mean over six ``L`` needs no choice of one.
- *E-process*, from the first live day: by Ville's inequality it reaches ``2 / alpha`` with a probability of at most
  ``alpha / 2``, ever. It is quick for what was bad from the start.
- *E-detector* of Shiryaev and Roberts, by Shin, Ramdas and Rinaldo (2023), doi:10.51387/23-NEJSDS51: the sum of the
  e-processes that began on each earlier day. Within ``n`` days it reaches ``n / (alpha / 2)`` with a probability of at
  most ``alpha / 2``. It is quick for what turned bad later.

What is exact: a forecast is known before its day, so ``u = f**2 - 2 * f * y`` is linear in the return. If returns are
symmetric around their conditional mean, whatever their tails and their changing volatility, the clipped bet too has a
mean of at most zero under H0, and both bounds hold. What is measured: if returns are skewed, clipping can hide part of
rare large gains of a forecast, and no bound is proved. ``docs/watch.md`` has the false alarms measured.
"""

from fxhelpers.watching._betting import FRACTIONS, HALF_LIFE, LEAST_EARLIER, excess_losses, scales, watch
from fxhelpers.watching._sizes import allowed_sizes, size_warning
from fxhelpers.watching._watched import DOUBT, LEAST_DAYS, Thresholds, Watched, Word, e_bh

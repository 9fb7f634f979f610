"""Five years under the default policy: what serves is as fresh as it can be, and what is better comes in."""

from dataclasses import replace

import numpy as np
import pytest
from lives import (
    BEFORE,
    BLOCK,
    FIRST,
    LIVES,
    MONTH,
    MONTHS,
    OTHERS,
    SCENARIOS,
    Life,
    Market,
    Never,
    Newest,
    hopeless,
    loss,
    measured,
)

from fxhelpers.comparison import compare
from fxhelpers.params import PromotionParams
from fxhelpers.policy import decide, judge

RULES = PromotionParams()


@pytest.fixture
def many(rounds: int) -> None:
    """Leave out bounds on means of many lives, unless `make stress` makes so many."""
    if rounds <= 2:
        pytest.skip("make stress: these are means of many lives")


@pytest.mark.usefixtures("thorough")
def test_every_refit_serves_from_its_month_on_and_none_is_an_attempt() -> None:
    market = Market.made(SCENARIOS["drift"], 0)
    life, fresh = Life(market=market).run(), Newest(market=market).run()
    assert (life.served == fresh.served).all()
    assert (life.champion, life.refused, life.attempts) == ((0, MONTHS[-1]), [], [])
    first = Never(market=market).run().served
    assert (first[:MONTH] == life.served[:MONTH]).all()
    assert not (first[MONTH:] == life.served[MONTH:]).any()


@pytest.mark.usefixtures("thorough")
def test_what_serves_is_replaced_a_month_after_it_broke() -> None:
    market = Market.made(replace(SCENARIOS["breaks"], broken=0.04), 7)
    life, champions = Life(market=market), dict[int, tuple[int, int] | None]()
    for month in MONTHS:
        life.decide(month)
        champions[month] = life.champion
    broken = [month for month in MONTHS[:-1] if market.recipes[0].sizes[month] > 0.5]
    served = [month for month in broken if champions[month] == (0, month)]
    assert any(month % (BLOCK // MONTH) == 0 for month in served)  # its errors are also in the recipe's rolling-origin days
    assert all(champions[month + 1] == (0, month + 1) for month in served)


@pytest.mark.usefixtures("thorough")
def test_a_better_recipe_is_promoted_within_a_quarter_and_then_refreshed() -> None:
    market = Market.made(SCENARIOS["better"], 0)
    life = Life(market=market, champion=FIRST).run()
    ((recipe, month),) = life.promoted
    assert (recipe, MONTH * (month - min(market.offered)) <= BLOCK) == (1, True)
    assert life.champion == (1, MONTHS[-1])
    assert [(a.key, a.number) for a in life.attempts] == [(market.recipes[1].digest, 1)]


def test_what_the_lives_leave_out_decides_nothing() -> None:
    """Tests of a refresh, and of a challenger whose errors alone refuse it."""
    market = Market.made(SCENARIOS["equal"], 1)
    life, month = Life(market=market, champion=FIRST), MONTHS[2]
    frame, today = life.frame(month, 0), life.today(month)
    left_out, whole = judge(compare(frame, ()), RULES, attempt=0, today=today), decide(frame, RULES, today=today)[1]
    assert frame.kind == "refresh"
    assert (left_out.outcome, left_out.headline, left_out.gates) == (whole.outcome, whole.headline, whole.gates)
    contests = [life.frame(month, recipe) for recipe in range(1, 4)]
    refused = [frame for frame in contests if hopeless(frame, RULES)]
    assert refused
    assert all(decide(frame, RULES, today=today)[1].outcome == "keep" for frame in refused)


def test_the_markets_are_what_they_are_said_to_be() -> None:
    """The oracle gains what the relation explains, and the newest fit what its age and its mistakes leave of that."""
    expected = {"no skill": (0.25, 0.0), "drift": (-1.32, -1.41), "flip": (-0.73, -0.87), "breaks": (-0.16, -0.94)}
    for name, losses in expected.items():
        markets = [Market.made(SCENARIOS[name], seed) for seed in range(30)]
        newest = [loss(market, Newest(market=market).run().served) for market in markets]
        oracle = [loss(market, market.best[BEFORE:]) for market in markets]
        for found, stated in zip((newest, oracle), losses, strict=True):
            assert abs(np.mean(found) - stated) <= 3 * max(np.std(found) / len(found) ** 0.5, 0.02), (name, np.mean(found))
    returns = np.array([Market.made(SCENARIOS["no skill"], seed).returns for seed in range(20)])
    assert np.std(returns) == pytest.approx(0.015, rel=0.1)
    assert np.mean(returns**4) / np.mean(returns**2) ** 2 > 5  # fat tails
    size = np.abs(returns) - np.abs(returns).mean()
    assert np.mean(size[:, 1:] * size[:, :-1]) / np.var(np.abs(returns)) > 0.1  # clusters of volatility


@pytest.mark.usefixtures("thorough", "many")
@pytest.mark.parametrize(("name", "most"), [("no skill", 0.30), ("drift", -1.0), ("flip", -0.5), ("breaks", 0.5)])
def test_what_serves_costs_at_most(name: str, most: float) -> None:
    """In per cent of the MSE of forecasting zero."""
    assert np.mean([measured(name, seed, RULES)["this policy"] for seed in range(OTHERS)]) <= most


@pytest.mark.usefixtures("thorough", "many")
def test_a_better_recipe_serves_within_a_quarter_in_most_lives() -> None:
    assert np.mean([measured("better", seed, RULES)["days"] <= BLOCK for seed in range(LIVES["better"])]) >= 0.85


@pytest.mark.usefixtures("thorough", "many")
@pytest.mark.parametrize(("attempts", "most"), [("spend", 0.05), ("yearly", 0.15)])
@pytest.mark.parametrize("name", ["equal", "at once"])
def test_twenty_equal_recipes_in_five_years_are_rarely_promoted(name: str, attempts: str, most: float) -> None:
    rules = RULES.model_copy(update={"attempts": attempts})
    assert np.mean([measured(name, seed, rules)["promoted"] for seed in range(LIVES[name])]) <= most

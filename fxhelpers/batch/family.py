"""Promotions of many symbols together: all comparisons first, then the decisions, by one rate of false promotions."""

from collections.abc import Callable, Mapping
from typing import Any

from fxhelpers.batch.one import Outcome
from fxhelpers.batch.running import Batch
from fxhelpers.errors import ParamsError

COMPARING, DECIDING = "comparing", "deciding"


def run_family(
    batch: Batch, symbols: list[str], parameters: Mapping[str, Any], fdr: float, begin: Callable[[str], Callable[[Outcome], None]]
) -> list[Outcome]:
    """Compare all symbols, adjust every p for all of them, then decide about each.

    A decision is made only if champion, versions, days and attempts are still
    those of the comparison. Symbols whose comparison failed are not decided
    about. ``begin`` gets the name of a phase that begins, and returns what
    gets each of its outcomes as it comes.
    """
    from fxhelpers.policy import Family

    wrong = _wrong(batch, parameters)
    if wrong:
        msg = f"--fdr{wrong}"
        raise ParamsError(msg)
    family: dict[str, Any] = {"fdr": fdr, "symbols": len(symbols)}
    Family.read(family)
    look = {**parameters, "apply": False, "family": family}
    compared = batch.run(dict.fromkeys(symbols, look), begin(COMPARING), phase=COMPARING)
    done = {o.symbol: o.summary for o in compared if o.summary is not None and not o.error}
    failed = [outcome for outcome in compared if outcome.symbol not in done]
    if batch.stopped or not done:
        return failed
    # a failed comparison counts as one without any gain; where no test decides, because there is no champion, none can err
    entered = {symbol: done[symbol].get("p_entered") if symbol in done else 1.0 for symbol in symbols}
    family["p"] = {symbol: p for symbol, p in entered.items() if p is not None}
    batch.note(family=family)
    chosen = {
        symbol: {**parameters, "version": told["version"], "champion": _pinned(told), "family": family}
        for symbol, told in done.items()
    }
    return failed + batch.run(chosen, begin(DECIDING), phase=DECIDING)


def _wrong(batch: Batch, parameters: Mapping[str, Any]) -> str:
    """Return why symbols cannot be decided about together, before any is compared; "" where they can."""
    rules = batch.params.promotion
    taken = sorted({"version", "champion", "challengers", "family", "override"} & set(parameters))
    tests = [gate for gate in rules.gates if gate.test and gate.severity == "fail" and gate.versus == "champion"]
    agreed = parameters.get("approved_by") and parameters.get("reason")
    wrong = {
        f" is for promote, which decides; {batch.kind} does not": batch.kind != "promote",
        f" compares every symbol's challenger with its champion; -p {', '.join(taken)} cannot be given beside it": taken,
        ": model_registry.compare_metrics is false in params.yaml, so nothing would be compared": (
            not batch.params.model_registry.compare_metrics
        ),
        ": no gate in params.yaml tests a challenger against the champion and decides, so there is no p to adjust": not tests,
        ": promotion.approval in params.yaml asks for approved_by and reason: give both with -p, for all symbols": (
            rules.approval.Production.required and parameters.get("apply") and not agreed
        ),
    }
    return next((message for message, applies in wrong.items() if applies), "")


def _pinned(told: Mapping[str, Any]) -> int:
    """Return the champion that a decision has to find; 0 where there is none, or where the version itself is it."""
    against = told["against"]
    return int(against) if against is not None and against != told["version"] else 0

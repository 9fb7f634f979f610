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
    about.

    Parameters
    ----------
    batch : Batch
        Of the notebook ``promote``.
    symbols : list of str
        Tickers.
    parameters : dict
        For the notebook; ``apply`` is for the decisions.
    fdr : float
        Share of the promotions that may be expected to be false.
    begin : callable
        Gets the name of a phase that begins, and returns what gets each of its
        outcomes as it comes.

    Returns
    -------
    list of Outcome
        Of the decisions, and of the comparisons that failed.

    Raises
    ------
    ParamsError
        Another notebook, or a rate that cannot be.
    """
    from fxhelpers.policy import Family

    if batch.kind != "promote":
        msg = f"--fdr is for promote, which decides; {batch.kind} does not"
        raise ParamsError(msg)
    taken = sorted({"version", "champion", "challengers", "family", "override"} & set(parameters))
    if taken:
        msg = f"--fdr compares every symbol's challenger with its champion; -p {', '.join(taken)} cannot be given beside it"
        raise ParamsError(msg)
    rules = batch.params.promotion
    if not batch.params.model_registry.compare_metrics:
        msg = "--fdr: model_registry.compare_metrics is false in params.yaml, so nothing would be compared"
        raise ParamsError(msg)
    if not any(gate.test and gate.severity == "fail" and gate.versus == "champion" for gate in rules.gates):
        msg = "--fdr: no gate in params.yaml tests a challenger against the champion and decides, so there is no p to adjust"
        raise ParamsError(msg)
    if (
        rules.approval.Production.required
        and parameters.get("apply")
        and not (parameters.get("approved_by") and parameters.get("reason"))
    ):
        msg = "--fdr: promotion.approval in params.yaml asks for approved_by and reason: give both with -p, for all symbols"
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


def _pinned(told: Mapping[str, Any]) -> int:
    """Return the champion that a decision has to find; 0 where there is none, or where the version itself is it."""
    against = told["against"]
    return int(against) if against is not None and against != told["version"] else 0

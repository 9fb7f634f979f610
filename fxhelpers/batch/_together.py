"""Promotions of many symbols that are decided together: by the adjusted p of all, or by one test over all."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from fxhelpers.batch._batch import Batch, Show
from fxhelpers.batch._run import RunOutcome
from fxhelpers.errors import ParamsError
from fxhelpers.portfolio import journal_lines
from fxhelpers.records import read_output
from fxhelpers.system import sha256

if TYPE_CHECKING:
    from fxhelpers.policy import Contribution

_LONGEST = 160  # characters of an error, as the reason why a symbol is left out


def run_family(
    batch: Batch, symbols: list[str], parameters: Mapping[str, Any], fdr: float, begin: Callable[[str], Show]
) -> list[RunOutcome]:
    """Compare all symbols, adjust every p for all of them, then decide about each whose comparison did not fail.

    A decision is made only if champion, versions, days and attempts are still those of the comparison. ``begin`` takes the name
    of each phase, and returns the ``show`` of :meth:`Batch.run`.
    """
    from fxhelpers.policy import Family

    _check(batch, symbols, parameters, "--fdr")
    family: dict[str, Any] = {"fdr": fdr, "symbols": len(symbols)}
    Family.read(family)
    comparing = {**parameters, "apply": False, "family": family}
    compared = batch.run(dict.fromkeys(symbols, comparing), begin("comparing"), phase="comparing")
    summaries = {o.symbol: o.summary for o in compared if o.summary is not None and not o.error}
    failed = [outcome for outcome in compared if outcome.symbol not in summaries]
    if batch.stopped or not summaries:
        return failed
    # a failed comparison counts as one without any gain; without a champion no test decides, so none can err
    p_values = {symbol: summaries[symbol].get("p_entered") if symbol in summaries else 1.0 for symbol in symbols}
    family["p"] = {symbol: p for symbol, p in p_values.items() if p is not None}
    batch.note(family=family)
    chosen = {
        symbol: {**parameters, "version": summary["version"], "champion": _pinned_champion(summary), "family": family}
        for symbol, summary in summaries.items()
    }
    return failed + batch.run(chosen, begin("deciding"), phase="deciding")


def run_pooled(
    batch: Batch, symbols: list[str], parameters: Mapping[str, Any], begin: Callable[[str, int], Show]
) -> list[RunOutcome]:
    """Compare all symbols, test the recipe of most of them once, then decide about each that is pooled.

    Symbols that are left out stay as they are; the journal says why. A decision is made only if champion, versions, days and
    attempts are still those of the comparison. A batch that is resumed after it was stopped while it decided decides the rest by
    the same test. ``begin`` takes the name of each phase and its number of runs, and returns the ``show`` of :meth:`Batch.run`.
    """
    _check(batch, symbols, parameters, "--pooled")
    stopped = _stopped(batch) if batch.resume else []
    compared = _outcomes(stopped, "comparing") or _compared(batch, symbols, parameters, begin)
    if batch.stopped:
        return compared
    known = [{key: value for key, value in line.items() if key != "time"} for line in stopped[1:]]
    done = {outcome.symbol: outcome for outcome in _outcomes(stopped, "deciding") if not outcome.error}
    for line in known or [_tested(batch, symbols, compared)]:
        batch.note(**line)
    test = next(line for line in journal_lines(batch.journal) if line.get("pooled"))
    chosen = {
        outcome.symbol: {
            **parameters,
            "version": outcome.summary["version"],
            "champion": _pinned_champion(outcome.summary),
            "pooled": test["pooled"],
        }
        for outcome in compared
        if outcome.summary is not None and outcome.symbol in test["pooled"]["members"] and outcome.symbol not in done
    }
    decided = {o.symbol: o for o in batch.run(chosen, begin("deciding", len(chosen)), phase="deciding")} if chosen else {}
    return [{**done, **decided}.get(outcome.symbol, outcome) for outcome in compared]


def _compared(
    batch: Batch, symbols: list[str], parameters: Mapping[str, Any], begin: Callable[[str, int], Show]
) -> list[RunOutcome]:
    comparing = {**parameters, "apply": False, "pooled": {"symbols": len(symbols)}}
    return batch.run(dict.fromkeys(symbols, comparing), begin("comparing", len(symbols)), phase="comparing")


def _tested(batch: Batch, symbols: list[str], compared: list[RunOutcome]) -> dict[str, Any]:
    """Make the one test, and return what the journal keeps of it."""
    from fxhelpers.policy import pool_symbols

    failed = {o.symbol: f"not compared: {o.error or o.status}"[:_LONGEST] for o in compared if o.error or o.summary is None}
    found = {outcome.symbol: _contribution(batch, outcome) for outcome in compared if outcome.symbol not in failed}
    pooled, result = pool_symbols(found, batch.params.promotion, symbols=len(symbols), left_out=failed)
    gains = {symbol: one.gains for symbol, one in found.items() if symbol in pooled.members}
    return {"pooled": pooled.to_json(), "result": result.to_json(), "gains": gains}


def _stopped(batch: Batch) -> list[dict[str, Any]]:
    """Return the journal of the last batch of the same symbols and settings, if it was stopped while it decided."""
    keys = ("notebook", "registry", "params_sha256", "symbols", "parameters", "one_test")
    about = {key: journal_lines(batch.journal)[0].get(key) for key in keys}
    for path in sorted(batch.journal.parent.glob(f"*-{batch.kind}-*.jsonl"), reverse=True):
        lines = journal_lines(path) if path != batch.journal else []
        if lines and {key: lines[0].get(key) for key in about} == about:
            tested, ended = (any(line.get(key) for line in lines) for key in ("pooled", "ended"))
            return lines if tested and not ended else []
    return []


def _outcomes(lines: list[dict[str, Any]], phase: str) -> list[RunOutcome]:
    """Return the outcomes of a phase in a journal, in the order of its symbols."""
    names = {one.name for one in fields(RunOutcome)}
    found = {line["symbol"]: line for line in lines if line.get("phase") == phase}
    order = [symbol for symbol in lines[0]["symbols"] if symbol in found] if lines else []
    return [RunOutcome(**{key: value for key, value in found[symbol].items() if key in names}) for symbol in order]


def _contribution(batch: Batch, outcome: RunOutcome) -> "Contribution":
    """Return what a symbol's record holds for the test over all; :class:`ParamsError` if the record is another one now."""
    from fxhelpers.decisions import COMPARISON_MIME, CONTRIBUTION
    from fxhelpers.policy import Contribution

    path = batch.params.paths.records / str(outcome.record)
    content = path.read_bytes() if path.is_file() else b""
    if sha256(content) != outcome.sha256:
        msg = f"--pooled: {path} is gone, or was changed since {outcome.symbol} was compared; nothing was decided: run it again"
        raise ParamsError(msg)
    found = read_output(json.loads(content), COMPARISON_MIME) or {}
    return Contribution.read(found[CONTRIBUTION])


def _check(batch: Batch, symbols: list[str], parameters: Mapping[str, Any], option: str) -> None:
    """Refuse to decide about symbols together, before any is compared."""
    problem = _problem(batch, symbols, parameters, option)
    if problem:
        msg = f"{option}{problem}"
        raise ParamsError(msg)


def _problem(batch: Batch, symbols: list[str], parameters: Mapping[str, Any], option: str) -> str:
    """Return why symbols cannot be decided about together; "" if they can."""
    from fxhelpers.policy import pooled_gates

    rules, pooled = batch.params.promotion, option == "--pooled"
    fixed = sorted({"version", "champion", "challengers", "family", "pooled", "override"} & set(parameters))
    tests = [gate for gate in rules.gates if gate.test and gate.severity == "fail" and gate.versus == "champion"]
    approved = parameters.get("approved_by") and parameters.get("reason")
    problems = {
        f" is for promote, which decides; {batch.kind} does not": batch.kind != "promote",
        f" compares every symbol's challenger with its champion; remove -p {', '.join(fixed)}": fixed,
        ": model_registry.compare_metrics is false in params.yaml, so nothing would be compared": (
            not batch.params.model_registry.compare_metrics
        ),
        ": no gate in params.yaml tests a challenger against the champion and decides, so there is no p to adjust": (
            not pooled and not tests
        ),
        ": no gate in params.yaml that decides has test stationary_bootstrap, versus champion and no margin": (
            pooled and not pooled_gates(rules)
        ),
        f" judges one recipe on many symbols, found {len(symbols)}; promote it without --pooled": pooled and len(symbols) < 2,  # noqa: PLR2004 (many)
        ": promotion.approval in params.yaml requires approved_by and reason: give both with -p, for all symbols": (
            rules.approval.Production.required and parameters.get("apply") and not approved
        ),
    }
    return next((message for message, applies in problems.items() if applies), "")


def _pinned_champion(summary: Mapping[str, Any]) -> int:
    """Return the champion that a decision must find; 0 if there is none, or if the version itself is it."""
    against = summary["against"]
    return int(against) if against is not None and against != summary["version"] else 0

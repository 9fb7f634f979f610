"""The policies of a backtest: the written one, the same with another rule, and what needs no policy."""

from collections.abc import Mapping, Sequence
from typing import Any

from fxhelpers.errors import ParamsError
from fxhelpers.measures import MEASURES
from fxhelpers.params import GateParams, PromotionParams, nearest, try_gates

WRITTEN, TRIED, MARGIN = "policy", "tried", "non_inferiority"
NEWEST, HALF, NEVER = "newest", "half", "never"
REFERENCES = (NEWEST, HALF, NEVER)
POLICIES = {
    WRITTEN: "the written policy of params.yaml",
    TRIED: "the written policy, with the gates to try",
    MARGIN: "the written policy as non_inferiority: another recipe serves unless it may be worse than the champion by 1 %",
    NEWEST: "the newest refit of the first model, without any test",
    HALF: "the forecasts of newest, times one half",
    NEVER: "the first fit of the first model, for ever",
}
"""What each policy serves, in words."""

_NOT_WORSE = GateParams(id="not_worse", test="stationary_bootstrap", versus="champion", margin=0.01, alpha=0.05)


def policies_of(
    written: PromotionParams, names: Sequence[str], gates: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, PromotionParams | None], list[str]]:
    """Return the rules by policy, None for one that needs none, and what a reader should know of the gates left out.

    Gates that only warn, and gates on a version's files, are left out: the
    former decide nothing, and nothing is stored. Without ``names``, the
    written policy and all that need none are taken.
    """
    chosen = list(names) or [WRITTEN, *([TRIED] if gates else []), *REFERENCES]
    for name in chosen:
        if name not in POLICIES or chosen.count(name) > 1:
            what = "is there twice" if name in POLICIES else f"is unknown{nearest(str(name), POLICIES)}"
            msg = f"policies: {name!r} {what}; expected some of {', '.join(POLICIES)}"
            raise ParamsError(msg)
    if (TRIED in chosen) != bool(gates):
        msg = "gates: the policy tried is the written one with these gates; give both, or none of them"
        raise ParamsError(msg)
    rules: dict[str, PromotionParams | None] = dict.fromkeys(chosen)
    left_out = set()
    makers = {WRITTEN: lambda: written, TRIED: lambda: try_gates(written, gates), MARGIN: lambda: _with_margin(written)}
    for name in (name for name in chosen if name in makers):
        whole = makers[name]()
        left_out |= {gate.id for gate in whole.gates if _of_files(gate) and gate.severity == "fail"}
        deciding = tuple(gate for gate in whole.gates if gate.severity == "fail" and not _of_files(gate))
        rules[name] = whole.model_copy(update={"gates": deciding})
    notes = [f"Gates on files are left out, as nothing is stored: {', '.join(sorted(left_out))}."] if left_out else []
    if any(whole is not None and whole.approval.Production.required for whole in rules.values()):
        notes.append("The approval that promotions need is taken as given.")
    return rules, notes


def references_of(chosen: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """Return, with newest, what the newest refit of each further model is called, and the model."""
    return {f"{NEWEST} {model}": model for model in models[1:]} if NEWEST in chosen else {}


def _of_files(gate: GateParams) -> bool:
    return gate.metric is not None and MEASURES[gate.metric].of_files


def _with_margin(written: PromotionParams) -> PromotionParams:
    """Return a policy that lets another recipe serve unless it may be worse than the champion by a margin."""
    kept = [gate for gate in written.gates if not _requires_gain(gate)]
    margin = any(gate.test and gate.margin and gate.versus == "champion" and gate.severity == "fail" for gate in kept)
    gates = kept if margin else [*(gate for gate in kept if gate.id != _NOT_WORSE.id), _NOT_WORSE]
    return PromotionParams.model_validate({**dict(written), "policy": "non_inferiority", "gates": tuple(gates)})


def _requires_gain(gate: GateParams) -> bool:
    against = gate.versus == "champion" and gate.severity == "fail"
    return against and (gate.min_improvement is not None or bool(gate.test and not gate.margin))

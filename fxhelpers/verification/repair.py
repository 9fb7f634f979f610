"""Mending what is safe to mend."""

from fxhelpers.promotion.deciding import Move, act, begin, failing, retired, settle_now
from fxhelpers.registry import RegistryClient, in_production
from fxhelpers.registry.ledgers import read_ledger


def repair(registry: RegistryClient, name: str) -> list[str]:
    """Mend what is safe to mend, record it as a decision, and say what was mended.

    Interrupted decisions are ended, MLflow's stages are set to what the alias
    says, and an alias that is gone is set to the champion that the ledger
    knows, if that very version is there. Nothing that was edited, deleted or
    made anew is touched.
    """
    mended = [f"ended {d.id}: {d.result}" for d in settle_now(registry, name)]
    known, versions = read_ledger(registry, name).lost, registry.versions(name)
    is_there = known is not None and bool(known.bundle) and known in [v.identity for v in versions]
    lost = known if is_there and in_production(versions) is None else None
    off = [v for v in versions if v.mirror_lags]
    if lost is None and not off:
        return mended
    what = [f"set the alias champion to {lost} again"] if lost is not None else []
    what += [f"set MLflow's stage of version {v.version} to what the alias says" for v in off if v.identity != lost]
    decision = begin(registry, name, "repair", version=lost.number if lost else None, reason="fx verify --repair")
    with failing(registry, decision):
        stages = {v.identity: retired(registry) for v in off if v.stage != "Production" and v.identity != lost}
        move = Move(to=lost) if lost is not None else None
        act(registry, decision, facts={"result": "repaired", "reason": "; ".join(what)[:1000]}, move=move, stages=stages)
    return mended + what

"""Mending what is safe to mend."""

from fxhelpers.promotion.deciding import Move, act, begin, failing, settle_now
from fxhelpers.registry import RegistryClient, in_production
from fxhelpers.registry.ledgers import read_ledger


def repair(registry: RegistryClient, name: str) -> list[str]:
    """Mend what is safe to mend, record it as a decision, and say what was mended.

    Interrupted decisions are ended, MLflow's stages are set to what the alias
    says, and an alias that is gone is set to the champion that the ledger
    knows. Nothing that was edited or deleted is touched.
    """
    mended = [f"ended {d.id}: {d.result}" for d in settle_now(registry, name)]
    known, versions = read_ledger(registry, name).lost_champion, registry.versions(name)
    lost = known if in_production(versions) is None and known in {v.version for v in versions} else None
    off = [v for v in versions if v.mirror_lags]
    if lost is None and not off:
        return mended
    what = [f"set the alias champion to version {lost} again"] if lost is not None else []
    what += [f"set MLflow's stage of version {v.version} to what the alias says" for v in off if v.version != lost]
    decision = begin(registry, name, "repair", version=lost, reason="fx verify --repair")
    with failing(registry, decision):
        stages = {v.version: "Archived" for v in off if v.stage != "Production" and v.version != lost}
        move = Move(to=lost) if lost is not None else None
        act(registry, decision, facts={"result": "repaired", "reason": "; ".join(what)[:1000]}, move=move, stages=stages)
    return mended + what

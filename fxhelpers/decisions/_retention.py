"""Retention: archive Staging versions that are overdue, and delete the files of archived ones on request."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pandas as pd

from fxhelpers.decisions._mirror import finish, mark, writing
from fxhelpers.decisions._path import (
    act_under,
    begin,
    note_on_version,
    recording_failure,
    recover_interrupted,
    refuse_unrecorded,
    seal_unrecorded,
)
from fxhelpers.ledger import Decision, Identity, IntentFacts, Ledger, OutcomeFacts
from fxhelpers.registry import MODEL_DIGEST, PRUNED, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import read_ledger
from fxhelpers.registry.storage import stored_bytes, unknown_model

AT_ONCE = 200
"""Most versions that one decision archives or prunes: their numbers must fit into its entry."""

_KINDS_THAT_KEEP = {"promotion", "rollback", "stage change"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Retention:
    """Versions that are overdue, and what was done with them."""

    # one row per version, oldest first: ``version``, ``stage`` (before), ``registered``, ``due`` (UTC), ``bytes``, ``what``
    # (archive, prune, archive and prune, or keep) and ``why``
    versions: pd.DataFrame
    decision: Decision | None  # None if there was nothing to do, or ``apply`` was false

    def _repr_html_(self) -> str:
        if self.decision:
            return self.decision._repr_html_()
        todo = f"{len(self.due('archive'))} to archive, {len(self.due('prune'))} to prune ({self.bytes_pruned:,} bytes)"
        return f"<p>Nothing was changed: {todo}.</p>"

    def due(self, what: str) -> list[int]:
        """Return the versions to ``archive`` or to ``prune``."""
        return [int(number) for number in self.versions.loc[self.versions["what"].str.contains(what), "version"]]

    @property
    def bytes_pruned(self) -> int:
        """Bytes that pruning frees, or would free."""
        return int(self.versions.loc[self.versions["what"].str.contains("prune"), "bytes"].sum())


def retain(registry: RegistryClient, name: str, symbol: str, *, apply: bool, prune: bool, reason: str) -> Retention:
    """Archive the Staging versions older than ``retention_days``, and ``prune`` archived ones."""
    if apply:
        flag = " -p prune true" if prune else ""
        refuse_unrecorded(f"fx run retain -p symbol {symbol} -p apply true{flag}")
    ledger, versions = read_ledger(registry, name), registry.versions(name)
    if not versions and not ledger.decisions:
        raise unknown_model(registry, name)
    identities = tuple(version.identity for version in versions)
    plan = Retention(versions=_plan(registry, ledger, versions, prune=prune), decision=None)
    archive, gone = plan.due("archive"), plan.due("prune")
    if not apply:
        return plan
    if not (archive or gone):
        recover_interrupted(registry, name)  # versions that an interrupted run archived are not due any more
        return plan
    days = registry.params.model_registry.retention_days
    decision = begin(registry, name, IntentFacts(kind="archiving", symbol=symbol, reason=reason, archive=archive, prune=gone))
    with recording_failure(registry, decision):
        with writing(registry, name) as writer:
            now = [registry.version(name, number) for number in gone]
            champion = writer.champion
            pruned = [v for v in now if v.identity in identities and v.identity != champion]
            mark(registry, decision, pruned)  # from here on none of them can become champion
            why = [f"In Staging for more than {days} days: {len(archive)} archived."] if archive else []
            why += [f"Files of {len(gone)} archived versions deleted, {plan.bytes_pruned} bytes."] if gone else []
            facts = OutcomeFacts(result="archived", reason=" ".join(why), archived=archive, bytes=plan.bytes_pruned)
            facts.pruned = [version.version for version in pruned]
            stages = {version: "Archived" for version in identities if version.number in archive}
            try:
                done = act_under(writer, registry, decision, facts=facts, stages=stages, more_to_do=True)
            except BaseException:
                decisions = read_ledger(registry, name).decisions  # this one may have its outcome
                finish(registry, next((d for d in decisions if d.run_id == decision.run_id), decision))
                raise
        finish(registry, done)
        done = seal_unrecorded(registry, done)
    note_on_version(registry, done)
    return replace(plan, decision=done)


def _plan(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion], *, prune: bool) -> pd.DataFrame:
    days, now, kept = registry.params.model_registry.retention_days, datetime.now(UTC), _kept(ledger)
    shared = Counter(version.run_id for version in versions)
    rows, left = [], AT_ONCE
    for version in reversed(versions):
        due = version.archive_due(days)
        late = past = due is not None and due <= now
        size = stored_bytes(registry, version) if past or version.stage == "Archived" else 0
        why = kept.get(version.identity) or kept.get(Identity(version.version), "")  # without a bundle, it may be this one
        if MODEL_DIGEST not in version.tags or shared[version.run_id] > 1:
            why = why or "its files are not ours alone"
        gone = prune and not why and size > 0 and (past or version.stage == "Archived")
        if (past or gone) and left == 0:
            past, gone, why = False, False, f"more than {AT_ONCE} at once: run it again"
        if version.tags.get(PRUNED) and not size:
            why = "its files were deleted before"
        left -= past or gone
        what = " and ".join(word for word, doing in (("archive", past), ("prune", gone)) if doing) or "keep"
        if late or version.stage == "Archived":
            times = [f"{version.created:%Y-%m-%d %H:%M}", f"{due:%Y-%m-%d}" if due else ""]
            rows.append([version.version, version.stage, *times, size, what, why])
    return pd.DataFrame(rows, columns=["version", "stage", "registered", "due", "bytes", "what", "why"])


def _kept(ledger: Ledger) -> dict[Identity, str]:
    """Return the versions whose files are evidence, and why."""
    kept: dict[Identity, str] = {}
    named_versions = ledger.named_versions()
    for decision in (decision for decision in ledger.decisions if decision.kind in _KINDS_THAT_KEEP):
        about = named_versions[decision.id]
        versions = (*about.by_number.values(), about.before, about.after)
        kept |= {version: f"named by {decision.id}" for version in versions if version}
    return kept | dict.fromkeys(ledger.champions, "was in Production")

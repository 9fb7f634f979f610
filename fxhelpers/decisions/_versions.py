"""Versions: registered, moved between stages, archived and pruned."""

import logging
import shlex
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pandas as pd

from fxhelpers.bundles import Bundle
from fxhelpers.decisions._mirror import check_registered, finish, mark, serving, writing_mirrored
from fxhelpers.decisions._path import (
    Move,
    act,
    act_under,
    begin,
    note_on_version,
    recording_failure,
    recover_interrupted,
    refuse_unrecorded,
    run_command,
    seal_unrecorded,
)
from fxhelpers.display import Keyed
from fxhelpers.errors import PromotionRefusedError
from fxhelpers.ledger import Decision, Identity, IntentFacts, Ledger, OutcomeFacts
from fxhelpers.params import STAGES, model_name
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST, PRUNED, RECIPE_DIGEST, ModelVersion, RegistryClient
from fxhelpers.registry.ledger_store import LedgerWriter, read_ledger
from fxhelpers.registry.models import check_tags, create_version, store_bundle
from fxhelpers.registry.storage import stored_bytes, unknown_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Keyed):
    model_name: str  # registered model
    version: int  # number that the registry gave for this bundle
    stage: str  # of the version, afterwards
    run_id: str  # MLflow run that holds its files
    symbol: str  # ticker
    architecture: list[int]  # units of each hidden layer
    metrics: dict[str, float]  # validation and test metrics
    timestamp: str  # when the bundle was trained
    created: bool  # False if the same bundle was registered before, as this version
    decision: Decision  # as it is in the ledger
    duration_seconds: float  # from start to end


def register(
    registry: RegistryClient,
    bundle: Bundle,
    name: str,
    *,
    stage: str | None,
    description: str | None,
    tags: dict[str, str],
) -> Registration:
    """Store a bundle as a version, unless it is one already, and set its stage."""
    start = time.perf_counter()
    check_tags(tags)
    refuse_unrecorded(_command(registry, bundle, name, stage=stage, description=description, tags=tags))
    decision = begin(registry, name, IntentFacts(kind="registration", symbol=bundle.symbol, bundle=bundle.digest))
    with recording_failure(registry, decision):
        if (stage or registry.params.model_registry.default_stage) == "Production":
            _check_by_hand(registry, bundle.symbol)
        stored = store_bundle(registry, bundle, name, description=description, tags=tags)
        with writing_mirrored(registry, name) as ledger:
            found = (stored, False) if isinstance(stored, ModelVersion) else create_version(registry, stored, name)
            version, created = found
            if not created:
                logger.warning("%s: this bundle is version %d already; no new version was created", name, version.version)
            decision = _enter(registry, ledger, decision, version, stage, created=created)
            note_on_version(registry, decision)
    entered = decision.outcome_facts.stage or version.stage
    logger.info("Registered %s as version %d, stage %s", name, version.version, entered)
    return Registration(
        model_name=name,
        version=version.version,
        stage=entered,
        run_id=version.run_id,
        symbol=bundle.symbol,
        architecture=bundle.architecture,
        metrics=bundle.metrics,
        timestamp=bundle.timestamp,
        created=created,
        decision=decision,
        duration_seconds=time.perf_counter() - start,
    )


def transition(registry: RegistryClient, name: str, version: int, stage: str) -> ModelVersion:
    """Set the stage of a version by hand; taking the champion out of Production leaves none."""
    target = registry.version(name, version)
    if stage == "Production":
        check_registered(read_ledger(registry, name), target)
    by_hand = f"from fxhelpers import ModelRegistry; ModelRegistry().transition_stage({name!r}, {version}, {stage!r})"
    refuse_unrecorded(shlex.join(["python", "-c", by_hand]))
    intent = IntentFacts(kind="stage change", version=version, symbol=target.tags.get("symbol"), stage=stage)
    decision = begin(registry, name, intent)
    with recording_failure(registry, decision):
        facts = OutcomeFacts(result="moved", stage=stage, rests_on="manual", reason=f"To {stage}, by hand.")
        if stage == "Production":
            _check_by_hand(registry, decision.symbol)
            act(registry, decision, facts=facts, move=Move(to=target.identity, by_hand=True))
        else:
            champion = serving(registry, name)
            leaves = champion is not None and champion.identity == target.identity
            move = Move(to=None, compared_with=target.identity) if leaves else None
            act(registry, decision, facts=facts.with_bundles(target.identity), move=move, stages={target.identity: stage})
    return registry.version(name, version)


def _check_by_hand(registry: RegistryClient, symbol: str) -> None:
    """Refuse Production if it requires an approval: a stage set by hand has none."""
    if registry.params.promotion.approval.Production.required:
        msg = (
            "promotion.approval.Production.required is true in params.yaml: Production requires a promotion with approved_by "
            f"and reason (fx run promote -p symbol {symbol} -p apply true -p approved_by NAME -p reason TEXT), not a stage set "
            "by hand; nothing was changed"
        )
        raise PromotionRefusedError(msg)


def _command(registry: RegistryClient, bundle: Bundle, name: str, **parameters: str | dict[str, str] | None) -> str:
    """Return the command that registers a bundle: Python if the model has another name than the notebook's, the symbol's."""
    file = bundle.model_path
    path = str(file.relative_to(registry.params.folder) if file.is_relative_to(registry.params.folder) else file)
    if name != model_name(bundle.symbol):
        code = f"from fxhelpers import ModelRegistry as R; R().register_model(R().load_model_info({path!r}), {name!r})"
        return shlex.join(["python", "-c", code])
    return run_command("register", {"symbol": bundle.symbol, "model_path": "" if bundle.chosen else path, **parameters})


def _enter(
    registry: RegistryClient, ledger: LedgerWriter, decision: Decision, version: ModelVersion, stage: str | None, *, created: bool
) -> Decision:
    """Set the stage of a registered version; a new one becomes the challenger."""
    number = version.version
    new = created
    if not created:
        known = read_ledger(registry, version.name)
        check_registered(known, version, registering=True)
        # a version is also new if its registration was killed before this point
        new = version.identity not in [d.identity(number) for d in known.registrations.get(number, [])]
    if stage is not None and stage not in STAGES:
        logger.warning("Invalid stage '%s'. Using None. Valid stages: %s", stage, ", ".join(STAGES))
        stage = "None" if new else version.stage
    wanted = stage or (registry.params.model_registry.default_stage if new else version.stage)
    if version.stage == "Production" and wanted != "Production":
        logger.warning(
            "%s: version %d stays in Production: it is the champion; transition_stage takes it out", version.name, number
        )
        wanted = "Production"
    facts = OutcomeFacts(
        result="registered",
        version=number,
        created=created,
        stage=wanted,
        bundles={str(number): version.tags[BUNDLE_DIGEST]},
        model_sha256=version.tags.get(MODEL_DIGEST),
        run_id=version.run_id,
    )
    if RECIPE_DIGEST in version.tags:
        facts.recipe = version.tags[RECIPE_DIGEST]
    if wanted == "Production":
        if version.stage != "Production":
            facts.rests_on, facts.reason = "manual", "To Production with its registration, by hand."
        return act_under(ledger, registry, decision, facts=facts, move=Move(to=version.identity, by_hand=True))
    challenger = number if new and wanted in {"None", "Staging"} else None
    stages = {version.identity: wanted} if wanted != version.mirror else {}
    return act_under(ledger, registry, decision, facts=facts, stages=stages, challenger=challenger)


AT_ONCE = 200  # most versions that one decision archives or prunes: their numbers must fit into its entry

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
        return [int(number) for number in self.versions.loc[self.versions["what"].str.contains(what), "version"]]

    @property
    def bytes_pruned(self) -> int:
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
        with writing_mirrored(registry, name) as writer:
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

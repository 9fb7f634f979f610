"""Registrations: a bundle becomes a version in its stage; and stages that are set by hand."""

import logging
import shlex
import time
from dataclasses import dataclass

from fxhelpers.bundles import Bundle
from fxhelpers.decisions._mirror import check_registered, serving, writing
from fxhelpers.decisions._path import (
    Move,
    act,
    act_under,
    begin,
    note_on_version,
    recording_failure,
    refuse_unrecorded,
    run_command,
)
from fxhelpers.display import Keyed
from fxhelpers.errors import PromotionRefusedError
from fxhelpers.ledger import Decision, IntentFacts, OutcomeFacts
from fxhelpers.params import STAGES, model_name
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import LedgerWriter, read_ledger
from fxhelpers.registry.storage import check_tags, create_version, store_bundle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Keyed):
    """What a registration did."""

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
        with writing(registry, name) as ledger:
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
    if wanted == "Production":
        if version.stage != "Production":
            facts.rests_on, facts.reason = "manual", "To Production with its registration, by hand."
        return act_under(ledger, registry, decision, facts=facts, move=Move(to=version.identity, by_hand=True))
    challenger = number if new and wanted in {"None", "Staging"} else None
    stages = {version.identity: wanted} if wanted != version.mirror else {}
    return act_under(ledger, registry, decision, facts=facts, stages=stages, challenger=challenger)

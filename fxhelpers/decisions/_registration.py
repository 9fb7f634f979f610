"""Registrations: a bundle becomes a version and comes to its stage; and stages that are set by hand."""

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
    check_by_hand,
    note_on_version,
    recording_failure,
    refuse_unrecorded,
    run_command,
    with_bundles,
)
from fxhelpers.display import Keyed
from fxhelpers.ledger import Decision
from fxhelpers.params import STAGES, model_name
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import LedgerWriter, read_ledger
from fxhelpers.registry.storage import check_tags, create_version, store_bundle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Keyed):
    """What a registration did.

    Attributes
    ----------
    model_name : str
        Registered model.
    version : int
        Number that the registry gave for this bundle.
    stage : str
        Of the version, afterwards.
    run_id : str
        MLflow run that holds its files.
    symbol : str
        Ticker.
    architecture : list of int
        Units of each hidden layer.
    metrics : dict
        Validation and test metrics.
    timestamp : str
        When the bundle was trained.
    created : bool
        False where the same bundle was registered before: the version is that
        one.
    decision : Decision
        As it is in the ledger.
    duration_seconds : float
        From start to end.
    """

    model_name: str
    version: int
    stage: str
    run_id: str
    symbol: str
    architecture: list[int]
    metrics: dict[str, float]
    timestamp: str
    created: bool
    decision: Decision
    duration_seconds: float


def register(
    registry: RegistryClient,
    bundle: Bundle,
    name: str,
    *,
    stage: str | None,
    description: str | None,
    tags: dict[str, str],
) -> Registration:
    """Store a bundle as a version, unless it is one already, and bring it to its stage."""
    start = time.perf_counter()
    check_tags(tags)
    refuse_unrecorded(_command(registry, bundle, name, stage=stage, description=description, tags=tags))
    decision = begin(registry, name, "registration", symbol=bundle.symbol, bundle=bundle.digest)
    with recording_failure(registry, decision):
        if (stage or registry.params.model_registry.default_stage) == "Production":
            check_by_hand(registry, bundle.symbol)
        stored = store_bundle(registry, bundle, name, description=description, tags=tags)
        with writing(registry, name) as ledger:
            found = (stored, False) if isinstance(stored, ModelVersion) else create_version(registry, stored, name)
            version, created = found
            if not created:
                logger.warning("%s: this bundle is version %d already; no new version was made", name, version.version)
            decision = _enter(registry, ledger, decision, version, stage, created=created)
            note_on_version(registry, decision)
    entered = str(decision.outcome.facts["stage"]) if decision.outcome else version.stage
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
    """Set the stage of a version by hand; Production goes the one path, and taking the champion out of it leaves none."""
    found = registry.version(name, version)
    if stage == "Production":
        check_registered(read_ledger(registry, name), found)
    by_hand = f"from fxhelpers import ModelRegistry; ModelRegistry().transition_stage({name!r}, {version}, {stage!r})"
    refuse_unrecorded(shlex.join(["python", "-c", by_hand]))
    decision = begin(registry, name, "stage change", version=version, symbol=found.tags.get("symbol"), stage=stage)
    with recording_failure(registry, decision):
        facts = {"result": "moved", "stage": stage, "rests_on": "manual", "reason": f"To {stage}, by hand."}
        if stage == "Production":
            check_by_hand(registry, decision.symbol)
            act(registry, decision, facts=facts, move=Move(to=found.identity, by_hand=True))
        else:
            champion = serving(registry, name)
            leaves = champion is not None and champion.identity == found.identity
            move = Move(to=None, compared_with=found.identity) if leaves else None
            act(registry, decision, facts=with_bundles(facts, found.identity), move=move, stages={found.identity: stage})
    return registry.version(name, version)


def _command(registry: RegistryClient, bundle: Bundle, name: str, **words: str | dict[str, str] | None) -> str:
    """Return the command that registers a bundle; the notebook knows no other name of a registered model than the symbol's."""
    file = bundle.model_path
    path = str(file.relative_to(registry.params.folder) if file.is_relative_to(registry.params.folder) else file)
    if name != model_name(bundle.symbol):
        code = f"from fxhelpers import ModelRegistry as R; R().register_model(R().load_model_info({path!r}), {name!r})"
        return shlex.join(["python", "-c", code])
    return run_command("register", {"symbol": bundle.symbol, "model_path": "" if bundle.chosen else path, **words})


def _enter(
    registry: RegistryClient, ledger: LedgerWriter, decision: Decision, version: ModelVersion, stage: str | None, *, created: bool
) -> Decision:
    """Bring a registered version to its stage; one that was never brought to any becomes the challenger."""
    number = version.version
    new = created
    if not created:
        known = read_ledger(registry, version.name)
        check_registered(known, version, registering=True)
        # new is also one whose registration was killed before it came this far
        new = version.identity not in [d.identity(number) for d in known.registrations.get(number, [])]
    if stage is not None and stage not in STAGES:
        logger.warning("Invalid stage '%s'. Using None. Valid stages: %s", stage, ", ".join(STAGES))
        stage = "None" if new else version.stage
    wanted = stage or (registry.params.model_registry.default_stage if new else version.stage)
    if version.stage == "Production" and wanted != "Production":
        logger.warning(
            "%s: version %d is the champion and stays it; transition_stage takes it out of Production", version.name, number
        )
        wanted = "Production"
    facts = {
        "result": "registered",
        "version": number,
        "created": created,
        "stage": wanted,
        "bundles": {str(number): version.tags[BUNDLE_DIGEST]},
        "model_sha256": version.tags.get(MODEL_DIGEST),
        "run_id": version.run_id,
    }
    if wanted == "Production":
        if version.stage != "Production":
            facts.update(rests_on="manual", reason="To Production with its registration, by hand.")
        return act_under(ledger, registry, decision, facts=facts, move=Move(to=version.identity, by_hand=True))
    challenger = number if new and wanted in {"None", "Staging"} else None
    stages = {version.identity: wanted} if wanted != version.mirror else {}
    return act_under(ledger, registry, decision, facts=facts, stages=stages, challenger=challenger)

"""Ledgers in MLflow: read, and written under the lock of their model; ``_chains`` says how they are kept."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Run, RunTag

from fxhelpers.errors import LockLostError, RegistryError
from fxhelpers.ledger import (
    Decision,
    Entry,
    Facts,
    Fault,
    Identity,
    IntentFacts,
    Ledger,
    Link,
    Moving,
    OutcomeFacts,
    SealFacts,
    entry_name,
    first_name,
    link_name,
)
from fxhelpers.registry import _chains
from fxhelpers.registry._chains import PREFIX, ChainEnd
from fxhelpers.registry._client import RegistryClient, new_run, quoted
from fxhelpers.registry.lock import Clock, ModelLock
from fxhelpers.system import gc_paused

logger = logging.getLogger(__name__)

_MOVING = "fx.moving"  # tag in which earlier releases announced a move, before they set the alias, which decided
_TRIES = 3
FORECASTS = "fx-forecasts"
"""Name of the one ledger of all forecasts; its entries are about no registered model."""

_F = TypeVar("_F", bound=Facts)


class LedgerWriter:
    """A ledger under its model's lock: read its end, append to it.

    The lock only keeps writers out of each other's way; the links decide: :class:`LockLostError` if another writer went on.
    ``serving`` is the version in Production by the last entry, in a tuple; None if no entry says so.
    """

    def __init__(self, registry: RegistryClient, name: str) -> None:
        self._registry, self._name = registry, name
        self._after_gap = False  # all that is linked before the next entry is gone
        self._read_end()
        self.clock = Clock(registry, self._end.head)

    def _read_end(self) -> None:
        self._end = _chains.chain_end(self._registry, self._name)
        self.serving = _serving(self._registry, self._name, self._end)
        runs, decisions = self._end.runs, self._end.decisions
        self._last_end = max((run.info.end_time or 0 for run in runs.values()), default=0)
        active = {key for key, run in runs.items() if (run.info.status, run.info.lifecycle_stage) == ("RUNNING", "active")}
        self.open = [decision for decision in decisions if decision.run_id in active]  # without an end, oldest first
        self.moving: dict[str, Moving] = {}  # announced moves of open decisions of earlier releases, by run
        for run_id in {decision.run_id for decision in self.open if decision.outcome is None}:
            move = runs[run_id].data.tags.get(_MOVING, "")
            with suppress(ValueError):
                self.moving |= (
                    {run_id: Moving.model_validate_json(move)} if move and "intent" in _chains.stored(runs[run_id]).texts else {}
                )
        self._late = sorted(active - {decision.run_id for decision in decisions})

    @property
    def head(self) -> Entry[Facts] | None:
        """The last entry."""
        return self._end.head

    @property
    def champion(self) -> Identity | None:
        """The version in Production by the last entry; None also if no entry says so."""
        return self.serving[0] if self.serving else None

    def still_open(self, decision: Decision) -> bool:
        """Return whether a decision had no outcome when the ledger was read."""
        return any(o.run_id == decision.run_id and o.outcome is None for o in self.open)

    def overtaken(self) -> bool:
        """Return whether another writer appended to the ledger since the last entry that is known here."""
        run = _chains.get_run(self._registry, self._name, self._end.holder) if self.head else None
        return self.head is not None and _chains.link_in(run, link_name(self.head.digest)) is not None

    def begin(self, facts: IntentFacts, serving: Identity | None) -> Decision:
        """Append the intent of a new decision, and open its run."""
        decision = self.clock.new_id(facts.kind)
        entry = self._next(decision, facts.model_copy(update={"serves": serving}))
        experiment = self._registry.experiment(_chains.EXPERIMENT)
        tags = {_chains.MODEL: self._name, _chains.DECISION: decision, PREFIX + entry_name(entry): entry.to_json()}
        with self._registry.session("write the ledger of", self._name) as client:
            run_id = new_run(client, experiment, decision, tags)
        root = "" if self.head and self._end.holder else _chains.root_run(self._registry, create=True)
        try:
            name = link_name(self.head.digest) if self.head else first_name(self._name)
            self._link(entry, run_id, self._end.holder or root, name)
        except LockLostError:
            self._terminate(run_id, failed=True)
            if self.head is None and self._goes_on_after_gap(root):
                return self.begin(facts, serving)
            raise
        if root or self._after_gap:
            self._link(entry, run_id, run_id, first_name(self._name))  # so that it counts as the first without reading the root
        self.serving = (serving,)
        for late in self._late:  # the ledger went on without them, for good
            self._terminate(late, failed=True)
        self._late = []
        return Decision(run_id=run_id, intent=entry)

    def conclude(
        self, decision: Decision, facts: OutcomeFacts, *, moves: bool = False, seal: SealFacts | None = None
    ) -> Decision:
        """Append a decision's outcome, which makes a champion if it ``moves`` one, and its seal if that is known."""
        now = self.clock.now()
        time = max(now, self.head.time) if self.head and not self.clock.sets_back else now
        outcome = self._append(decision, facts.model_copy(update={"moved": time}) if moves else facts, time)
        self.serving = (outcome.serving,)
        decision = replace(decision, outcome=outcome)
        return decision if seal is None else self.seal_decided(decision, seal)

    def seal_decided(self, decision: Decision, facts: SealFacts) -> Decision:
        """Seal what was decided, even if other writers went on right after it: their decisions undo none of it."""
        for _ in range(_TRIES):
            try:
                return self.seal(decision, facts)
            except LockLostError:
                self._read_end()
            if not any(o.run_id == decision.run_id and o.seal is None for o in self.open):
                break  # another writer sealed it
        return decision

    def seal(self, decision: Decision, facts: SealFacts) -> Decision:
        """Append a decision's seal, and end its run."""
        sealed = replace(decision, seal=self._append(decision, facts.model_copy(update={"serves": self.champion})))
        self.end(sealed)
        return sealed

    def end(self, decision: Decision) -> None:
        """End a decision's run."""
        self._terminate(decision.run_id, failed=decision.result in {"failed", "interrupted"})

    def _append(self, decision: Decision, facts: _F, now: str = "") -> Entry[_F]:
        entry = self._next(decision.id, facts, now)
        with self._registry.session("write the ledger of", self._name) as client:
            client.log_batch(decision.run_id, tags=[RunTag(PREFIX + entry_name(entry), entry.to_json())])
        self._link(entry, decision.run_id, self._end.holder, link_name(entry.previous))
        return entry

    def _next(self, decision: str, facts: _F, now: str = "") -> Entry[_F]:
        now = now or self.clock.now()
        return Entry.after(self.head, ledger=self._name, decision=decision, now=now, facts=facts, sets_back=self.clock.sets_back)

    def _link(self, entry: Entry[Facts], run_id: str, holder: str, name: str) -> None:
        """Name an entry as the successor, unless there is one."""
        link = Link(entry.digest, run_id)
        for attempt in range(1, _TRIES + 1):
            try:
                with self._registry.session("write the ledger of", self._name) as client:
                    client.log_param(holder, PREFIX + name, str(link))
                break
            except RegistryError as error:  # refused, or its reply was lost
                run = _chains.get_run(self._registry, self._name, holder)
                found = _chains.link_in(run, name)
                if found == link:
                    break
                if found is not None:
                    effect = "what was decided stays" if entry.entry == "seal" else "no champion was moved: decide anew"
                    msg = (
                        f"{self._name}: another decision was written while this one was held up; the {entry.entry} of "
                        f"{entry.decision} does not count, and {effect}"
                    )
                    raise LockLostError(msg) from error
                if attempt == _TRIES:
                    raise
                if run and run.info.lifecycle_stage == "deleted":
                    logger.warning("%s: restored the run %s, which was deleted in MLflow", self._name, holder)
                    with self._registry.session("restore a decision about", self._name) as client:
                        client.restore_run(holder)
        self._end = replace(self._end, head=entry, holder=run_id)

    def _goes_on_after_gap(self, root: str) -> bool:
        """Return whether the whole ledger is gone from MLflow; if so, it goes on in place of its first entry."""
        end = _chains.end_after_gap(self._registry, self._name, root, self._end.runs)
        if end is None:
            return False
        self._end, self._after_gap = end, True
        return True

    def _terminate(self, run_id: str, *, failed: bool) -> None:
        """End a run: later than all others if it keeps the last entry, which then is found at once, else earlier."""
        if run_id == self._end.holder:
            time = self._last_end = max(self.clock.milliseconds(), self._last_end + 1)
        else:
            time = max(1, self._last_end - 1)
        with self._registry.session("write the ledger of", self._name) as client:
            client.set_terminated(run_id, "FAILED" if failed else "FINISHED", end_time=time)


@contextmanager
def writing(registry: RegistryClient, name: str) -> Iterator[LedgerWriter]:
    """Take the lock of a registered model, and yield its ledger to append to."""
    with ModelLock(registry, name):
        yield LedgerWriter(registry, name)


def read_ledger(registry: RegistryClient, name: str) -> Ledger:
    """Return the ledger of a registered model; an empty one if nothing was decided."""
    return _read(registry, name, _chains.search_runs(registry, name))


def read_ledgers(registry: RegistryClient) -> dict[str, Ledger]:
    """Return the ledgers of all registered models, by name; that of the forecasts is none of them."""
    runs: dict[str, list[Run]] = {}
    for run in _chains.search_runs(registry, None, f"tags.`{_chains.MODEL}` != {quoted(FORECASTS)}"):
        if _chains.MODEL in run.data.tags:
            runs.setdefault(run.data.tags[_chains.MODEL], []).append(run)
    return {name: _read(registry, name, found) for name, found in sorted(runs.items())}


def read_serving(registry: RegistryClient, name: str) -> tuple[Identity | None] | None:
    """Return the version in Production by the last entry of a ledger, in a tuple; None if no entry says so."""
    return _serving(registry, name, _chains.chain_end(registry, name))


def ledger_of(registry: RegistryClient, decision: str) -> str | None:
    """Return the registered model that a decision is about; None if there is no such decision."""
    found = _chains.search_runs(registry, None, f"tags.`{_chains.DECISION}` = {quoted(decision)}")
    return next((run.data.tags[_chains.MODEL] for run in found if _chains.MODEL in run.data.tags), None)


def write_heartbeat(registry: RegistryClient, decision: Decision, now: str) -> None:
    """Show that the owner of an open decision is at work."""
    with registry.session("write the ledger of", decision.model_name) as client:
        client.set_tag(decision.run_id, _chains.SEEN, now)


def reopen(registry: RegistryClient, decision: Decision) -> None:
    """Set the run of a decision without an end to running again, if it was ended in MLflow: else it is not found."""
    with registry.session("open a decision again about", decision.model_name) as client:
        info = client.get_run(decision.run_id).info
        if info.lifecycle_stage == "active" and info.status != "RUNNING":
            client.update_run(decision.run_id, status="RUNNING")


def attach(registry: RegistryClient, name: str, run_id: str, path: Path, folder: str) -> None:
    """Store a file, or all files of a folder, with a decision's run."""
    with registry.session("attach files to a decision about", name) as client:
        store = client.log_artifacts if path.is_dir() else client.log_artifact
        store(run_id, str(path), folder)


def fetch(registry: RegistryClient, decision: Decision, file: str) -> bytes | None:
    """Return a file that is stored with a decision's run, such as ``evidence/frame.csv``; None if it is missing."""
    doing = "read the files of a decision about"
    with tempfile.TemporaryDirectory(prefix="fx-") as to, registry.files(doing, decision.model_name, decision.run_id) as files:
        if file not in {entry.path for entry in files.list_artifacts(file.rpartition("/")[0])}:
            return None
        return Path(files.download_artifacts(file, to)).read_bytes()


def _read(registry: RegistryClient, name: str, runs: list[Run]) -> Ledger:
    """Read a ledger from its runs; a run that was deleted in MLflow is a fault."""
    with gc_paused():
        ledger = _chains.ledger_from(registry, name, runs)
    deleted = {run.info.run_id for run in runs if run.info.lifecycle_stage == "deleted"}
    faults = [
        Fault(
            message=f"the run of {d.id} was deleted in MLflow", remedy=f"mlflow runs restore --run-id {d.run_id}", decision=d.id
        )
        for d in ledger.decisions
        if d.run_id in deleted
    ]
    return replace(ledger, faults=(*ledger.faults, *faults))


def _serving(registry: RegistryClient, name: str, end: ChainEnd) -> tuple[Identity | None] | None:
    if end.head is None:
        return None
    if end.head.states_champion and (end.head.serving is None or end.head.serving.bundle is not None):
        return (end.head.serving,)
    ledger = read_ledger(registry, name)
    return (ledger.serving,) if ledger.last_statement else None

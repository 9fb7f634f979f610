"""Where ledgers are kept: each decision is an MLflow run of the experiment ``fx-ledger``, its entries are tags of that run.

A run is RUNNING until its seal is written, and ends later than any that ended
before it. So the last entry of a ledger is on one of the runs that are
RUNNING, or on the one that ended last: two quick queries, however long the
ledger is. Whoever writes holds the model's lock.
"""

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Run, RunTag, ViewType

from fxhelpers.ledger import KINDS, Decision, Entry, Fault, Ledger
from fxhelpers.processes import utc_now
from fxhelpers.registry.calls import all_pages
from fxhelpers.registry.client import RegistryClient, new_run, quoted
from fxhelpers.registry.lock import ModelLock

EXPERIMENT = "fx-ledger"

_MODEL, _DECISION, _MOVING = "fx.model", "fx.decision", "fx.moving"
_KEPT = (
    "version",
    "nobody",
    "verdict",
    "rests_on",
    "bundles",
    "model_sha256",
    "frame_sha256",
    "policy_sha256",
    "challengers",
    "attempt",
    "skill",
    "attempt_frame",
)
"""Facts of an outcome that are known before the champion is moved, and told of a decision that was killed right then."""

_TAGS = {kind: f"fx.{kind}" for kind in KINDS}
_PAGE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDecision:
    """A decision whose run has not ended.

    Attributes
    ----------
    decision : Decision
        As far as it came.
    moving : dict or None
        ``from``, ``to`` and ``time`` of the move that it was about to make;
        None where it did not come that far.
    """

    decision: Decision
    moving: dict[str, Any] | None


class LedgerWriter:
    """A ledger under its model's lock: read its end, append to it.

    Attributes
    ----------
    lock : ModelLock
        Held.
    head : Entry or None
        The last entry.
    open : list of OpenDecision
        Those without an end when the lock was taken, oldest first.
    """

    def __init__(self, registry: RegistryClient, name: str, lock: ModelLock) -> None:
        self._registry, self._name = registry, name
        self.lock = lock
        running = _search(registry, name, "attributes.status = 'RUNNING'")
        ended = _search(registry, name, "attributes.status != 'RUNNING'", order_by=["attributes.end_time DESC"], last=1)
        self._last_end = max((run.info.end_time or 0 for run in ended), default=0)
        found = Ledger.read(name, map(_texts, [*running, *ended]))
        self.head = found.head
        active = [run for run in running if run.info.lifecycle_stage == "active"]  # one deleted in MLflow takes no more entries
        moving = {run.info.run_id: json.loads(run.data.tags.get(_MOVING, "null")) for run in active}
        self.open = [OpenDecision(decision=d, moving=moving[d.run_id]) for d in found.decisions if d.run_id in moving]

    def still_open(self, decision: Decision) -> OpenDecision | None:
        """Return a decision as it is by now; None where it has an outcome already, or its run was deleted."""
        return next((o for o in self.open if o.decision.id == decision.id and o.decision.outcome is None), None)

    def begin(self, kind: str, facts: dict[str, Any]) -> Decision:
        """Append the intent of a new decision, and open its run."""
        now = datetime.now(UTC)
        decision = f"{now:%Y%m%dT%H%M%SZ}-{kind.replace(' ', '-')}-{secrets.token_hex(4)}"
        entry = self._next("intent", decision, {"kind": kind, **facts}, after=self.head)
        experiment = self._registry.experiment(EXPERIMENT)
        tags = {_MODEL: self._name, _DECISION: decision, _TAGS["intent"]: entry.to_json()}
        with self._registry.session("write the ledger of", self._name) as client:
            run_id = new_run(client, experiment, decision, tags)
        self.head = entry
        return Decision(run_id=run_id, intent=entry)

    def conclude(self, decision: Decision, facts: dict[str, Any], seal: dict[str, Any] | None = None) -> Decision:
        """Append a decision's outcome, and its seal with it where that is known already."""
        told = {"outcome": facts} | ({"seal": seal} if seal is not None else {})
        return self._ended(replace(decision, **self._append(decision, told)))

    def seal(self, decision: Decision, facts: dict[str, Any]) -> Decision:
        """Append a decision's seal, and end its run."""
        return self._ended(replace(decision, **self._append(decision, {"seal": facts})))

    def _ended(self, decision: Decision) -> Decision:
        if decision.seal:
            self.end(decision, failed=decision.result in {"failed", "interrupted"})
        return decision

    def end(self, decision: Decision, *, failed: bool = False) -> None:
        """End a decision's run: later than all others where it holds the last entry, and earlier where it does not."""
        if self.head and any(entry.seq == self.head.seq for entry in decision.entries):
            time = self._last_end = max(int(datetime.now(UTC).timestamp() * 1000), self._last_end + 1)
        else:
            time = max(1, self._last_end - 1)
        self.lock.check_time()
        with self._registry.session("write the ledger of", self._name) as client:
            client.set_terminated(decision.run_id, "FAILED" if failed else "FINISHED", end_time=time)

    def announce(self, decision: Decision, before: int | None, after: int | None, facts: dict[str, Any]) -> str:
        """Write down that the champion is about to be moved, and on what that rests; return the time.

        The chain does not hold this. An outcome that would be too long is
        refused here, before anything is moved.
        """
        whole = {**facts, "from": before, "to": after, "moved": utc_now()}
        Entry.after(self.head, ledger=self._name, entry="outcome", decision=decision.id, now=utc_now(), facts=whole)
        time = max(utc_now(), self.head.time if self.head else "")
        kept = {key: facts[key] for key in _KEPT if key in facts}
        with self._registry.session("write the ledger of", self._name) as client:
            client.set_tag(decision.run_id, _MOVING, json.dumps({"from": before, "to": after, "time": time, "facts": kept}))
        return time

    def is_twin(self, decision: Decision) -> bool:
        """Tell whether the same decision is kept by another run too, which came further: its creation was sent twice."""
        twins = _search(self._registry, self._name, f"tags.`{_DECISION}` = {quoted(decision.id)}")
        return any(_TAGS["outcome"] in run.data.tags for run in twins if run.info.run_id != decision.run_id)

    def _append(self, decision: Decision, told: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Append entries, kind to facts, in one call, and return them by kind."""
        head, entries = self.head, dict[Any, Entry]()
        for kind, facts in told.items():
            head = entries[kind] = self._next(kind, decision.id, facts, after=head)
        with self._registry.session("write the ledger of", self._name) as client:
            client.log_batch(decision.run_id, tags=[RunTag(_TAGS[kind], entry.to_json()) for kind, entry in entries.items()])
        self.head = head
        return entries

    def _next(self, kind: Any, decision: str, facts: dict[str, Any], *, after: Entry | None) -> Entry:  # noqa: ANN401 (one of KINDS)
        self.lock.check_time()
        return Entry.after(after, ledger=self._name, entry=kind, decision=decision, now=utc_now(), facts=facts)


@contextmanager
def writing(registry: RegistryClient, name: str) -> Iterator[LedgerWriter]:
    """Take the lock of a registered model, and give its ledger to append to."""
    with ModelLock(registry, name) as lock:
        yield LedgerWriter(registry, name, lock)


def read_ledger(registry: RegistryClient, name: str) -> Ledger:
    """Return the ledger of a registered model; an empty one where nothing was decided."""
    return _ledger(name, _search(registry, name))


def ledger_of(registry: RegistryClient, decision: str) -> str | None:
    """Return the registered model that a decision is about; None where there is no such decision."""
    found = _search(registry, None, f"tags.`{_DECISION}` = {quoted(decision)}")
    return next((run.data.tags[_MODEL] for run in found if _MODEL in run.data.tags), None)


def read_ledgers(registry: RegistryClient) -> dict[str, Ledger]:
    """Return all ledgers, by registered model."""
    runs: dict[str, list[Run]] = {}
    for run in _search(registry, None):
        if _MODEL in run.data.tags:
            runs.setdefault(run.data.tags[_MODEL], []).append(run)
    return {name: _ledger(name, found) for name, found in sorted(runs.items())}


def attach(registry: RegistryClient, name: str, run_id: str, path: Path, folder: str) -> None:
    """Store a file, or all files of a folder, with a decision's run."""
    with registry.session("attach files to a decision about", name) as client:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), folder)
        else:
            client.log_artifact(run_id, str(path), folder)


def fetch(registry: RegistryClient, decision: Decision, file: str) -> bytes | None:
    """Return a file that is stored with a decision's run, such as ``evidence/frame.csv``; None where it is not there."""
    doing = "read the files of a decision about"
    with tempfile.TemporaryDirectory(prefix="fx-") as to, registry.files(doing, decision.model_name, decision.run_id) as files:
        if file not in {entry.path for entry in files.list_artifacts(file.rpartition("/")[0])}:
            return None
        return Path(files.download_artifacts(file, to)).read_bytes()


def _ledger(name: str, runs: list[Run]) -> Ledger:
    ledger = Ledger.read(name, map(_texts, runs))
    deleted = {run.info.run_id for run in runs if run.info.lifecycle_stage == "deleted"}
    faults = [
        Fault(what=f"the run of {d.id} was deleted in MLflow", do=f"mlflow runs restore --run-id {d.run_id}", decision=d.id)
        for d in ledger.decisions
        if d.run_id in deleted
    ]
    return replace(ledger, faults=(*ledger.faults, *faults))


def _search(
    registry: RegistryClient, name: str | None, condition: str = "", *, order_by: list[str] | None = None, last: int | None = None
) -> list[Run]:
    """Return the runs of one ledger, or of all; those that somebody deleted in MLflow too."""
    experiment = registry.find_experiment(EXPERIMENT)
    if experiment is None:
        return []
    conditions = [f"tags.`{_MODEL}` = {quoted(name)}"] if name is not None else []
    text = " and ".join([*conditions, condition]) if condition else "".join(conditions)
    asked: dict[str, Any] = {"run_view_type": ViewType.ALL, "max_results": last or _PAGE, "order_by": order_by}
    with registry.session("read the ledger of", name or "all models") as client:
        if last:
            return list(client.search_runs([experiment], text, **asked))
        return all_pages(lambda token: client.search_runs([experiment], text, **asked, page_token=token))


def _texts(run: Run) -> tuple[str, dict[str, str]]:
    return run.info.run_id, {kind: run.data.tags[tag] for kind, tag in _TAGS.items() if tag in run.data.tags}

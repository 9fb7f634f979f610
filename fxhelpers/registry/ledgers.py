"""Where ledgers are kept: each decision is an MLflow run of the experiment ``fx-ledger``, its entries are tags of that run.

A link from an entry to its one successor is a *param* of the run that keeps
the entry: MLflow stores the first value of a param and refuses any other, on
every store (measured: of six processes at once exactly one wins, on SQLite,
PostgreSQL and MLflow 2.7.1). So nobody who was stopped, delayed or sent twice
can fork a ledger, whatever became of its lock meanwhile. The first entry is
named by a param of one run for all ledgers, which a tag of the registered
model ``fx-ledger`` names.
"""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from fxhelpers.errors import LedgerError, LockLostError, RegistryError, VersionNotFoundError
from fxhelpers.ledger import (
    KINDS,
    SERVES,
    Decision,
    Entry,
    Fault,
    Identity,
    Ledger,
    Link,
    StoredRun,
    entry_name,
    first_name,
    link_name,
)
from fxhelpers.registry._calls import all_pages
from fxhelpers.registry._client import RegistryClient, new_run, quoted, suppress_existing
from fxhelpers.registry.lock import Clock, ModelLock

logger = logging.getLogger(__name__)

EXPERIMENT = ROOT_MODEL = "fx-ledger"

_MODEL, _DECISION, _ROOT, _SEEN = "fx.model", "fx.decision", "fx.root", "fx.seen"
_MOVING = "fx.moving"
"""Tag in which earlier releases told of a move before they set the alias, which decided."""

_OURS = "fx."
_PAGE = 5000
_LONG_AGO = "1970-01-01T00:00:00.000+00:00"
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """The end of a ledger, as it was read.

    Attributes
    ----------
    head : Entry or None
        The last entry; one without facts where it was deleted in MLflow.
    holder : str
        The run that takes the link to what follows; "" where nothing was
        ever written.
    runs : dict of str to Run
        Those that were read, by id: all that are open, and some others.
    """

    head: Entry | None
    holder: str
    runs: dict[str, Run]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those that were read, as far as they count."""
        if self.head is None:
            return ()
        return Ledger.read(self.head.ledger, map(_kept, self.runs.values()), Link(self.head.digest, self.holder)).decisions


class LedgerWriter:
    """A ledger under its model's lock: read its end, append to it.

    The lock only keeps writers from getting into each other's way; the links
    decide. :class:`LockLostError` is raised where somebody else went on.

    Attributes
    ----------
    head : Entry or None
        The last entry.
    open : list of Decision
        Those without an end when the ledger was read, oldest first.
    moving : dict of str to dict
        What decisions of earlier releases were about to do, by run; of those
        that are open.
    serving : tuple of (Identity or None,) or None
        The version in Production, as the last entry has it, in a tuple; None
        where no entry ever told.
    clock : Clock
        What times are written by.
    """

    def __init__(self, registry: RegistryClient, name: str) -> None:
        self._registry, self._name = registry, name
        self._cut_off = False  # all that is linked before the next entry is gone
        self._look()
        self.clock = Clock(registry, self._end.head)

    def _look(self) -> None:
        """Read the end of the ledger as it is by now."""
        self._end = _end(self._registry, self._name)
        self.serving = _serving(self._registry, self._name, self._end)
        runs, decisions = self._end.runs, self._end.decisions
        self._last_end = max((run.info.end_time or 0 for run in runs.values()), default=0)
        active = {key for key, run in runs.items() if (run.info.status, run.info.lifecycle_stage) == ("RUNNING", "active")}
        self.open = [decision for decision in decisions if decision.run_id in active]
        self.moving: dict[str, dict[str, Any]] = {}
        for run_id in {decision.run_id for decision in self.open if decision.outcome is None}:
            kept, told = _kept(runs[run_id]), runs[run_id].data.tags.get(_MOVING, "")
            with suppress(ValueError):
                self.moving |= {run_id: json.loads(told)} if told and "intent" in kept.texts else {}
        self._late = sorted(active - {decision.run_id for decision in decisions})

    @property
    def head(self) -> Entry | None:
        """The last entry."""
        return self._end.head

    @property
    def champion(self) -> Identity | None:
        """The version in Production, as the last entry has it; None also where none ever told."""
        return self.serving[0] if self.serving else None

    def still_open(self, decision: Decision) -> bool:
        """Tell whether a decision has no outcome by now."""
        return any(o.run_id == decision.run_id and o.outcome is None for o in self.open)

    def overtaken(self) -> bool:
        """Tell whether somebody went on since the last entry was written here."""
        run = _run(self._registry, self._name, self._end.holder) if self.head else None
        return self.head is not None and _link_in(run, link_name(self.head.digest)) is not None

    def begin(self, kind: str, facts: dict[str, Any], serving: Identity | None) -> Decision:
        """Append the intent of a new decision, and open its run."""
        decision = self.clock.new_id(kind)
        entry = self._next("intent", decision, {"kind": kind, **facts, SERVES: _told(serving)})
        experiment = self._registry.experiment(EXPERIMENT)
        tags = {_MODEL: self._name, _DECISION: decision, _OURS + entry_name(entry): entry.to_json()}
        with self._registry.session("write the ledger of", self._name) as client:
            run_id = new_run(client, experiment, decision, tags)
        root = "" if self.head and self._end.holder else _root(self._registry, create=True)
        try:
            name = link_name(self.head.digest) if self.head else first_name(self._name)
            self._link(entry, run_id, self._end.holder or root, name)
        except LockLostError:
            self._terminate(run_id, failed=True)
            if self.head is None and self._is_cut_off(root):
                return self.begin(kind, facts, serving)
            raise
        if root or self._cut_off:
            self._link(entry, run_id, run_id, first_name(self._name))  # so that it is known for the first without a look there
        self.serving = (serving,)
        for late in self._late:  # the ledger has gone on without them, for good
            self._terminate(late, failed=True)
        self._late = []
        return Decision(run_id=run_id, intent=entry)

    def conclude(
        self, decision: Decision, facts: dict[str, Any], *, moves: bool = False, seal: dict[str, Any] | None = None
    ) -> Decision:
        """Append a decision's outcome, which makes a champion where it ``moves`` one, and its seal where that is known."""
        now = self.clock.now()
        time = max(now, self.head.time) if self.head and not self.clock.sets_back else now
        outcome = self._append(decision, "outcome", {**facts, "moved": time} if moves else facts, time)
        self.serving = (outcome.serving,)
        decision = replace(decision, outcome=outcome)
        return decision if seal is None else self.seal_decided(decision, seal)

    def seal_decided(self, decision: Decision, facts: dict[str, Any]) -> Decision:
        """Seal what was decided, also where others went on right after it: what they decide takes nothing of it back."""
        for _ in range(_TRIES):
            try:
                return self.seal(decision, facts)
            except LockLostError:
                self._look()
            if not any(o.run_id == decision.run_id and o.seal is None for o in self.open):
                break  # somebody else sealed it
        return decision

    def seal(self, decision: Decision, facts: dict[str, Any]) -> Decision:
        """Append a decision's seal, and end its run."""
        serving = self.champion
        sealed = replace(decision, seal=self._append(decision, "seal", {**facts, SERVES: _told(serving)}))
        self.end(sealed)
        return sealed

    def end(self, decision: Decision) -> None:
        """End a decision's run."""
        self._terminate(decision.run_id, failed=decision.result in {"failed", "interrupted"})

    def _append(self, decision: Decision, kind: Any, facts: dict[str, Any], now: str = "") -> Entry:  # noqa: ANN401 (one of KINDS)
        entry = self._next(kind, decision.id, facts, now)
        with self._registry.session("write the ledger of", self._name) as client:
            client.log_batch(decision.run_id, tags=[RunTag(_OURS + entry_name(entry), entry.to_json())])
        holder, name = self._end.holder, link_name(entry.previous)
        self._link(entry, decision.run_id, holder, name)
        return entry

    def _next(self, kind: Any, decision: str, facts: dict[str, Any], now: str = "") -> Entry:  # noqa: ANN401 (one of KINDS)
        about: dict[str, Any] = {"ledger": self._name, "entry": kind, "decision": decision, "now": now or self.clock.now()}
        return Entry.after(self.head, **about, facts=facts, sets_back=self.clock.sets_back)

    def _link(self, entry: Entry, run_id: str, holder: str, name: str) -> None:
        """Name an entry as the one that follows, if nothing does yet."""
        link = Link(entry.digest, run_id)
        for attempt in range(1, _TRIES + 1):
            try:
                with self._registry.session("write the ledger of", self._name) as client:
                    client.log_param(holder, _OURS + name, str(link))
                break
            except RegistryError as error:  # refused, or its answer was lost
                run = _run(self._registry, self._name, holder)
                found = _link_in(run, name)
                if found == link:
                    break
                if found is not None:
                    so = "what was decided stays" if entry.entry == "seal" else "no champion was moved: decide anew"
                    msg = (
                        f"{self._name}: another decision was written while this one was held up; the {entry.entry} of "
                        f"{entry.decision} does not count, and {so}"
                    )
                    raise LockLostError(msg) from error
                if attempt == _TRIES:
                    raise
                if run and run.info.lifecycle_stage == "deleted":
                    logger.warning("%s: restored the run %s, which was deleted in MLflow", self._name, holder)
                    with self._registry.session("restore a decision about", self._name) as client:
                        client.restore_run(holder)
        self._end = replace(self._end, head=entry, holder=run_id)

    def _is_cut_off(self, root: str) -> bool:
        """Tell whether all of a ledger is gone from MLflow; then it goes on in the place of the first entry, as a gap."""
        first = _link_in(_run(self._registry, self._name, root), first_name(self._name))
        run = _run(self._registry, self._name, first.run_id) if first else None
        if first is None or (run and run.data.tags.get(_MODEL) == self._name and _entry(run, first) is not None):
            return False
        runs = self._end.runs | ({first.run_id: run} if run else {})
        lost = ChainEnd(head=_lost(self._name, None, first), holder=first.run_id if run else "", runs=runs)
        self._end = _followed(self._registry, self._name, lost)
        self._cut_off = True
        return True

    def _terminate(self, run_id: str, *, failed: bool) -> None:
        """End a run: later than all others where it keeps the last entry, which is then found at once, or else earlier."""
        if run_id == self._end.holder:
            time = self._last_end = max(self.clock.milliseconds(), self._last_end + 1)
        else:
            time = max(1, self._last_end - 1)
        with self._registry.session("write the ledger of", self._name) as client:
            client.set_terminated(run_id, "FAILED" if failed else "FINISHED", end_time=time)


@contextmanager
def writing(registry: RegistryClient, name: str) -> Iterator[LedgerWriter]:
    """Take the lock of a registered model, and give its ledger to append to."""
    with ModelLock(registry, name):
        yield LedgerWriter(registry, name)


def read_ledger(registry: RegistryClient, name: str) -> Ledger:
    """Return the ledger of a registered model; an empty one where nothing was decided."""
    return _with_deleted(_read(registry, name, runs := _search(registry, name)), runs)


def read_serving(registry: RegistryClient, name: str) -> tuple[Identity | None] | None:
    """Return who is in Production as the last entry of a ledger has it, in a tuple; None where no entry ever told."""
    return _serving(registry, name, _end(registry, name))


def write_heartbeat(registry: RegistryClient, decision: Decision, now: str) -> None:
    """Let others see that the owner of an open decision is at work."""
    with registry.session("write the ledger of", decision.model_name) as client:
        client.set_tag(decision.run_id, _SEEN, now)


def reopen(registry: RegistryClient, decision: Decision) -> None:
    """Let a run be open again whose decision has no end: somebody ended it in MLflow, and none looks for it there."""
    with registry.session("open a decision again about", decision.model_name) as client:
        info = client.get_run(decision.run_id).info
        if info.lifecycle_stage == "active" and info.status != "RUNNING":
            client.update_run(decision.run_id, status="RUNNING")


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
    return {name: _with_deleted(_read(registry, name, found), found) for name, found in sorted(runs.items())}


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


def _with_deleted(ledger: Ledger, runs: list[Run]) -> Ledger:
    deleted = {run.info.run_id for run in runs if run.info.lifecycle_stage == "deleted"}
    faults = [
        Fault(
            message=f"the run of {d.id} was deleted in MLflow", remedy=f"mlflow runs restore --run-id {d.run_id}", decision=d.id
        )
        for d in ledger.decisions
        if d.run_id in deleted
    ]
    return replace(ledger, faults=(*ledger.faults, *faults))


def _end(registry: RegistryClient, name: str) -> ChainEnd:
    """Find the last entry of a ledger: two quick queries, however long it is, and a step for each entry since.

    A run ends later than those before it, so that the last entry is on one
    that is open or on the one that ended last. Where that is not so, by wrong
    clocks or late messages, the links lead on from there.
    """
    running = _search(registry, name, "attributes.status = 'RUNNING'")
    ended = _search(registry, name, "attributes.status != 'RUNNING'", order_by=["attributes.end_time DESC"], last=1)
    runs = _by_id([*running, *ended])
    kept = [_kept(run) for run in runs.values()]
    by_earlier_release = any("." not in key for run in kept for key in run.texts)
    if kept and (by_earlier_release or not any(run.links for run in kept)):
        runs = _by_id(_search(registry, name))
    found = _read(registry, name, list(runs.values()))
    head = found.head
    holder = next((d.run_id for d in found.decisions if head in d.entries), "")
    return _followed(registry, name, ChainEnd(head=head, holder=holder, runs=runs))


def _followed(registry: RegistryClient, name: str, end: ChainEnd) -> ChainEnd:
    """Follow the links from an entry to the last one."""
    head, holder, runs = end.head, end.holder, end.runs
    while head and holder and (link := _link_in(runs.get(holder) or _run(registry, name, holder), link_name(head.digest))):
        run = runs.get(link.run_id)
        if _entry(run, link) is None:  # not read yet, or read before the entry was written
            run = _run(registry, name, link.run_id)
        if run:
            runs[link.run_id] = run
        head, holder = _entry(run, link) or _lost(name, head, link), link.run_id if run else holder
    return ChainEnd(head=head, holder=holder, runs=runs)


def _entry(run: Run | None, link: Link) -> Entry | None:
    """Return the entry that a link names; None where it was deleted in MLflow."""
    for text in _kept(run).texts.values() if run else ():
        with suppress(LedgerError):
            if (entry := Entry.read(text)).digest == link.digest:
                return entry
    return None


def _lost(name: str, before: Entry | None, link: Link) -> Entry:
    """Return what stands for an entry that was deleted in MLflow: its place, so that the ledger can go on and the gap shows."""
    seq, time, previous = (before.seq, before.time, before.digest) if before else (0, _LONG_AGO, "")
    told: dict[str, Any] = {"decision": "", "time": time, "previous": previous, "facts": {}, "digest": link.digest}
    return Entry(ledger=name, seq=seq + 1, entry="seal", **told, intact=False)


def _serving(registry: RegistryClient, name: str, end: ChainEnd) -> tuple[Identity | None] | None:
    if end.head is None:
        return None
    if end.head.tells_serving and (end.head.serving is None or end.head.serving.bundle is not None):
        return (end.head.serving,)
    ledger = read_ledger(registry, name)
    return (ledger.serving,) if ledger.last_telling else None


def _told(serving: Identity | None) -> list[Any] | None:
    return [serving.number, serving.bundle] if serving else None


def _root(registry: RegistryClient, *, create: bool) -> str:
    """Return the run that names the first entry of every ledger; "" where there is none, and none is to be made."""
    if ROOT_MODEL in registry.known:
        return registry.known[ROOT_MODEL]
    with registry.session("find the beginnings of all ledgers in", ROOT_MODEL) as client:
        try:
            tags = client.get_registered_model(ROOT_MODEL).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            if not create:
                return ""
            tags = _new_root(registry, client)
        if create and _ROOT in tags and _run(registry, ROOT_MODEL, tags[_ROOT]) is None:
            # deleted for good: of all who find that, the name lets one make another
            with suppress_existing():
                client.rename_registered_model(ROOT_MODEL, f"{ROOT_MODEL}.{tags[_ROOT]}")
            tags = _new_root(registry, client)
    if _ROOT not in tags:
        msg = f"the registered model {ROOT_MODEL} at {registry.uri} has no tag {_ROOT}: its name is fxhelpers' own; rename it"
        raise RegistryError(msg)
    registry.known[ROOT_MODEL] = tags[_ROOT]
    return str(tags[_ROOT])


def _new_root(registry: RegistryClient, client: MlflowClient) -> dict[str, str]:
    """Make the run that names the first entries, if nobody else is faster; return the tags of the model that names it."""
    run_id = new_run(client, registry.experiment(EXPERIMENT), ROOT_MODEL, {_ROOT: "the first entry of every ledger"})
    with suppress_existing():
        about = "Names the run that tells where each ledger of fxhelpers begins: do not delete it."
        client.create_registered_model(ROOT_MODEL, tags={_ROOT: run_id}, description=about)
    return dict(client.get_registered_model(ROOT_MODEL).tags)


def _read(registry: RegistryClient, name: str, runs: list[Run]) -> Ledger:
    """Read a ledger; what its first entry is tells a run of its own, as long as nothing that follows does."""
    kept = [_kept(run) for run in runs]
    ledger = Ledger.read(name, kept)
    if ledger.decisions or not any(run.texts for run in kept):
        return ledger
    root = _root(registry, create=False)
    first = _link_in(_run(registry, name, root), first_name(name)) if root else None
    return Ledger.read(name, kept, first) if first else ledger


def _run(registry: RegistryClient, name: str, run_id: str) -> Run | None:
    """Return a run, deleted in MLflow or not; None where it is gone for good."""
    try:
        with registry.session("read the ledger of", name) as client:
            return client.get_run(run_id)
    except VersionNotFoundError:
        return None


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


def _by_id(runs: list[Run]) -> dict[str, Run]:
    return {str(run.info.run_id): run for run in runs}


def _kept(run: Run) -> StoredRun:
    tags = {tag.removeprefix(_OURS): text for tag, text in run.data.tags.items() if tag.startswith(_OURS)}
    texts = {tag: text for tag, text in tags.items() if tag.partition(".")[0] in KINDS}
    params = {name.removeprefix(_OURS): Link.read(text) for name, text in run.data.params.items() if name.startswith(_OURS)}
    links = {name: link for name, link in params.items() if link}
    return StoredRun(str(run.info.run_id), texts, links, run.data.tags.get(_SEEN, ""))


def _link_in(run: Run | None, name: str) -> Link | None:
    return _kept(run).links.get(name) if run else None

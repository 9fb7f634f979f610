"""The runs that keep a ledger: found, read, and followed from link to link.

Each decision is an MLflow run of the experiment ``fx-ledger``; its entries are
tags of that run. A link from an entry to its successor is a *param* of the run
that keeps the entry: MLflow stores the first value of a param and refuses any
other, on every store (measured: of six processes at once exactly one wins, on
SQLite, PostgreSQL and MLflow 2.7.1). So a writer that was stopped, delayed or
repeated cannot fork a ledger, even after it lost the lock. The link to the
first entry is a param of one run for all ledgers, the root, which a tag of the
registered model ``fx-ledger`` names.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from fxhelpers.errors import LedgerError, RegistryError, VersionNotFoundError
from fxhelpers.ledger import KINDS, Decision, Entry, Facts, Ledger, Link, SealFacts, StoredRun, first_name, link_name
from fxhelpers.registry._calls import all_pages
from fxhelpers.registry._client import RegistryClient, ignoring, new_run, quoted

EXPERIMENT = ROOT_MODEL = "fx-ledger"
PREFIX = "fx."
MODEL, DECISION, SEEN = "fx.model", "fx.decision", "fx.seen"
_ROOT = "fx.root"
_PAGE = 5000
_LONG_AGO = "1970-01-01T00:00:00.000+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    head: Entry[Facts] | None  # the last entry; without facts if it was deleted in MLflow
    holder: str  # the run that takes the link to its successor; "" if nothing was ever written
    runs: dict[str, Run]  # those that were read, by id: all open ones, and some others

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those of the runs that were read, as far as they count."""
        if self.head is None:
            return ()
        return Ledger.read(self.head.ledger, map(stored, self.runs.values()), Link(self.head.digest, self.holder)).decisions


def chain_end(registry: RegistryClient, name: str) -> ChainEnd:
    """Find the last entry of a ledger: two quick queries, however long it is, and a step for each entry since.

    A run ends later than those before it, so the last entry is on an open run or on the one that ended last. If wrong clocks or
    late messages broke that order, the links lead on from there.
    """
    running = search_runs(registry, name, "attributes.status = 'RUNNING'")
    ended = search_runs(registry, name, "attributes.status != 'RUNNING'", order_by=["attributes.end_time DESC"], last=1)
    runs = _by_id([*running, *ended])
    kept = [stored(run) for run in runs.values()]
    by_earlier_release = any("." not in key for run in kept for key in run.texts)
    if kept and (by_earlier_release or not any(run.links for run in kept)):
        runs = _by_id(search_runs(registry, name))
    ledger = ledger_from(registry, name, list(runs.values()))
    head = ledger.head
    holder = next((d.run_id for d in ledger.decisions if head in d.entries), "")
    return _followed(registry, name, ChainEnd(head=head, holder=holder, runs=runs))


def end_after_gap(registry: RegistryClient, name: str, root: str, runs: dict[str, Run]) -> ChainEnd | None:
    """Return the end of a ledger whose first entry is gone from MLflow: its place, from which it can go on; None if it is not."""
    first = link_in(get_run(registry, name, root), first_name(name))
    run = get_run(registry, name, first.run_id) if first else None
    if first is None or (run and run.data.tags.get(MODEL) == name and _entry(run, first) is not None):
        return None
    runs = runs | ({first.run_id: run} if run else {})
    gap = ChainEnd(head=_deleted(name, None, first), holder=first.run_id if run else "", runs=runs)
    return _followed(registry, name, gap)


def _followed(registry: RegistryClient, name: str, end: ChainEnd) -> ChainEnd:
    head, holder, runs = end.head, end.holder, end.runs
    while head and holder and (link := link_in(runs.get(holder) or get_run(registry, name, holder), link_name(head.digest))):
        run = runs.get(link.run_id)
        if _entry(run, link) is None:  # not read yet, or read before the entry was written
            run = get_run(registry, name, link.run_id)
        if run:
            runs[link.run_id] = run
        head, holder = _entry(run, link) or _deleted(name, head, link), link.run_id if run else holder
    return ChainEnd(head=head, holder=holder, runs=runs)


def _entry(run: Run | None, link: Link) -> Entry[Facts] | None:
    """Return the entry that a link names; None if it was deleted in MLflow."""
    for text in stored(run).texts.values() if run else ():
        with suppress(LedgerError):
            if (entry := Entry.read(text)).digest == link.digest:
                return entry
    return None


def _deleted(name: str, before: Entry[Facts] | None, link: Link) -> Entry[Facts]:
    """Return a placeholder for an entry that was deleted in MLflow, so that the ledger can go on and the gap shows."""
    seq, time, previous = (before.seq, before.time, before.digest) if before else (0, _LONG_AGO, "")
    rest: dict[str, Any] = {"decision": "", "time": time, "previous": previous, "facts": SealFacts(), "digest": link.digest}
    return Entry(ledger=name, seq=seq + 1, entry="seal", **rest, intact=False)


def ledger_from(registry: RegistryClient, name: str, runs: list[Run]) -> Ledger:
    """Read a ledger from its runs; if no link tells its first entry from late ones, that of the root does."""
    kept = [stored(run) for run in runs]
    ledger = Ledger.read(name, kept)
    if ledger.decisions or not any(run.texts for run in kept):
        return ledger
    root = root_run(registry, create=False)
    first = link_in(get_run(registry, name, root), first_name(name)) if root else None
    return Ledger.read(name, kept, first) if first else ledger


def root_run(registry: RegistryClient, *, create: bool) -> str:
    """Return the run that names the first entry of every ledger; "" if there is none and none is created."""
    if registry.ledger_root:
        return registry.ledger_root
    with registry.session("find the beginnings of all ledgers in", ROOT_MODEL) as client:
        tags = None
        with ignoring("RESOURCE_DOES_NOT_EXIST"):
            tags = client.get_registered_model(ROOT_MODEL).tags
        if tags is None:
            if not create:
                return ""
            tags = _new_root(registry, client)
        if create and _ROOT in tags and get_run(registry, ROOT_MODEL, tags[_ROOT]) is None:
            # deleted for good: only one process succeeds in renaming the model, and all use the new root
            with ignoring("RESOURCE_ALREADY_EXISTS"):
                client.rename_registered_model(ROOT_MODEL, f"{ROOT_MODEL}.{tags[_ROOT]}")
            tags = _new_root(registry, client)
    if _ROOT not in tags:
        msg = f"the registered model {ROOT_MODEL} at {registry.uri} has no tag {_ROOT}, but its name is fxhelpers' own: rename it"
        raise RegistryError(msg)
    registry.ledger_root = str(tags[_ROOT])
    return registry.ledger_root


def _new_root(registry: RegistryClient, client: MlflowClient) -> dict[str, str]:
    """Create the root, unless another process is faster; return the tags of the model that names it."""
    run_id = new_run(client, registry.experiment(EXPERIMENT), ROOT_MODEL, {_ROOT: "the first entry of every ledger"})
    with ignoring("RESOURCE_ALREADY_EXISTS"):
        description = "Names the run that has the first entry of each ledger of fxhelpers: do not delete it."
        client.create_registered_model(ROOT_MODEL, tags={_ROOT: run_id}, description=description)
    return dict(client.get_registered_model(ROOT_MODEL).tags)


def get_run(registry: RegistryClient, name: str, run_id: str) -> Run | None:
    """Return a run, deleted in MLflow or not; None if it was deleted for good."""
    try:
        with registry.session("read the ledger of", name) as client:
            return client.get_run(run_id)
    except VersionNotFoundError:
        return None


def search_runs(
    registry: RegistryClient, name: str | None, condition: str = "", *, order_by: list[str] | None = None, last: int | None = None
) -> list[Run]:
    """Return the runs of one ledger, or of all, with those that were deleted in MLflow."""
    experiment = registry.find_experiment(EXPERIMENT)
    if experiment is None:
        return []
    ledger = f"tags.`{MODEL}` = {quoted(name)}" if name is not None else ""
    text = " and ".join(filter(None, (ledger, condition)))
    options: dict[str, Any] = {"run_view_type": ViewType.ALL, "max_results": last or _PAGE, "order_by": order_by}
    with registry.session("read the ledger of", name or "all models") as client:
        if last:
            return list(client.search_runs([experiment], text, **options))
        pages = all_pages(lambda token: client.search_runs([experiment], text, **options, page_token=token))
        return [run for page in pages for run in page]


def stored(run: Run) -> StoredRun:
    tags = {tag.removeprefix(PREFIX): text for tag, text in run.data.tags.items() if tag.startswith(PREFIX)}
    texts = {tag: text for tag, text in tags.items() if tag.partition(".")[0] in KINDS}
    params = {name.removeprefix(PREFIX): Link.read(text) for name, text in run.data.params.items() if name.startswith(PREFIX)}
    links = {name: link for name, link in params.items() if link}
    return StoredRun(str(run.info.run_id), texts, links, run.data.tags.get(SEEN, ""))


def link_in(run: Run | None, name: str) -> Link | None:
    """Return the link of a name that a run keeps; None if there is none."""
    return stored(run).links.get(name) if run else None


def _by_id(runs: list[Run]) -> dict[str, Run]:
    return {str(run.info.run_id): run for run in runs}

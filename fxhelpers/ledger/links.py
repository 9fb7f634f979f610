"""Links: which entries count. A link is written once and for good, so that no late, doubled or stopped writer forks a ledger.

An entry counts once the entry before it names it as its one successor. Its
keeper, a run, has one place for that name, which takes the first value that
arrives and no other: what comes later stands there unlinked, and is no part
of the ledger.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

from fxhelpers.ledger.entry import Entry

_DIGITS = 16
"""Of a digest, in the name under which an entry is kept."""


class Link(NamedTuple):
    """The one entry that follows: its digest, and the run that keeps it."""

    digest: str
    run_id: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read a link; None where it is none."""
        words = text.split()
        return cls(*words) if len(words) == len(cls._fields) else None

    def __str__(self) -> str:
        return f"{self.digest} {self.run_id}"


class Kept(NamedTuple):
    """What one run keeps of a ledger.

    Attributes
    ----------
    run_id : str
    texts : dict of str to str
        Entries, by the name of :func:`entry_name`; by their kind alone where
        an earlier release wrote them, which linked none.
    links : dict of str to Link
        By the name of :func:`link_name`.
    seen : str
        When the owner of its decision last showed itself, ISO 8601, UTC; "":
        never but by its entries.
    """

    run_id: str
    texts: Mapping[str, str]
    links: Mapping[str, Link] = MappingProxyType({})
    seen: str = ""

    def counts(self, name: str, targets: set[tuple[str, str]]) -> bool:
        """Tell whether the entry of a name is linked: by the one before, or by having a successor itself."""
        digits = name.partition(".")[2]
        return (digits, self.run_id) in targets or any(link.startswith(f"next.{digits}") for link in self.links)


def entry_name(entry: Entry) -> str:
    """Return the name under which a run keeps an entry: no late write overwrites another one."""
    return f"{entry.entry}.{entry.digest[:_DIGITS]}"


def link_name(digest: str) -> str:
    """Return the name of the link to the entry that follows one of this digest."""
    return f"next.{digest}"


def first_name(ledger: str) -> str:
    """Return the name of the link to the first entry of a ledger, whose own name may hold what no such name can."""
    return f"first.{hashlib.sha256(ledger.encode()).hexdigest()}"


def targets_of(runs: list[Kept], *others: Link | None) -> set[tuple[str, str]]:
    """Return what links name: the first digits of the digest, and the run."""
    links = [link for run in runs for link in run.links.values()] + [link for link in others if link]
    return {(link.digest[:_DIGITS], link.run_id) for link in links}

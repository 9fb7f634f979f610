"""One entry of a ledger: canonical JSON that holds the digest of the entry before."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self, get_args

from fxhelpers.errors import LedgerError
from fxhelpers.ledger.identity import Identity

EntryKind = Literal["intent", "outcome", "seal"]
KINDS: tuple[EntryKind, ...] = get_args(EntryKind)
GENESIS = "0" * 64
"""What the first entry of a ledger holds in place of the digest of the one before."""

LONGEST_ENTRY = 4900
"""Characters: an old MLflow server keeps 5,000 of a tag, and newer ones cut what is longer without a word."""

SERVES = "serves"
"""Fact of an intent and of a seal: number and bundle of the version in Production, None where there is none."""

_HEADER = ("ledger", "seq", "entry", "decision", "time", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: its place in the chain, and what it says.

    Attributes
    ----------
    ledger : str
        Registered model.
    seq : int
        1, 2, 3, … within the ledger.
    entry : {"intent", "outcome", "seal"}
    decision : str
        Id of the decision that it belongs to.
    time : str
        ISO 8601, UTC, milliseconds; never before that of the entry before,
        unless a wrong clock had told that.
    previous : str
        SHA-256 of the entry before.
    facts : dict
        What it says; text, numbers, lists and mappings.
    digest : str
        SHA-256 of all of the above, as the entry itself states it.
    intact : bool
        Whether what was read is what its digest says, to the letter.
    """

    ledger: str
    seq: int
    entry: EntryKind
    decision: str
    time: str
    previous: str
    facts: dict[str, Any] = field(hash=False)
    digest: str
    intact: bool = field(default=True, compare=False)

    @classmethod
    def after(
        cls,
        head: "Entry | None",
        *,
        ledger: str,
        entry: EntryKind,
        decision: str,
        now: str,
        facts: dict[str, Any],
        sets_back: bool = False,
    ) -> Self:
        """Return the entry that follows the last one; :class:`LedgerError` where it is too long to be kept.

        Its time is never before that of the last one, unless that is set
        back.
        """
        time = max(now, head.time) if head and not sets_back else now
        header = {"ledger": ledger, "seq": head.seq + 1 if head else 1, "entry": entry, "decision": decision, "time": time}
        body = {**header, "previous": head.digest if head else GENESIS, "facts": facts}
        made = cls(**body, digest=_sha256(_canonical(body)))  # type: ignore[arg-type]
        size = len(made.to_json())
        if size > LONGEST_ENTRY:
            msg = (
                f"{ledger}: the {entry} of {decision} has {size} characters, and {LONGEST_ENTRY} can be kept; shorten its reason"
            )
            raise LedgerError(msg)
        return made

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an entry; :class:`LedgerError` where it is none. Whether it is intact is another question."""
        try:
            raw = json.loads(text, parse_constant=_no_number)
            stated = raw["digest"]
            intact = _sha256(text.replace(f'"digest":"{stated}",', "", 1)) == stated  # the text is canonical, or was edited
            made = cls(**{key: raw[key] for key in (*_HEADER, "facts", "digest")}, intact=intact)
            zone = datetime.fromisoformat(made.time).tzinfo
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            msg = f"not an entry of a ledger: {type(error).__name__}: {error}"
            raise LedgerError(msg) from error
        texts = (made.ledger, made.entry, made.decision, made.previous, made.digest)
        if not (zone and isinstance(made.seq, int) and isinstance(made.facts, dict) and all(isinstance(t, str) for t in texts)):
            msg = "not an entry of a ledger: its fields are of other types"
            raise LedgerError(msg)
        return made

    @property
    def tells_serving(self) -> bool:
        """Whether it says who is in Production after it; intents and seals of earlier releases do not."""
        return SERVES in self.facts or (self.entry == "outcome" and "to" in self.facts)

    @property
    def serving(self) -> Identity | None:
        """The version in Production after it, as far as it says so."""
        if SERVES in self.facts:
            told = self.facts[SERVES]
            return Identity(*told) if isinstance(told, list) else None
        number = self.facts.get("to")
        return Identity.of(number, self.facts.get("bundles") or {}) if isinstance(number, int) else None

    def to_json(self) -> str:
        """Return it as it is kept: canonical JSON."""
        return _canonical({key: getattr(self, key) for key in (*_HEADER, "facts", "digest")})


def _no_number(word: str) -> None:
    msg = f"{word} is not a value"
    raise ValueError(msg)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

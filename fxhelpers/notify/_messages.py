"""One message about some events: what it says, and its delivery, which changes no outcome."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxhelpers.params import HIDDEN, KINDS, Address, Kind, Params, has_apprise, known_secrets
from fxhelpers.records import promotion_label
from fxhelpers.system import actor

SECONDS = 10.0  # in which all receivers must have taken a message
_CHILD, _LATE = Path(__file__).with_name("_child.py"), 3  # its exit status if time was up
_START_SECONDS = 60.0  # for Python and Apprise to start on a busy machine
_LONGEST = 200  # characters of a sentence
_MOST = 100  # events with a line of their own: with more, the message would be above what most services take at once
_QUIET = ("interrupted", "stopped", "kept")  # who stopped a run knows, and a record that was kept is no news
_TYPES = {"alarm": "failure", "failed": "failure", "stale": "warning", "refused": "info", "promoted": "success"}
"""Apprise's type of message for each kind of event, the most urgent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a run ended with."""

    kind: Kind
    symbol: str  # or the notebook, where it is about no symbol
    sentence: str  # what happened
    record: str | None = None  # name below the folder of records: AAPL/….ipynb

    @property
    def line(self) -> str:
        """The event in one line."""
        text = " ".join(self.sentence.split())
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        return f"{self.symbol} {self.kind}: {text}{f' ({self.record})' if self.record else ''}"


def event_of(
    symbol: str, *, status: str, summary: Mapping[str, Any] | None, error: str | None, record: str | None = None
) -> Event | None:
    """Return the event that a run ended with; None for what nobody needs to hear of.

    A run with an error failed, unless somebody stopped it. Of another the ``result`` in its notebook's summary is the event, if
    it is one, and ``decided``, ``answer`` or ``reason`` there is the sentence.
    """
    if status in _QUIET:
        return None
    if error:
        return Event(kind="failed", symbol=symbol, sentence=error, record=record)
    values = summary or {}
    kind = next((kind for kind in KINDS if kind == values.get("result")), None)
    if kind is None:
        return None
    sentence = next((str(values[key]) for key in ("decided", "answer", "reason") if values.get(key)), kind)
    label = promotion_label(values)
    return Event(kind=kind, symbol=symbol, sentence=f"{label}: {sentence}" if label else sentence, record=record)


def send(
    events: Iterable[Event],
    params: Params,
    *,
    about: str = "",
    others: Mapping[str, int] | None = None,
    record: str | None = None,
) -> list[str]:
    """Send one message about the events that ``notify.events`` lists, if there are any.

    Parameters
    ----------
    events : iterable of Event
        One for each symbol.
    params : Params
        Settings with the receivers.
    about : str, optional
        What ran, for the title, such as ``promote of 50 symbols``.
    others : mapping of str to int, optional
        What else happened, and how often; only counted.
    record : str, optional
        Record of all, as its name below the folder of records.

    Returns
    -------
    list of str
        A warning for each receiver that did not get the message within
        ``SECONDS``. It has an address's scheme and host, and no secret.
    """
    given = list(events)
    chosen = [event for event in given if event.kind in params.notify.events]
    if not chosen or not params.addresses:
        return []
    if not has_apprise():
        return ["notify: no message was sent: Apprise is not installed; pip install 'fxhelpers[notify]'"]
    counts = Counter(others or {}) + Counter(event.kind for event in given if event not in chosen)
    title, body = (_without_secrets(text, params) for text in _written(chosen, params, about, counts, record))
    kind = next(kind for urgent, kind in _TYPES.items() if any(event.kind == urgent for event in chosen))
    unset = [address for address in params.addresses if not address.url]
    receivers = [address for address in params.addresses if address.url]
    warnings = [f"notify: no message was sent to {address.setting}: it is not set" for address in unset]
    return warnings + (_delivered(receivers, {"title": title, "body": body, "type": kind}) if receivers else [])


def _written(events: list[Event], params: Params, about: str, others: Mapping[str, int], record: str | None) -> tuple[str, str]:
    """Return title and body of a message."""
    counted = _counted(Counter(event.kind for event in events))
    title = f"{events[0].symbol} {events[0].kind}" if len(events) == 1 and not about else counted
    lines = [event.line for event in events[:_MOST]]
    lines += [f"… and {len(events) - _MOST} more, in the record"] if len(events) > _MOST else []
    lines += [f"others: {_counted(others)}"] if others else []
    lines += [f"record: {record}"] if record else []
    return f"{about}: {counted}" if about else title, "\n".join([*lines, f"from {actor()}, {params.folder}"])


def _counted(counts: Mapping[str, int]) -> str:
    """Return counts in words: events in the order of ``notify.events``, then the rest."""
    ordered = sorted(counts, key=lambda what: ((*KINDS, what).index(what), what))
    return ", ".join(f"{counts[what]} {what}" for what in ordered)


def _without_secrets(text: str, params: Params) -> str:
    secrets = {*known_secrets(params.folder).values(), *params.secrets}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _delivered(receivers: list[Address], message: Mapping[str, str]) -> list[str]:
    """Deliver a message, and return a warning for each receiver that did not take it."""
    request = json.dumps({"urls": [address.url for address in receivers], "seconds": SECONDS, **message}).encode()
    why, took = "did not take it", set[int]()
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter, our own file)
            [sys.executable, "-P", str(_CHILD)], input=request, capture_output=True, timeout=_START_SECONDS + SECONDS, check=False
        )
        took = {int(line) for line in done.stdout.split() if line.isdigit()}
        if done.returncode == _LATE:
            why = f"did not answer within {SECONDS:.0f} s"
    except subprocess.TimeoutExpired:
        why = f"could not be sent it: Apprise did not start within {_START_SECONDS:.0f} s"
    except OSError as error:
        why = f"could not be sent it: {error.strerror or error}"
    failed = [address for place, address in enumerate(receivers) if place not in took]
    return [f"notify: a message was not delivered: {address.name} {why}; the run is not affected" for address in failed]

"""``notify`` in ``params.yaml``: Apprise addresses, whose secrets come from the environment, and the events to report."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated, Literal, get_args
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator

from fxhelpers.errors import ParamsError
from fxhelpers.params._input import secrets_in
from fxhelpers.params._models import Section

Kind = Literal["promoted", "refused", "alarm", "failed", "stale"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_BETWEEN = re.compile(r"[/?&=#@:]+")  # the parts of an address
_MOST = 20


def _check_written(address: SecretStr) -> SecretStr:
    text = address.get_secret_value()
    if not text.isprintable() or any(letter.isspace() for letter in text) or not text:
        msg = "an address has no white space in it, and is not empty"
        raise ValueError(msg)
    if text.startswith("env:") and not _VARIABLE.fullmatch(text):
        msg = "write a variable of the environment as env:NAME, with letters, digits and _"
        raise ValueError(msg)
    return address


class NotifyParams(Section):
    """Messages about how runs ended, by Apprise; see [schedules](schedule.md#messages)."""

    to: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_check_written), WithJsonSchema({"type": "string"})], ...],
        Field(max_length=_MOST),
    ] = ()
    """Apprise addresses, or env:NAME: the address is in this variable of the environment or of .env, and not in this file"""
    events: tuple[Kind, ...] = ("promoted", "alarm", "failed", "stale")
    """what to report: promoted, refused, alarm, failed, stale"""

    @model_validator(mode="before")
    @classmethod
    def _has_keys(cls, values: object) -> object:
        if isinstance(values, list | str):
            msg = "addresses belong below to: notify: {to: [ADDRESS, …], events: [promoted, …]}"
            raise ValueError(msg)  # noqa: TRY004 (pydantic reports these)
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One receiver of messages, as Apprise takes it."""

    setting: str  # its place in params.yaml, and its variable
    url: str = field(repr=False)  # with its secrets; empty if its variable is not set
    secrets: tuple[str, ...] = field(repr=False)  # what no file may hold

    @property
    def name(self) -> str:
        """Its setting, scheme and host, for messages; what is in the place of a host may be a token, and is left out then."""
        forms = _forms(self.url) if has_apprise() else None
        return f"{self.setting}, {_scheme_and_host(forms[1] if forms else self.url, with_host=bool(forms))}"


def has_apprise() -> bool:
    return find_spec("apprise") is not None


def read_addresses(notify: NotifyParams, variables: Mapping[str, str | None], *, check: bool) -> tuple[Address, ...]:
    """Return the receivers; :class:`ParamsError` if Apprise, where it is installed, knows no such address.

    Without ``check`` Apprise is not loaded, which takes half a second.
    """
    return tuple(
        _read(f"notify.to.{place}", written.get_secret_value(), variables, check=check and has_apprise())
        for place, written in enumerate(notify.to)
    )


def _read(setting: str, written: str, variables: Mapping[str, str | None], *, check: bool) -> Address:
    variable = _VARIABLE.fullmatch(written)
    url = (variables.get(variable[1]) or "").strip() if variable else written
    setting = f"{setting} ({variable[1]} in the environment or in .env)" if variable else setting
    forms = _forms(url) if check and url else None
    if check and url and not forms:
        msg = (
            f"{setting}: Apprise knows no such address, {_scheme_and_host(url, with_host=False)}; how each service's is written: "
            "https://appriseit.com/services"
        )
        raise ParamsError(msg)
    secret = {*_passwords(url), *(_hidden_parts(*forms) if forms else ())}
    secret |= {url, f"/{url.partition('://')[2].partition('/')[2]}"} if variable else set()
    return Address(setting=setting, url=url, secrets=tuple(filter(None, secret)))


def _forms(url: str) -> tuple[str, str] | None:
    """Return an address as Apprise spells it, with its secrets and with these masked; None for one that it does not know."""
    from apprise import Apprise

    with _silent():
        service = Apprise.instantiate(url)
        return (service.url(), service.url(privacy=True)) if service else None  # type: ignore[no-untyped-call]


@contextmanager
def _silent() -> Iterator[None]:
    """Let Apprise log nothing: what it says of an address may hold a secret."""

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("apprise")
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _hidden_parts(whole: str, masked: str) -> Iterator[str]:
    """Yield the parts of an address that Apprise masks, decoded and as written."""
    parts = [_BETWEEN.split(form.partition("://")[2]) for form in (whole, masked)]
    for part, shown in zip(*parts, strict=False):
        if part != shown:
            yield from (part, unquote(part))


def _passwords(url: str) -> list[str]:
    try:
        return secrets_in(url)
    except ValueError:  # no URI, for example a bracket that is not closed
        return []


def _scheme_and_host(url: str, *, with_host: bool) -> str:
    """Return ``json://127.0.0.1``, or ``tgram://…`` where the part in the place of a host may be a token."""
    scheme, colon, _ = url.partition("://")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,19}", scheme):
        return "a text without scheme://"
    host = (urlsplit(url).hostname or "") if with_host else ""
    is_host = ("." in host and ".." not in host) or host == "localhost"  # Apprise shortens a token to A...Z
    return f"{scheme}://{host if is_host else '…'}"

"""Which version is meant: its number and its bundle's digest, since MLflow gives numbers again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

_DIGITS = 12
"""Of a digest, where people read it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One version of a registered model.

    Attributes
    ----------
    number : int
        That MLflow gave; once the registered model is deleted and made anew,
        MLflow gives it again.
    bundle : str or None
        SHA-256 of the bundle that it was made of; "" for a version of plain
        MLflow, which has none; None where it is not known.
    """

    number: int
    bundle: str | None = None

    @classmethod
    def of(cls, number: int, bundles: Mapping[str, Any]) -> Self:
        """Return the version of a number, as a decision's ``bundles`` have it."""
        bundle = bundles.get(str(number), ...)
        return cls(number, None if bundle is ... else str(bundle or ""))

    def may_be(self, other: "Identity | None") -> bool:
        """Tell whether nothing speaks against both being the same version: one digest, or one that is not known."""
        return (
            other is not None
            and self.number == other.number
            and (self.bundle == other.bundle or None in {self.bundle, other.bundle})
        )

    @property
    def short(self) -> str:
        """``bundle 3f2a…``, for people."""
        words = {None: "unknown bundle", "": "no bundle of fxhelpers"}
        return words.get(self.bundle, f"bundle {str(self.bundle)[:_DIGITS]}")

    def __str__(self) -> str:
        return f"version {self.number}"


def same(one: Identity | None, other: Identity | None) -> bool:
    """Tell whether nothing speaks against two being the same version, or both being none."""
    return one is other if one is None or other is None else one.may_be(other)


def labels(versions: Iterable[Identity]) -> dict[Identity, str]:
    """Return what to call each version: ``version 1``, with its bundle where another one has that number too."""
    known = sorted(set(versions), key=lambda v: (v.number, v.bundle or ""))
    often = Counter(v.number for v in known if v.bundle is not None)
    return {v: f"{v} ({v.short})" if often[v.number] > 1 else str(v) for v in known}

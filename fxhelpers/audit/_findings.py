"""What a verification found."""

import json
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from fxhelpers.results import Keyed


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Keyed):
    """Something that does not fit, and what to do about it.

    Attributes
    ----------
    model : str
        Registered model.
    level : {"problem", "note"}
        A note is explained by the ledger, or by a run that is at work.
    what : str
        What was found, and where.
    do : str
        What to do.
    decision : str or None
        Id of the decision that it is about.
    """

    model: str
    level: Literal["problem", "note"]
    message: str
    remedy: str
    decision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Keyed):
    """What was looked at, and what does not fit.

    Attributes
    ----------
    models : tuple of str
        Registered models.
    decisions : int
        How many were checked.
    deep : bool
        Whether stored forecasts, copies of records and model files were
        checked too.
    findings : tuple of Finding
        Problems first.
    uri : str
        Where the registry is, without credentials.
    """

    models: tuple[str, ...]
    decisions: int
    deep: bool
    findings: tuple[Finding, ...]
    uri: str

    @property
    def problems(self) -> list[Finding]:
        """Those that need somebody."""
        return [finding for finding in self.findings if finding.level == "problem"]

    @property
    def message(self) -> str:
        """What was found, in one line."""
        counts = [(len(self.problems), "problem"), (self.decisions, "decision"), (len(self.models), "model")]
        problems, decisions, models = (f"{count or 'no'} {word}{'s' * (count > 1)}" for count, word in counts)
        return f"{problems} in {decisions} about {models}{', read in depth' if self.deep else ''}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row a finding, for people."""
        columns = ["model", "level", "what", "do", "decision"]
        return pd.DataFrame([[finding[column] for column in columns] for finding in self.findings], columns=columns)

    def to_json(self) -> str:
        """Return all of it as JSON."""
        whole = {"registry": self.uri, "models": self.models, "decisions": self.decisions, "deep": self.deep}
        return json.dumps({**whole, "findings": [dict(finding) for finding in self.findings]}, indent=2)

"""The ledger of one registered model: its entries in a chain, the decisions that they make up, and who reigned when.

Pure: texts in, facts out. Where the entries are kept is the registry's business.
"""

from fxhelpers.ledger._chain import Fault, Ledger, NamedVersions, ProductionPeriod
from fxhelpers.ledger._decision import AGAINST, ALIAS_FOUND, NO_SKILL, NOT_COMPARED, Decision, back_to, named
from fxhelpers.ledger._entry import (
    KINDS,
    SERVES,
    Entry,
    Identity,
    Link,
    StoredRun,
    entry_name,
    first_name,
    labels,
    link_name,
    same,
)

__all__ = [
    "AGAINST",
    "ALIAS_FOUND",
    "KINDS",
    "NOT_COMPARED",
    "NO_SKILL",
    "SERVES",
    "Decision",
    "Entry",
    "Fault",
    "Identity",
    "Ledger",
    "Link",
    "NamedVersions",
    "ProductionPeriod",
    "StoredRun",
    "back_to",
    "entry_name",
    "first_name",
    "labels",
    "link_name",
    "named",
    "same",
]

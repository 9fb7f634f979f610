"""The ledger of one registered model: its entries in a chain, the decisions that they make up, and who reigned when.

Pure: texts in, facts out. Where the entries are kept is the registry's business.
"""

from fxhelpers.ledger.chain import Fault, Ledger, Meant, Reign
from fxhelpers.ledger.decision import AGAINST, ALIAS_FOUND, NO_SKILL, NOT_COMPARED, Decision, back_to, named
from fxhelpers.ledger.entry import KINDS, LONGEST_ENTRY, SERVES, Entry
from fxhelpers.ledger.identity import Identity, labels, same
from fxhelpers.ledger.links import Kept, Link, entry_name, first_name, link_name

__all__ = [
    "AGAINST",
    "ALIAS_FOUND",
    "KINDS",
    "LONGEST_ENTRY",
    "NOT_COMPARED",
    "NO_SKILL",
    "SERVES",
    "Decision",
    "Entry",
    "Fault",
    "Identity",
    "Kept",
    "Ledger",
    "Link",
    "Meant",
    "Reign",
    "back_to",
    "entry_name",
    "first_name",
    "labels",
    "link_name",
    "named",
    "same",
]

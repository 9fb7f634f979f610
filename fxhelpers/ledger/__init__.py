"""The ledger of one registered model: its entries in a chain, the decisions that they make up, and who reigned when.

Pure: texts in, facts out. Where the entries are kept is the registry's business.
"""

from fxhelpers.ledger.chain import Fault, Ledger, Meant, Reign
from fxhelpers.ledger.decision import AGAINST, NO_SKILL, NOT_COMPARED, Decision, back_to, named
from fxhelpers.ledger.entry import KINDS, LONGEST_ENTRY, Entry
from fxhelpers.ledger.identity import Identity, labels, same

__all__ = [
    "AGAINST",
    "KINDS",
    "LONGEST_ENTRY",
    "NOT_COMPARED",
    "NO_SKILL",
    "Decision",
    "Entry",
    "Fault",
    "Identity",
    "Ledger",
    "Meant",
    "Reign",
    "back_to",
    "labels",
    "named",
    "same",
]

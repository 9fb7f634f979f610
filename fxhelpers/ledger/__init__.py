"""The ledger of one registered model: its entries in a chain, the decisions that they make up, and who reigned when.

Pure: texts in, facts out. Where the entries are kept is the registry's business.
"""

from fxhelpers.ledger.chain import Fault, Ledger, Reign
from fxhelpers.ledger.decision import AGAINST, NO_SKILL, NOT_COMPARED, Decision, named
from fxhelpers.ledger.entry import KINDS, LONGEST_ENTRY, Entry

__all__ = [
    "AGAINST",
    "KINDS",
    "LONGEST_ENTRY",
    "NOT_COMPARED",
    "NO_SKILL",
    "Decision",
    "Entry",
    "Fault",
    "Ledger",
    "Reign",
    "named",
]

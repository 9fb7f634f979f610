"""The ledger of one registered model: its entries in a chain, the decisions that they make up, and its production periods.

Pure: texts in, facts out. The registry stores the entries.
"""

from fxhelpers.ledger._attempts import NEW_DAYS, Attempt, attempt_number, next_number, repeated
from fxhelpers.ledger._chain import Fault, Ledger, NamedVersions, ProductionPeriod, Tenure
from fxhelpers.ledger._decision import AGAINST, NO_SKILL, NOT_COMPARED, Decision, back_to, version_name
from fxhelpers.ledger._entry import Entry, Link, StoredRun, entry_name, first_name, link_name
from fxhelpers.ledger._facts import (
    FACTS,
    KINDS,
    Facts,
    GateFacts,
    Identity,
    IntentFacts,
    Moving,
    OutcomeFacts,
    SealFacts,
    WindowFacts,
    labels,
    same,
)

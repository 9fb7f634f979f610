"""Decisions: registration, promotion, stages by hand, rollback and retention, each on the one path to Production."""

from fxhelpers.promotion.deciding import DECISION_TAG
from fxhelpers.promotion.mirroring import serving
from fxhelpers.promotion.proposal import Proposal
from fxhelpers.promotion.proposals import look, promote, propose
from fxhelpers.promotion.registration import Registration, register, transition
from fxhelpers.promotion.retention import Retention, retain
from fxhelpers.promotion.rollback import roll_back
from fxhelpers.promotion.sealing import RECORD_FOLDER, seal_record, seal_run

__all__ = [
    "DECISION_TAG",
    "RECORD_FOLDER",
    "Proposal",
    "Registration",
    "Retention",
    "look",
    "promote",
    "propose",
    "register",
    "retain",
    "roll_back",
    "seal_record",
    "seal_run",
    "serving",
    "transition",
]

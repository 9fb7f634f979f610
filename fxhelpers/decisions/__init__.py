"""Decisions: registration, promotion, stages by hand, rollback and retention, each on the one path to Production."""

from fxhelpers.decisions._alarm import OnAlarm, raise_alarm
from fxhelpers.decisions._evidence import (
    COMPARISON,
    COMPARISON_MIME,
    CONTRIBUTION,
    EVIDENCE,
    FRAME,
    RECORD_FOLDER,
    RECORD_TAG,
    Proposal,
    copy_record,
    frame_in,
    note_record,
    seal_record,
    seal_run,
    store_evidence,
)
from fxhelpers.decisions._mirror import became, renamed, retired, serving
from fxhelpers.decisions._path import (
    DECISION_TAG,
    Move,
    act,
    begin,
    note_on_version,
    recording_failure,
    recover_interrupted,
    refuse_unrecorded,
    run_command,
    was_interrupted,
)
from fxhelpers.decisions._promotion import compare_versions, promote, propose, roll_back
from fxhelpers.decisions._versions import Registration, Retention, register, retain, transition

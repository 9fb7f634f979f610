"""Decisions: registration, promotion, stages by hand, rollback and retention, each on the one path to Production.

What needs scikit-learn or a comparison is imported when it is first used: who only verifies does without, which saves two
seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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
from fxhelpers.decisions._sealing import (
    COMPARISON,
    EVIDENCE,
    FRAME,
    RECORD_FOLDER,
    RECORD_TAG,
    copy_record,
    note_record,
    seal_record,
    seal_run,
    store_evidence,
)

if TYPE_CHECKING:  # the table below, for type checkers
    from fxhelpers.decisions._alarm import OnAlarm as OnAlarm
    from fxhelpers.decisions._alarm import raise_alarm as raise_alarm
    from fxhelpers.decisions._evidence import COMPARISON_MIME as COMPARISON_MIME
    from fxhelpers.decisions._evidence import CONTRIBUTION as CONTRIBUTION
    from fxhelpers.decisions._evidence import Proposal as Proposal
    from fxhelpers.decisions._evidence import frame_in as frame_in
    from fxhelpers.decisions._promotion import compare_versions as compare_versions
    from fxhelpers.decisions._promotion import promote as promote
    from fxhelpers.decisions._promotion import propose as propose
    from fxhelpers.decisions._rollback import roll_back as roll_back
    from fxhelpers.decisions._versions import Registration as Registration
    from fxhelpers.decisions._versions import Retention as Retention
    from fxhelpers.decisions._versions import register as register
    from fxhelpers.decisions._versions import retain as retain
    from fxhelpers.decisions._versions import transition as transition

_LATER = {
    **dict.fromkeys(("OnAlarm", "raise_alarm"), "_alarm"),
    **dict.fromkeys(("COMPARISON_MIME", "CONTRIBUTION", "Proposal", "frame_in"), "_evidence"),
    **dict.fromkeys(("compare_versions", "promote", "propose"), "_promotion"),
    "roll_back": "_rollback",
    **dict.fromkeys(("Registration", "Retention", "register", "retain", "transition"), "_versions"),
}

if not TYPE_CHECKING:  # so that type checkers report other names

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)

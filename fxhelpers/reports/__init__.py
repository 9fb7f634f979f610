"""Pages for people: a report of each record (:mod:`fxhelpers.reports.report`), and a gallery of all of them."""

from fxhelpers.reports.gallery import (
    PAGE,
    add_decision,
    add_record,
    end_records,
    note_live,
    note_models,
    rebuild_gallery,
    standing,
)

__all__ = ["PAGE", "add_decision", "add_record", "end_records", "note_live", "note_models", "rebuild_gallery", "standing"]

"""The end of records whose process could not write it, with all that belongs to a record."""

from pathlib import Path

from fxhelpers.records import left_records, report_path
from fxhelpers.reports.gallery import add_record


def end_records(folder: Path) -> list[Path]:
    """Close the records that were left as running by a process that is gone: interrupted, with report and line in the gallery.

    Parameters
    ----------
    folder : Path
        Of the records. Nothing is read but what is marked as running.

    Returns
    -------
    list of Path
        The records.
    """
    with left_records(folder) as left:
        for record in left:
            from fxhelpers.reports.report import make_report  # takes a second to import

            if not report_path(record).exists():
                make_report(record)
            add_record(record)
    return left

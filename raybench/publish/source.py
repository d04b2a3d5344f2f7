"""Reads a run folder for publication: the ledger once, its fold, its report, and whether it is still being written."""

from collections.abc import Callable
from pathlib import Path

from raybench.errors import LedgerError
from raybench.ledger.journal import read
from raybench.ledger.view import fold
from raybench.publish.targets import Source
from raybench.publish.writing import being_written, ended
from raybench.records import LedgerRecord
from raybench.report.summary import make_report
from raybench.report.write import rows_findings

Reader = Callable[[Path], tuple[LedgerRecord, ...]]


def read_source(folder: Path, attempt: str = "", reader: Reader = read) -> Source:
    """The folder as it is now; `attempt` changes the ids. Raises LedgerError, also for a run that has no plan yet."""
    written_before = being_written(folder)
    records = reader(folder)
    view = fold(records)
    if view.plan is None:
        raise LedgerError(f"{folder} holds no plan yet: there is nothing to publish. Try again when the run has begun.")
    # Asked on both sides of reading: a run that ended, or was resumed, in between has more records than were read, and
    # a session that is taken for over gives rows to half measured points, under steps that the whole ledger has not.
    closed = ended(records) or not (written_before or being_written(folder))
    return Source(records, view, make_report(view, rows_findings(view, folder)), closed, attempt)

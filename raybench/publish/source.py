"""Reads a run folder for publication: the ledger once, its fold, its report, and whether it is still being written."""

from pathlib import Path

from raybench.errors import LedgerError
from raybench.ledger.journal import read
from raybench.ledger.view import fold
from raybench.publish.targets import Source
from raybench.publish.writing import being_written, ended
from raybench.report.summary import make_report
from raybench.report.write import rows_findings


def read_source(folder: Path, attempt: str = "") -> Source:
    """The folder as it is now; `attempt` changes the ids. Raises LedgerError, also for a run that has no plan yet."""
    records = read(folder)
    view = fold(records)
    if view.plan is None:
        raise LedgerError(f"{folder} holds no plan yet: there is nothing to publish. Try again when the run has begun.")
    closed = ended(records) or not being_written(folder)
    return Source(records, view, make_report(view, rows_findings(view, folder)), closed, attempt)

"""From a run folder to `report.md` and `report.json` in it: the one part of this room that touches the disk."""

import hashlib
import os
from pathlib import Path

from raybench.errors import LedgerError, StorageError
from raybench.ledger.journal import REQUESTS, read
from raybench.ledger.view import RunView, fold
from raybench.records import Finding, LoadMeasurement, PerfMeasurement
from raybench.report.grades import MovedGrade, dump, grades, moved, parse
from raybench.report.markdown import render
from raybench.report.model import Report
from raybench.report.summary import make_report
from raybench.validity.verdict import GateOutcome, exit_code

MARKDOWN = "report.md"
JSON = "report.json"
GRADES = "grades.jsonl"


def write_report(folder: Path) -> Report:
    """Read the ledger, write its files whole or not at all, return the report. Raises LedgerError, StorageError.

    A run with evals also gets `grades.jsonl`, what every sample came to.
    """
    view = fold(read(folder))
    report = make_report(view, rows_findings(view, folder))
    graded = grades(view)
    if graded:
        _write(folder / GRADES, dump(graded))
    _write(folder / MARKDOWN, render(report))
    _write(folder / JSON, report.model_dump_json(indent=1) + "\n")
    return report


def moved_grades(folder: Path) -> tuple[MovedGrade, ...] | None:
    """Samples that are graded otherwise than the last report stored; None when it stored no grades. Changes nothing.

    Raises LedgerError.
    """
    path = folder / GRADES
    view = fold(read(folder))
    if not path.is_file():
        return None
    try:
        stored = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} cannot be read ({error}). Delete it: `raybench report` writes it anew.") from error
    return moved(parse(stored, str(path)), grades(view))


def exit_code_of(report: Report, infrastructure: int | None, *, strict: bool) -> int:
    """Exit code of a run with this report; see `raybench.validity.verdict.exit_code` for the arguments."""
    gates: list[GateOutcome | None] = []
    for row in report.evals:
        gates.append(row.accuracy.gate.verdict if row.accuracy.gate else None)
    return exit_code(report.verdict, report.num_missing, gates, infrastructure=infrastructure, strict=strict)


def read_report(folder: Path) -> Report:
    """The report of a run folder, made anew from its ledger. Raises LedgerError, StorageError."""
    view = fold(read(folder))
    return make_report(view, rows_findings(view, folder))


def rows_findings(view: RunView, folder: Path) -> list[Finding]:
    """`rows_altered` for every unit whose per-request rows are missing or are not those that its record names.

    A folder without `requests/` is a ledger that travels alone: nothing is checked then.
    """
    rows = folder / REQUESTS
    if not rows.is_dir():
        return []
    found: list[Finding] = []
    for key, unit in view.units.items():
        done = view.done.get(key)
        if done is None or not isinstance(done.measurement, PerfMeasurement | LoadMeasurement):
            continue
        if done.measurement.rows_sha256 is None:
            continue
        path = rows / f"{key}.parquet"
        missing = not path.is_file()
        if missing or hashlib.sha256(path.read_bytes()).hexdigest() != done.measurement.rows_sha256:
            found.append(
                Finding(
                    code="rows_altered", severity="red", scope="unit", target=unit.target, key=key,
                    rule=f"the files in {REQUESTS}/ are those that the ledger names by their SHA-256",
                    evidence={"missing": float(missing), "altered": float(not missing)},
                    advice=(
                        "The per-request rows behind this figure cannot be trusted. Restore the run folder from a "
                        "copy, or measure again."
                    ),
                )
            )  # fmt: skip
    return found


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}. The ledger is whole; free the space and try again."
        ) from error

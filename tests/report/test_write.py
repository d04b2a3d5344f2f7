"""The files of a report, and the check of the rows behind it."""

import hashlib
from pathlib import Path

import pytest
from ledger_builder import LedgerBuilder, config, whole_ledger

from raybench.errors import LedgerError, StorageError
from raybench.records import EngineFacts, PerfMeasurement, PerfUnit
from raybench.report.model import Report
from raybench.report.write import exit_code_of, read_report, write_report

KEY = "alpha-static-b4-r1-l0"
ROWS = b"rows of one unit"


def _with_rows() -> LedgerBuilder:
    def change(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        digest = hashlib.sha256(ROWS).hexdigest() if unit.key == KEY else None
        return result.model_copy(update={"rows_sha256": digest})

    return whole_ledger(perf=change)


def test_both_files_and_the_same_bytes_again(tmp_path: Path) -> None:
    folder = whole_ledger().write(tmp_path / "run")
    report = write_report(folder)
    names = ("report.md", "report.json", "grades.jsonl")
    first = [(folder / name).read_bytes() for name in names]
    assert write_report(folder) == report
    assert [(folder / name).read_bytes() for name in names] == first
    assert Report.model_validate_json(first[1]) == report
    assert sorted(path.name for path in folder.iterdir()) == [
        "grades.jsonl",
        "ledger.jsonl",
        "report.json",
        "report.md",
    ]


def test_a_copy_elsewhere_makes_the_same_bytes(tmp_path: Path) -> None:
    folders = [whole_ledger().write(tmp_path / name) for name in ("a", "b")]
    assert write_report(folders[0]) == write_report(folders[1])
    assert (folders[0] / "report.md").read_bytes() == (folders[1] / "report.md").read_bytes()


@pytest.mark.parametrize(
    ("content", "evidence"),
    [(ROWS, None), (b"other rows", {"missing": 0.0, "altered": 1.0}), (None, {"missing": 1.0, "altered": 0.0})],
)
def test_altered_rows_are_red(tmp_path: Path, content: bytes | None, evidence: dict[str, float] | None) -> None:
    folder = _with_rows().write(tmp_path)
    (folder / "requests").mkdir()
    if content is not None:
        (folder / "requests" / f"{KEY}.parquet").write_bytes(content)
    found = [finding for finding in read_report(folder).findings if finding.code == "rows_altered"]
    if evidence is None:
        assert found == []
        return
    assert [(f.severity, f.key, f.evidence) for f in found] == [("red", KEY, evidence)]
    assert read_report(folder).verdict == "INVALID"


def test_a_ledger_that_travels_alone_is_not_checked(tmp_path: Path) -> None:
    assert read_report(_with_rows().write(tmp_path)).verdict == "VALID"


def _code(builder: LedgerBuilder, tmp_path: Path, infrastructure: int | None = None) -> int:
    return exit_code_of(read_report(builder.write(tmp_path)), infrastructure, strict=True)


def test_exit_codes_of_whole_runs(tmp_path: Path) -> None:
    evals = [{"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "baseline": 1.0, "margin": 0.0,
              "gate": "published"}]  # fmt: skip
    assert _code(whole_ledger(), tmp_path) == 0
    assert _code(whole_ledger(config(evals=evals)), tmp_path) == 32
    assert _code(whole_ledger(skip=lambda key: key == KEY), tmp_path) == 31
    assert _code(whole_ledger(skip=lambda key: key == KEY), tmp_path, infrastructure=22) == 22
    assert _code(whole_ledger(engine=_two_versions_on_beta), tmp_path) == 0
    evals[0] |= {"baseline": 0.95, "margin": 0.05}
    assert _code(whole_ledger(config(evals=evals)), tmp_path) == 33
    # The same published score, shown and not gated.
    evals[0] |= {"baseline": 1.0, "gate": "none"}
    assert _code(whole_ledger(config(evals=evals)), tmp_path) == 0
    evals[0] |= {"gate": None}
    assert _code(whole_ledger(config(evals=evals)), tmp_path) == 0


def _two_versions_on_beta(facts: EngineFacts) -> EngineFacts:
    return facts.model_copy(update={"version": "0.5.22"}) if facts.target == "beta" else facts


def test_no_ledger_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.jsonl"):
        write_report(tmp_path)


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = whole_ledger().write(tmp_path)
    (folder / "report.md").mkdir()
    with pytest.raises(StorageError, match=r"report\.md"):
        write_report(folder)

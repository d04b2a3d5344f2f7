"""Grades beside a report: which samples a newer grader moves; and that no question leaves the run folder by them."""

import json
from pathlib import Path

import pytest
from ledger_builder import LedgerBuilder, whole_ledger

from raybench.errors import LedgerError
from raybench.evals.base import Extraction
from raybench.evals.grade import GRADER_VERSION
from raybench.publish.projection import attachments
from raybench.publish.source import read_source
from raybench.publish.targets import target_runs
from raybench.records import Message, SampleRecord
from raybench.report.grades import Grade, grades, moved
from raybench.report.write import GRADES, moved_grades, write_report


def _stored(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / GRADES).read_text().split("\n") if line]


def test_every_sample_has_its_grade(tmp_path: Path) -> None:
    folder = whole_ledger().write(tmp_path)
    write_report(folder)
    found = _stored(folder)
    assert len(found) == 80
    assert found[3] == {
        "key": "alpha-sums-q3-r0", "target": "alpha", "eval": "sums", "question": "q003", "repeat": 0,
        "outcome": "incorrect", "value": "5", "method": "answer_line", "grader": GRADER_VERSION,
    }  # fmt: skip
    assert moved_grades(folder) == ()


def test_a_folder_without_stored_grades_says_so(tmp_path: Path) -> None:
    folder = whole_ledger().write(tmp_path)
    assert moved_grades(folder) is None
    assert not (folder / GRADES).exists(), "looking changes nothing"


def test_what_another_grader_sees_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from raybench import evals

    def deaf(reply: str, finish_reason: str | None) -> Extraction:
        # An older grader that read nothing but boxes, and took the first of two.
        return Extraction("14", "boxed", None) if reply == "Answer: 13" else Extraction(None, "none", None)

    folder = whole_ledger().write(tmp_path)
    with monkeypatch.context() as older:
        older.setitem(evals.EVALS, "sums", dataclasses.replace(evals.EVALS["sums"], extract=deaf))
        write_report(folder)
    found = moved_grades(folder)
    assert found is not None and len(found) == 80
    first = found[12]
    assert (first.after.target, first.after.question, first.after.repeat) == ("alpha", "q012", 0)
    assert (first.before.outcome, first.before.value) == ("incorrect", "14")
    assert (first.after.outcome, first.after.value) == ("correct", "13")
    assert {(m.before.outcome, m.after.outcome) for m in found} >= {("unparsed", "correct"), ("unparsed", "incorrect")}
    write_report(folder)
    assert moved_grades(folder) == ()


def test_a_sample_that_was_not_graded_before_has_not_moved() -> None:
    after = grades(whole_ledger().view())
    assert moved((), after) == ()
    assert moved(after[:3], after) == ()
    other = after[0].model_copy(update={"method": "boxed", "grader": 1})
    assert moved((other,), after) == (), "the same answer found by another way is the same grade"


@pytest.mark.parametrize("content", [b"{}\n", b"no json\n", b"\xff\xfe\n"])
def test_damaged_grades_are_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    folder = whole_ledger().write(tmp_path)
    (folder / GRADES).write_bytes(content)
    with pytest.raises(LedgerError, match=r"grades\.jsonl.*[Dd]elete it"):
        moved_grades(folder)
    write_report(folder)
    assert moved_grades(folder) == ()


def test_a_run_without_evals_has_no_grades(tmp_path: Path) -> None:
    from ledger_builder import config

    folder = whole_ledger(config(evals=[])).write(tmp_path)
    write_report(folder)
    assert not (folder / GRADES).exists()


PLANTED = "PLANTED-QUESTION-TEXT"


def _planted() -> LedgerBuilder:
    """A run whose questions and replies hold a text that may not leave the ledger."""

    def change(sample: SampleRecord) -> SampleRecord:
        reply = f"{PLANTED}: as the question says. {sample.reply}"
        hit = sample.question in ("q001", "q002", "q003")
        return sample.model_copy(update={"reply": PLANTED if hit else reply})

    builder = whole_ledger(sample=change)
    for number, record in enumerate(builder.records):
        if record.kind == "plan":
            body = json.loads(json.dumps(record.body))
            for unit in body["plan"]["units"]:
                for sample in unit.get("samples", ()):
                    sample["messages"] = [Message(role="user", content=PLANTED).model_dump()]
            builder.records[number] = record.model_copy(update={"body": body})
    return builder


def test_no_question_and_no_reply_leaves_the_ledger(tmp_path: Path) -> None:
    folder = _planted().write(tmp_path)
    report = write_report(folder)
    assert PLANTED in (folder / "ledger.jsonl").read_text()
    assert {"unparsed"} <= {finding.code for finding in report.findings}
    for path in folder.iterdir():
        if path.name != "ledger.jsonl":
            assert PLANTED not in path.read_text(), path.name
    source = read_source(folder)
    for sent in (*target_runs(source, "hashed"), *attachments(source, "hashed")):
        assert PLANTED not in repr(sent)
    assert "q001" in (folder / GRADES).read_text(), "ids are what may be shown"


def test_a_grade_holds_no_text_of_the_question() -> None:
    assert {"messages", "reply", "prompt", "gold"} & set(Grade.model_fields) == set()

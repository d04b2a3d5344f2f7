"""Replies made to hang or kill a grader: each is graded, stored and read again like any other."""

import json
from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger

from raybench.evals import EVALS
from raybench.evals.custom import GRADERS
from raybench.evals.grade import outcome
from raybench.ledger.journal import Journal, read
from raybench.ledger.view import fold
from raybench.records import SampleRecord
from raybench.report.write import write_report

MEGABYTE = 1_000_000

HOSTILE = {
    "tower": r"\boxed{2^{10^{10}}}",
    "factorial": r"\boxed{(10^9)!} and \boxed{9^{9^9}}",
    "digits": "9" * MEGABYTE,
    "boxed digits": r"\boxed{" + "9" * MEGABYTE + "}",
    "answer digits": "Answer: " + "9" * MEGABYTE,
    "thousands": "Answer: 1" + ",000" * 200_000,
    "spaced digits": r"\boxed{" + r"1\," * 300_000 + "}",
    "nul": "\0" * 1000 + r"\boxed{7" + "\0}" + "\0",
    "replacement": "\ufffd" * 10_000,
    "noncharacters": "\uffff\ufffe" * 10_000,
    "combining": r"\boxed{" + "a" + "\u0301" * 100_000 + "}",
    "ligature": r"\boxed{" + "\ufdfa" * 390 + "}",  # eighteen characters each when it is folded
    "right to left": "\u202e" * 1000 + "}07{dexob\\",
    "opened boxes": r"\boxed{" * 100_000,
    "opened and closed": r"\boxed{" * 100_000 + "7" + "}" * 100_000,
    "braces": r"\boxed{" + "{" * 100_000 + "7" + "}" * 100_000 + "}",
    "short braces": r"\boxed{" + "{" * 190 + "7" + "}" * 190 + "}",
    "brackets": r"\boxed{" + "(" * 190 + "7" + ")" * 190 + "}",
    "fractions": r"\boxed{" + r"\frac{1}{" * 40 + "2" + "}" * 40 + "}",
    "roots": r"\boxed{" + r"\sqrt{" * 50 + "2" + "}" * 50 + "}",
    "wrappers": r"\boxed{" + r"\text{" * 60 + "7" + "}" * 60 + "}",
    "commas": r"\boxed{" + "," * 300 + "}",
    "products": r"\boxed{" + r"9\cdot" * 60 + "9}",
    "large product": r"\boxed{" + "999999999999999999\\cdot" * 12 + "9}",
    "thinks": "<think>" * 100_000,
    "answers": "answer: " * 100_000,
    "answer is": "the answer is " * 70_000,
    "hashes": "#### \n" * 150_000,
    "bold": "**" * 400_000,
    "dollars": "$" * 700_000,
    "escapes": "\\" * 700_001,
    "json": '{"answer": "' * 80_000,
    "blanks": "Answer:" + " " * MEGABYTE,
    "lines": "\n" * MEGABYTE,
    "option": "option " * 140_000,
    "spaces before end": "x" + " " * MEGABYTE + "x",
}  # fmt: skip


def _sample(reply: str, gold: str = "70") -> SampleRecord:
    return SampleRecord(
        key="k", unit="u", target="alpha", eval="sums", question="q1", repeat=0, status="ok", reply=reply,
        finish_reason="stop", prompt_tokens=9, output_tokens=5, prompt_sha256="0" * 64, gold=gold, seed=1,
        sent_unix_s=0.0, duration_s=0.1,
    )  # fmt: skip


# A hang shows as a test that passes its limit; a death as the death of pytest.
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", list(HOSTILE))
def test_every_grader_survives_and_believes_none(name: str) -> None:
    reply = HOSTILE[name]
    for evaluation in EVALS.values():
        assert outcome(_sample(reply), evaluation) in ("unparsed", "incorrect")
        assert evaluation.lenient(reply).value != "70"
    for grader in GRADERS.values():
        for finish_reason in ("stop", "length", None):
            assert grader.extract(reply, finish_reason).value != "70"
        assert grader.lenient(reply).value != "70"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_of_hostile_replies_is_written_read_and_reported(tmp_path: Path) -> None:
    replies = list(HOSTILE.values())

    def hostile(sample: SampleRecord) -> SampleRecord:
        number = int(sample.question[1:])
        return sample.model_copy(update={"reply": replies[number]}) if number < len(replies) else sample

    assert len(replies) <= 40
    builder = whole_ledger(config(perf=[]), sample=hostile)
    folder = tmp_path / "run"
    journal = Journal.create(folder)
    for record in builder.records:
        journal.append(
            record.kind, record.body, key=record.key, attempt=record.attempt, node=record.node, launch=record.launch
        )
    journal.close()
    view = fold(read(folder))
    assert [view.samples[f"alpha-sums-q{n}-r0"].reply for n in range(len(replies))] == replies
    report = write_report(folder)
    row = report.evals[0]
    assert row.accuracy.counts["unparsed"] + row.accuracy.counts["incorrect"] >= len(replies)
    assert row.accuracy.counts["errored"] == 0
    stored = [json.loads(line) for line in (folder / "grades.jsonl").read_text().split("\n") if line]
    assert len(stored) == 80
    assert max(len(grade["value"] or "") for grade in stored) < 2000


def test_no_record_holds_half_a_character() -> None:
    # The client replaces them (`tests/client/test_chat.py`); a ledger could not be written with one.
    with pytest.raises(ValueError, match="surrogates"):
        _sample("\ud800").model_dump_json()

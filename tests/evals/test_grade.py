"""Outcomes of stored samples."""

import pytest

from raybench.evals import EVALS
from raybench.evals.grade import outcome, outcomes
from raybench.records import SampleRecord


def _sample(**changes: object) -> SampleRecord:
    content: dict[str, object] = {
        "key": "k", "unit": "u", "target": "alpha", "eval": "sums", "question": "q1", "repeat": 0, "status": "ok",
        "reply": r"\boxed{70}", "finish_reason": "stop", "prompt_tokens": 9, "output_tokens": 5,
        "prompt_sha256": "0" * 64, "gold": "70", "seed": 1, "sent_unix_s": 0.0, "duration_s": 0.1,
    }  # fmt: skip
    return SampleRecord.model_validate(content | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "correct"),
        ({"reply": r"\boxed{070}"}, "correct"),
        ({"finish_reason": None}, "correct"),
        ({"finish_reason": "eos"}, "correct"),
        ({"reply": r"\boxed{71}"}, "incorrect"),
        ({"reply": "I do not know"}, "unparsed"),
        ({"reply": ""}, "unparsed"),
        ({"reply": None}, "unparsed"),
        ({"reply": r"\boxed{70 \text{ or } 71}"}, "unparsed"),
        ({"finish_reason": "length"}, "truncated"),
        ({"finish_reason": "length", "reply": "so far"}, "truncated"),
        ({"finish_reason": "length", "reply": None}, "truncated"),
        ({"finish_reason": "abort"}, "errored"),
        ({"finish_reason": "error"}, "errored"),
        ({"finish_reason": "content_filter"}, "errored"),
        ({"status": "timeout"}, "errored"),
        ({"status": "cut"}, "errored"),
        ({"status": "http_error", "reply": None, "finish_reason": None}, "errored"),
        ({"status": "cut", "finish_reason": "length"}, "errored"),
    ],
)
def test_outcome(changes: dict[str, object], expected: str) -> None:
    assert outcome(_sample(**changes), EVALS["sums"]) == expected


def test_letters_are_graded_by_their_own_eval() -> None:
    sample = _sample(reply='{"answer": "C"}', gold="C", letter_order=(1, 2, 0, 3))
    assert outcome(sample, EVALS["gpqa_diamond"]) == "correct"
    assert outcome(sample, EVALS["aime25"]) == "unparsed"


def test_outcomes_are_by_question_and_repeat() -> None:
    samples = [_sample(), _sample(repeat=1, reply=r"\boxed{1}"), _sample(question="q2", status="timeout")]
    assert outcomes(samples, EVALS["sums"]) == {
        ("q1", 0): "correct",
        ("q1", 1): "incorrect",
        ("q2", 0): "errored",
    }

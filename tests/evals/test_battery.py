"""The graders' own exam, and that it can be failed."""

import pytest

from raybench.evals.answers import last_integer, last_letter, last_math, letter_reader
from raybench.evals.base import Extraction
from raybench.evals.battery import INTEGERS, LETTERS, MAX_REFUSED, Case, failures, refusals, self_test
from raybench.evals.grade import GRADER_VERSION
from raybench.evals.latex import math_agree
from raybench.records import content_hash


def test_the_battery_is_as_large_as_it_claims() -> None:
    for cases, number in ((INTEGERS, 60), (LETTERS, 40)):
        assert len(cases) == len({(case.reply, case.finish_reason) for case in cases}) >= number
        assert sum(case.right is None for case in cases) >= 15


def test_no_wrong_answer_is_accepted_and_at_most_four_right_ones_are_refused() -> None:
    for extract, cases in ((last_integer, INTEGERS), (last_letter, LETTERS)):
        readings = [(extract(case.reply, case.finish_reason).value, case.right) for case in cases]
        assert [pair for pair in readings if pair[0] not in (None, pair[1])] == []
        assert len(refusals(extract, cases)) <= MAX_REFUSED == 4
    assert self_test() == ()


def test_a_refused_answer_is_labelled_unparsed_and_not_wrong() -> None:
    from raybench.evals import EVALS
    from raybench.evals.grade import outcome
    from raybench.records import SampleRecord

    for case in refusals(last_integer, INTEGERS):
        sample = SampleRecord(
            key="k", unit="u", target="t", eval="aime25", question="q", repeat=0, status="ok", reply=case.reply,
            finish_reason="stop", prompt_tokens=1, output_tokens=1, prompt_sha256="0", gold=case.right or "", seed=1,
            sent_unix_s=0, duration_s=0,
        )  # fmt: skip
        assert outcome(sample, EVALS["aime25"]) == "unparsed"


def test_ten_letters_read_what_four_read() -> None:
    # E is an option among ten.
    cases = tuple(case for case in LETTERS if case.reply != "Answer: E")
    assert failures("letter", letter_reader("ABCDEFGHIJ"), cases) == ()


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"answer": "J"}', "J"), ("Answer: (G)", "G"), ("Answer: I", "I"), ("Answer: I.", "I"),
        ("Answer: I) one", "I"),
        ("Answer: I think that B is wrong", None), ("Answer: I, however, see none", None), ("Answer: H and I", None),
        ("Answer: K", None), ("Answer: Energy is lost", None), ('{"answer": "A|B|C|D|E|F|G|H|I|J"}', None),
        ("Answer: E. coli", "E"), ("Answer: Either", None), (r"\boxed{F}", "F"),
    ],
)  # fmt: skip
def test_letters_beyond_four(reply: str, value: str | None) -> None:
    assert letter_reader("ABCDEFGHIJ")(reply, "stop").value == value


def test_the_math_grader_calls_none_of_them_wrong() -> None:
    untold: list[str] = []
    for case in INTEGERS:
        value = last_math(case.reply, case.finish_reason).value
        if case.right is None:
            assert value is None or math_agree(value, "70") is not True, case.reply
        elif value is None or math_agree(value, case.right) is None:
            untold.append(case.reply)
        else:
            assert math_agree(value, case.right) is True, case.reply
    # It computes no products, and knows no units in prose.
    assert len(untold) <= 8


def _guesses(reply: str, finish_reason: str | None) -> Extraction:
    """What a harness with a last-number fallback does."""
    found = last_integer(reply, finish_reason)
    numbers = [word for word in reply.split() if word.isdigit()]
    return found if found.value or not numbers else Extraction(numbers[-1], "prose", None)


def _deaf(reply: str, finish_reason: str | None) -> Extraction:
    return Extraction(None, "none", None)


def test_a_grader_that_guesses_fails_and_so_does_one_that_reads_nothing() -> None:
    assert any(
        "reads 70 from 'We have 30 and 40, which makes 70'" in line for line in failures("x", _guesses, INTEGERS)
    )
    (line,) = failures("x", _deaf, LETTERS)
    assert line.startswith("the x grader leaves 33 right answers unread: ")
    assert failures("x", _deaf, (Case("Answer: C", "C"),)) == ()


def test_readings_are_those_of_the_stored_version() -> None:
    # When this fails because a grader reads otherwise on purpose: raise GRADER_VERSION, then freeze the new hash.
    readings: list[str | None] = []
    for extract, cases in ((last_integer, INTEGERS), (last_letter, LETTERS), (last_math, INTEGERS)):
        readings += [extract(case.reply, case.finish_reason).value for case in cases]
    assert (GRADER_VERSION, content_hash(list(readings))) == (2, "84e1ff76de91b28e")

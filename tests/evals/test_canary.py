"""The canaries: forty questions in the very formats of the evals that follow, and no other text."""

import pytest

from raybench.evals import EVALS
from raybench.evals.canary import EVAL, canary_questions, fixed_texts


def test_twenty_integers_and_twenty_choices_in_the_formats_of_aime_and_gpqa() -> None:
    aime, gpqa = EVALS["aime25"], EVALS["gpqa_diamond"]
    asked = canary_questions([aime, gpqa], run_seed=3)
    assert {grader for grader, _ in asked} == {"canary"}
    assert len({question.question for _, question in asked}) == 40
    integers = [question for _, question in asked if question.letter_order is None]
    choices = [question for _, question in asked if question.letter_order is not None]
    assert (len(integers), len(choices)) == (20, 20)
    assert integers[0].messages == aime.ask({"id": "x", "problem": "What is 7 + 5?", "answer": "12"}, 0, 3).messages
    assert {question.gold for question in choices} == set("ABCD")
    theirs = gpqa.ask(gpqa.synthetic()[0], 0, 3).messages[0].content
    assert {question.messages[0].content.rpartition("\n")[2] for question in choices} == {theirs.rpartition("\n")[2]}


def test_an_eval_with_canaries_of_its_own_is_asked_those() -> None:
    asked = canary_questions([EVALS["sums"]], run_seed=0)
    assert [grader for grader, _ in asked] == ["sums"] * 16
    both = canary_questions([EVALS["sums"], EVALS["aime25"]], run_seed=0)
    assert [grader for grader, _ in both] == ["sums"] * 16 + ["canary"] * 40


def test_right_and_wrong_replies_of_both_kinds_are_read() -> None:
    for _, question in canary_questions([EVAL], run_seed=1):
        right = f"\\boxed{{{question.gold}}}" if question.letter_order is None else f'{{"answer": "{question.gold}"}}'
        assert EVAL.extract(f"Let me see.\n{right}", "stop").value == question.gold
    assert EVAL.extract("I do not know.", "stop").value is None


def test_fixed_texts_are_the_same_everywhere_and_differ_from_each_other() -> None:
    texts = fixed_texts()
    assert (len(texts), len(set(texts))) == (16, 16)
    assert texts == fixed_texts()
    assert min(len(text.split()) for text in texts) > 60


@pytest.mark.parametrize("name", sorted(EVALS))
def test_every_eval_has_canaries(name: str) -> None:
    assert len(canary_questions([EVALS[name]], run_seed=0)) >= 16

"""The evals by name, and what every one of them promises."""

import pytest

from raybench.errors import ConfigError
from raybench.evals import EVALS, eval_named
from raybench.evals.base import Eval
from raybench.evals.gpqa_diamond import letter_order


@pytest.mark.parametrize(
    ("given", "name"),
    [("sums", "sums"), ("aime25", "aime25"), ("gpqa_diamond", "gpqa_diamond"), ("gpqa-diamond", "gpqa_diamond")],
)
def test_dashes_and_underscores_are_alike(given: str, name: str) -> None:
    assert eval_named(given) is EVALS[name]


@pytest.mark.parametrize(
    ("given", "words"),
    [("aime2025", "did you mean 'aime25'"), ("gpqa", "did you mean 'gpqa_diamond'"), ("sum", "'sums'")],
)
def test_an_unknown_name_names_the_nearest_one(given: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        eval_named(given)
    assert f"{given!r}" in caught.value.message
    assert "valid names: sums, aime25, gpqa_diamond" in caught.value.message
    assert caught.value.exit_code == 10


def test_a_name_near_to_none_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"no eval named 'xyz'; valid names: sums"):
        eval_named("xyz")


@pytest.mark.parametrize(("name", "number"), [("sums", 64), ("aime25", 30), ("gpqa_diamond", 198)])
def test_synthetic_rows_have_the_shape_of_the_real_ones(name: str, number: int) -> None:
    evaluation = EVALS[name]
    rows = evaluation.synthetic()
    required = {column.name for column in evaluation.columns if column.required}
    questions = [evaluation.ask(row, 0, 0) for row in rows]
    assert evaluation.name == name
    assert len(rows) == len({question.question for question in questions}) == number
    assert len({question.messages for question in questions}) == number
    assert all(required <= row.keys() for row in rows)
    assert evaluation.synthetic() == rows


@pytest.mark.parametrize("evaluation", EVALS.values(), ids=lambda evaluation: evaluation.name)
def test_a_right_answer_in_the_requested_form_is_read_as_gold(evaluation: Eval) -> None:
    for row in evaluation.synthetic():
        question = evaluation.ask(row, 3, 11)
        form = f'"answer": "{question.gold}"' if evaluation.answer_form == "letter" else f"\\boxed{{{question.gold}}}"
        assert evaluation.extract(f"So it is {form}.", "stop").value == question.gold


def test_synthetic_aime_answers_are_in_the_range_of_the_real_ones() -> None:
    golds = [int(EVALS["aime25"].ask(row, 0, 0).gold) for row in EVALS["aime25"].synthetic()]
    assert 0 <= min(golds) < max(golds) <= 999


def test_the_request_for_a_box_ends_an_aime_prompt() -> None:
    message = EVALS["aime25"].ask({"problem": " What is 1 + 1? ", "answer": "2"}, 0, 0).messages[0].content
    assert message == "What is 1 + 1?\nPlease reason step by step, and put your final answer within \\boxed{}."


def test_rows_without_an_id_are_named_by_their_text() -> None:
    ask = EVALS["aime25"].ask
    first = ask({"problem": "What is 1 + 1?", "answer": "2"}, 0, 0).question
    assert first == ask({"problem": "What is 1 + 1?", "answer": "3", "id": " "}, 1, 9).question
    assert first != ask({"problem": "What is 1 + 2?", "answer": "3"}, 0, 0).question
    assert first.startswith("q-")


ROW = {
    "id": "r1",
    "question": "Which is a fruit?",
    "correct": "apple",
    "incorrect_1": "iron",
    "incorrect_2": "[cloud]",
    "incorrect_3": " sand\n",
}


def test_options_are_shown_in_the_order_that_is_kept() -> None:
    for repeat in range(10):
        question = EVALS["gpqa_diamond"].ask(ROW, repeat, 5)
        assert question.letter_order == letter_order("r1", repeat, 5)
        lines = question.messages[0].content.splitlines()
        shown = [line.partition(") ")[2] for line in lines[2:6]]
        assert [line[:2] for line in lines[2:6]] == ["A)", "B)", "C)", "D)"]
        assert shown == [["apple", "iron", "[cloud]", "sand"][place] for place in question.letter_order]
        assert shown["ABCD".index(question.gold)] == "apple"


def test_the_order_depends_on_question_repeat_and_seed_only() -> None:
    assert letter_order("r1", 0, 5) == letter_order("r1", 0, 5)
    assert len({letter_order("r1", repeat, 5) for repeat in range(40)}) > 12
    assert len({letter_order("r1", 0, seed) for seed in range(40)}) > 12
    assert len({letter_order(f"r{number}", 0, 5) for number in range(40)}) > 12


def test_the_order_is_the_same_in_every_version() -> None:
    # Frozen: another order gives stored samples another gold letter than the one that was shown.
    assert [letter_order("question", repeat, 0) for repeat in range(3)] == [(1, 2, 0, 3), (3, 2, 1, 0), (2, 1, 3, 0)]


def test_right_letters_are_even() -> None:
    places = [letter_order(f"q{number}", 0, 1).index(0) for number in range(4000)]
    assert all(abs(places.count(place) - 1000) < 120 for place in range(4))

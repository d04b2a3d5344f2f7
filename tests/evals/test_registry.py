"""The evals by name, and what every one of them promises."""

import json

import pytest

from raybench.errors import ConfigError, RowsError
from raybench.evals import EVALS, eval_named
from raybench.evals.base import Eval
from raybench.evals.options import letter_order


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


@pytest.mark.parametrize(
    ("name", "number"),
    [("sums", 64), ("aime25", 30), ("gpqa_diamond", 198), ("math500", 500), ("gsm8k", 1319), ("mmlu_pro", 12032)],
)
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
        assert evaluation.lenient(f"So it is {form}.").value == question.gold
        assert evaluation.agree(question.gold, question.gold) is True


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


def test_gsm8k_reads_what_follows_the_worked_solution() -> None:
    row = {"question": "How many?", "answer": "Two bags of 536 = <<2*536=1072>>1072.\n#### 1,072"}
    assert EVALS["gsm8k"].ask(row, 0, 0).gold == "1072"
    with pytest.raises(RowsError, match="gsm8k: the rows hold an answer that is not an integer"):
        EVALS["gsm8k"].ask(row | {"answer": "#### about ten"}, 0, 0)


def test_mmlu_pro_shows_every_option_once_and_keeps_the_right_one() -> None:
    options = [f"option {number}" for number in range(10)]
    row = {"id": "7", "question": "Which?", "options": json.dumps(options), "answer": "G"}
    for repeat in range(10):
        question = EVALS["mmlu_pro"].ask(row, repeat, 5)
        lines = question.messages[0].content.splitlines()[2:12]
        assert [line[:3] for line in lines] == [f"{letter}) " for letter in "ABCDEFGHIJ"]
        assert sorted(line[3:] for line in lines) == options
        assert lines["ABCDEFGHIJ".index(question.gold)][3:] == "option 6"
        assert question.letter_order == letter_order("7", repeat, 5, 10)
    assert len({EVALS["mmlu_pro"].ask(row, repeat, 5).gold for repeat in range(40)}) > 5


@pytest.mark.parametrize(
    ("options", "answer"), [("no list", "A"), ('["a"]', "A"), ('["a", "b"]', "C"), ('["a", "b"]', "AB"), ("{}", "A")]
)
def test_an_mmlu_pro_row_that_is_none_is_named_without_its_text(options: str, answer: str) -> None:
    row = {"id": "7", "question": "secret?", "options": options, "answer": answer}
    with pytest.raises(RowsError, match=r"mmlu_pro: question 7 has \d options and the answer") as caught:
        EVALS["mmlu_pro"].ask(row, 0, 0)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("num_options", [2, 3, 10])
def test_every_place_is_drawn(num_options: int) -> None:
    orders = [letter_order(f"q{number}", 0, 1, num_options) for number in range(2000)]
    assert all(sorted(order) == list(range(num_options)) for order in orders)
    counts = [sum(order.index(0) == place for order in orders) for place in range(num_options)]
    assert all(abs(count - 2000 / num_options) < 5 * (2000 / num_options) ** 0.5 for count in counts)

"""GPQA-Diamond: 198 four-choice questions of graduate science.

The data set is gated and its authors ask that no question be published: this file holds none, and no message of ours
quotes one. The order of the options comes from a hash of (question id, repeat, run seed) and is kept with every
sample: an order drawn once for all repeats, or again when re-scoring, has falsified published results.
"""

import itertools

from raybench.evals.answers import LETTERS, last_letter
from raybench.evals.base import Column, Eval, HubSource, Question, Row, question_id
from raybench.records import Message, content_hash

REQUEST = (
    "Please reason step by step, and show your choice in the `answer` field "
    'with only the choice letter, e.g., `"answer": "C"`.'
)
_OPTIONS = ("correct", "incorrect_1", "incorrect_2", "incorrect_3")
_ORDERS = tuple(itertools.permutations(range(len(_OPTIONS))))


def letter_order(question: str, repeat: int, run_seed: int) -> tuple[int, ...]:
    """Place in the source of each shown option, 0 being the right one."""
    drawn = int(content_hash(["letter_order", question, repeat, run_seed]), 16)
    return _ORDERS[drawn % len(_ORDERS)]


def _synthetic() -> tuple[dict[str, str], ...]:
    rows: list[dict[str, str]] = []
    for number in range(1, 199):
        length, speed = 20 + 3 * number, 2 + number % 5
        times = [length * speed, length * (speed + 1), length + speed, length * speed + 10]
        row = {
            "id": f"synthetic-{number:03d}",
            "question": f"A belt moves {speed} metres in a second. How far does it move in {length} seconds?",
        }
        rows.append(row | {name: f"{metres} metres" for name, metres in zip(_OPTIONS, times, strict=True)})
    return tuple(rows)


def _ask(row: Row, repeat: int, run_seed: int) -> Question:
    question = question_id(row, "question")
    options = [row[name].strip() for name in _OPTIONS]
    order = letter_order(question, repeat, run_seed)
    shown = "\n".join(f"{letter}) {options[place]}" for letter, place in zip(LETTERS, order, strict=True))
    message = Message(role="user", content=f"{row['question'].strip()}\n\n{shown}\n\n{REQUEST}")
    return Question(question, (message,), LETTERS[order.index(0)], order)


EVAL = Eval(
    name="gpqa_diamond",
    default_rows=HubSource("Idavidrein/gpqa", split="train", config="gpqa_diamond", gated=True),
    columns=(
        Column("question", ("Question",)),
        Column("correct", ("Correct Answer", "correct_answer")),
        Column("incorrect_1", ("Incorrect Answer 1", "incorrect_answer_1")),
        Column("incorrect_2", ("Incorrect Answer 2", "incorrect_answer_2")),
        Column("incorrect_3", ("Incorrect Answer 3", "incorrect_answer_3")),
        Column("id", ("Record ID", "record_id"), required=False),
    ),
    answer_form="letter",
    min_max_tokens=16_384,
    synthetic=_synthetic,
    ask=_ask,
    extract=last_letter,
)

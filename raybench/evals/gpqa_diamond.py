"""GPQA-Diamond: 198 four-choice questions of graduate science.

The data set is gated and its authors ask that no question be published: this file holds none, and no message of ours
quotes one.
"""

from raybench.evals.answers import last_letter
from raybench.evals.base import Column, Eval, HubSource, Question, Row, question_id
from raybench.evals.lenient import lenient_letter
from raybench.evals.options import FOUR_LETTERS, LETTERS, REQUEST, letter_order, shown
from raybench.evals.presets import presets
from raybench.records import Message

_OPTIONS = ("correct", "incorrect_1", "incorrect_2", "incorrect_3")
NUM_ROWS = 198
SIMPLE_EVALS_CSV = "41d1213cd7a4998605a26c2798500652572007161b3a92817ba46b35befcd305"
"""SHA-256 of the CSV file that OpenAI's simple-evals reads, the one that most published scores are made with."""


def _synthetic() -> tuple[dict[str, str], ...]:
    rows: list[dict[str, str]] = []
    for number in range(1, NUM_ROWS + 1):
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
    message = Message(role="user", content=f"{row['question'].strip()}\n\n{shown(options, order)}\n\n{REQUEST}")
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
    typical_tokens=6_000,
    synthetic=_synthetic,
    ask=_ask,
    extract=last_letter,
    lenient=lenient_letter,
    letters=FOUR_LETTERS,
    presets=presets(report_max_tokens=32_768, repeats=12),
    num_rows=NUM_ROWS,
    known_files=frozenset({SIMPLE_EVALS_CSV}),
)

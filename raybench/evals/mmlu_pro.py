"""MMLU-Pro: 12,032 questions of many fields with three to ten options.

The source lists the options in one column and names the right one by its letter. They are shuffled anew for every
repeat, as in the other evals with options: published scores keep the order of the source and put worked examples
before the question, so compare with them cautiously.
"""

import json

from raybench.errors import RowsError
from raybench.evals.answers import letter_reader
from raybench.evals.base import Column, Eval, HubSource, Question, Row, question_id
from raybench.evals.lenient import lenient_letter_reader
from raybench.evals.options import LETTERS, REQUEST, letter_order, shown
from raybench.evals.presets import presets
from raybench.records import Message

NUM_ROWS = 12_032


def _synthetic() -> tuple[dict[str, str], ...]:
    rows: list[dict[str, str]] = []
    for number in range(1, NUM_ROWS + 1):
        tins, weight = 2 + number % 97, 5 + number
        options = [f"{tins * weight + place} grams" for place in range(len(LETTERS))]
        right = number % len(LETTERS)
        options[0], options[right] = options[right], options[0]
        rows.append(
            {
                "id": f"synthetic-{number:05d}",
                "question": f"A shelf holds {tins} tins of {weight} grams each. How much do they weigh together?",
                "options": json.dumps(options),
                "answer": LETTERS[right],
            }
        )
    return tuple(rows)


def _ask(row: Row, repeat: int, run_seed: int) -> Question:
    question = question_id(row, "question")
    options = _options(row)
    order = letter_order(question, repeat, run_seed, len(options))
    message = Message(role="user", content=f"{row['question'].strip()}\n\n{shown(options, order)}\n\n{REQUEST}")
    return Question(question, (message,), LETTERS[order.index(0)], order)


def _options(row: Row) -> list[str]:
    """The options, the right one first. Raises RowsError."""
    try:
        found = json.loads(row["options"])
    except ValueError:
        found = None
    options = [str(option) for option in found] if isinstance(found, list) else []
    right = LETTERS.find(row["answer"].strip()) if len(row["answer"].strip()) == 1 else -1
    if not 2 <= len(options) <= len(LETTERS) or not 0 <= right < len(options):
        raise RowsError(
            f"mmlu_pro: question {question_id(row, 'question')} has {len(options)} options and the answer "
            f"{row['answer'][:10]!r}; expected a list of 2 to {len(LETTERS)} options and the letter of one"
        )
    return [options[right], *options[:right], *options[right + 1 :]]


EVAL = Eval(
    name="mmlu_pro",
    default_rows=HubSource("TIGER-Lab/MMLU-Pro", split="test"),
    columns=(
        Column("question"),
        Column("options", ("choices",)),
        Column("answer"),
        Column("id", ("question_id",), required=False),
    ),
    answer_form="letter",
    min_max_tokens=4_096,
    typical_tokens=1_500,
    synthetic=_synthetic,
    ask=_ask,
    extract=letter_reader(LETTERS),
    lenient=lenient_letter_reader(LETTERS),
    letters=LETTERS,
    presets=presets(report_max_tokens=32_768),
)

"""GSM8K: 1,319 word problems of primary school whose answers are integers.

The answers of the source are worked solutions that end in `#### 72`; only that last part is read.
"""

from raybench.evals.answers import integer_of, last_integer
from raybench.evals.base import BOX_REQUEST, Column, Eval, HubSource, Question, Row, question_id
from raybench.evals.lenient import lenient_integer
from raybench.evals.presets import presets
from raybench.records import Message

NUM_ROWS = 1_319


def _synthetic() -> tuple[dict[str, str], ...]:
    rows: list[dict[str, str]] = []
    for number in range(1, NUM_ROWS + 1):
        boxes, pens, price = 2 + number % 9, 3 + number, 2 + number % 5
        text = f"A school buys {boxes} boxes of {pens} pens at {price} coins a pen. How many coins does it pay?"
        solution = f"{boxes} x {pens} pens, each {price} coins.\n#### {boxes * pens * price}"
        rows.append({"id": f"synthetic-{number:04d}", "question": text, "answer": solution})
    return tuple(rows)


def _ask(row: Row, repeat: int, run_seed: int) -> Question:  # noqa: ARG001 - a problem is shown alike in every repeat
    message = Message(role="user", content=f"{row['question'].strip()}\n{BOX_REQUEST}")
    gold = integer_of(row["answer"].rpartition("####")[2].strip(), "gsm8k")
    return Question(question_id(row, "question"), (message,), gold)


EVAL = Eval(
    name="gsm8k",
    default_rows=HubSource("openai/gsm8k", split="test", config="main"),
    columns=(Column("question", ("problem",)), Column("answer"), Column("id", required=False)),
    answer_form="integer",
    min_max_tokens=2_048,
    typical_tokens=400,
    synthetic=_synthetic,
    ask=_ask,
    extract=last_integer,
    lenient=lenient_integer,
    presets=presets(report_max_tokens=32_768),
)

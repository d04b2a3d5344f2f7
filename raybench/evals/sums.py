"""Sums of two-digit numbers: 64 questions made by code, which the tiny trained model can answer."""

from raybench.evals.answers import integer_of, last_integer
from raybench.evals.base import Column, Eval, Question, Row, question_id
from raybench.evals.lenient import lenient_integer
from raybench.evals.presets import presets
from raybench.evals.sums_questions import questions
from raybench.records import Message

NUM_CANARIES = 16


def _rows() -> tuple[dict[str, str], ...]:
    return tuple(
        {"id": f"sums-{number:02d}", "question": question, "answer": answer}
        for number, (question, answer) in enumerate(questions(), start=1)
    )


def _ask(row: Row, repeat: int, run_seed: int) -> Question:  # noqa: ARG001 - a sum is shown alike in every repeat
    message = Message(role="user", content=row["question"])
    return Question(question_id(row, "question"), (message,), integer_of(row["answer"], "sums"))


EVAL = Eval(
    name="sums",
    default_rows=None,
    columns=(Column("question", ("problem",)), Column("answer"), Column("id", required=False)),
    answer_form="integer",
    min_max_tokens=16,
    typical_tokens=64,
    synthetic=_rows,
    ask=_ask,
    extract=last_integer,
    lenient=lenient_integer,
    presets=presets(report_max_tokens=32_768),
    # The tiny trained model knows nothing else.
    canary_rows=lambda: _rows()[:NUM_CANARIES],
)

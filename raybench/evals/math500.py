"""MATH-500: 500 competition problems whose answers are short LaTeX expressions."""

from raybench.evals.answers import last_math, math_of
from raybench.evals.base import BOX_REQUEST, Column, Eval, HubSource, Question, Row, question_id
from raybench.evals.latex import math_agree
from raybench.evals.lenient import lenient_math
from raybench.evals.presets import presets
from raybench.records import Message

NUM_ROWS = 500


def _synthetic() -> tuple[dict[str, str], ...]:
    rows: list[dict[str, str]] = []
    for number in range(1, NUM_ROWS + 1):
        top, bottom = 2 + number, 3 + number % 11
        text, answer = (
            (f"A rope of {top} metres is cut into {bottom} equal parts. How long is a part, in metres?",
             f"\\frac{{{top}}}{{{bottom}}}"),
            (f"A point stands {top} steps to the right of the origin and {bottom} above it. Give it as a pair.",
             f"({top}, {bottom})"),
            (f"A square has an area of ${top}$ and no side that is a whole number of {bottom}ths. What is its side?",
             f"\\sqrt{{{top}}}"),
        )[number % 3]  # fmt: skip
        rows.append({"id": f"synthetic-{number:03d}", "problem": text, "answer": answer})
    return tuple(rows)


def _ask(row: Row, repeat: int, run_seed: int) -> Question:  # noqa: ARG001 - a problem is shown alike in every repeat
    message = Message(role="user", content=f"{row['problem'].strip()}\n{BOX_REQUEST}")
    return Question(question_id(row, "problem"), (message,), math_of(row["answer"], "math500"))


EVAL = Eval(
    name="math500",
    default_rows=HubSource("HuggingFaceH4/MATH-500", split="test"),
    columns=(Column("problem", ("question",)), Column("answer"), Column("id", ("unique_id",), required=False)),
    answer_form="math",
    min_max_tokens=8_192,
    typical_tokens=3_000,
    synthetic=_synthetic,
    ask=_ask,
    extract=last_math,
    lenient=lenient_math,
    agree=math_agree,
    presets=presets(report_max_tokens=32_768, repeats=4),
)

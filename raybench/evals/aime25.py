"""AIME 2025: 30 problems whose answers are integers from 0 to 999.

The request for a box is the sentence that the Qwen3 model cards recommend for mathematics, so that their published
scores are the comparison. Sources of the rows differ in column names and in the type of the answer.
"""

from raybench.evals.answers import integer_of, last_integer
from raybench.evals.base import BOX_REQUEST, Column, Eval, HubSource, Question, Row, question_id
from raybench.evals.lenient import lenient_integer
from raybench.evals.presets import presets
from raybench.records import Message


def _synthetic() -> tuple[dict[str, str], ...]:
    rows: list[dict[str, str]] = []
    for number in range(1, 31):
        bags, marbles, lost = 3 + number % 7, 5 + 2 * number, 1 + number % 4
        text = f"A shop has {bags} bags with {marbles} marbles each, and {lost} marbles are lost. How many are left?"
        rows.append({"id": f"synthetic-{number:02d}", "problem": text, "answer": str(bags * marbles - lost)})
    return tuple(rows)


def _ask(row: Row, repeat: int, run_seed: int) -> Question:  # noqa: ARG001 - a problem is shown alike in every repeat
    message = Message(role="user", content=f"{row['problem'].strip()}\n{BOX_REQUEST}")
    return Question(question_id(row, "problem"), (message,), integer_of(row["answer"], "aime25"))


EVAL = Eval(
    name="aime25",
    default_rows=HubSource("math-ai/aime25", split="test"),
    columns=(
        Column("problem", ("question",)),
        Column("answer"),
        Column("id", ("problem_idx", "question_id"), required=False),
    ),
    answer_form="integer",
    min_max_tokens=16_384,
    typical_tokens=12_000,
    synthetic=_synthetic,
    ask=_ask,
    extract=last_integer,
    lenient=lenient_integer,
    presets=presets(report_max_tokens=38_912, repeats=32),
)

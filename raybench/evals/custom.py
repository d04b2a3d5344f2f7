"""An eval from a description in the configuration: rows of the user's own, and a grader by name. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from raybench.config.evals import CustomEval
from raybench.errors import RowsError
from raybench.evals.answers import (
    integer_of,
    last_integer,
    last_math,
    last_text,
    letter_reader,
    math_of,
    text_value,
)
from raybench.evals.base import BOX_REQUEST, Column, Eval, Extraction, Question, Row, question_id
from raybench.evals.latex import math_agree
from raybench.evals.lenient import lenient_integer, lenient_letter_reader, lenient_math, lenient_text
from raybench.evals.options import LETTERS, REQUEST, letter_order, shown
from raybench.evals.presets import CUSTOM_PRESETS
from raybench.records import Message


@dataclass(frozen=True, slots=True)
class Grader:
    """How answers of one form are read and compared."""

    extract: Callable[[str, str | None], Extraction]
    """As `Eval.extract`."""
    lenient: Callable[[str], Extraction]
    """As `Eval.lenient`."""
    gold: Callable[[str, str], str]
    """(a row's answer, name of the eval) -> its normal form. Raises RowsError."""
    request: str
    """What asks for the form."""
    agree: Callable[[str, str], bool | None] = str.__eq__
    """As `Eval.agree`."""


def _letter_of(gold: str, eval_name: str) -> str:
    letter = gold.strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS:
        raise RowsError(f"{eval_name}: the rows hold an answer that is no letter A to {LETTERS[-1]}: {gold[:10]!r}")
    return letter


def _text_of(gold: str, eval_name: str) -> str:
    value = text_value(gold)
    if value is None:
        raise RowsError(f"{eval_name}: the rows hold an answer of nothing but markup: {gold[:10]!r}")
    return value


GRADERS: dict[str, Grader] = {
    "integer": Grader(last_integer, lenient_integer, integer_of, BOX_REQUEST),
    "letter": Grader(letter_reader(LETTERS), lenient_letter_reader(LETTERS), _letter_of, REQUEST),
    "math": Grader(last_math, lenient_math, math_of, BOX_REQUEST, math_agree),
    "exact": Grader(last_text, lenient_text, _text_of, BOX_REQUEST),
}
"""Graders by the name that `evals[].custom.grader` gives."""


def custom_eval(name: str, settings: CustomEval) -> Eval:
    """The eval that the settings describe."""
    columns = settings.columns
    wrong = tuple(f"wrong_{number}" for number in range(1, len(columns.wrong) + 1))
    grader = GRADERS[settings.grader]
    letters = ""
    extract, lenient = grader.extract, grader.lenient
    if wrong:
        letters = LETTERS[: 1 + len(wrong)]
        extract, lenient = letter_reader(letters), lenient_letter_reader(letters)
    named = [Column("question", source=columns.question), Column("answer", source=columns.answer)]
    named += [Column(own, source=theirs) for own, theirs in zip(wrong, columns.wrong, strict=True)]
    if columns.id is not None:
        named.append(Column("id", source=columns.id))
    request = settings.request or grader.request

    def ask(row: Row, repeat: int, run_seed: int) -> Question:
        question = question_id(row, "question")
        if not wrong:
            text = f"{row['question'].strip()}\n{request}"
            return Question(question, (Message(role="user", content=text),), grader.gold(row["answer"], name))
        order = letter_order(question, repeat, run_seed, 1 + len(wrong))
        options = [row["answer"], *(row[column] for column in wrong)]
        text = f"{row['question'].strip()}\n\n{shown(options, order)}\n\n{request}"
        return Question(question, (Message(role="user", content=text),), letters[order.index(0)], order)

    return Eval(
        name=name, default_rows=None, columns=tuple(named), answer_form=settings.grader,
        min_max_tokens=settings.min_max_tokens, synthetic=tuple, ask=ask, extract=extract, lenient=lenient,
        letters=letters, agree=grader.agree, presets=CUSTOM_PRESETS,
    )  # fmt: skip

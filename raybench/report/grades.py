"""The grades behind a report, one by one, and which of them a newer grader moves. Pure.

Derived from the ledger like the report itself, and written beside it as `grades.jsonl`, so that a later grader can say
what it sees otherwise: a score that changes without a list of samples is not to be believed.
"""

from collections.abc import Iterable

from raybench.errors import LedgerError
from raybench.evals.grade import GRADER_VERSION, answer_of
from raybench.ledger.view import RunView
from raybench.records import Outcome, Record
from raybench.validity.accuracy import scored_evals


class Grade(Record):
    """What one sample came to."""

    key: str
    """Key of the sample."""
    target: str
    """Target that answered."""
    eval: str
    """Name of the eval in the configuration."""
    question: str
    """Stable id of the question; never its text."""
    repeat: int
    """Number of the repeat, from 0."""
    outcome: Outcome
    """What it came to."""
    value: str | None
    """The answer that was read, in normal form; None = none."""
    method: str
    """Form in which it stood."""
    grader: int
    """Version of the graders."""


class MovedGrade(Record):
    """A sample that is graded otherwise than before."""

    before: Grade
    """As the last report stored it."""
    after: Grade
    """As it is graded now."""


def grades(view: RunView) -> tuple[Grade, ...]:
    """The grades of all samples with a record, by target and eval, in plan order."""
    found: list[Grade] = []
    for scored in scored_evals(view):
        for sample in scored.samples:
            answer = answer_of(sample, scored.evaluation)
            found.append(
                Grade(
                    key=sample.key, target=scored.target, eval=scored.config.name, question=sample.question,
                    repeat=sample.repeat, outcome=scored.outcomes[sample.question, sample.repeat], value=answer.value,
                    method=answer.method, grader=GRADER_VERSION,
                )
            )  # fmt: skip
    return tuple(found)


def moved(before: Iterable[Grade], after: Iterable[Grade]) -> tuple[MovedGrade, ...]:
    """Samples whose outcome or answer differs, in the order of `after`; one that is new has not moved."""
    stored = {grade.key: grade for grade in before}
    return tuple(
        MovedGrade(before=old, after=new)
        for new in after
        if (old := stored.get(new.key)) is not None and (old.outcome, old.value) != (new.outcome, new.value)
    )


def dump(found: Iterable[Grade]) -> str:
    """The grades as JSON lines."""
    return "".join(grade.model_dump_json() + "\n" for grade in found)


def parse(text: str, where: str) -> tuple[Grade, ...]:
    """Grades from JSON lines. Raises LedgerError."""
    found: list[Grade] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line:
            try:
                found.append(Grade.model_validate_json(line))
            except ValueError:
                raise LedgerError(
                    f"{where}, line {number}: no grade of this raybench. The file is derived from the ledger: delete "
                    "it, and `raybench report` writes it anew."
                ) from None
    return tuple(found)

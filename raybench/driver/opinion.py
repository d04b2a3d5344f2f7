"""A second opinion on the grades of a run, from math-verify in killable children. It never changes a score."""

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from raybench import process
from raybench.errors import ClientError, ConfigError
from raybench.evals.answers import addressed
from raybench.evals.grade import answer_of
from raybench.ledger.journal import read
from raybench.ledger.view import fold
from raybench.records import Outcome, SampleRecord
from raybench.validity.accuracy import scored_evals

BATCH_SIZE = 500
BATCH_LIMIT_S = 120.0
"""A batch takes 3 to 30 s; math-verify gives a reply up that takes 5 s, where its signals reach it."""
MAX_KILLED = 20
"""Children that are killed before the rest is left without an opinion."""
MAX_REPLY_CHARS = 20_000

_JUDGED = ("correct", "incorrect", "unparsed")


@dataclass(frozen=True, slots=True)
class Question:
    """A reply to be judged."""

    reply: str
    """Text that is addressed to the user, its end if it is long."""
    gold: str
    """The right answer."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A sample on which the two graders differ (`grader_disagreement`)."""

    target: str
    """Target that answered."""
    eval: str
    """Name of the eval."""
    question: str
    """Id of the question."""
    repeat: int
    """Number of the repeat, from 0."""
    outcome: Outcome
    """Our grade, which counts."""
    value: str | None
    """The answer that we read."""
    right: bool
    """What math-verify says."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """What math-verify says of a run."""

    num_asked: int
    """Samples that it was asked about: whole replies of evals whose answers are integers or LaTeX."""
    num_silent: int
    """Samples of which it read nothing, or on which it was killed."""
    disagreements: tuple[Disagreement, ...]
    """In plan order."""


def second_opinions(folder: Path) -> Opinions:
    """Ask about all samples of a run folder. Raises ConfigError without math-verify, LedgerError, ClientError."""
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError(
            "--second-opinion needs math-verify, which is not installed here; install it with: "
            f"{Path(sys.executable).name} -m pip install 'raybench[second-opinion]'"
        )
    samples: list[tuple[SampleRecord, Outcome, str | None]] = []
    for scored in scored_evals(fold(read(folder))):
        if scored.evaluation.answer_form in ("integer", "math"):
            for sample in scored.samples:
                outcome = scored.outcomes[sample.question, sample.repeat]
                if outcome in _JUDGED and (sample.reply or "").strip():
                    samples.append((sample, outcome, answer_of(sample, scored.evaluation).value))
    asked = [_question(sample) for sample, _, _ in samples]
    distinct = list(dict.fromkeys(asked))
    said = dict(zip(distinct, judge(distinct), strict=True))
    return Opinions(
        num_asked=len(samples),
        num_silent=sum(said[question] is None for question in asked),
        disagreements=tuple(
            Disagreement(s.target, s.eval, s.question, s.repeat, outcome, value, right)
            for (s, outcome, value), question in zip(samples, asked, strict=True)
            if (right := said[question]) is not None and right != (outcome == "correct")
        ),
    )


def _question(sample: SampleRecord) -> Question:
    reply = sample.reply or ""
    start, end = addressed(reply)
    return Question(reply[max(start, end - MAX_REPLY_CHARS) : end], sample.gold)


def judge(questions: Sequence[Question], batch_limit_s: float = BATCH_LIMIT_S) -> list[bool | None]:
    """Right, wrong, or None where there is no opinion, of every question. Raises ClientError when no child starts."""
    said: list[bool | None] = [None] * len(questions)
    first, num_killed = 0, 0
    with TemporaryDirectory(prefix="raybench-opinion-") as scratch:
        while first < len(questions) and num_killed < MAX_KILLED:
            batch = range(first, min(first + BATCH_SIZE, len(questions)))
            answers = _batch([(n, questions[n]) for n in batch], Path(scratch), batch_limit_s)
            for number, right in answers.items():
                said[number] = right
            if len(answers) == len(batch):
                first = batch.stop
            else:
                # The child was killed by the limit, or died, on the first reply that it says nothing about.
                num_killed += 1
                first = next(n for n in batch if n not in answers) + 1
    return said


def _batch(questions: Sequence[tuple[int, Question]], scratch: Path, limit_s: float) -> dict[int, bool | None]:
    asked, answered = scratch / "asked.jsonl", scratch / "answered.jsonl"
    answered.unlink(missing_ok=True)
    lines = [json.dumps({"number": n, "reply": q.reply, "gold": q.gold}) + "\n" for n, q in questions]
    asked.write_text("".join(lines), encoding="utf-8")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    argv = [sys.executable, "-m", "raybench.evals.opinion", str(asked), str(answered)]
    code, output = process.run(argv, env=process.child_environment({"PYTHONPATH": path}), timeout_s=limit_s)
    # A child that was killed may have torn its last line.
    whole = answered.read_text(encoding="utf-8").split("\n")[:-1] if answered.is_file() else []
    if not whole:
        said = (output.strip().splitlines() or ["nothing"])[-1]
        raise ClientError(f"math-verify did not start (exit code {code}); it said: {said[:200]}")
    return {found["number"]: found["right"] for found in map(json.loads, whole[1:])}

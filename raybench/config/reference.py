"""A measured reference: what an eval scored on a server that a user accepts, as plain text under their version control.

A published score comes from another harness, with another prompt and often unknown sampling. A reference that raybench
measured with the same questions, prompt and sampling is what a gate can stand on. Pure.
"""

from typing import Literal

from pydantic import Field

from raybench.config.names import Name
from raybench.records import Record, Route, Sampling, TeacherForced


class MeasuredReference(Record):
    """One eval on one accepted target. Holds ids of questions, never their text."""

    eval: Name
    """Name of the eval."""
    target: str
    """Name of the target in the run that measured it."""
    model: str
    """Model path or hub id; of a local path only the last part."""
    model_revision: str | None = None
    """Revision or content hash as the engine resolved it; None where it was not said."""
    engine: str
    """Kind of engine."""
    engine_version: str | None = None
    """Version as the server said; None where it did not."""
    accelerator: str
    """Accelerator type."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of one machine."""
    simulated: bool = False
    """True: a timing model made it up; it is comparable with simulated targets only."""
    prompts_sha256: str
    """Hash over ids, prompts and answers of the questions; letter orders do not count."""
    sampling: Sampling
    """Sampling fields that were sent."""
    route: Route | None = None
    """Route of the requests; None in files of older versions, which do not say it."""
    grader: int | None = None
    """Version of the graders that read the replies (`raybench.evals.grade.GRADER_VERSION`); None as above."""
    repeats: int = Field(ge=1)
    """Times that every question was asked."""
    num_questions: int = Field(ge=1)
    """Questions."""
    num_scored: int = Field(ge=1)
    """Samples that were answered."""
    score: float = Field(ge=0, le=1)
    """Mean over the questions of the mean over their repeats."""
    standard_error: float = Field(ge=0, le=1)
    """Standard error of the score on this exam, from the smoothed variance within questions."""
    truncated_fraction: float | None = Field(default=None, ge=0, le=1)
    """Share of the answered samples that were cut."""
    unparsed_fraction: float | None = Field(default=None, ge=0, le=1)
    """Share of the answered samples without an answer that could be read."""
    questions: dict[str, tuple[int, int]] = {}
    """(correct, answered) samples by question id; empty = only the total is known, and nothing is paired."""
    date: str
    """Day of the run, UTC."""
    run_id: str
    """Id of the run that measured it."""
    raybench_version: str
    """Version that measured it."""


class NumericsReference(Record):
    """Log-probabilities of fixed texts on an accepted server; the texts are raybench's own."""

    target: str
    """Name of the target in the run that measured them."""
    model: str
    """Model path or hub id; of a local path only the last part."""
    model_revision: str | None = None
    """Revision or content hash as the engine resolved it; None where it was not said."""
    engine: str
    """Kind of engine."""
    engine_version: str | None = None
    """Version as the server said; None where it did not."""
    accelerator: str
    """Accelerator type."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of one machine."""
    texts: tuple[TeacherForced, ...] = Field(min_length=1)
    """One for each text, in their order."""
    date: str
    """Day of the run, UTC."""
    run_id: str
    """Id of the run that measured them."""
    raybench_version: str
    """Version that measured them: another one may ask other texts, which are then not compared."""


class ReferenceFile(Record):
    """What a reference file holds: one entry for each eval, and the numerics of the server."""

    raybench_reference: Literal[1] = 1
    """Version of the shape; tells the file from others."""
    references: tuple[MeasuredReference, ...]
    """Entries, by the name of their eval."""
    numerics: NumericsReference | None = None
    """Log-probabilities for the preflight; None where the engine gave none."""

"""What a preflight check came to."""

from dataclasses import dataclass, field
from typing import Literal

from raybench.records import SampleRecord, TeacherForced

Result = Literal["ok", "warn", "stop"]


@dataclass(slots=True)
class Seen:
    """Fields of a `CheckMeasurement` that the check itself knows; the rest is known to who makes it."""

    result: Result
    words: str
    evidence: dict[str, float] = field(default_factory=dict[str, float])
    num_requests: int = 0
    samples: tuple[SampleRecord, ...] = ()
    prompt_tokens: tuple[int | None, ...] = ()
    replies: tuple[tuple[str, ...], ...] = ()
    texts: tuple[TeacherForced, ...] = ()

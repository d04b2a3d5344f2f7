"""When an eval ends before its last sample: rules that are fixed before the run."""

from itertools import pairwise

from pydantic import Field, field_validator

from raybench.records import Record

Limit = float | None


class StopRules(Record):
    """Ends an eval whose score could not be used. Judged over started samples, by one-sided 95% lower bounds."""

    truncated: Limit = Field(default=0.10, gt=0, lt=1)
    """Share of cut replies beyond `expected_truncated` at which it ends; null = never."""
    expected_truncated: float = Field(default=0.0, ge=0, lt=1)
    """Share of cut replies that a reference has at the same `max_tokens`."""
    unparsed: Limit = Field(default=0.10, gt=0, lt=1)
    """Share of replies without a readable answer at which it ends; null = never."""
    errored: Limit = Field(default=0.10, gt=0, lt=1)
    """Share of samples without a reply after all retries at which it ends; null = never."""
    min_samples: int = Field(default=30, ge=1)
    """Samples that must have ended before anything is decided."""


class AdaptiveRepeats(Record):
    """Repeats in stages: after each the gate is asked, and a clear PASS or FAIL drops the later stages."""

    stages: tuple[int, ...] = Field(min_length=2)
    """Repeats after each stage, growing; the last one equals `repeats`."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Error of all looks together; each look has the same smaller level (Pocock)."""

    @field_validator("stages")
    @classmethod
    def _growing(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if stages[0] < 2 or any(b <= a for a, b in pairwise(stages)):
            raise ValueError("stages must grow and begin at 2 or more: one repeat has no variance to judge by")
        return stages

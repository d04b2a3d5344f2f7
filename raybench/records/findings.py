"""Findings: named checks with what they saw."""

from typing import Literal

from raybench.records.base import Record

Severity = Literal["info", "warn", "red"]


class Finding(Record):
    """One named check with what it saw. Only red makes a result INVALID."""

    code: str
    """Stable name of the check, such as `truncated`."""
    severity: Severity
    """info, warn or red."""
    scope: Literal["run", "target", "unit"]
    """How far it reaches."""
    target: str | None = None
    """Target that it is about; None for the whole run."""
    eval: str | None = None
    """Eval that it is about; None = all of the target's, unless `key` names a unit."""
    key: str | None = None
    """Unit that it is about."""
    rule: str
    """The rule in words, with its threshold."""
    evidence: dict[str, float]
    """Numbers that decided."""
    advice: str
    """What to do."""

"""From findings and what is missing to one word, and from that word to the exit code of the command."""

from collections.abc import Iterable
from typing import Literal

from raybench.errors import EXIT_GATE_FAILED, EXIT_INCOMPLETE, EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_OK
from raybench.records import Finding
from raybench.stats.accuracy import Verdict as GateOutcome

Verdict = Literal["VALID", "INVALID", "INCOMPLETE"]
"""INVALID: a red finding. INCOMPLETE: units or samples are missing. VALID: neither, which warnings do not change."""


def verdict(findings: Iterable[Finding], num_missing: int) -> Verdict:
    """The verdict; `num_missing` = planned units and samples without a result. INVALID goes before INCOMPLETE."""
    if any(finding.severity == "red" for finding in findings):
        return "INVALID"
    return "INCOMPLETE" if num_missing else "VALID"


def exit_code(
    word: Verdict, num_missing: int, gates: Iterable[GateOutcome | None], *, infrastructure: int | None, strict: bool
) -> int:
    """Exit code of a run: the first that applies of infrastructure (20-29), 30, 31, 32, 33, else 0.

    `infrastructure` is the code of the error that stopped the run, None if nothing did. INCONCLUSIVE counts only with
    `strict`.
    """
    outcomes = set(gates)
    if infrastructure is not None:
        return infrastructure
    if word == "INVALID":
        return EXIT_INVALID
    if word == "INCOMPLETE" or num_missing:
        return EXIT_INCOMPLETE
    if "FAIL" in outcomes:
        return EXIT_GATE_FAILED
    if strict and "INCONCLUSIVE" in outcomes:
        return EXIT_INCONCLUSIVE
    return EXIT_OK

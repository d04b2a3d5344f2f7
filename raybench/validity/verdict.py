"""From findings and what is missing to one word, and from that word to the exit code of the command."""

from collections.abc import Collection, Iterable
from typing import Literal

from raybench.errors import EXIT_GATE_FAILED, EXIT_INCOMPLETE, EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_OK
from raybench.records import Finding
from raybench.stats.gate import Verdict as GateOutcome

Verdict = Literal["VALID", "INVALID", "INCOMPLETE"]
"""INVALID: a red finding. INCOMPLETE: units or samples are missing. VALID: neither, which warnings do not change."""


def verdict(findings: Iterable[Finding], num_missing: int) -> Verdict:
    """The verdict; `num_missing` = planned units and samples without a result. INVALID goes before INCOMPLETE."""
    if any(finding.severity == "red" for finding in findings):
        return "INVALID"
    return "INCOMPLETE" if num_missing else "VALID"


def reds_about(findings: Iterable[Finding], target: str, eval_name: str, unit_keys: Collection[str]) -> tuple[str, ...]:
    """Codes of the red findings that concern an eval on a target; `unit_keys` = keys of its units.

    Those about the eval, about one of its units, and about the whole target or run; not those about other units.
    """
    found: list[str] = []
    for finding in findings:
        if finding.severity != "red" or finding.target not in (None, target):
            continue
        if finding.key in unit_keys if finding.key is not None else finding.eval in (None, eval_name):
            found.append(finding.code)
    return tuple(dict.fromkeys(found))


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

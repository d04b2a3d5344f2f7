"""The one word, and the exit code that follows from it."""

import pytest

from raybench.records import Finding, Severity
from raybench.validity.verdict import GateOutcome, Verdict, exit_code, verdict


def _finding(severity: Severity) -> Finding:
    return Finding(code="c", severity=severity, scope="run", rule="r", evidence={}, advice="a")


@pytest.mark.parametrize(
    ("severities", "num_missing", "expected"),
    [
        ((), 0, "VALID"),
        (("warn", "info"), 0, "VALID"),
        (("warn", "red"), 0, "INVALID"),
        (("red",), 3, "INVALID"),
        ((), 1, "INCOMPLETE"),
    ],
)
def test_verdict(severities: tuple[Severity, ...], num_missing: int, expected: Verdict) -> None:
    assert verdict([_finding(severity) for severity in severities], num_missing) == expected


@pytest.mark.parametrize(
    ("word", "num_missing", "gates", "infrastructure", "strict", "code"),
    [
        ("VALID", 0, (), None, False, 0),
        ("VALID", 0, ("PASS", None), None, True, 0),
        ("VALID", 0, ("FAIL",), None, False, 32),
        ("VALID", 0, ("INCONCLUSIVE",), None, False, 0),
        ("VALID", 0, ("INCONCLUSIVE",), None, True, 33),
        ("VALID", 0, ("INCONCLUSIVE", "FAIL"), None, True, 32),
        ("INCOMPLETE", 2, ("FAIL",), None, True, 31),
        ("INVALID", 2, ("FAIL",), None, True, 30),
        ("INVALID", 2, ("FAIL",), 22, True, 22),
        ("INCOMPLETE", 2, (), 20, False, 20),
    ],
)
def test_the_first_code_that_applies(
    word: Verdict,
    num_missing: int,
    gates: tuple[GateOutcome | None, ...],
    infrastructure: int | None,
    strict: bool,
    code: int,
) -> None:
    assert exit_code(word, num_missing, gates, infrastructure=infrastructure, strict=strict) == code

"""Adaptive parts of a plan: a rule is a pure function (rule, what came back) -> more units, or stop.

None exists yet; a search for a service level and adaptive repeats are to be the first. A rule's decisions are ledger
records, and the plan's digest covers the rules, so a resumed run decides the same again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from raybench.errors import PlanError
from raybench.ledger.view import RunView
from raybench.records import EvalUnit, PerfUnit, RuleSpec


@dataclass(frozen=True, slots=True)
class Next:
    """What a rule decided."""

    units: tuple[PerfUnit | EvalUnit, ...]
    """Units to add; empty together with `stop` False means: wait for more results."""
    stop: bool
    """True: the rule adds nothing more."""
    reason: str
    """Why, in words."""


Rule = Callable[[RuleSpec, RunView], Next]

RULES: dict[str, Rule] = {}
"""By `RuleSpec.kind`."""


def rule_named(kind: str) -> Rule:
    """The rule of that kind. Raises PlanError for an unknown one."""
    if kind not in RULES:
        raise PlanError(f"the plan holds a rule {kind!r} that this raybench does not know; known: {sorted(RULES)}")
    return RULES[kind]

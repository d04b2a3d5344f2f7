"""Every check of every eval, made once for a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raybench.evals.signs import signs
from raybench.ledger.view import RunView
from raybench.records import Finding, Sign
from raybench.stats.rates import Rate, rates
from raybench.validity.accuracy import ScoredEval, findings, scored_evals
from raybench.validity.drift import between_targets, drift_findings
from raybench.validity.replies import reply_findings


@dataclass(frozen=True, slots=True)
class CheckedEval:
    """One eval on one target with what is wrong about it."""

    scored: ScoredEval
    """Samples, outcomes, score."""
    rates: Mapping[Sign, Rate]
    """Rates of all signs over its samples."""
    findings: tuple[Finding, ...]
    """Findings about it alone."""


def checked_evals(view: RunView) -> tuple[CheckedEval, ...]:
    """Every planned eval of every target, in the order of the configuration."""
    return tuple(checked(scored) for scored in scored_evals(view))


def checked(scored: ScoredEval) -> CheckedEval:
    """One eval on one target, checked."""
    graded = scored.outcomes
    seen = rates(signs(s, scored.evaluation, graded[s.question, s.repeat]) for s in scored.samples)
    found = (*findings(scored), *reply_findings(scored, seen), *drift_findings(scored))
    return CheckedEval(scored, seen, found)


def eval_findings(evals: Sequence[CheckedEval]) -> list[Finding]:
    """All findings about evals, by target and eval, then those between targets."""
    found = [finding for one in evals for finding in one.findings]
    for name in dict.fromkeys(one.scored.config.name for one in evals):
        # A target that is at odds with itself has its own finding; it says nothing about the others.
        agreeing = [one for one in evals if "prompt_tokens_differ" not in {f.code for f in one.findings}]
        found += between_targets([one.scored for one in agreeing if one.scored.config.name == name])
    return found

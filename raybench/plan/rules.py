"""Adaptive parts of a plan: a rule is a pure function (rule, what came back) -> a ruling, or None to go on.

A ruling drops units that the plan holds; nothing is ever added, so that the plan that was written down before the run
is all that can happen. Rulings are ledger records, and the plan's digest covers the rules: a resumed run decides the
same again.

Two kinds. *Stop rules* end an eval whose replies are cut, cannot be read or do not come: its score could not be used,
and every further sample would cost GPU time. *Adaptive repeats* end one whose verdict is clear after some of its
stages; the level of every look is set so that all looks together err as rarely as a single one at 5%.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from raybench.errors import PlanError
from raybench.ledger.bodies import STOP_EVAL, STOP_REPEATS
from raybench.records import Outcome, RuleSpec, Sign
from raybench.stats.accuracy import score
from raybench.stats.gate import NOTHING, Holding
from raybench.stats.rates import Rate, rate

Item = tuple[str, int]
"""(question, repeat)."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What came back of one eval on one target."""

    rates: Mapping[Sign, Rate]
    """Rates over the started samples."""
    outcomes: Mapping[Item, Outcome]
    """Outcomes of the samples that ended."""
    stages: Mapping[Item, int]
    """Every planned sample with its stage."""
    holding: Holding = NOTHING
    """What the stages of an adaptive eval are held against, with the confidence of each look."""
    totals: Mapping[Sign, int] = field(default_factory=dict[Sign, int])
    """Signs of all samples that ended; `rates` are about those that ask their question for the first time."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a rule decided."""

    what: str
    """STOP_EVAL: the eval is sick, and what is missing stays so. STOP_REPEATS: enough is known."""
    first_dropped_stage: int
    """Units of this stage and of later ones are not run."""
    reason: str
    """Why, in words."""
    numbers: dict[str, float]
    """Numbers that decided."""


Rule = Callable[[RuleSpec, Returned], Ruling | None]


def _stop(spec: RuleSpec, sign: Sign, words: str, returned: Returned) -> Ruling | None:
    seen = returned.rates[sign]
    limit, expected = spec.parameters["limit"], spec.parameters.get("expected", 0.0)
    beside = f" beside the {expected:.0%} that are expected" if expected else ""
    if seen.num_ended < spec.parameters["min_samples"] or seen.low <= limit + expected:
        return _stop_for_certain(spec, sign, words, returned, beside)
    reason = (
        f"{seen.num} of {seen.num_started} started samples {words}: at least {seen.low:.0%} (95% lower bound), more "
        f"than the {limit:.0%} at which this eval stops{beside}"
    )
    numbers = {
        f"num_{sign}": float(seen.num), "num_ended": float(seen.num_ended), "num_started": float(seen.num_started),
        "lower_bound_fraction": seen.low, "limit_fraction": limit + expected,
    }  # fmt: skip
    return Ruling(STOP_EVAL, 0, reason, numbers)


def _stop_for_certain(spec: RuleSpec, sign: Sign, words: str, returned: Returned, beside: str) -> Ruling | None:
    """So many samples of the whole exam bear the sign that the rest cannot help, in whatever order they are asked.

    Where every question is asked once only, the rates are about the whole exam already.
    """
    ended, planned = len(returned.outcomes), len(returned.stages)
    once = all(repeat == 0 for _, repeat in returned.stages)
    limit, expected = spec.parameters["limit"], spec.parameters.get("expected", 0.0)
    if once or ended < spec.parameters["min_samples"]:
        return None
    seen = rate(returned.totals.get(sign, 0), planned, planned)
    if seen.low <= limit + expected:
        return None
    reason = (
        f"{seen.num} of all {planned} planned samples {words}: whatever the others bring, at least {seen.low:.0%} (95% "
        f"lower bound), more than the {limit:.0%} at which this eval stops{beside}"
    )
    numbers = {
        f"num_{sign}": float(seen.num), "num_ended": float(ended), "num_planned": float(planned),
        "lower_bound_fraction": seen.low, "limit_fraction": limit + expected,
    }  # fmt: skip
    return Ruling(STOP_EVAL, 0, reason, numbers)


def _stop_truncated(spec: RuleSpec, returned: Returned) -> Ruling | None:
    return _stop(spec, "truncated", "were cut at the limit of their length", returned)


def _stop_unparsed(spec: RuleSpec, returned: Returned) -> Ruling | None:
    return _stop(spec, "unparsed", "gave no answer that can be read", returned)


def _stop_errored(spec: RuleSpec, returned: Returned) -> Ruling | None:
    return _stop(spec, "errored", "stayed without a reply after all retries", returned)


def _adaptive(spec: RuleSpec, returned: Returned) -> Ruling | None:
    """The verdict after the last whole stage, if it is clear and stages remain. Only that stage and earlier ones count:
    samples of a later one may have come already, the quick ones first."""
    num_stages = sum(name.startswith("repeats_") for name in spec.parameters)
    missing = {stage for item, stage in returned.stages.items() if item not in returned.outcomes}
    whole = min(missing, default=num_stages)
    if not 0 < whole < num_stages:
        return None
    planned = [item for item, stage in returned.stages.items() if stage < whole]
    outcomes: dict[Item, Outcome] = {item: returned.outcomes[item] for item in planned}
    figures = score(outcomes, planned, returned.holding)
    gate = figures.gate
    if gate is None or gate.verdict not in ("PASS", "FAIL") or figures.score is None:
        return None
    num_repeats = int(spec.parameters[f"repeats_{whole - 1}"])
    reason = f"{gate.verdict} after {num_repeats} repeats at the level of this look: the later stages are not needed"
    numbers = {
        "num_repeats": float(num_repeats), "num_samples": float(len(planned)), "score": figures.score,
        "lower": gate.lower, "upper": gate.upper, "margin": gate.margin, "confidence": returned.holding.confidence,
    }  # fmt: skip
    return Ruling(STOP_REPEATS, whole, reason, numbers)


RULES: dict[str, Rule] = {
    "stop_truncated": _stop_truncated,
    "stop_unparsed": _stop_unparsed,
    "stop_errored": _stop_errored,
    "adaptive": _adaptive,
}
"""By `RuleSpec.kind`."""


def rule_named(kind: str) -> Rule:
    """The rule of that kind. Raises PlanError for an unknown one."""
    if kind not in RULES:
        raise PlanError(f"the plan holds a rule {kind!r} that this raybench does not know; known: {sorted(RULES)}")
    return RULES[kind]

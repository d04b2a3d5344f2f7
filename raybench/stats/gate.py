"""A score held against a reference: not worse by more than a margin, worse, or not known yet. Pure.

Never `score >= reference`: a perfect system fails that about half of the time. The bounds count the model's own dice on
these questions, and those of the reference where it was measured too. With item data on both sides the difference is
taken question by question, over the questions that both answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import fmean
from typing import Literal

from pydantic import Field

from raybench.config.reference import MeasuredReference
from raybench.records import Record
from raybench.stats.distributions import normal_quantile, wilson

ItemCounts = Mapping[str, tuple[int, int]]
"""(correct, answered) samples by question; a question without an answered sample is left out."""

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID", "INCOMPLETE"]
"""PASS: the lower one-sided bound of the difference is above -margin. FAIL: the upper bound is below 0 and the
difference below half of the margin. INCONCLUSIVE: neither. INVALID and INCOMPLETE are the report's: a red check is
about the eval, or samples are missing, and then there is no verdict."""

ONE_SIDED = 0.95
"""Confidence of the gate's bounds where the data are looked at once."""
_POWER = 0.80


class Gate(Record):
    """The score held against a reference, with a verdict."""

    baseline: float = Field(ge=0, le=1)
    """The reference score."""
    margin: float = Field(ge=0, lt=1)
    """Loss that is still accepted."""
    difference: float
    """Score minus reference; over the questions that both answered where it is paired."""
    lower: float
    """One-sided lower bound of the difference at `confidence`, on this exam."""
    upper: float
    """One-sided upper bound of the difference at `confidence`, on this exam."""
    verdict: Verdict
    """See `Verdict`."""
    repeats_needed: int | None
    """INCONCLUSIVE only: repeats of every question that would decide, if the difference stays as it is, and at which a
    target as good as the reference passes 8 times in 10. None when no number would: the reference itself is too coarse,
    or the margin and the difference are 0."""
    against: Literal["published", "reference"] = "published"
    """published = another harness's number, taken as exact. reference = measured by raybench."""
    reference_standard_error: float = 0.0
    """Standard error of the reference on this exam; 0 for a published number."""
    num_paired: int | None = None
    """Questions over which the difference is taken one by one; None where it is one of two totals."""
    confidence: float = Field(default=ONE_SIDED, gt=0, lt=1)
    """Confidence of either bound, each on its side; higher than 0.95 where this is one of several looks."""


class Standing(Record):
    """The score beside a number that does not gate."""

    against: Literal["published", "reference"]
    """What it is held beside."""
    reference: float = Field(ge=0, le=1)
    """That number."""
    difference: float
    """Score minus that number."""
    low: float
    """Lower end of the 95% interval of the difference, on this exam."""
    high: float
    """Upper end of it."""
    num_paired: int | None = None
    """Questions over which the difference is taken one by one; None where it is one of two totals."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a score is held against."""

    published: float | None = None
    """Another harness's number; None = none."""
    reference: MeasuredReference | None = None
    """A measured reference that is comparable; None = none."""
    gate: Literal["reference", "published", "none"] = "none"
    """Which of the two gates; one that is None gates nothing."""
    margin: float = 0.05
    """Loss that the gate accepts."""
    confidence: float = ONE_SIDED
    """Confidence of the gate's bounds, each on its side: higher where this is one of several looks."""


NOTHING = Holding()


def gate_of(counts: ItemCounts, holding: Holding) -> Gate | None:
    """The gate of a score; None where nothing gates."""
    match holding.gate:
        case "reference":
            known = holding.reference
        case "published":
            known = holding.published
        case "none":
            known = None
    return None if known is None else _gate(counts, known, holding)


def standings(counts: ItemCounts, holding: Holding) -> tuple[Standing, ...]:
    """The score beside everything that it is held against but that does not gate."""
    found: list[Standing] = []
    if holding.reference is not None and holding.gate != "reference":
        found.append(_standing(counts, holding.reference))
    if holding.published is not None and holding.gate != "published":
        found.append(_standing(counts, holding.published))
    return tuple(found)


def smoothed_standard_error(counts: ItemCounts) -> float:
    """Standard error of the score for these questions, from the variance of the repeats within each.

    Shares are smoothed by Laplace's rule, so that a question that was always or never answered keeps some variance: a
    verdict of few repeats is cautious.
    """
    return sqrt(sum(_smoothed_variance(*pair) / pair[1] for pair in counts.values())) / len(counts)


def _smoothed_variance(num_correct: int, num_answered: int) -> float:
    share = (num_correct + 1) / (num_answered + 2)
    return share * (1 - share)


def mean_of(counts: ItemCounts) -> float:
    """Mean over the questions of their shares."""
    return fmean(correct / answered for correct, answered in counts.values())


@dataclass(frozen=True, slots=True)
class _Distance:
    """Score minus reference, and what each side adds to its error."""

    counts: ItemCounts
    reference: float
    difference: float
    reference_error: float
    num_paired: int | None

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Ends of the two-sided interval; those of 0.90 are the one-sided bounds of 0.95."""
        z = normal_quantile((1 + confidence) / 2)
        mean = mean_of(self.counts)
        if all(answered == 1 for _, answered in self.counts.values()):
            # Asked once, a question has no variance within it: that of the total stands for it, and is larger.
            low, high = wilson(sum(correct for correct, _ in self.counts.values()), len(self.counts), confidence)
        else:
            half = z * smoothed_standard_error(self.counts)
            low, high = mean - half, mean + half
        other = z * self.reference_error
        return self.difference - sqrt((mean - low) ** 2 + other**2), self.difference + sqrt(
            (high - mean) ** 2 + other**2
        )


def _distance(counts: ItemCounts, known: MeasuredReference | float) -> _Distance:
    if not isinstance(known, MeasuredReference):
        return _Distance(counts, known, mean_of(counts) - known, 0.0, None)
    both = [question for question in counts if known.questions.get(question, (0, 0))[1] > 0]
    if not both:
        return _Distance(counts, known.score, mean_of(counts) - known.score, known.standard_error, None)
    own = {question: counts[question] for question in both}
    theirs = {question: known.questions[question] for question in both}
    difference = mean_of(own) - mean_of(theirs)
    return _Distance(own, known.score, difference, smoothed_standard_error(theirs), len(both))


def _gate(counts: ItemCounts, known: MeasuredReference | float, holding: Holding) -> Gate:
    margin = holding.margin
    distance = _distance(counts, known)
    lower, upper = distance.bounds(2 * holding.confidence - 1)
    if lower > -margin:
        verdict: Verdict = "PASS"
    elif upper < 0 and distance.difference < -margin / 2:
        verdict = "FAIL"
    else:
        verdict = "INCONCLUSIVE"
    return Gate(
        baseline=distance.reference, margin=margin, difference=distance.difference, lower=lower, upper=upper,
        verdict=verdict, repeats_needed=_repeats_needed(distance, holding) if verdict == "INCONCLUSIVE" else None,
        against="reference" if isinstance(known, MeasuredReference) else "published",
        reference_standard_error=distance.reference_error, num_paired=distance.num_paired,
        confidence=holding.confidence,
    )  # fmt: skip


def _standing(counts: ItemCounts, known: MeasuredReference | float) -> Standing:
    distance = _distance(counts, known)
    low, high = distance.bounds(0.95)
    return Standing(
        against="reference" if isinstance(known, MeasuredReference) else "published", reference=distance.reference,
        difference=distance.difference, low=low, high=high, num_paired=distance.num_paired,
    )  # fmt: skip


def _repeats_needed(distance: _Distance, holding: Holding) -> int | None:
    """The larger of two numbers: at which the difference as it is decides, and at which an equal target mostly passes.

    As it is, either the lower bound must clear -margin, or the upper one 0: the nearer of the two decides first.
    """
    margin, one_sided = holding.margin, normal_quantile(holding.confidence)
    room = max(margin + distance.difference, -distance.difference)
    decides = _repeats_at(distance, room / one_sided)
    passes = _repeats_at(distance, margin / (one_sided + normal_quantile(_POWER)))
    if decides is None:
        return None
    most = max(answered for _, answered in distance.counts.values())
    return max(decides, passes or 0, most + 1)


def _repeats_at(distance: _Distance, standard_error: float) -> int | None:
    """Repeats that bring the standard error of the difference down to this; None where the reference's forbids it."""
    within = fmean(_smoothed_variance(*pair) for pair in distance.counts.values())
    left = standard_error**2 - distance.reference_error**2
    return ceil(within / (len(distance.counts) * left)) if standard_error > 0 and left > 0 else None

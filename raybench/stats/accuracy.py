"""The score of an eval and its two error bars; `raybench.stats.gate` holds it against a reference. Pure.

Two questions have two error bars. *This exam*: would the same questions, asked again on this server, give the same
score? Only the model's own dice count (within-question variance). *Population*: what would other questions of this
kind give? The choice of questions counts as well, and for 30 questions it dominates. Samples of one question are never
pooled as if they were independent: intervals of that kind cover 48% where they claim 95% (30 questions, 16 repeats).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from math import sqrt
from statistics import fmean, variance
from typing import Literal

from pydantic import Field

from raybench.records import Outcome, Record
from raybench.stats.distributions import t_quantile, wilson
from raybench.stats.gate import (
    NOTHING,
    Gate,
    Holding,
    ItemCounts,
    Standing,
    gate_of,
    mean_of,
    smoothed_standard_error,
    standings,
)

ItemOutcomes = Mapping[tuple[str, int], Outcome]
"""Outcomes by (question, repeat)."""

# Outside [0.1, 0.9] symmetric intervals of few questions cover about 80% instead of 95%.
_NEAR_AN_END = 0.1
_DRAWN_TOWARDS_LARGEST = 2.0
"""Questions' worth of the largest spread; with 2, intervals near an end cover at least 94% (30 to 198 questions)."""


class Interval(Record):
    """A two-sided 95% interval of a score."""

    low: float = Field(ge=0, le=1)
    """Lower end."""
    high: float = Field(ge=0, le=1)
    """Upper end."""
    method: Literal["wilson", "wilson_effective", "wilson_within", "clustered_t", "within_question"]
    """wilson: over the questions, each asked once. wilson_effective: Wilson at the sample size that the clustered
    standard error is worth, near 0 and 1. wilson_within: Wilson at the sample size that the variance within the
    questions is worth. clustered_t: t over the questions' means. within_question: only in reports of older versions."""


class AccuracyScore(Record):
    """Score of one eval on one target."""

    num_questions: int
    """Planned questions."""
    num_repeats: int
    """Times that every question is asked."""
    num_planned: int
    """Planned samples."""
    num_samples: int
    """Samples with a record."""
    num_scored: int
    """Samples that were answered: all with a record but the errored ones."""
    counts: dict[Outcome, int]
    """Samples with a record by outcome; every outcome is present."""
    score: float | None
    """Mean over the questions of the mean over their answered repeats; truncated and unparsed ones are not correct.
    None when nothing was answered."""
    worst: float
    """Score if every errored and every missing sample were wrong."""
    best: float
    """Score if every errored and every missing sample were right."""
    truncated_fraction: float | None
    """Truncated ones among the answered samples; None without any."""
    unparsed_fraction: float | None
    """Unparsed ones among the answered samples; None without any."""
    errored_fraction: float | None
    """Errored ones among the samples with a record; None without any."""
    exam: Interval | None
    """95% interval for these questions on this server. With one repeat the dice cannot be told from the choice of
    questions, and it equals `population`, which is wider."""
    population: Interval | None
    """95% interval for questions of this kind; it holds `exam`."""
    gate: Gate | None
    """The score against what gates it; None where nothing does, or without a score."""
    standings: tuple[Standing, ...] = ()
    """The score beside numbers that do not gate."""
    standard_error: float | None = None
    """Standard error of the score on this exam, from the smoothed variance within questions; None without a score."""

    @property
    def num_missing(self) -> int:
        """Planned samples without a record."""
        return self.num_planned - self.num_samples


def score(outcomes: ItemOutcomes, planned: Collection[tuple[str, int]], holding: Holding = NOTHING) -> AccuracyScore:
    """Score the outcomes of one eval on one target.

    `planned` holds every (question, repeat) of the plan; what has no outcome is missing. Raises ValueError when an
    outcome was not planned, or nothing was.
    """
    wanted = set(planned)
    if not wanted or not wanted.issuperset(outcomes):
        raise ValueError("outcomes must belong to a plan that holds at least one sample")
    counts: dict[Outcome, int] = {"correct": 0, "incorrect": 0, "unparsed": 0, "truncated": 0, "errored": 0}
    for outcome in outcomes.values():
        counts[outcome] += 1
    counts_by_question = counts_of(correct_by_question(outcomes))
    num_scored = len(outcomes) - counts["errored"]
    worst, best = _bounds(outcomes, wanted)
    answered = counts_by_question or None
    return AccuracyScore(
        num_questions=len({question for question, _ in wanted}),
        num_repeats=len({repeat for _, repeat in wanted}),
        num_planned=len(wanted),
        num_samples=len(outcomes),
        num_scored=num_scored,
        counts=counts,
        score=mean_of(answered) if answered else None,
        worst=worst,
        best=best,
        truncated_fraction=counts["truncated"] / num_scored if num_scored else None,
        unparsed_fraction=counts["unparsed"] / num_scored if num_scored else None,
        errored_fraction=counts["errored"] / len(outcomes) if outcomes else None,
        exam=exam_interval(answered) if answered else None,
        population=population_interval(answered) if answered else None,
        gate=gate_of(answered, holding) if answered else None,
        standings=standings(answered, holding) if answered else (),
        standard_error=smoothed_standard_error(answered) if answered else None,
    )


def correct_by_question(outcomes: ItemOutcomes) -> dict[str, list[int]]:
    """1 for correct and 0 for not, of every answered sample, by question; questions without one are left out."""
    marks: dict[str, list[int]] = defaultdict(list)
    for (question, _), outcome in sorted(outcomes.items()):
        if outcome != "errored":
            marks[question].append(int(outcome == "correct"))
    return dict(marks)


def counts_of(answered: Mapping[str, list[int]]) -> dict[str, tuple[int, int]]:
    """(correct, answered) by question."""
    return {question: (sum(marks), len(marks)) for question, marks in answered.items()}


def _bounds(outcomes: ItemOutcomes, planned: Collection[tuple[str, int]]) -> tuple[float, float]:
    low: dict[str, list[int]] = defaultdict(list)
    high: dict[str, list[int]] = defaultdict(list)
    for item in sorted(planned):
        outcome = outcomes.get(item, "errored")
        low[item[0]].append(int(outcome == "correct"))
        high[item[0]].append(int(outcome in ("correct", "errored")))
    return fmean(fmean(marks) for marks in low.values()), fmean(fmean(marks) for marks in high.values())


def asked_once(counts: ItemCounts) -> bool:
    """True if no question was answered twice: the dice cannot be told from the choice of questions then."""
    return all(answered == 1 for _, answered in counts.values())


def exam_interval(counts: ItemCounts) -> Interval:
    """95% interval for these questions; asked once, that of the population, which is wider.

    Wilson's at the sample size that the standard error within the questions is worth. It covers 93 to 98% for 2 and
    more repeats at scores of .3 to .98 (simulated, as in the tests). A normal interval of the same error falls to 80%
    near the ends, and one of a smoothed error covers 99% where it claims 95.
    """
    if asked_once(counts):
        return population_interval(counts)
    mean, error = mean_of(counts), _within_variance(counts)
    num_samples = sum(answered for _, answered in counts.values())
    # Without any spread within the questions all samples together still are finitely many.
    effective = max(num_samples, mean * (1 - mean) / error) if error > 0 else num_samples
    return _interval(mean * effective, effective, "wilson_within")


def population_interval(counts: ItemCounts) -> Interval:
    """95% interval for questions of this kind; never narrower than that of this exam."""
    if asked_once(counts):
        return _interval(sum(correct for correct, _ in counts.values()), len(counts), "wilson")
    wide, narrow = _clustered_interval(counts), exam_interval(counts)
    return wide.model_copy(update={"low": min(wide.low, narrow.low), "high": max(wide.high, narrow.high)})


def _within_variance(counts: ItemCounts) -> float:
    """Variance of the score for these questions: from the unbiased variance of the repeats within each question.

    Questions that were answered once take the mean variance of the others.
    """
    known = {q: c * (n - c) / (n * (n - 1)) for q, (c, n) in counts.items() if n > 1}
    typical = fmean(known.values())
    return sum(known.get(q, typical) / n for q, (_, n) in counts.items()) / len(counts) ** 2


def _clustered_interval(counts: ItemCounts) -> Interval:
    means = [correct / answered for correct, answered in counts.values()]
    mean = fmean(means)
    spread = variance(means, mean) if len(means) > 1 else 0.0
    if spread == 0 or not _NEAR_AN_END <= mean <= 1 - _NEAR_AN_END:
        # Near an end a few questions carry all of the spread, and it is mostly underrated: it is drawn towards the
        # largest that the score allows (every question all or nothing), the more the fewer questions carry it.
        carriers = min(sum(each < 1 for each in means), sum(each > 0 for each in means))
        trust = carriers / (carriers + _DRAWN_TOWARDS_LARGEST)
        largest = mean * (1 - mean)
        drawn = trust * spread + (1 - trust) * largest
        effective = len(means) * max(1.0, largest / drawn) if spread > 0 else len(means)
        return _interval(mean * effective, effective, "wilson_effective")
    half = t_quantile(0.975, len(means) - 1) * sqrt(spread / len(means))
    return Interval(low=max(0.0, mean - half), high=min(1.0, mean + half), method="clustered_t")


def _interval(
    num_correct: float, num_samples: float, method: Literal["wilson", "wilson_effective", "wilson_within"]
) -> Interval:
    low, high = wilson(num_correct, num_samples)
    return Interval(low=low, high=high, method=method)

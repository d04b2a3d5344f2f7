"""The score of an eval, its two error bars, and its verdict against a reference. Pure.

Two questions have two error bars. *This exam*: would the same questions, asked again on this server, give the same
score? Only the model's own dice count (within-question variance). *Population*: what would other questions of this
kind give? The choice of questions counts as well, and for 30 questions it dominates. Samples of one question are never
pooled as if they were independent: intervals of that kind cover 48% where they claim 95% (30 questions, 16 repeats).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from math import ceil, sqrt
from statistics import fmean, variance
from typing import Literal

from pydantic import Field

from raybench.records import Outcome, Record
from raybench.stats.distributions import normal_quantile, t_quantile, wilson

ItemOutcomes = Mapping[tuple[str, int], Outcome]
"""Outcomes by (question, repeat)."""

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]

# Outside [0.1, 0.9] symmetric intervals of few questions cover about 80% instead of 95%.
_NEAR_AN_END = 0.1
_ONE_SIDED = 0.95
_POWER = 0.80


class Interval(Record):
    """A two-sided 95% interval of a score."""

    low: float = Field(ge=0, le=1)
    """Lower end."""
    high: float = Field(ge=0, le=1)
    """Upper end."""
    method: Literal["wilson", "wilson_effective", "within_question", "clustered_t"]
    """wilson: over the questions, each asked once. wilson_effective: Wilson at the sample size that the clustered
    standard error is worth, near 0 and 1. within_question: normal, smoothed variance of the repeats. clustered_t: t
    over the questions' means."""


class Gate(Record):
    """The score held against a reference."""

    baseline: float = Field(ge=0, le=1)
    """The reference; taken as exact."""
    margin: float = Field(ge=0, lt=1)
    """Loss that is still accepted."""
    difference: float
    """Score minus reference."""
    lower: float
    """One-sided 95% lower bound of the difference, on this exam."""
    upper: float
    """One-sided 95% upper bound of the difference, on this exam."""
    verdict: Verdict
    """PASS: the lower bound is above -margin (not worse by the margin). FAIL: the upper bound is below -margin.
    INCONCLUSIVE: neither."""
    repeats_needed: int | None
    """INCONCLUSIVE only: repeats of every question at which a model as good as the reference passes 8 times in 10. None
    when so many were made already (the score lies near the margin), or with margin 0."""


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
    """The score against its reference; None without one or without a score."""


def score(
    outcomes: ItemOutcomes, planned: Collection[tuple[str, int]], baseline: float | None = None, margin: float = 0.05
) -> AccuracyScore:
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
    answered = correct_by_question(outcomes)
    num_scored = len(outcomes) - counts["errored"]
    worst, best = _bounds(outcomes, wanted)
    value = fmean(fmean(marks) for marks in answered.values()) if answered else None
    return AccuracyScore(
        num_questions=len({question for question, _ in wanted}),
        num_repeats=len({repeat for _, repeat in wanted}),
        num_planned=len(wanted),
        num_samples=len(outcomes),
        num_scored=num_scored,
        counts=counts,
        score=value,
        worst=worst,
        best=best,
        truncated_fraction=counts["truncated"] / num_scored if num_scored else None,
        unparsed_fraction=counts["unparsed"] / num_scored if num_scored else None,
        errored_fraction=counts["errored"] / len(outcomes) if outcomes else None,
        exam=_exam_interval(answered) if answered else None,
        population=_population_interval(answered) if answered else None,
        gate=_gate(answered, baseline, margin) if answered and baseline is not None else None,
    )


def correct_by_question(outcomes: ItemOutcomes) -> dict[str, list[int]]:
    """1 for correct and 0 for not, of every answered sample, by question; questions without one are left out."""
    marks: dict[str, list[int]] = defaultdict(list)
    for (question, _), outcome in sorted(outcomes.items()):
        if outcome != "errored":
            marks[question].append(int(outcome == "correct"))
    return dict(marks)


def _bounds(outcomes: ItemOutcomes, planned: Collection[tuple[str, int]]) -> tuple[float, float]:
    low: dict[str, list[int]] = defaultdict(list)
    high: dict[str, list[int]] = defaultdict(list)
    for item in sorted(planned):
        outcome = outcomes.get(item, "errored")
        low[item[0]].append(int(outcome == "correct"))
        high[item[0]].append(int(outcome in ("correct", "errored")))
    return fmean(fmean(marks) for marks in low.values()), fmean(fmean(marks) for marks in high.values())


def _asked_once(answered: Mapping[str, list[int]]) -> bool:
    return all(len(marks) == 1 for marks in answered.values())


def _num_correct(answered: Mapping[str, list[int]]) -> int:
    return sum(sum(marks) for marks in answered.values())


def _mean(answered: Mapping[str, list[int]]) -> float:
    return fmean(fmean(marks) for marks in answered.values())


def exam_standard_error(answered: Mapping[str, list[int]]) -> float:
    """Standard error of the score for these questions, from the variance of the repeats within each.

    Shares are smoothed by Laplace's rule, so that a question that was always or never answered keeps some variance.
    """
    variances = [_smoothed_variance(marks) / len(marks) for marks in answered.values()]
    return sqrt(sum(variances)) / len(variances)


def _smoothed_variance(marks: list[int]) -> float:
    share = (sum(marks) + 1) / (len(marks) + 2)
    return share * (1 - share)


def _exam_interval(answered: Mapping[str, list[int]]) -> Interval:
    if _asked_once(answered):
        return _population_interval(answered)
    half = normal_quantile(0.975) * exam_standard_error(answered)
    mean = _mean(answered)
    return Interval(low=max(0.0, mean - half), high=min(1.0, mean + half), method="within_question")


def _population_interval(answered: Mapping[str, list[int]]) -> Interval:
    if _asked_once(answered):
        return _interval(_num_correct(answered), len(answered), "wilson")
    return _around(_clustered_interval(answered), _exam_interval(answered))


def _around(wide: Interval, narrow: Interval) -> Interval:
    """Other questions cannot be surer than these: few repeats, whose variance is smoothed, may say so by chance."""
    return wide.model_copy(update={"low": min(wide.low, narrow.low), "high": max(wide.high, narrow.high)})


def _clustered_interval(answered: Mapping[str, list[int]]) -> Interval:
    num_questions = len(answered)
    means = [fmean(marks) for marks in answered.values()]
    mean = fmean(means)
    error = sqrt(variance(means) / num_questions) if num_questions > 1 else 0.0
    if error == 0 or not _NEAR_AN_END <= mean <= 1 - _NEAR_AN_END:
        # Without any spread between the questions each of them is still one draw only.
        effective = num_questions if error == 0 else max(num_questions, mean * (1 - mean) / error**2)
        return _interval(mean * effective, effective, "wilson_effective")
    half = t_quantile(0.975, num_questions - 1) * error
    return Interval(low=max(0.0, mean - half), high=min(1.0, mean + half), method="clustered_t")


def _interval(num_correct: float, num_samples: float, method: Literal["wilson", "wilson_effective"]) -> Interval:
    low, high = wilson(num_correct, num_samples)
    return Interval(low=low, high=high, method=method)


def _gate(answered: Mapping[str, list[int]], baseline: float, margin: float) -> Gate:
    mean = _mean(answered)
    if _asked_once(answered):
        # The ends of a two-sided 90% interval are the one-sided 95% bounds.
        low, high = wilson(_num_correct(answered), len(answered), 2 * _ONE_SIDED - 1)
        lower, upper = low - baseline, high - baseline
    else:
        half = normal_quantile(_ONE_SIDED) * exam_standard_error(answered)
        lower, upper = mean - half - baseline, mean + half - baseline
    verdict: Verdict = "PASS" if lower > -margin else "FAIL" if upper < -margin else "INCONCLUSIVE"
    return Gate(
        baseline=baseline,
        margin=margin,
        difference=mean - baseline,
        lower=lower,
        upper=upper,
        verdict=verdict,
        repeats_needed=_repeats_needed(answered, margin) if verdict == "INCONCLUSIVE" else None,
    )


def _repeats_needed(answered: Mapping[str, list[int]], margin: float) -> int | None:
    if margin == 0:
        return None
    within = fmean(_smoothed_variance(marks) for marks in answered.values())
    standard_errors = normal_quantile(_ONE_SIDED) + normal_quantile(_POWER)
    needed = ceil(within * (standard_errors / margin) ** 2 / len(answered))
    return needed if needed > max(len(marks) for marks in answered.values()) else None

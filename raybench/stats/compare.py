"""Two targets side by side: accuracy paired by item, and ratios of performance figures. Pure."""

from collections.abc import Sequence
from fractions import Fraction
from math import sqrt
from statistics import fmean, median, variance

from raybench.records import Record
from raybench.stats.accuracy import ItemOutcomes, correct_by_question
from raybench.stats.distributions import mcnemar_exact_p, t_quantile, t_two_sided_p
from raybench.stats.permutation import sign_flip_p

_NUM_MOVED = 10


class AccuracyComparison(Record):
    """Scores of one eval on two targets, over the items that both answered."""

    num_questions: int
    """Questions that both answered at least once in the same repeat."""
    num_pairs: int
    """(question, repeat) pairs that both answered."""
    difference: float
    """Mean over the questions of a's share of correct pairs minus b's."""
    low: float | None
    """Lower end of the 95% interval of the difference, paired t over the questions; None with fewer than two questions
    or when all differ by the same amount."""
    high: float | None
    """Upper end of it."""
    p_value: float | None
    """Two-sided p of the paired t test; None where there is no interval."""
    num_discordant: int
    """Pairs that exactly one of the two got right."""
    mcnemar_p: float | None
    """Exact McNemar p over the discordant pairs; None with several repeats, whose pairs are not independent."""
    moved: tuple[str, ...]
    """Ids of the questions that moved most, largest first, at most ten."""
    moved_by: tuple[float, ...] = ()
    """By how much they did: a's share of right answers minus b's."""
    permutation_p: float | None = None
    """Two-sided p of the sign-flip test over the questions' differences; with one repeat it is McNemar's. None in
    reports of older versions."""


class Ratio(Record):
    """A figure of a over the same figure of b."""

    ratio: float
    """Median of a over median of b, so that it is the quotient of the two tabled medians."""
    low: float
    """Smallest of a over largest of b: the least favourable pairing of repeats. A range, not a confidence interval."""
    high: float
    """Largest of a over smallest of b."""
    num_a: int
    """Repeats of a."""
    num_b: int
    """Repeats of b."""


def compare_accuracy(a: ItemOutcomes, b: ItemOutcomes) -> AccuracyComparison | None:
    """Compare two targets on one eval; None when they have no answered item in common.

    Errored samples are left out on both sides. Truncated and unparsed ones are not correct, as in the score.
    """
    both = [item for item in sorted(a) if b.get(item, "errored") != "errored" and a[item] != "errored"]
    if not both:
        return None
    marks_a = correct_by_question({item: a[item] for item in both})
    marks_b = correct_by_question({item: b[item] for item in both})
    differences = {question: fmean(marks_a[question]) - fmean(marks_b[question]) for question in marks_a}
    exact = [Fraction(sum(marks_a[q]), len(marks_a[q])) - Fraction(sum(marks_b[q]), len(marks_b[q])) for q in marks_a]
    only_a = sum(a[item] == "correct" != b[item] for item in both)
    only_b = sum(b[item] == "correct" != a[item] for item in both)
    interval = _paired_t(list(differences.values()))
    moved = sorted((q for q in differences if differences[q] != 0), key=lambda q: (-abs(differences[q]), q))
    return AccuracyComparison(
        num_questions=len(differences),
        num_pairs=len(both),
        difference=fmean(differences.values()),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        p_value=interval[2] if interval else None,
        num_discordant=only_a + only_b,
        mcnemar_p=mcnemar_exact_p(only_a, only_b) if len(both) == len(differences) else None,
        moved=tuple(moved[:_NUM_MOVED]),
        moved_by=tuple(differences[question] for question in moved[:_NUM_MOVED]),
        permutation_p=sign_flip_p(exact),
    )


def _paired_t(differences: list[float]) -> tuple[float, float, float] | None:
    """Ends of the 95% interval and two-sided p; None where the differences have no spread."""
    n = len(differences)
    if n < 2 or len(set(differences)) == 1:
        return None
    mean, error = fmean(differences), sqrt(variance(differences) / n)
    half = t_quantile(0.975, n - 1) * error
    return max(-1.0, mean - half), min(1.0, mean + half), t_two_sided_p(mean / error, n - 1)


def ratio(a: Sequence[float | None], b: Sequence[float | None]) -> Ratio | None:
    """Ratio of a performance figure of two targets, each with its repeats in any order.

    The spread is the range over all pairings of a repeat of a with a repeat of b. Repeats of one launch on one machine
    agree more than launches or machines do, so a narrow range says nothing about other machines. None stands for a
    repeat that was not measured and is left out; the result is None when either side has no repeat, or b a figure that
    is not positive.
    """
    tops = [value for value in a if value is not None]
    bottoms = [value for value in b if value is not None]
    if not tops or not bottoms or min(bottoms) <= 0:
        return None
    return Ratio(
        ratio=median(tops) / median(bottoms),
        low=min(tops) / max(bottoms),
        high=max(tops) / min(bottoms),
        num_a=len(tops),
        num_b=len(bottoms),
    )

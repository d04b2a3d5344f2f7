"""Is one group of samples worse than the others on the same questions? Pure.

Groups (nodes, places of the right option) do not get the same questions, so their means are not comparable. Within one
question the group of a sample says nothing about it unless the group matters: the number of right answers that a group
has is then hypergeometric, question by question (Mantel and Haenszel).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from math import sqrt
from statistics import fmean

from pydantic import Field

from raybench.records import Record
from raybench.stats.distributions import normal_tail
from raybench.stats.permutation import holm


class GroupEffect(Record):
    """One group beside all samples of the same questions."""

    group: str
    """Name of the group."""
    num: int = Field(ge=1)
    """Its samples."""
    share: float = Field(ge=0, le=1)
    """Share of right ones among them."""
    expected: float = Field(ge=0, le=1)
    """Share that they would have if groups did not matter."""
    p_value: float = Field(ge=0, le=1)
    """Two-sided, corrected for the number of groups (Holm)."""


def group_effects(marks: Iterable[tuple[str, str, bool]]) -> tuple[GroupEffect, ...]:
    """Effect of every group, the lowest p first; marks are (question, group, right). Empty where no question was
    answered in two groups."""
    strata: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for question, group, right in marks:
        strata[question].append((group, right))
    num: Counter[str] = Counter()
    right_by: Counter[str] = Counter()
    expected: dict[str, float] = defaultdict(float)
    spread: dict[str, float] = defaultdict(float)
    for members in strata.values():
        size, num_right = len(members), sum(right for _, right in members)
        for group, own in Counter(group for group, _ in members).items():
            num[group] += own
            right_by[group] += sum(right for name, right in members if name == group)
            expected[group] += own * num_right / size
            if size > 1:
                spread[group] += own * (size - own) * num_right * (size - num_right) / (size**2 * (size - 1))
    raw = {
        group: 2 * normal_tail(abs(right_by[group] - expected[group]) / sqrt(variance))
        for group, variance in spread.items()
        if variance > 0
    }
    ordered = sorted(raw, key=lambda group: (raw[group], group))
    return tuple(
        GroupEffect(
            group=group, num=num[group], share=right_by[group] / num[group], expected=expected[group] / num[group],
            p_value=p_value,
        )
        for group, p_value in zip(ordered, holm([raw[group] for group in ordered]), strict=True)
    )  # fmt: skip


def trend_p(marks: Iterable[tuple[str, int, bool]]) -> tuple[float, float] | None:
    """(change of the share of right answers per step, two-sided p) over ordered places within questions.

    marks are (question, place, right). None where no question shows both outcomes at two places.
    """
    strata: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for question, place, right in marks:
        strata[question].append((place, right))
    product = squares = variance = 0.0
    for members in strata.values():
        size, place_mean = len(members), fmean(place for place, _ in members)
        share = sum(right for _, right in members) / size
        own = sum((place - place_mean) ** 2 for place, _ in members)
        product += sum((place - place_mean) * (right - share) for place, right in members)
        squares += own
        if size > 1:
            variance += own * size * share * (1 - share) / (size - 1)
    if variance == 0 or squares == 0:
        return None
    return product / squares, 2 * normal_tail(abs(product) / sqrt(variance))

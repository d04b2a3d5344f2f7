# pyright: basic
"""Bare counts of right answers, as old reports give them: one pass, no item data, nothing that could be paired. Pure.

Where only totals are left, two systems are two independent shares. That test is weaker than the paired one, and which
of the two answers would follow from the items can no longer be known.
"""

from dataclasses import dataclass
from typing import Any

from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from raybench.stats.distributions import wilson


@dataclass(frozen=True, slots=True)
class Count:
    """Right answers of one pass over an exam."""

    num_correct: int
    num_questions: int

    def __post_init__(self) -> None:
        if not 0 <= self.num_correct <= self.num_questions or self.num_questions == 0:
            raise ValueError(f"{self.num_correct} of {self.num_questions} is no count of right answers")

    @property
    def score(self) -> float:
        """Share of right answers."""
        return self.num_correct / self.num_questions

    def wilson(self) -> tuple[float, float]:
        """Wilson's 95% interval."""
        return wilson(self.num_correct, self.num_questions)

    def clopper_pearson(self) -> tuple[float, float]:
        """The exact 95% interval, which covers at least as much as it claims."""
        ends: Any = proportion_confint(self.num_correct, self.num_questions, alpha=0.05, method="beta")
        return float(ends[0]), float(ends[1])

    def p_below(self, reference: float) -> float:
        """Exact one-sided p: how likely so few right answers are, if the true share were the reference."""
        return float(stats.binomtest(self.num_correct, self.num_questions, reference, alternative="less").pvalue)


@dataclass(frozen=True, slots=True)
class CountComparison:
    """Two counts, unpaired."""

    difference: float
    """Share of b minus share of a."""
    low: float
    """Lower end of Newcombe's 95% interval of the difference."""
    high: float
    """Upper end of it."""
    fisher_p: float
    """Two-sided exact p of Fisher's test."""

    @property
    def distinguishable(self) -> bool:
        """True where p is below .05."""
        return self.fisher_p < 0.05


def compare_counts(a: Count, b: Count) -> CountComparison:
    """b against a."""
    table = [[a.num_correct, a.num_questions - a.num_correct], [b.num_correct, b.num_questions - b.num_correct]]
    result: Any = stats.fisher_exact(table)
    ends: Any = confint_proportions_2indep(
        b.num_correct, b.num_questions, a.num_correct, a.num_questions, method="newcomb", compare="diff"
    )
    return CountComparison(b.score - a.score, float(ends[0]), float(ends[1]), float(result.pvalue))

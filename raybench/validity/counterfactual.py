"""What the score would have been under a smaller limit of the replies: stored replies, rescored as if cut. Pure.

It needs no GPU, and shows at once where the limit begins to bite: the report that this project grew from lost its
accuracy to a limit of 2,048 tokens that nobody looked at. Only the length of a whole reply is known in tokens, so a cut
text is taken to hold as many of its characters as of its tokens.
"""

from pydantic import Field

from raybench.records import Outcome, Record, SampleRecord
from raybench.stats.accuracy import score
from raybench.validity.accuracy import ScoredEval

BUDGETS = (1024, 2048, 4096, 8192, 16384)
"""Limits that are tried, in tokens; those at or above the run's own are left out."""


class BudgetPoint(Record):
    """Score under one limit."""

    max_tokens: int = Field(ge=1)
    """The limit."""
    score: float = Field(ge=0, le=1)
    """Score, a cut reply not being correct."""
    truncated_fraction: float = Field(ge=0, le=1)
    """Share of the answered samples that would be cut."""
    answer_stood: int = Field(ge=0)
    """Cut replies whose text up to the limit, by share of its characters, already held the right answer."""


class Counterfactual(Record):
    """Score of one eval on one target by limit of the replies."""

    target: str
    """Name of the target."""
    eval: str
    """Name of the eval."""
    points: tuple[BudgetPoint, ...]
    """By limit, ascending; the last one is the run's own limit."""


def counterfactual(scored: ScoredEval) -> Counterfactual | None:
    """The curve of one eval; None where every reply is shorter than the smallest limit, or no length is known."""
    limit = scored.config.sampling.max_tokens
    answered = [s for s in scored.samples if scored.outcomes[s.question, s.repeat] != "errored"]
    if not answered or any(s.output_tokens is None for s in answered):
        return None
    budgets = [budget for budget in BUDGETS if budget < limit]
    if not budgets or max(s.output_tokens or 0 for s in answered) <= budgets[0]:
        return None
    return Counterfactual(
        target=scored.target, eval=scored.config.name,
        points=tuple(_point(scored, answered, budget) for budget in [*budgets, limit]),
    )  # fmt: skip


def _point(scored: ScoredEval, answered: list[SampleRecord], budget: int) -> BudgetPoint:
    outcomes: dict[tuple[str, int], Outcome] = {}
    answer_stood = 0
    for sample in answered:
        item = (sample.question, sample.repeat)
        tokens = sample.output_tokens or 0
        cut = tokens > budget or scored.outcomes[item] == "truncated"
        outcomes[item] = "truncated" if cut else scored.outcomes[item]
        if cut:
            answer_stood += _right_up_to(scored, sample, min(1.0, budget / tokens) if tokens else 1.0)
    figures = score(outcomes, outcomes.keys())
    return BudgetPoint(
        max_tokens=budget, score=figures.score or 0.0, truncated_fraction=figures.truncated_fraction or 0.0,
        answer_stood=answer_stood,
    )  # fmt: skip


def _right_up_to(scored: ScoredEval, sample: SampleRecord, share: float) -> bool:
    reply = sample.reply or ""
    text = reply[: int(len(reply) * share)]
    return scored.evaluation.extract(text, "length").value == sample.gold

"""Two exams on a fleet of two targets, on the virtual clock of `raybench.plan.forecast`: the same on every machine."""

import heapq
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raybench.plan.dispatch import Dispatcher
from raybench.plan.forecast import Forecast, Speed
from raybench.plan.order import longest_first
from raybench.records import EvalUnit, Message, SampleSpec, Sampling

SPEEDS: Mapping[str, Speed] = {
    "h200": Speed({1: 0.01220, 4: 0.01256, 8: 0.01368, 16: 0.01548, 64: 0.02275}),
    "b200": Speed({1: 0.00751, 4: 0.00888, 8: 0.00963, 16: 0.01097, 64: 0.01539}),
}
"""Time per token by running requests, as the report that this project grew from has them."""

CAP_TOKENS = 32_768


@dataclass(frozen=True)
class Exam:
    """Questions with log-normal answers: some questions are hard for every repeat, and every repeat differs."""

    name: str
    questions: int
    repeats: int
    median_tokens: float
    between: float = 0.6
    """Spread of the questions, as the standard deviation of the logarithm."""
    within: float = 0.35
    """Spread of the repeats of one question."""
    papers: int = 0
    """The questions come in so many papers, each from easy to hard but for some noise; 0 = in any order."""

    def lengths(self, seed: int) -> dict[str, int]:
        """Tokens of every answer, by the sample's name."""
        rng = random.Random(f"{self.name} {seed}")
        hardness = [rng.gauss(0, self.between) for _ in range(self.questions)]
        if self.papers:
            size = self.questions // self.papers
            papers = [hardness[start : start + size] for start in range(0, self.questions, size)]
            noise_of = {value: rng.gauss(0, self.between * 0.75) for value in hardness}
            hardness = [v for paper in papers for v in sorted(paper, key=lambda v: v + noise_of[v])]
        return {
            f"{self.name}-{q}-{r}": int(
                min(CAP_TOKENS, max(64.0, self.median_tokens * math.exp(hardness[q] + rng.gauss(0, self.within))))
            )
            for r in range(self.repeats)
            for q in range(self.questions)
        }


AIME, GPQA = Exam("aime", 30, 16, 11_000, between=0.7, papers=2), Exam("gpqa", 198, 8, 4_500, between=0.7)


def blocks(target: str, exam: Exam, block_size: int, concurrency: int) -> list[EvalUnit]:
    """The exam in blocks, as a plan has them: all questions once, then again."""
    specs = [
        SampleSpec(
            key=f"{target}/{exam.name}-{q}-{r}", question=f"{exam.name}-{q}", repeat=r,
            messages=(Message(role="user", content="?"),), gold="1", seed=1,
        )
        for first, last in ((0, 1), (1, exam.repeats))
        for q in range(exam.questions)
        for r in range(first, last)
    ]  # fmt: skip
    return [
        EvalUnit(
            key=f"{target}/{exam.name}/{number}", target=target, eval=exam.name, block=number,
            samples=tuple(specs[start : start + block_size]), sampling=Sampling(temperature=1, max_tokens=CAP_TOKENS),
            concurrency=concurrency, timeout_s=3600,
        )
        for number, start in enumerate(range(0, len(specs), block_size))
    ]  # fmt: skip


def lower_bound_s(target: str, num_nodes: int, concurrency: int, lengths: Iterable[int]) -> float:
    """No schedule can be faster: the longest answer alone, or all tokens at full speed on all nodes."""
    tokens = list(lengths)
    work_s = sum(tokens) / (num_nodes * SPEEDS[target].capacity_tok_per_s(concurrency))
    return max(max(tokens) * SPEEDS[target].per_token_s(1), work_s)


def static_s(target: str, num_nodes: int, concurrency: int, exams: Sequence[Exam], lengths: Mapping[str, int]) -> float:
    """Makespan of equal shares: every node has the same number of questions of each exam and keeps its batch full from
    them, one exam after the other, as an evaluation command on every node does."""
    return max(
        sum(_alone_s(target, concurrency, _share(exam, lengths, share, num_nodes)) for exam in exams)
        for share in range(num_nodes)
    )


def _share(exam: Exam, lengths: Mapping[str, int], share: int, num_shares: int) -> list[int]:
    first, last = (exam.questions * part // num_shares for part in (share, share + 1))
    return [lengths[f"{exam.name}-{q}-{r}"] for q in range(first, last) for r in range(exam.repeats)]


def _alone_s(target: str, concurrency: int, queue: list[int]) -> float:
    """Time of one node for a queue of answers, its batch kept full."""
    at_s = grown = 0.0
    running: list[float] = []
    queue.reverse()
    while queue or running:
        while queue and len(running) < concurrency:
            heapq.heappush(running, grown + queue.pop())
        at_s += (running[0] - grown) * SPEEDS[target].per_token_s(len(running))
        grown = heapq.heappop(running)
    return at_s


EXAMS = (AIME, GPQA)
TARGETS = ("h200", "b200")


def expected(units: Iterable[EvalUnit], lengths: Mapping[str, int], noise: float, seed: int) -> dict[str, float]:
    """What an earlier ledger would say of every block: the mean answer of its longest question, off by `noise`."""
    rng = random.Random(f"estimate {seed}")
    answers: dict[str, list[int]] = {}
    for name, tokens in lengths.items():
        answers.setdefault(name.rpartition("-")[0], []).append(tokens)
    mean = {question: sum(found) / len(found) * math.exp(rng.gauss(0, noise)) for question, found in answers.items()}
    return {unit.key: max(mean[sample.question] for sample in unit.samples) for unit in units}


@dataclass(frozen=True)
class Setting:
    """A fleet and how it works."""

    num_nodes: int
    """Nodes of each target."""
    seed: int
    concurrency: int = 32
    block_size: int = 4
    noise: float = 0.15
    """Error of the estimated lengths, as the standard deviation of the logarithm."""


def play(setting: Setting, lose: tuple[str, float] | None = None) -> tuple[Forecast, dict[str, int]]:
    """Both exams on both targets; returns how it went and the tokens of every answer."""
    lengths = {name: tokens for exam in EXAMS for name, tokens in exam.lengths(setting.seed).items()}
    units = [
        block
        for target in TARGETS
        for exam in EXAMS
        for block in blocks(target, exam, setting.block_size, setting.concurrency)
    ]
    ordered = longest_first(units, expected(units, lengths, setting.noise, setting.seed))
    slots = [(target,) for target in TARGETS for _ in range(setting.num_nodes)]
    tokens = {f"{target}/{name}": float(number) for target in TARGETS for name, number in lengths.items()}
    dispatcher = Dispatcher(ordered, dict(enumerate(slots)))
    return Forecast(dispatcher, slots, SPEEDS, tokens, {}, lose=lose).run(), lengths


@dataclass(frozen=True)
class Figures:
    """How one target fared."""

    target: str
    makespan_s: float
    bound_s: float
    static_s: float
    lost_s: float
    """Makespan when one of its nodes is lost for good in the middle."""
    allowed_s: float
    """When that may be at the latest: the makespan and the lost work (tokens that were cut, and those that the node
    would still have given) at the rate that the others showed, or as long as the longest cut answer takes anew."""

    @property
    def over_bound(self) -> float:
        """Makespan over the lower bound."""
        return self.makespan_s / self.bound_s

    @property
    def gain(self) -> float:
        """Share of the time of equal shares that is saved."""
        return 1 - self.makespan_s / self.static_s


def figures(setting: Setting) -> list[Figures]:
    """Play a setting: undisturbed, and for each target with one node lost when half the time is over."""
    whole, lengths = play(setting)
    tokens = sum(lengths.values())
    result: list[Figures] = []
    for number, target in enumerate(TARGETS):
        makespan_s = whole.ends_s[target]
        lost, _ = play(setting, (f"n{number * setting.num_nodes}", makespan_s / 2))
        shown_tok_per_s = tokens / makespan_s / setting.num_nodes
        lost_tokens = tokens / setting.num_nodes / 2 + lost.wasted_tokens
        again_s = lost.longest_cut_tokens * SPEEDS[target].per_token_s(setting.concurrency)
        result.append(
            Figures(
                target, makespan_s,
                lower_bound_s(target, setting.num_nodes, setting.concurrency, lengths.values()),
                static_s(target, setting.num_nodes, setting.concurrency, EXAMS, lengths), lost.ends_s[target],
                max(makespan_s + lost_tokens / (setting.num_nodes - 1) / shown_tok_per_s, makespan_s / 2 + again_s),
            )
        )  # fmt: skip
    return result

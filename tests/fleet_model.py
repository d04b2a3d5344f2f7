"""A fleet on a virtual clock: the real dispatcher, nodes that decode in batches, and no wait.

A node's running answers all grow at the same speed, and the time per token grows with their number as the table says
that was measured on the real machines. So a simulated hour takes milliseconds and comes out the same every time.
"""

import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import (
    Action,
    EngineReady,
    EngineStopped,
    Event,
    NodeJoined,
    NodeLost,
    ReplaceNode,
    RunUnit,
    SampleDone,
    SlotLost,
    StartEngine,
    StopEngine,
    UnitDone,
)
from raybench.plan.order import longest_first
from raybench.records import EvalUnit, Message, SampleSpec, Sampling

ITL_MS: Mapping[str, Mapping[int, float]] = {
    "h200": {1: 12.20, 4: 12.56, 8: 13.68, 16: 15.48, 64: 22.75},
    "b200": {1: 7.51, 4: 8.88, 8: 9.63, 16: 10.97, 64: 15.39},
}
"""Time per token by running requests, as the report that this project grew from has them."""

CAP_TOKENS = 32_768


def token_s(table: Mapping[int, float], running: int) -> float:
    """Time per token of each of so many answers, between the table's points by a straight line."""
    sizes = sorted(table)
    place = min(max(bisect_right(sizes, running), 1), len(sizes) - 1)
    low, high = sizes[place - 1], sizes[place]
    return (table[low] + (table[high] - table[low]) * (max(running, 1) - low) / (high - low)) / 1000


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


@dataclass
class Node:
    """One node: `grown` is how many tokens an answer that began with the node would have by now."""

    target: str
    slot: int
    grown: float = 0.0
    at_s: float = 0.0
    answers: list[tuple[float, str]] = field(default_factory=list)
    """(value of `grown` at which it ends, sample), a heap."""
    left: dict[str, set[str]] = field(default_factory=dict)
    """Samples of every running block that have not ended."""
    attempts: dict[str, int] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    def catch_up(self, now_s: float) -> None:
        """Let the answers grow until now."""
        if self.answers:
            self.grown += (now_s - self.at_s) / token_s(ITL_MS[self.target], len(self.answers))
        self.at_s = now_s

    def next_end_s(self) -> float:
        """When the next answer ends, if nothing begins before."""
        if not self.answers:
            return math.inf
        return self.at_s + max(self.answers[0][0] - self.grown, 0) * token_s(ITL_MS[self.target], len(self.answers))


@dataclass
class Simulation:
    """The clock, the nodes, and what they have done."""

    dispatcher: Dispatcher
    targets: Sequence[str]
    """Target of every slot."""
    lengths: Mapping[str, int]
    """Tokens of every answer, by the sample's name without the target."""
    lose: tuple[str, float] | None = None
    """A node and the time at which it is lost for good."""
    now_s: float = 0.0
    nodes: dict[str, Node] = field(default_factory=dict)
    ends_s: dict[str, float] = field(default_factory=dict)
    """When the last answer of every target ended."""
    wasted_tokens: float = 0.0
    """Tokens of answers that were cut by a loss."""
    longest_cut_tokens: int = 0
    """Whole length of the longest of these answers."""
    begun: list[str] = field(default_factory=list)

    def run(self) -> "Simulation":
        """Play to the end."""
        for slot, target in enumerate(self.targets):
            self.nodes[f"n{slot}"] = Node(target, slot)
        for name, node in self.nodes.items():
            self._hear(NodeJoined(name, node.slot, frozenset([name])))
        while not self.dispatcher.finished:
            name = min(self.nodes, key=lambda n: self.nodes[n].next_end_s())
            at_s = self.nodes[name].next_end_s()
            if self.lose is not None and self.lose[1] <= at_s:
                (lost, self.now_s), self.lose = self.lose, None
                self._lose(lost)
                continue
            assert at_s < math.inf, "nothing runs and the dispatcher is not finished"
            self.now_s = at_s
            self._end(name, self.nodes[name])
        return self

    def _lose(self, name: str) -> None:
        node = self.nodes.pop(name)
        node.catch_up(self.now_s)
        self.wasted_tokens += sum(node.grown - node.began[sample] for _, sample in node.answers)
        self.longest_cut_tokens = max((self.lengths[sample.partition("/")[2]] for _, sample in node.answers), default=0)
        self._hear(NodeLost(name, "gone"))

    def _end(self, name: str, node: Node) -> None:
        node.catch_up(self.now_s)
        _, sample = heapq.heappop(node.answers)
        self.ends_s[node.target] = self.now_s
        block = next(key for key, left in node.left.items() if sample in left)
        node.left[block].discard(sample)
        self._hear(SampleDone(name, sample))
        if not node.left[block]:
            del node.left[block]
            self._hear(UnitDone(name, block, node.attempts[block]))

    def _hear(self, event: Event) -> None:
        for action in self.dispatcher.handle(event):
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case StartEngine():
                self._hear(EngineReady(action.node))
            case StopEngine():
                self._hear(EngineStopped(action.node))
            case RunUnit():
                self._begin(action)
            case ReplaceNode():
                self._hear(SlotLost(action.slot, "no machine is free"))
            case _:
                raise AssertionError(action)

    def _begin(self, action: RunUnit) -> None:
        assert isinstance(action.unit, EvalUnit)
        node = self.nodes[action.node]
        node.catch_up(self.now_s)
        self.begun.append(action.unit.key)
        node.left[action.unit.key] = {sample.key for sample in action.unit.samples}
        node.attempts[action.unit.key] = action.attempt
        for sample in action.unit.samples:
            node.began[sample.key] = node.grown
            heapq.heappush(node.answers, (node.grown + self.lengths[sample.key.partition("/")[2]], sample.key))


def capacity_tok_per_s(target: str, concurrency: int) -> float:
    """Most tokens per second that one node can give."""
    return max(n / token_s(ITL_MS[target], n) for n in range(1, concurrency + 1))


def lower_bound_s(target: str, num_nodes: int, concurrency: int, lengths: Iterable[int]) -> float:
    """No schedule can be faster: the longest answer alone, or all tokens at full speed on all nodes."""
    tokens = list(lengths)
    work_s = sum(tokens) / (num_nodes * capacity_tok_per_s(target, concurrency))
    return max(max(tokens) * token_s(ITL_MS[target], 1), work_s)


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
    node, at_s = Node(target, 0), 0.0
    queue.reverse()
    while queue or node.answers:
        while queue and len(node.answers) < concurrency:
            heapq.heappush(node.answers, (node.grown + queue.pop(), ""))
        at_s = node.next_end_s()
        node.catch_up(at_s)
        heapq.heappop(node.answers)
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
    noise: float = 0.3
    """Error of the estimated lengths, as the standard deviation of the logarithm."""


def play(setting: Setting, lose: tuple[str, float] | None = None) -> tuple[Simulation, dict[str, int]]:
    """Both exams on both targets; returns how it went and the tokens of every answer."""
    lengths = {name: tokens for exam in EXAMS for name, tokens in exam.lengths(setting.seed).items()}
    units = [
        block
        for target in TARGETS
        for exam in EXAMS
        for block in blocks(target, exam, setting.block_size, setting.concurrency)
    ]
    ordered = longest_first(units, expected(units, lengths, setting.noise, setting.seed))
    slots = [target for target in TARGETS for _ in range(setting.num_nodes)]
    dispatcher = Dispatcher(ordered, {slot: (target,) for slot, target in enumerate(slots)})
    return Simulation(dispatcher, slots, lengths, lose).run(), lengths


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
        again_s = lost.longest_cut_tokens * token_s(ITL_MS[target], setting.concurrency)
        result.append(
            Figures(
                target, makespan_s,
                lower_bound_s(target, setting.num_nodes, setting.concurrency, lengths.values()),
                static_s(target, setting.num_nodes, setting.concurrency, EXAMS, lengths), lost.ends_s[target],
                max(makespan_s + lost_tokens / (setting.num_nodes - 1) / shown_tok_per_s, makespan_s / 2 + again_s),
            )
        )  # fmt: skip
    return result

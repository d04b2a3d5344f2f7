"""How a run would go: the real dispatcher over modelled nodes on a virtual clock. Pure.

A node's running answers all grow at the same speed, and the time per token grows with their number. Load points and
checks take their time. So hours pass in milliseconds, and the dispatcher's own policies decide what they come to.
"""

import heapq
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import (
    Action,
    EngineReady,
    EngineStopped,
    Event,
    GiveUp,
    NodeJoined,
    NodeLost,
    ReleaseNode,
    ReplaceNode,
    RunUnit,
    SampleDone,
    SlotLost,
    StartEngine,
    StopEngine,
    UnitDone,
    WithdrawUnit,
)
from raybench.records import EvalUnit


@dataclass(frozen=True, slots=True)
class Speed:
    """What is known of one target's engine. All times in real seconds."""

    token_s: Mapping[int, float]
    """Time per token of each answer, by the number of running answers; between them by a straight line, which is
    followed beyond the last."""
    startup_s: float = 0.0
    """From the start until it answers."""
    prefill_tok_per_s: float = 20_000.0
    """Prompt tokens per second, where load points are reckoned from it."""

    def per_token_s(self, running: int) -> float:
        """Time per token of each of so many answers."""
        sizes = sorted(self.token_s)
        if len(sizes) == 1:
            return self.token_s[sizes[0]]
        place = min(max(bisect_right(sizes, running), 1), len(sizes) - 1)
        low, high = sizes[place - 1], sizes[place]
        slope = (self.token_s[high] - self.token_s[low]) / (high - low)
        return self.token_s[low] + slope * (max(running, sizes[0]) - low)

    def capacity_tok_per_s(self, concurrency: int) -> float:
        """Most tokens per second that a node can give."""
        return max(running / self.per_token_s(running) for running in range(1, concurrency + 1))


@dataclass(slots=True)
class _Node:
    """One node. `grown` is how many tokens an answer that began with the node would have by now."""

    slot: int
    speed: Speed
    grown: float = 0.0
    at_s: float = 0.0
    answers: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """(value of `grown` at which it ends, sample), a heap."""
    left: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Samples of every running block that have not ended."""
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    began: dict[str, float] = field(default_factory=dict[str, float])
    timed: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """(key, seconds) of the load points and checks that were given to it, the first of which runs."""
    until_s: float = 0.0
    """End of what runs alone."""
    starting: bool = False

    def catch_up(self, now_s: float) -> None:
        """Let the answers grow until now."""
        if self.answers:
            self.grown += (now_s - self.at_s) / self.speed.per_token_s(len(self.answers))
        self.at_s = now_s

    def next_end_s(self) -> float:
        """When the next thing ends, if nothing begins before."""
        if self.starting or self.timed:
            return self.until_s
        if not self.answers:
            return math.inf
        return self.at_s + max(self.answers[0][0] - self.grown, 0.0) * self.speed.per_token_s(len(self.answers))


class Forecast:
    """The clock, the nodes, and what they have done."""

    def __init__(
        self, dispatcher: Dispatcher, slots: Sequence[tuple[str, ...]], speeds: Mapping[str, Speed],
        tokens: Mapping[str, float], seconds: Mapping[str, float], *, lose: tuple[str, float] | None = None,
    ) -> None:  # fmt: skip
        """`slots`: targets of every node. `tokens`: length of every answer by the sample's key; `seconds`: duration of
        every other unit by its key. `lose`: a node (`n0` is the first slot's) and when it is lost for good.
        """
        self._dispatcher = dispatcher
        self._slots = slots
        self._speeds = speeds
        self._tokens = tokens
        self._seconds = seconds
        self._lose = lose
        self._nodes: dict[str, _Node] = {}
        self.now_s = 0.0
        self.ends_s: dict[str, float] = {}
        """When the last unit of every target ended."""
        self.engine_s: dict[str, float] = {}
        """Time of all nodes together for which an engine of the target was up or starting."""
        self._since_s: dict[str, tuple[str, float]] = {}
        self.wasted_tokens = 0.0
        """Tokens of answers that were cut by the loss."""
        self.longest_cut_tokens = 0.0
        """Whole length of the longest of these answers."""

    def run(self) -> "Forecast":
        """Play to the end. Raises RuntimeError if nothing goes on before it."""
        for slot, targets in enumerate(self._slots):
            self._nodes[f"n{slot}"] = _Node(slot, self._speeds[targets[0]])
        for name, node in list(self._nodes.items()):
            self._hear(NodeJoined(name, node.slot, frozenset([name])))
        while not self._dispatcher.finished:
            name = min(self._nodes, key=lambda n: self._nodes[n].next_end_s())
            at_s = self._nodes[name].next_end_s()
            if self._lose is not None and self._lose[1] <= at_s:
                (lost, self.now_s), self._lose = self._lose, None
                self._lost(lost)
                continue
            if at_s == math.inf:
                raise RuntimeError("nothing runs and the dispatcher is not finished")
            self.now_s = at_s
            self._end(name, self._nodes[name])
        return self

    def _lost(self, name: str) -> None:
        node = self._nodes.pop(name)
        node.catch_up(self.now_s)
        self.wasted_tokens += sum(node.grown - node.began[sample] for _, sample in node.answers)
        self.longest_cut_tokens = max((self._tokens[sample] for _, sample in node.answers), default=0.0)
        self._hear(NodeLost(name, "gone"))

    def _end(self, name: str, node: _Node) -> None:
        node.catch_up(self.now_s)
        if node.starting:
            node.starting = False
            self._hear(EngineReady(name))
            return
        if node.timed:
            key, _ = node.timed.pop(0)
            if node.timed:
                node.until_s = self.now_s + node.timed[0][1]
            self._done(name, key, node)
            return
        _, sample = heapq.heappop(node.answers)
        block = next(key for key, left in node.left.items() if sample in left)
        node.left[block].discard(sample)
        self._hear(SampleDone(name, sample))
        if not node.left[block]:
            self._done(name, block, node)

    def _done(self, name: str, key: str, node: _Node) -> None:
        node.left.pop(key, None)
        self.ends_s[self._since_s[name][0]] = self.now_s
        self._hear(UnitDone(name, key, node.attempts[key]))

    def _hear(self, event: Event) -> None:
        for action in self._dispatcher.handle(event):
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case StartEngine():
                node = self._nodes[action.node]
                node.speed = self._speeds[action.target]
                node.starting, node.until_s = True, self.now_s + node.speed.startup_s
                self._since_s[action.node] = (action.target, self.now_s)
            case StopEngine():
                target, since_s = self._since_s[action.node]
                self.engine_s[target] = self.engine_s.get(target, 0.0) + self.now_s - since_s
                self._hear(EngineStopped(action.node))
            case RunUnit():
                self._begin(action)
            case ReplaceNode():
                self._hear(SlotLost(action.slot, "no machine is free"))
            case GiveUp() | WithdrawUnit() | ReleaseNode():
                pass  # nothing fails here, and nobody leaves

    def _begin(self, action: RunUnit) -> None:
        node, unit = self._nodes[action.node], action.unit
        node.catch_up(self.now_s)
        node.attempts[unit.key] = action.attempt
        if not isinstance(unit, EvalUnit):
            node.timed.append((unit.key, self._seconds.get(unit.key, 0.0)))
            if len(node.timed) == 1:
                node.until_s = self.now_s + node.timed[0][1]
            return
        node.left[unit.key] = {sample.key for sample in unit.samples}
        for sample in unit.samples:
            node.began[sample.key] = node.grown
            heapq.heappush(node.answers, (node.grown + self._tokens[sample.key], sample.key))
        if not unit.samples:
            node.timed.append((unit.key, 0.0))
            node.until_s = self.now_s

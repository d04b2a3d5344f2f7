"""The dispatcher over thousands of random histories: its invariant, and the policies one by one."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.plan.dispatch import ENGINE_START_TRIES, RETRIES, Dispatcher
from raybench.plan.events import (
    Action,
    Drain,
    EngineFailed,
    EngineReady,
    EngineStopped,
    Event,
    GiveUp,
    NodeJoined,
    NodeLost,
    ReplaceNode,
    RunUnit,
    SampleDone,
    SlotLost,
    StartEngine,
    StopEngine,
    UnitDone,
    UnitFailed,
    UnitsDropped,
)
from raybench.records import EvalUnit, Failure, Message, OneBatchLoad, PerfUnit, SampleSpec, Sampling, WarmUp

SAMPLING = Sampling(temperature=0, max_tokens=8)


def perf(target: str, batch_size: int, repeat: int = 0, launch: int = 0, sweep: str = "s") -> PerfUnit:
    return PerfUnit(
        key=f"{target}-{sweep}-{batch_size}-{repeat}-{launch}", target=target, sweep=sweep,
        load=OneBatchLoad(batch_size=batch_size, input_tokens=4, output_tokens=4), repeat=repeat, launch=launch,
        order=0, prompt_seed=1, warm_up=WarmUp(), timeout_s=1,
    )  # fmt: skip


def block(target: str, number: int, num_samples: int = 3) -> EvalUnit:
    samples = tuple(
        SampleSpec(
            key=f"{target}-q{number}-{i}", question=f"q{number}-{i}", repeat=0,
            messages=(Message(role="user", content="?"),), gold="1", seed=1,
        )
        for i in range(num_samples)
    )  # fmt: skip
    return EvalUnit(
        key=f"{target}-e{number}", target=target, eval="sums", block=number, samples=samples, sampling=SAMPLING,
        concurrency=1, timeout_s=1,
    )  # fmt: skip


@dataclass
class World:
    """Plays the cluster: answers actions in a random order, with faults, and checks the invariant after every step."""

    dispatcher: Dispatcher
    slots: dict[int, tuple[str, ...]]
    hosts: dict[int, str]
    rng: random.Random
    fault_share: float
    inbox: list[Event] = field(default_factory=list)
    engines: dict[str, tuple[str, int] | None] = field(default_factory=dict)
    starting: set[str] = field(default_factory=set)
    running: dict[str, RunUnit] = field(default_factory=dict)
    node_slot: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    samples: list[str] = field(default_factory=list)
    attempts: set[tuple[str, int]] = field(default_factory=set)
    evals: list[str] = field(default_factory=list)
    num_nodes: int = 0

    def join(self, slot: int) -> None:
        name = f"n{self.num_nodes}"
        self.num_nodes += 1
        self.node_slot[name] = slot
        self.inbox.append(NodeJoined(name, slot, frozenset([self.hosts[slot]])))

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartEngine():
                    assert self.engines.get(action.node) is None
                    assert action.target in self.slots[self.node_slot[action.node]]
                    self._nobody_measures_on(action.node)
                    self.starting.add(action.node)
                    self.engines[action.node] = (action.target, action.launch)
                    faulty = self.rng.random() < self.fault_share
                    self.inbox.append(
                        EngineFailed(action.node, "no", self.rng.random() < 0.8) if faulty else EngineReady(action.node)
                    )
                case StopEngine():
                    assert action.node not in self.running
                    self.inbox.append(EngineStopped(action.node))
                case RunUnit():
                    self._run(action)
                case ReplaceNode():
                    if self.rng.random() < self.fault_share:
                        self.inbox.append(SlotLost(action.slot, "gone"))
                    else:
                        self.join(action.slot)
                case GiveUp():
                    self.given_up.append(action.key)

    def _nobody_measures_on(self, node: str) -> None:
        for other, unit in self.running.items():
            if isinstance(unit.unit, PerfUnit):
                assert self.hosts[self.node_slot[other]] != self.hosts[self.node_slot[node]]

    def _run(self, action: RunUnit) -> None:
        assert (action.unit.key, action.attempt) not in self.attempts
        self.attempts.add((action.unit.key, action.attempt))
        assert action.unit.key not in self.done
        assert action.unit.key not in self.dropped, "a dropped unit was started"
        assert action.node not in self.running and action.node not in self.starting
        engine = self.engines[action.node]
        assert engine is not None and engine[0] == action.unit.target
        self._nobody_measures_on(action.node)
        if isinstance(action.unit, PerfUnit):
            assert engine[1] == action.unit.launch
            mine = self.hosts[self.node_slot[action.node]]
            for other in self.running.keys() | self.starting:
                assert self.hosts[self.node_slot[other]] != mine
        else:
            assert not {s.key for s in action.unit.samples} & set(self.samples)
        self.running[action.node] = action

    def step(self) -> None:
        """One thing happens: an answer arrives, a unit ends or fails, a node dies, a late result comes."""
        choices = ["answer"] * bool(self.inbox) + ["end"] * bool(self.running)
        if self.engines and self.rng.random() < self.fault_share:
            choices.append("lose")
        if self.attempts and self.rng.random() < self.fault_share:
            choices.append("late")
        if self.evals and self.rng.random() < 0.02:
            choices.append("drop")
        match self.rng.choice(choices):
            case "answer":
                self._hear(self.inbox.pop(self.rng.randrange(len(self.inbox))))
            case "end":
                self._end(self.rng.choice(sorted(self.running)))
            case "lose":
                self._hear(NodeLost(self.rng.choice(sorted(self.engines)), "kill -9"))
            case "drop":
                # A rule ends an eval, or its later stages: some of its blocks are done, some run, some wait.
                keys = frozenset(self.rng.sample(self.evals, self.rng.randint(1, len(self.evals))))
                self.dropped |= keys
                self._hear(UnitsDropped(keys))
            case "late":
                key, attempt = self.rng.choice(sorted(self.attempts))
                current = [n for n, r in self.running.items() if (r.unit.key, r.attempt) == (key, attempt)]
                if not current:
                    self._hear(UnitDone("n0", key, attempt))

    def _end(self, node: str) -> None:
        action = self.running[node]
        if isinstance(action.unit, EvalUnit):
            for sample in action.unit.samples:
                if self.rng.random() < 1 - self.fault_share:
                    assert self.dispatcher.needs_sample(sample.key)
                    self.samples.append(sample.key)
                    self.take(self.dispatcher.handle(SampleDone(node, sample.key)))
        whole = isinstance(action.unit, PerfUnit) or {s.key for s in action.unit.samples} <= set(self.samples)
        if whole and self.rng.random() >= self.fault_share:
            self._hear(UnitDone(node, action.unit.key, action.attempt))
        else:
            cause = self.rng.choice(["engine_died", "timeout", "client", "bug"])
            self._hear(UnitFailed(node, action.unit.key, action.attempt, Failure(cause=cause, message="x")))

    def _hear(self, event: Event) -> None:
        match event:
            case EngineReady():
                if event.node not in self.engines:
                    return
                self.starting.discard(event.node)
            case EngineFailed() | EngineStopped():
                if event.node not in self.engines:
                    return
                self.starting.discard(event.node)
                self.engines[event.node] = None
            case NodeJoined():
                self.engines[event.node] = None
            case NodeLost():
                self.engines.pop(event.node, None)
                self.running.pop(event.node, None)
                self.starting.discard(event.node)
                self.inbox = [e for e in self.inbox if getattr(e, "node", None) != event.node]
            case UnitDone():
                if self.dispatcher.is_current(event.node, event.key, event.attempt):
                    assert event.key not in self.done
                    self.done.append(event.key)
                    del self.running[event.node]
            case UnitFailed():
                del self.running[event.node]
            case _:
                pass
        self.take(self.dispatcher.handle(event))


def play(seed: int, fault_share: float) -> World:
    rng = random.Random(seed)
    targets = ("a", "b", "c")[: rng.randint(1, 3)]
    slots = {i: (targets if rng.random() < 0.4 else (rng.choice(targets),)) for i in range(rng.randint(1, 4))}
    hosts = {i: rng.choice(["h0", "h1", "h2"]) for i in slots}
    units: list[PerfUnit | EvalUnit] = []
    for target in targets:
        units += [
            perf(target, size, repeat, launch)
            for launch in range(rng.randint(0, 2))
            for repeat in range(2)
            for size in (1, 2)
        ]
        units += [block(target, i) for i in range(rng.randint(0, 4))]
    world = World(Dispatcher(units, slots), slots, hosts, rng, fault_share)
    world.evals = [unit.key for unit in units if isinstance(unit, EvalUnit)]
    for slot in slots:
        world.join(slot)
    served = {t for ts in slots.values() for t in ts}
    steps = 0
    while world.inbox or world.running:
        world.step()
        steps += 1
        assert steps < 20_000, "the dispatcher never ends"
    assert world.dispatcher.finished
    assert len(world.done) == len(set(world.done))
    ended = {*world.done, *world.given_up}
    assert len(world.done) + len(world.given_up) == len(ended), "a unit ended twice"
    assert {u.key for u in units} - ended <= world.dropped
    assert world.dispatcher.counts()["dropped"] == len(units) - len(ended)
    if fault_share == 0:
        assert {u.key for u in units if u.target in served} - world.dropped <= set(world.done)
    return world


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.1, 0.3]))
def test_every_history_ends_with_each_unit_done_once_or_given_up(seed: int, fault_share: float) -> None:
    play(seed, fault_share)


def started(dispatcher: Dispatcher, targets: dict[str, str], hosts: dict[str, str] | None = None) -> list[Action]:
    """Join one node a target and bring its engine up; returns the actions of the last event."""
    actions: list[Action] = []
    for slot, node in enumerate(targets):
        dispatcher.handle(NodeJoined(node, slot, frozenset([(hosts or {}).get(node, node)])))
    for node in targets:
        actions = dispatcher.handle(EngineReady(node))
    return actions


def test_nodes_of_one_host_take_turns_point_by_point() -> None:
    units = [perf(t, size) for t in ("a", "b") for size in (1, 2)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("b",)})
    actions = started(dispatcher, {"n0": "a", "n1": "b"}, {"n0": "h", "n1": "h"})
    order = []
    while runs := [a for a in actions if isinstance(a, RunUnit)]:
        assert len(runs) == 1
        order.append(runs[0].unit.key)
        actions = dispatcher.handle(UnitDone(runs[0].node, runs[0].unit.key, runs[0].attempt))
    assert order == ["a-s-1-0-0", "b-s-1-0-0", "a-s-2-0-0", "b-s-2-0-0"]


def test_targets_of_one_node_take_turns_and_a_second_launch_is_a_second_start() -> None:
    units = [perf("a", 1), perf("a", 1, launch=1), perf("b", 1)]
    dispatcher = Dispatcher(units, {0: ("a", "b")})
    actions = dispatcher.handle(NodeJoined("n0", 0, frozenset(["h"])))
    seen = []
    while actions:
        action = actions[0]
        seen.append((type(action).__name__, getattr(action, "target", None), getattr(action, "launch", None)))
        match action:
            case StartEngine():
                actions = dispatcher.handle(EngineReady("n0"))
            case RunUnit():
                actions = dispatcher.handle(UnitDone("n0", action.unit.key, action.attempt))
            case _:
                actions = dispatcher.handle(EngineStopped("n0"))
    assert [s for s in seen if s[0] == "StartEngine"] == [
        ("StartEngine", "a", 0), ("StartEngine", "a", 1), ("StartEngine", "b", 0)
    ]  # fmt: skip
    assert dispatcher.finished


def test_a_lost_block_requeues_only_its_missing_samples() -> None:
    dispatcher = Dispatcher([block("a", 0)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    dispatcher.handle(SampleDone("n0", "a-q0-1"))
    assert dispatcher.handle(NodeLost("n0", "kill -9")) == [ReplaceNode(0)]
    dispatcher.handle(NodeJoined("n1", 0, frozenset(["h"])))
    [again] = dispatcher.handle(EngineReady("n1"))
    assert isinstance(again, RunUnit) and isinstance(again.unit, EvalUnit)
    assert [s.key for s in again.unit.samples] == ["a-q0-0", "a-q0-2"]
    assert again.attempt == 2


def test_a_late_result_of_a_lost_node_is_dropped() -> None:
    dispatcher = Dispatcher([perf("a", 1)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    dispatcher.handle(NodeLost("n0", "partition"))
    dispatcher.handle(NodeJoined("n1", 0, frozenset(["h"])))
    dispatcher.handle(EngineReady("n1"))
    assert not dispatcher.is_current("n0", "a-s-1-0-0", 1)
    assert (dispatcher.running_on("n0"), dispatcher.running_on("n1")) == (None, ("a-s-1-0-0", 2))
    dispatcher.handle(UnitDone("n0", "a-s-1-0-0", 1))
    assert dispatcher.counts()["running"] == 1


@pytest.mark.parametrize("cause", ["engine_died", "timeout", "client", "bug"])
def test_each_cause_has_its_own_budget(cause: str) -> None:
    dispatcher = Dispatcher([perf("a", 1)], {0: ("a",)})
    actions = started(dispatcher, {"n0": "a"})
    tries = 0
    while dispatcher.counts()["given_up"] == 0:
        for action in actions:
            match action:
                case RunUnit():
                    tries += 1
                    failure = Failure.model_validate({"cause": cause, "message": "x"})
                    actions = dispatcher.handle(UnitFailed("n0", action.unit.key, action.attempt, failure))
                case StopEngine():
                    actions = dispatcher.handle(EngineStopped("n0"))
                case StartEngine():
                    actions = dispatcher.handle(EngineReady("n0"))
                case _:
                    pass
    assert tries == RETRIES[cause] + 1


@pytest.mark.parametrize(("retry", "tries"), [(True, ENGINE_START_TRIES), (False, 1)])
def test_an_engine_that_does_not_start_gives_its_targets_units_up_with_the_reason(retry: bool, tries: int) -> None:
    dispatcher = Dispatcher([perf("a", 1), perf("b", 1)], {0: ("a",), 1: ("b",)})
    starts = dispatcher.handle(NodeJoined("n0", 0, frozenset(["h0"])))
    for _ in range(tries):
        assert starts == [StartEngine("n0", "a", 0)]
        starts = dispatcher.handle(EngineFailed("n0", "unknown flag --x", retry))
    [given_up] = starts
    assert isinstance(given_up, GiveUp)
    assert given_up.failure.message == "unknown flag --x"
    assert dispatcher.handle(NodeJoined("n1", 1, frozenset(["h1"]))) == [StartEngine("n1", "b", 0)]


def test_draining_starts_nothing_and_stops_the_engine_after_the_running_unit() -> None:
    dispatcher = Dispatcher([perf("a", 1), perf("a", 2)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    assert dispatcher.handle(Drain("Ctrl-C")) == []
    assert dispatcher.handle(UnitDone("n0", "a-s-1-0-0", 1)) == [StopEngine("n0", "draining")]
    assert not dispatcher.finished
    dispatcher.handle(EngineStopped("n0"))
    assert dispatcher.finished
    assert dispatcher.counts() == {"pending": 1, "running": 0, "done": 1, "dropped": 0, "given_up": 0}


def test_what_cannot_be_served_any_more_while_draining_stays_missing_and_is_not_given_up() -> None:
    dispatcher = Dispatcher([perf("a", 1)], {0: ("a",)})
    dispatcher.handle(NodeJoined("n0", 0, frozenset(["h"])))
    dispatcher.handle(Drain("Ctrl-C"))
    assert dispatcher.handle(EngineFailed("n0", "stopped by the user", retry=False)) == []
    assert dispatcher.handle(NodeLost("n0", "gone")) == []
    assert dispatcher.finished
    assert dispatcher.counts()["pending"] == 1


def test_a_resumed_dispatcher_does_only_what_is_missing_and_counts_attempts_on() -> None:
    units = [perf("a", 1), perf("a", 2), block("a", 0)]
    dispatcher = Dispatcher(
        units, {0: ("a",)}, done=["a-s-1-0-0"], done_samples=["a-q0-0"], attempts={"a-s-2-0-0": 1, "a-s-1-0-0": 1}
    )
    [run] = started(dispatcher, {"n0": "a"})
    assert isinstance(run, RunUnit) and (run.unit.key, run.attempt) == ("a-s-2-0-0", 2)
    [run] = dispatcher.handle(UnitDone("n0", "a-s-2-0-0", 2))
    assert isinstance(run, RunUnit) and isinstance(run.unit, EvalUnit) and len(run.unit.samples) == 2


def test_dropped_units_are_not_started_and_a_running_one_may_end() -> None:
    dispatcher = Dispatcher([block("a", i) for i in range(3)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    assert dispatcher.handle(UnitsDropped(frozenset(["a-e0", "a-e1", "unknown"]))) == []
    assert dispatcher.counts() == {"pending": 1, "running": 1, "done": 0, "dropped": 1, "given_up": 0}
    [run] = dispatcher.handle(UnitDone("n0", "a-e0", 1))
    assert isinstance(run, RunUnit) and run.unit.key == "a-e2"
    assert dispatcher.handle(UnitsDropped(frozenset(["a-e2"]))) == []
    assert dispatcher.handle(UnitDone("n0", "a-e2", 1)) == [StopEngine("n0", "no work left")]
    assert dispatcher.counts() == {"pending": 0, "running": 0, "done": 2, "dropped": 1, "given_up": 0}


def test_a_dropped_unit_that_fails_is_neither_tried_again_nor_given_up() -> None:
    dispatcher = Dispatcher([block("a", 0)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    dispatcher.handle(UnitsDropped(frozenset(["a-e0"])))
    actions = dispatcher.handle(UnitFailed("n0", "a-e0", 1, Failure(cause="client", message="x")))
    assert actions == [StopEngine("n0", "no work left")]
    assert dispatcher.counts()["dropped"] == 1


def test_what_was_dropped_before_any_node_came_ends_the_run_at_once() -> None:
    dispatcher = Dispatcher([block("a", 0)], {0: ("a",)})
    assert dispatcher.handle(UnitsDropped(frozenset(["a-e0"]))) == []
    assert dispatcher.finished

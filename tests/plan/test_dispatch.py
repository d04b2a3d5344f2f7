"""The dispatcher over thousands of random histories: its invariant, and the policies one by one."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import (
    Action,
    Drain,
    EngineFailed,
    EngineReady,
    EngineStopped,
    Event,
    GiveUp,
    NodeJoined,
    NodeLeaving,
    NodeLost,
    NodeSuspect,
    NodeWell,
    ReleaseNode,
    ReplaceNode,
    RunUnit,
    SampleDone,
    SlotLost,
    StartEngine,
    StopEngine,
    UnitDone,
    UnitFailed,
    UnitsDropped,
    WithdrawUnit,
)
from raybench.plan.states import ENGINE_START_TRIES, REPLACEMENTS, RETRIES
from raybench.records import (
    Check,
    CheckUnit,
    EvalUnit,
    Failure,
    Message,
    OneBatchLoad,
    PerfUnit,
    SampleSpec,
    Sampling,
    WarmUp,
)

SAMPLING = Sampling(temperature=0, max_tokens=8)


def perf(
    target: str, batch_size: int, repeat: int = 0, launch: int = 0, sweep: str = "s", place: int | None = None
) -> PerfUnit:
    return PerfUnit(
        key=f"{target}-{sweep}-{batch_size}-{repeat}-{launch}", target=target, sweep=sweep,
        load=OneBatchLoad(batch_size=batch_size, input_tokens=4, output_tokens=4), repeat=repeat, launch=launch,
        order=0, prompt_seed=1, warm_up=WarmUp(), timeout_s=1, place=place,
    )  # fmt: skip


def block(target: str, number: int, num_samples: int = 3, concurrency: int = 1) -> EvalUnit:
    samples = tuple(
        SampleSpec(
            key=f"{target}-q{number}-{i}", question=f"q{number}-{i}", repeat=0,
            messages=(Message(role="user", content="?"),), gold="1", seed=1,
        )
        for i in range(num_samples)
    )  # fmt: skip
    return EvalUnit(
        key=f"{target}-e{number}", target=target, eval="sums", block=number, samples=samples, sampling=SAMPLING,
        concurrency=concurrency, timeout_s=1,
    )  # fmt: skip


def check(target: str, name: Check, place: int = 0) -> CheckUnit:
    return CheckUnit(key=f"{target}-{name}-{place}", target=target, check=name, place=place, timeout_s=1)


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
    running: dict[str, dict[str, RunUnit]] = field(default_factory=dict)
    """What every node was given, oldest first; no node without anything stands here."""
    leaving: set[str] = field(default_factory=set)
    suspect: set[str] = field(default_factory=set)
    first_points: dict[str, str] = field(default_factory=dict)
    """Key of the point that must come back before any other of its target runs."""
    withdrawn: set[tuple[str, int]] = field(default_factory=set)
    node_slot: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    samples: list[str] = field(default_factory=list)
    attempts: set[tuple[str, int]] = field(default_factory=set)
    checks: list[CheckUnit] = field(default_factory=list)
    checked: dict[str, set[str]] = field(default_factory=dict)
    """Checks that have ended on the engine that the node has now."""
    stopped: set[str] = field(default_factory=set)
    """Targets of which a check has said stop."""
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
                    assert action.node not in self.suspect
                    assert action.target in self.slots[self.node_slot[action.node]]
                    self._nobody_measures_on(action.node)
                    self.starting.add(action.node)
                    self.engines[action.node] = (action.target, action.launch)
                    self.checked[action.node] = set()
                    faulty = self.rng.random() < self.fault_share
                    self.inbox.append(
                        EngineFailed(action.node, "no", self.rng.random() < 0.8) if faulty else EngineReady(action.node)
                    )
                case StopEngine():
                    assert action.node not in self.running
                    self.inbox.append(EngineStopped(action.node))
                case RunUnit():
                    self._run(action)
                case WithdrawUnit():
                    assert self.running[action.node][action.key].attempt == action.attempt
                    self.withdrawn.add((action.key, action.attempt))
                case ReleaseNode():
                    assert action.node in self.leaving and action.node not in self.running
                    assert self.engines.pop(action.node) is None
                case ReplaceNode():
                    if self.rng.random() < self.fault_share:
                        self.inbox.append(SlotLost(action.slot, "gone"))
                    else:
                        self.join(action.slot)
                case GiveUp():
                    self.given_up.append(action.key)

    def _nobody_measures_on(self, node: str) -> None:
        for other in self.running.keys() - {node}:
            if self._measures(other):
                assert self.hosts[self.node_slot[other]] != self.hosts[self.node_slot[node]]

    def _measures(self, node: str) -> bool:
        return any(isinstance(run.unit, PerfUnit) for run in self.running.get(node, {}).values())

    def _run(self, action: RunUnit) -> None:
        assert (action.unit.key, action.attempt) not in self.attempts
        self.attempts.add((action.unit.key, action.attempt))
        assert action.unit.key not in self.done + self.given_up
        assert action.unit.key not in self.dropped, "a dropped unit was started"
        assert action.node not in self.starting | self.leaving | self.suspect
        assert not any(action.unit.key in there for there in self.running.values())
        engine = self.engines[action.node]
        assert engine is not None and engine[0] == action.unit.target
        self._nobody_measures_on(action.node)
        beside = self.running.setdefault(action.node, {})
        if isinstance(action.unit, PerfUnit):
            assert engine[1] == action.unit.launch
            mine = self.hosts[self.node_slot[action.node]]
            for other in (self.running.keys() | self.starting) - {action.node}:
                assert self.hosts[self.node_slot[other]] != mine
            self._in_turn(action, list(beside.values()))
            assert action.unit.place in (None, self._place(action.node, engine[0]))
        elif isinstance(action.unit, CheckUnit):
            assert not beside
            assert action.unit.key in self._owed(action.node)
        else:
            self._side_by_side(action.unit, list(beside.values()))
            assert not self._owed(action.node)
            assert action.unit.target not in self.stopped
            assert not {s.key for s in action.unit.samples} & set(self.samples)
        beside[action.unit.key] = action

    def _in_turn(self, action: RunUnit, beside: list[RunUnit]) -> None:
        """One point runs and one more may wait for its turn, on a host of the node's own; the first point is alone."""
        assert len(beside) <= 1 and all(isinstance(run.unit, PerfUnit) for run in beside)
        mine = self.hosts[self.node_slot[action.node]]
        there = [n for n in self.engines if self.hosts[self.node_slot[n]] == mine]
        assert not beside or there == [action.node]
        first = self.first_points.get(action.unit.target)
        assert first in (None, action.unit.key, *self.done), "a point ran before its target's first one was back"

    def _side_by_side(self, unit: EvalUnit, beside: list[RunUnit]) -> None:
        in_flight = 0
        for run in beside:
            assert isinstance(run.unit, EvalUnit)
            in_flight += len({s.key for s in run.unit.samples} - set(self.samples))
        assert not beside or in_flight + len(unit.samples) <= unit.concurrency

    def _owed(self, node: str) -> set[str]:
        """Checks of the node's place that have not ended on its engine."""
        engine = self.engines[node]
        assert engine is not None
        place = self._place(node, engine[0])
        mine = {unit.key for unit in self.checks if (unit.target, unit.place) == (engine[0], place)}
        return mine - self.checked[node] - set(self.given_up)

    def _place(self, node: str, target: str) -> int:
        return sorted(s for s, targets in self.slots.items() if target in targets).index(self.node_slot[node])

    def step(self) -> None:
        """One thing happens: an answer arrives, a unit ends or fails, a node dies, a late result comes."""
        choices = ["answer"] * bool(self.inbox) + ["end"] * bool(self.running)
        if self.engines and self.rng.random() < self.fault_share:
            choices += ["lose", "leave", "suspect"]
        if self.attempts and self.rng.random() < self.fault_share:
            choices.append("late")
        if self.evals and self.rng.random() < 0.02:
            choices.append("drop")
        if self._blocks():
            choices.append("sample")
        match self.rng.choice(choices):
            case "answer":
                self._hear(self.inbox.pop(self.rng.randrange(len(self.inbox))))
            case "end":
                node = self.rng.choice(sorted(self.running))
                there = self.running[node]
                self._end(node, there[next(iter(there)) if self._measures(node) else self.rng.choice(sorted(there))])
            case "sample":
                self._sample()
            case rare:
                self._rare(rare)

    def _rare(self, what: str) -> None:
        match what:
            case "lose":
                self._hear(NodeLost(self.rng.choice(sorted(self.engines)), "kill -9"))
            case "leave":
                node = self.rng.choice(sorted(self.engines))
                self.leaving.add(node)
                self._hear(NodeLeaving(node, "spot"))
            case "suspect":
                node = self.rng.choice(sorted(self.engines))
                self.suspect.add(node)
                self.inbox.append(NodeWell(node))
                self._hear(NodeSuspect(node, "no answer"))
            case "drop":
                # A rule ends an eval, or its later stages: some of its blocks are done, some run, some wait.
                keys = frozenset(self.rng.sample(self.evals, self.rng.randint(1, len(self.evals))))
                self.dropped |= keys
                self._hear(UnitsDropped(keys))
            case _:
                key, attempt = self.rng.choice(sorted(self.attempts))
                if not any(key in there and there[key].attempt == attempt for there in self.running.values()):
                    self._hear(UnitDone("n0", key, attempt))

    def _blocks(self) -> list[tuple[str, EvalUnit]]:
        found = [(node, run.unit) for node, there in self.running.items() for run in there.values()]
        return [(node, unit) for node, unit in found if isinstance(unit, EvalUnit)]

    def _sample(self) -> None:
        """A sample of a running block ends, long before the block does."""
        node, unit = self.rng.choice(self._blocks())
        left = [sample.key for sample in unit.samples if sample.key not in self.samples]
        if left:
            self.samples.append(left[0])
            self.take(self.dispatcher.handle(SampleDone(node, left[0])))

    def _end(self, node: str, action: RunUnit) -> None:
        if (action.unit.key, action.attempt) in self.withdrawn and self.rng.random() < 0.8:
            failure = Failure(cause="withdrawn", message="it never began")
            self._hear(UnitFailed(node, action.unit.key, action.attempt, failure))
            return
        if isinstance(action.unit, EvalUnit):
            for sample in action.unit.samples:
                if sample.key not in self.samples and self.rng.random() < 1 - self.fault_share:
                    assert self.dispatcher.needs_sample(sample.key)
                    self.samples.append(sample.key)
                    self.take(self.dispatcher.handle(SampleDone(node, sample.key)))
        if isinstance(action.unit, CheckUnit) and self.rng.random() >= self.fault_share:
            self._end_check(node, action)
            return
        asked = {s.key for s in action.unit.samples} if isinstance(action.unit, EvalUnit) else set()
        whole = not isinstance(action.unit, CheckUnit) and asked <= set(self.samples)
        if whole and self.rng.random() >= self.fault_share:
            self._hear(UnitDone(node, action.unit.key, action.attempt))
        else:
            cause = self.rng.choice(["engine_died", "timeout", "client", "bug"])
            self._hear(UnitFailed(node, action.unit.key, action.attempt, Failure(cause=cause, message="x")))

    def _done(self, event: UnitDone) -> None:
        assert event.key not in self.done
        if not isinstance(self.running[event.node][event.key].unit, CheckUnit):
            self.done.append(event.key)
        self._forget(event)

    def _forget(self, event: UnitDone | UnitFailed) -> None:
        del self.running[event.node][event.key]
        if not self.running[event.node]:
            del self.running[event.node]

    def _end_check(self, node: str, action: RunUnit) -> None:
        self.checked[node].add(action.unit.key)
        stop = "the template is wrong" if self.rng.random() < self.fault_share / 4 else None
        if stop:
            self.stopped.add(action.unit.target)
        self._hear(UnitDone(node, action.unit.key, action.attempt, stop))

    def _hear(self, event: Event) -> None:
        match event:
            case EngineReady() | EngineFailed() | EngineStopped():
                if event.node not in self.engines:
                    return
                self.starting.discard(event.node)
                if not isinstance(event, EngineReady):
                    self.engines[event.node] = None
            case NodeJoined():
                self.engines[event.node] = None
            case NodeWell():
                self.suspect.discard(event.node)
            case NodeLost():
                self.engines.pop(event.node, None)
                self.running.pop(event.node, None)
                self.starting.discard(event.node)
                self.leaving.discard(event.node)
                self.suspect.discard(event.node)
                self.inbox = [e for e in self.inbox if getattr(e, "node", None) != event.node]
            case UnitDone():
                if self.dispatcher.is_current(event.node, event.key, event.attempt):
                    self._done(event)
            case UnitFailed():
                self._forget(event)
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
        if rng.random() < 0.4:
            # One place more than there are nodes: nobody can do its points.
            num_places = sum(target in served for served in slots.values()) + 1
            units += [
                perf(target, size, place, sweep="every", place=place) for place in range(num_places) for size in (1, 2)
            ]
        units += [block(target, i, 3, rng.choice([1, 6, 8])) for i in range(rng.randint(0, 4))]
    checks = [check(t, name, place) for t in targets for name in ("prompt", "canary") for place in range(len(slots))]
    checks = checks if rng.random() < 0.7 else []
    world = World(Dispatcher([*checks, *units], slots), slots, hosts, rng, fault_share, checks=checks)
    for unit in units:
        if isinstance(unit, PerfUnit) and unit.place is None:
            world.first_points.setdefault(unit.target, unit.key)
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
    given_up = [key for key in world.given_up if key not in {c.key for c in checks}]
    ended = {*world.done, *given_up}
    assert len(world.done) + len(given_up) == len(ended), "a unit ended twice"
    assert {u.key for u in units} - ended <= world.dropped
    assert world.dispatcher.counts()["dropped"] == len(units) - len(ended)
    if fault_share == 0:
        places = {target: sum(target in one for one in slots.values()) for target in targets}
        homeless = {u.key for u in units if isinstance(u, PerfUnit) and u.place == places[u.target]}
        assert {u.key for u in units if u.target in served} - world.dropped - homeless <= set(world.done)
        assert homeless <= set(given_up)
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


def test_a_suspect_node_gets_nothing_new_and_the_others_take_what_waits() -> None:
    units = [block("a", number) for number in range(4)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",)})
    started(dispatcher, {"n0": "a", "n1": "a"})
    assert dispatcher.handle(NodeSuspect("n0", "no answer for 10 s")) == []
    assert runs(dispatcher.handle(UnitDone("n0", "a-e0", 1))) == [], "what it had counts when it comes"
    assert runs(dispatcher.handle(UnitDone("n1", "a-e1", 1))) == ["a-e2"]
    assert runs(dispatcher.handle(NodeWell("n0"))) == ["a-e3"]
    assert dispatcher.handle(NodeSuspect("n9", "not there")) == []


def test_a_suspect_node_starts_no_engine_and_is_no_reason_to_hold_a_point_back() -> None:
    dispatcher = Dispatcher([perf("a", size, repeat) for repeat in (0, 1) for size in (1, 2)], {0: ("a",), 1: ("a",)})
    dispatcher.handle(NodeJoined("n0", 0, frozenset(["h0"])))
    dispatcher.handle(NodeSuspect("n1", "unknown yet"))
    dispatcher.handle(EngineReady("n0"))
    dispatcher.handle(NodeJoined("n1", 1, frozenset(["h1"])))
    dispatcher.handle(NodeSuspect("n1", "no answer"))
    dispatcher.handle(EngineReady("n1"))
    assert runs(dispatcher.handle(UnitDone("n0", "a-s-1-0-0", 1))) == ["a-s-2-0-0", "a-s-1-1-0"], (
        "the other repeat waits behind it instead of for the suspect"
    )
    assert not any(isinstance(action, RunUnit) and action.node == "n1" for action in dispatcher.handle(NodeWell("n1")))


def test_the_first_point_of_a_suspect_node_goes_to_another_one() -> None:
    dispatcher = Dispatcher([perf("a", 1), perf("a", 2), block("a", 0)], {0: ("a",), 1: ("a",)})
    started(dispatcher, {"n0": "a", "n1": "a"})
    dispatcher.handle(NodeSuspect("n0", "no answer"))
    failure = Failure(cause="client", message="reset")
    assert runs(dispatcher.handle(UnitFailed("n0", "a-s-1-0-0", 1, failure))) == ["a-s-1-0-0"]
    assert dispatcher.running_on("n1") == (("a-s-1-0-0", 2),)


def test_a_suspect_node_is_stopped_when_all_is_done_and_replaced_when_it_is_lost() -> None:
    dispatcher = Dispatcher([block("a", 0), block("a", 1)], {0: ("a",), 1: ("a",)})
    started(dispatcher, {"n0": "a", "n1": "a"})
    dispatcher.handle(NodeSuspect("n0", "no answer"))
    dispatcher.handle(UnitDone("n1", "a-e1", 1))
    dispatcher.handle(NodeSuspect("n1", "no answer"))
    assert dispatcher.handle(NodeLost("n0", "no answer for 300 s")) == [ReplaceNode(0)]
    dispatcher.handle(NodeJoined("n2", 0, frozenset(["h2"])))
    dispatcher.handle(EngineReady("n2"))
    assert StopEngine("n1", "no work left") in dispatcher.handle(UnitDone("n2", "a-e0", 2))


def test_a_late_result_of_a_lost_node_is_dropped() -> None:
    dispatcher = Dispatcher([perf("a", 1)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    dispatcher.handle(NodeLost("n0", "partition"))
    dispatcher.handle(NodeJoined("n1", 0, frozenset(["h"])))
    dispatcher.handle(EngineReady("n1"))
    assert not dispatcher.is_current("n0", "a-s-1-0-0", 1)
    assert (dispatcher.running_on("n0"), dispatcher.running_on("n1")) == ((), (("a-s-1-0-0", 2),))
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


def test_draining_leaves_engines_that_are_kept_and_starts_nothing_on_them() -> None:
    dispatcher = Dispatcher(
        [block("a", 0), block("a", 1), block("a", 2)], {0: ("a",), 1: ("a",)}, stay=frozenset(["drained"])
    )
    started(dispatcher, {"n0": "a", "n1": "a"})
    assert dispatcher.handle(Drain("SIGINT")) == []
    assert dispatcher.handle(UnitDone("n0", "a-e0", 1)) == [] and not dispatcher.finished
    stopped = Failure(cause="stopped", message="stopped by the user")
    assert dispatcher.handle(UnitFailed("n1", "a-e1", 1, stopped)) == []
    assert dispatcher.finished


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


def runs(actions: list[Action]) -> list[str]:
    return [action.unit.key for action in actions if isinstance(action, RunUnit)]


def test_a_node_is_checked_after_its_perf_units_and_before_its_first_sample() -> None:
    units = [check("a", "limits"), check("a", "canary"), perf("a", 1), block("a", 0)]
    dispatcher = Dispatcher(units, {0: ("a",)})
    actions = started(dispatcher, {"n0": "a"})
    order = runs(actions)
    while started_now := runs(actions := dispatcher.handle(UnitDone("n0", order[-1], 1))):
        order += started_now
    assert order == ["a-s-1-0-0", "a-limits-0", "a-canary-0", "a-e0"]
    assert dispatcher.counts() == {"pending": 0, "running": 0, "done": 2, "dropped": 0, "given_up": 0}


def test_a_node_without_samples_to_answer_is_not_checked() -> None:
    dispatcher = Dispatcher([check("a", "canary"), perf("a", 1)], {0: ("a",)})
    started(dispatcher, {"n0": "a"})
    assert dispatcher.handle(UnitDone("n0", "a-s-1-0-0", 1)) == [StopEngine("n0", "no work left")]
    dispatcher.handle(EngineStopped("n0"))
    assert dispatcher.finished


def test_every_place_of_a_target_has_its_own_checks() -> None:
    units = [check("a", "canary", 0), check("a", "canary", 1), block("a", 0), block("a", 1)]
    dispatcher = Dispatcher(units, {3: ("a",), 5: ("a",)})
    dispatcher.handle(NodeJoined("n0", 5, frozenset(["h0"])))
    dispatcher.handle(NodeJoined("n1", 3, frozenset(["h1"])))
    assert runs(dispatcher.handle(EngineReady("n0"))) == ["a-canary-1"]
    assert runs(dispatcher.handle(EngineReady("n1"))) == ["a-canary-0"]


def test_a_restarted_engine_and_a_replaced_node_are_checked_again_as_new_attempts() -> None:
    dispatcher = Dispatcher([check("a", "canary"), block("a", 0)], {0: ("a",)}, attempts={"a-canary-0": 4})
    [run] = started(dispatcher, {"n0": "a"})
    assert isinstance(run, RunUnit) and (run.unit.key, run.attempt) == ("a-canary-0", 5)
    assert runs(dispatcher.handle(UnitDone("n0", "a-canary-0", 5))) == ["a-e0"]
    dispatcher.handle(UnitFailed("n0", "a-e0", 1, Failure(cause="engine_died", message="signal 9")))
    assert dispatcher.handle(EngineStopped("n0")) == [StartEngine("n0", "a", 0)]
    [run] = dispatcher.handle(EngineReady("n0"))
    assert isinstance(run, RunUnit) and (run.unit.key, run.attempt) == ("a-canary-0", 6)
    dispatcher.handle(NodeLost("n0", "gone"))
    dispatcher.handle(NodeJoined("n1", 0, frozenset(["h"])))
    [run] = dispatcher.handle(EngineReady("n1"))
    assert isinstance(run, RunUnit) and (run.unit.key, run.attempt) == ("a-canary-0", 7)


def test_a_stop_gives_up_the_targets_samples_with_its_reason_and_lets_perf_units_and_other_targets_run() -> None:
    units = [check("a", "prompt"), block("a", 0), block("a", 1), perf("a", 1, launch=1), block("b", 0)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("b",)})
    assert runs(started(dispatcher, {"n0": "a", "n1": "b"})) == ["b-e0"]
    actions = dispatcher.handle(UnitDone("n0", "a-prompt-0", 1, "preflight: another template"))
    given_up = [action for action in actions if isinstance(action, GiveUp)]
    assert [(action.key, action.failure.cause) for action in given_up] == [("a-e0", "preflight"), ("a-e1", "preflight")]
    assert {action.failure.message for action in given_up} == {"preflight: another template"}
    assert [type(action) for action in actions if not isinstance(action, GiveUp)] == [StopEngine]
    assert dispatcher.handle(EngineStopped("n0")) == [StartEngine("n0", "a", 1)]
    assert runs(dispatcher.handle(EngineReady("n0"))) == ["a-s-1-0-1"]
    dispatcher.handle(UnitDone("n0", "a-s-1-0-1", 1))
    dispatcher.handle(UnitDone("n1", "b-e0", 1))
    assert dispatcher.counts() == {"pending": 0, "running": 0, "done": 2, "dropped": 0, "given_up": 2}


def test_a_block_that_comes_back_after_the_stop_is_given_up_too() -> None:
    units = [check("a", "prompt", 1), block("a", 0), block("a", 1)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",)})
    assert runs(started(dispatcher, {"n0": "a", "n1": "a"})) == ["a-prompt-1"]
    dispatcher.handle(UnitDone("n1", "a-prompt-1", 1, "stop"))
    actions = dispatcher.handle(UnitFailed("n0", "a-e0", 1, Failure(cause="client", message="x")))
    assert [(a.key, a.attempt) for a in actions if isinstance(a, GiveUp)] == [("a-e0", 1)]


def test_a_check_that_cannot_be_made_is_given_up_and_the_samples_go_on() -> None:
    dispatcher = Dispatcher([check("a", "canary"), block("a", 0)], {0: ("a",)})
    actions = started(dispatcher, {"n0": "a"})
    attempt = 0
    while runs(actions) == ["a-canary-0"]:
        attempt += 1
        actions = dispatcher.handle(UnitFailed("n0", "a-canary-0", attempt, Failure(cause="client", message="x")))
    assert attempt == RETRIES["client"] + 1
    assert runs(actions) == ["a-e0"]
    assert [action.key for action in actions if isinstance(action, GiveUp)] == ["a-canary-0"]


def test_after_a_stop_the_engines_that_are_up_make_their_other_checks_and_no_engine_starts_for_samples() -> None:
    units = [check("a", "prompt"), check("a", "canary"), block("a", 0)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",)})
    assert runs(started(dispatcher, {"n0": "a"})) == ["a-prompt-0"]
    assert dispatcher.handle(UnitDone("n0", "a-prompt-0", 1, "no generation prompt"))[0] == RunUnit("n0", units[1], 1)
    assert dispatcher.handle(NodeJoined("n1", 1, frozenset(["h1"]))) == []
    actions = dispatcher.handle(UnitDone("n0", "a-canary-0", 1, "canaries"))
    assert [type(action) for action in actions] == [GiveUp, StopEngine]
    assert isinstance(actions[0], GiveUp) and actions[0].failure.message == "no generation prompt"


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


def joined(dispatcher: Dispatcher, *nodes: str) -> list[Action]:
    """One node for each slot, with its engine up; returns the actions of all engines' events."""
    actions: list[Action] = []
    for slot, node in enumerate(nodes):
        dispatcher.handle(NodeJoined(node, slot, frozenset([node])))
    for node in nodes:
        actions += dispatcher.handle(EngineReady(node))
    return actions


def given(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.node, action.unit.key) for action in actions if isinstance(action, RunUnit)]


def test_blocks_run_side_by_side_up_to_the_concurrency_and_every_sample_makes_room() -> None:
    dispatcher = Dispatcher([block("a", i, 3, 7) for i in range(4)], {0: ("a",)})
    assert given(joined(dispatcher, "n0")) == [("n0", "a-e0"), ("n0", "a-e1")]
    assert dispatcher.handle(SampleDone("n0", "a-q1-0")) == [], "five are in flight, and three more are eight"
    assert dispatcher.handle(SampleDone("n0", "a-q1-0")) == [], "told twice"
    assert given(dispatcher.handle(SampleDone("n0", "a-q0-0"))) == [("n0", "a-e2")]
    assert [key for key, _ in dispatcher.running_on("n0")] == ["a-e0", "a-e1", "a-e2"]


def test_blocks_are_spread_over_the_nodes_of_their_target_and_never_go_to_another() -> None:
    units = [block("a", i, 2, 4) for i in range(6)] + [block("b", 0, 2, 4)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",), 2: ("b",)})
    for slot, node in enumerate(("n0", "n1", "n2")):
        dispatcher.handle(NodeJoined(node, slot, frozenset([node])))
    assert given(dispatcher.handle(EngineReady("n2"))) == [("n2", "a-e0".replace("a", "b"))]
    assert given(dispatcher.handle(EngineReady("n0"))) == [("n0", "a-e0"), ("n0", "a-e1")]
    assert given(dispatcher.handle(EngineReady("n1"))) == [("n1", "a-e2"), ("n1", "a-e3")]
    dispatcher.handle(SampleDone("n0", "a-q0-0"))
    assert given(dispatcher.handle(SampleDone("n0", "a-q0-1"))) == [("n0", "a-e4")], "the one with room takes the next"


def test_a_node_that_failed_a_block_is_stopped_only_when_its_other_blocks_have_ended() -> None:
    dispatcher = Dispatcher([block("a", i, 1, 4) for i in range(2)], {0: ("a",)})
    joined(dispatcher, "n0")
    assert dispatcher.handle(UnitFailed("n0", "a-e0", 1, Failure(cause="engine_died", message="x"))) == []
    assert dispatcher.handle(UnitFailed("n0", "a-e1", 1, Failure(cause="engine_died", message="x"))) == [
        StopEngine("n0", "engine_died")
    ]


def test_the_cheapest_point_goes_first_alone_and_the_fan_out_follows() -> None:
    units = [perf("a", size, repeat) for repeat in range(2) for size in (16, 1, 4)]
    dispatcher = Dispatcher([*units, block("a", 0)], {0: ("a",), 1: ("a",)})
    assert given(joined(dispatcher, "n0", "n1")) == [("n0", "a-s-1-0-0")]
    actions = dispatcher.handle(UnitDone("n0", "a-s-1-0-0", 1))
    assert given(actions)[:2] == [("n1", "a-s-16-1-0"), ("n0", "a-s-16-0-0")]


def test_a_first_point_that_cannot_be_measured_takes_the_others_along_but_not_the_samples() -> None:
    dispatcher = Dispatcher([perf("a", 1), perf("a", 4), perf("b", 4), block("a", 0)], {0: ("a",), 1: ("b",)})
    actions = joined(dispatcher, "n0", "n1")
    for attempt in range(1, RETRIES["client"] + 2):
        failure = Failure(cause="client", message="refused")
        actions = dispatcher.handle(UnitFailed("n0", "a-s-1-0-0", attempt, failure))
    given_up = [action for action in actions if isinstance(action, GiveUp)]
    assert [action.key for action in given_up] == ["a-s-1-0-0", "a-s-4-0-0"]
    assert "first and cheapest point (a-s-1-0-0)" in given_up[1].failure.message
    assert given(actions) == [("n0", "a-e0")]
    assert dispatcher.counts() == {"pending": 0, "running": 2, "done": 0, "dropped": 0, "given_up": 2}


def test_a_target_that_a_point_came_back_from_needs_no_first_one_on_resume() -> None:
    units = [perf("a", 1, 0), perf("a", 4, 0), perf("a", 1, 1), perf("a", 4, 1)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",)}, done=["a-s-4-1-0"])
    assert given(joined(dispatcher, "n0", "n1")) == [
        ("n0", "a-s-1-0-0"), ("n0", "a-s-4-0-0"), ("n1", "a-s-1-1-0")
    ]  # fmt: skip


def leading(*units: PerfUnit, nodes: int = 1) -> tuple[Dispatcher, list[Action]]:
    """A dispatcher whose first point is back; returns what follows from that."""
    dispatcher = Dispatcher(units, dict.fromkeys(range(nodes), ("a",)))
    joined(dispatcher, *(f"n{number}" for number in range(nodes)))
    return dispatcher, dispatcher.handle(UnitDone("n0", units[0].key, 1))


def test_the_next_point_waits_at_the_node() -> None:
    dispatcher, actions = leading(*(perf("a", size) for size in (1, 2, 3, 4)))
    assert given(actions) == [("n0", "a-s-2-0-0"), ("n0", "a-s-3-0-0")]
    assert given(dispatcher.handle(UnitDone("n0", "a-s-2-0-0", 1))) == [("n0", "a-s-4-0-0")]


def test_a_point_that_another_node_could_begin_does_not_wait() -> None:
    _, actions = leading(perf("a", 1), perf("a", 2), perf("a", 1, 1), nodes=2)
    assert given(actions) == [("n1", "a-s-1-1-0"), ("n0", "a-s-2-0-0")]


def test_no_point_waits_where_another_node_shares_the_host() -> None:
    dispatcher = Dispatcher([*(perf(t, n) for t in ("a", "b") for n in (1, 2, 3))], {0: ("a",), 1: ("b",)})
    started(dispatcher, {"n0": "a", "n1": "b"}, {"n0": "h", "n1": "h"})
    assert given(dispatcher.handle(UnitDone("n0", "a-s-1-0-0", 1))) == [("n1", "b-s-1-0-0")]


def test_a_point_that_only_waited_costs_nothing_when_its_node_is_lost_or_its_engine_fails() -> None:
    dispatcher, _ = leading(*(perf("a", size) for size in (1, 2, 3)))
    for attempt in range(1, 6):
        dispatcher.handle(UnitFailed("n0", "a-s-3-0-0", attempt, Failure(cause="withdrawn", message="it waited")))
        dispatcher.handle(UnitFailed("n0", "a-s-2-0-0", attempt, Failure(cause="withdrawn", message="it waited")))
    assert dispatcher.counts()["given_up"] == 0
    told = [(key, failure.cause) for key, _, failure in dispatcher.losses("n0", "gone")]
    assert [cause for _, cause in told] == ["node_lost", "withdrawn"]
    lost = dispatcher.handle(NodeLost("n0", "gone"))
    assert lost == [ReplaceNode(0)] and dispatcher.losses("n0", "gone") == []
    assert dispatcher.counts() == {"pending": 2, "running": 0, "done": 1, "dropped": 0, "given_up": 0}


def test_a_node_that_leaves_hands_back_what_waits_ends_what_runs_and_is_replaced_meanwhile() -> None:
    dispatcher, _ = leading(*(perf("a", size) for size in (1, 2, 3, 4)))
    assert dispatcher.handle(NodeLeaving("n0", "spot notice")) == [
        WithdrawUnit("n0", "a-s-3-0-0", 1), ReplaceNode(0)
    ]  # fmt: skip
    assert dispatcher.handle(NodeLeaving("n0", "spot notice")) == []
    dispatcher.handle(NodeJoined("n1", 0, frozenset(["n1"])))
    assert given(dispatcher.handle(EngineReady("n1"))) == [("n1", "a-s-4-0-0")]
    dispatcher.handle(UnitDone("n0", "a-s-2-0-0", 1))
    actions = dispatcher.handle(UnitFailed("n0", "a-s-3-0-0", 1, Failure(cause="withdrawn", message="x")))
    assert StopEngine("n0", "spot notice") in actions and given(actions) == [("n1", "a-s-3-0-0")]
    assert dispatcher.handle(EngineStopped("n0")) == [ReleaseNode("n0", "spot notice")]
    assert dispatcher.handle(NodeLost("n0", "gone")) == []


def test_a_node_that_joins_late_gets_work_and_what_waits_for_it_is_not_given_up() -> None:
    dispatcher = Dispatcher([block("a", i) for i in range(3)], {0: ("a",), 1: ("a",)})
    dispatcher.handle(NodeJoined("n0", 0, frozenset(["n0"])))
    assert given(dispatcher.handle(EngineReady("n0"))) == [("n0", "a-e0")]
    dispatcher.handle(NodeJoined("n1", 1, frozenset(["n1"])))
    assert given(dispatcher.handle(EngineReady("n1"))) == [("n1", "a-e1")]


def test_every_node_does_the_points_of_its_own_place_and_a_node_in_its_stead_the_rest() -> None:
    units = [perf("a", size, place, sweep="every", place=place) for place in range(2) for size in (1, 2)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",)})
    actions = started(dispatcher, {"n0": "a", "n1": "a"})
    assert [(a.node, a.unit.key) for a in actions if isinstance(a, RunUnit)][-1] == ("n1", "a-every-2-1-0")
    for size in (1, 2):
        dispatcher.handle(UnitDone("n0", f"a-every-{size}-0-0", 1))
    assert not dispatcher.finished
    # The quick node takes nothing of the lost one's: what it did would say nothing of the other machine.
    actions = dispatcher.handle(NodeLost("n1", "kill -9"))
    assert [a for a in actions if isinstance(a, RunUnit)] == []
    dispatcher.handle(NodeJoined("n2", 1, frozenset(["n2"])))
    actions = dispatcher.handle(EngineReady("n2"))
    assert {(a.node, a.unit.key) for a in actions if isinstance(a, RunUnit)} == {
        ("n2", "a-every-1-1-0"),
        ("n2", "a-every-2-1-0"),
    }


def test_points_of_a_place_that_no_node_fills_are_given_up_and_the_others_are_measured() -> None:
    units = [perf("a", 1, place, sweep="every", place=place) for place in range(2)]
    dispatcher = Dispatcher(units, {0: ("a",), 1: ("a",)})
    dispatcher.handle(NodeJoined("n0", 0, frozenset(["n0"])))
    actions = dispatcher.handle(SlotLost(1, "no machine"))
    assert [(a.key, a.failure.message) for a in actions if isinstance(a, GiveUp)] == [
        ("a-every-1-1-0", "no node is left that could serve the target; no machine")
    ]
    assert runs(dispatcher.handle(EngineReady("n0"))) == ["a-every-1-0-0"]


def test_what_waits_for_a_suspect_node_is_begun_by_another_as_soon_as_its_last_unit_is_back() -> None:
    dispatcher, actions = leading(perf("a", 1), *(perf("a", size, 1) for size in (1, 2, 3, 4)), nodes=2)
    taken = given(actions)
    assert len({node for node, _ in taken}) == 1, "the points of a repeat stay together"
    suspect, other = ("n0", "n1") if taken[0][0] == "n0" else ("n1", "n0")
    dispatcher.handle(NodeSuspect(suspect, "no answer"))
    for _, key in taken:
        assert dispatcher.counts()["pending"] > 0
        actions = dispatcher.handle(UnitDone(suspect, key, 1))
    assert given(actions)[0] == (other, "a-s-3-1-0")


def test_why_a_target_is_given_up_tells_of_machines_that_were_replaced_too_often() -> None:
    dispatcher = Dispatcher([block("a", 0), block("a", 1)], {0: ("a",)})
    actions: list[Action] = []
    for number in range(REPLACEMENTS + 1):
        name = f"n{number}"
        started(dispatcher, {name: "a"})
        actions = dispatcher.handle(NodeLost(name, "spot notice"))
    told = {action.key: action.failure.message for action in actions if isinstance(action, GiveUp)}
    assert told["a-e1"].endswith(f"; a node was lost that was the last of {REPLACEMENTS} replacements")

"""Who does what next: a pure state machine, events in, actions out.

Invariant, after every event:
1. Every unit is in exactly one state: pending, running on exactly one node, done, dropped, or given up; done and
   dropped are for ever.
2. While a perf unit runs, no other unit runs and no engine starts on any of its hosts. Behind it one more perf unit may
   wait at the node for its turn, where no other node shares the hosts.
3. A unit runs only on a node whose engine is ready for its target, and a perf unit only on the launch that it asks for.
4. All perf units of one (target, sweep, repeat, launch) that run while their node lives run on that node, in order, but
   for the target's cheapest point: it goes first, and no other runs before it has come back.
5. A block of samples runs only where every check of the node's place has ended on the engine that is to answer it,
   done or given up. A check is done for its engine only; on the next engine of its place it is another attempt. Checks
   run where samples are pending, after the perf units, and are no work of their own: nothing waits for one.
6. Once a check has said stop, no block of its target starts. Engines that are up make their other checks, so that every
   fault is told at once; then the pending blocks are given up. Perf units go on.
7. Blocks run beside each other on a node as long as their samples in flight are no more than an eval's concurrency.
8. A node that is leaving gets nothing new; it is let go when nothing runs there and its engine is stopped.
9. A node that does not answer keeps what runs there and gets nothing new until it answers or is lost. When nothing runs
   there its groups of points are others' to take: nothing waits for it that another node could do.
10. When nothing is under way, everything is done, dropped or given up, or the dispatcher is draining.

Policies, each for its reason. Evals are pulled inside their target, never across, for every target's score is about its
own machines. Units are begun in the given order, the longest first, and the node with the fewest samples in flight
takes the next one, since the time per token grows with them: what is begun last decides when all is over. Perf units go
before evals, which fill every gap that is left.

The dispatcher knows no clock, no Ray and no ledger. The driver turns completions into events and actions into calls.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from raybench.plan.backlog import Backlog
from raybench.plan.events import (
    Action,
    Drain,
    EngineFailed,
    EngineReady,
    EngineStopped,
    Event,
    GiveUp,
    NodeEvent,
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
    UnitsAdded,
    UnitsDropped,
    WithdrawUnit,
)
from raybench.plan.hosts import Hosts
from raybench.plan.points import Points
from raybench.plan.preflight import Preflight, places_of
from raybench.plan.starts import Starts
from raybench.plan.states import REPLACEMENTS, EngineState, NodeState, Stay, UnitState
from raybench.records import AnyUnit, CheckUnit, EvalUnit, Failure, Timed


class Dispatcher:
    """The state machine. Not safe for threads; one event at a time."""

    def __init__(
        self,
        units: Iterable[AnyUnit],
        slots: Mapping[int, tuple[str, ...]],
        *,
        stay: frozenset[Stay] = frozenset(),
        done: Iterable[str] = (),
        done_samples: Iterable[str] = (),
        attempts: Mapping[str, int] | None = None,
    ) -> None:
        """`units`: in the order in which they are to be begun, see `raybench.plan.order`.
        `slots`: targets that the node of each slot may serve; all slots are awaited at first. `stay`: when engines
        stay up, `idle` for without work left. `done`, `done_samples` and `attempts` come from the ledger of earlier
        sessions.
        """
        tried = attempts or {}
        finished = set(done)
        every = tuple(units)
        work = [unit for unit in every if not isinstance(unit, CheckUnit)]
        states = (UnitState(u, "done" if u.key in finished else "pending", tried.get(u.key, 0)) for u in work)
        self._backlog = Backlog(states)
        self._points = Points(self._backlog, places_of(slots))
        self._preflight = Preflight((unit for unit in every if isinstance(unit, CheckUnit)), slots, tried)
        self._samples = set(done_samples)
        self._nodes: dict[str, NodeState] = {}
        self._hosts = Hosts(self._nodes, self._state)
        self._slots = dict(slots)
        self._awaited = set(slots)
        self._replaced = dict.fromkeys(slots, 0)
        self._starts = Starts()
        self._turn = 0
        self._draining = False
        self._stay = stay

    # ------------------------------------------------------------------------------------------------------- questions

    @property
    def finished(self) -> bool:
        """Nothing is under way and nothing will be started."""
        if self._backlog.num_pending and not self._draining:
            return False
        return not any(node.running or self._engine_to_end(node) for node in self._nodes.values())

    def _engine_to_end(self, node: NodeState) -> bool:
        """True while the node's engine is on its way up or down, or is still to be stopped."""
        stays = ("drained" if self._draining else "idle") in self._stay
        return node.engine is not None and (node.engine.phase != "ready" or not stays)

    def is_current(self, node: str, key: str, attempt: int) -> bool:
        """True if this node is running this attempt now; anything else that comes back is late and must be dropped."""
        found = self._nodes.get(node)
        return found is not None and found.running.get(key) == attempt

    def running_on(self, node: str) -> tuple[tuple[str, int], ...]:
        """(key, attempt) of everything that the node was given and that has not ended; empty for a node that is
        unknown or lost."""
        found = self._nodes.get(node)
        return () if found is None else tuple(found.running.items())

    def losses(self, node: str, reason: str) -> list[tuple[str, int, Failure]]:
        """(key, attempt, failure) of everything that ends with the node: a point that only waited there never began."""
        found: list[tuple[str, int, Failure]] = []
        for number, (key, attempt) in enumerate(self.running_on(node)):
            waited = number > 0 and isinstance(self._state(key).unit, Timed)
            found.append((key, attempt, Failure(cause="withdrawn" if waited else "node_lost", message=reason)))
        return found

    def needs_sample(self, key: str) -> bool:
        """True if no record of this sample is known yet."""
        return key not in self._samples

    def counts(self) -> dict[str, int]:
        """Units by state; checks are not counted."""
        return self._backlog.counts()

    # ---------------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event) -> list[Action]:
        """Take one event in and say what is to be done now."""
        actions: list[Action] = []
        touched: Iterable[str] | None = None
        match event:
            case NodeJoined() | NodeLost() | NodeLeaving() | NodeSuspect() | NodeWell() | SlotLost():
                self._node_event(event, actions)
            case EngineReady() | EngineFailed() | EngineStopped():
                self._engine_event(event)
            case UnitDone() | UnitFailed():
                touched = self._unit_event(event, actions)
            case SampleDone():
                self._samples.add(event.key)
                touched = self._sample_ended(event)
            case UnitsDropped():
                self._drop(event.keys)
            case UnitsAdded():
                for unit in event.units:
                    self._backlog.add(UnitState(unit))
            case Drain():
                self._draining = True
            case _:
                assert_never(event)
        if touched is None:
            self._give_up_stopped(actions)
            self._give_up_failed_first(actions)
            self._give_up_unreachable(actions)
            self._give_up_homeless(actions)
        self._schedule(self._nodes if touched is None else touched, actions)
        return actions

    def _node_event(self, event: NodeEvent, actions: list[Action]) -> None:
        match event:
            case NodeJoined():
                self._awaited.discard(event.slot)
                self._nodes[event.node] = NodeState(event.slot, event.hosts, self._slots[event.slot])
                self._hosts.add(event.node)
                self._points.joined(event.node, event.slot, self._slots[event.slot])
            case NodeLost():
                self._lose(event, actions)
            case NodeLeaving():
                self._leave(event, actions)
            case NodeSuspect() | NodeWell():
                self._doubt(event)
            case SlotLost():
                self._awaited.discard(event.slot)
                self._starts.slot_lost(event.reason)

    def _doubt(self, event: NodeSuspect | NodeWell) -> None:
        if (node := self._nodes.get(event.node)) is None:
            return
        node.suspect = isinstance(event, NodeSuspect)
        if not node.suspect and node.leaving is None:
            self._points.joined(event.node, node.slot, node.targets)
        elif not node.running:
            self._points.unpin(event.node)

    def _engine_event(self, event: EngineReady | EngineFailed | EngineStopped) -> None:
        node = self._nodes.get(event.node)
        if node is None or node.engine is None:
            return
        match event:
            case EngineReady():
                if node.engine.phase == "starting":
                    node.engine.phase = "ready"
                    self._starts.succeeded(event.node, node.engine.target)
            case EngineStopped():
                node.engine = None
            case EngineFailed():
                self._starts.failed(event.node, node.engine.target, event.reason, retry=event.retry)
                if not self._starts.may(event.node, node.engine.target):
                    self._points.unpin(event.node, node.engine.target)
                node.engine = None

    def _sample_ended(self, event: SampleDone) -> list[str]:
        """The nodes that may go on because of it: its own has room for another."""
        node = self._nodes.get(event.node)
        return [] if node is None or node.asked.pop(event.key, None) is None else [event.node]

    def _unit_event(self, event: UnitDone | UnitFailed, actions: list[Action]) -> Iterable[str] | None:
        """Take the end of an attempt in; returns the nodes that may go on because of it, None for all."""
        if not self.is_current(event.node, event.key, event.attempt):
            return ()
        node = self._nodes[event.node]
        state = self._state(event.key)
        self._forget(node, event.key)
        freed = node.suspect and not node.running
        if freed:
            self._points.unpin(event.node)
        if isinstance(event, UnitFailed):
            self._charge(event.key, event.failure, event.attempt, actions)
            if event.failure.cause in ("engine_died", "timeout") and node.engine:
                # A server that died or hung is not to be trusted with the next unit.
                node.engine.fault = event.failure.cause
            return None
        if isinstance(state.unit, CheckUnit):
            self._preflight.done(state, node, event.stop)
            return None
        led = self._points.first(state.unit.target) is state
        self._backlog.move(state, "done")
        if led or freed or not self._backlog.num_open(state.unit.target):
            return None
        return (event.node, *self._hosts.neighbours(event.node))

    def _forget(self, node: NodeState, key: str) -> None:
        del node.running[key]
        for sample in [sample for sample, block in node.asked.items() if block == key]:
            del node.asked[sample]

    def _state(self, key: str) -> UnitState:
        return self._backlog[key] if key in self._backlog else self._preflight.states[key]

    def _lose(self, event: NodeLost, actions: list[Action]) -> None:
        losses = self.losses(event.node, event.reason)
        self._hosts.remove(event.node)
        node = self._nodes.pop(event.node, None)
        if node is None:
            return
        self._points.unpin(event.node)
        for key, attempt, failure in losses:
            self._charge(key, failure, attempt, actions)
        if node.leaving is None:
            self._replace(node, actions)

    def _leave(self, event: NodeLeaving, actions: list[Action]) -> None:
        node = self._nodes.get(event.node)
        if node is None or node.leaving is not None:
            return
        node.leaving = event.reason
        self._points.unpin(event.node)
        for key, attempt in list(node.running.items())[1:]:
            if isinstance(self._state(key).unit, Timed):
                actions.append(WithdrawUnit(event.node, key, attempt))
        self._replace(node, actions)

    def _replace(self, node: NodeState, actions: list[Action]) -> None:
        left = any(self._backlog.num_open(target) for target in node.targets)
        if not left or self._draining:
            return
        if self._replaced[node.slot] == REPLACEMENTS:
            self._starts.slot_lost(f"a node was lost that was the last of {REPLACEMENTS} replacements")
            return
        self._replaced[node.slot] += 1
        self._awaited.add(node.slot)
        actions.append(ReplaceNode(node.slot))

    def _drop(self, keys: frozenset[str]) -> None:
        for key in keys:
            if key in self._backlog:
                unit = self._backlog[key]
                unit.needed = False
                if unit.state == "pending":
                    self._backlog.move(unit, "dropped")

    def _charge(self, key: str, failure: Failure, attempt: int, actions: list[Action]) -> None:
        unit = self._state(key)
        self._move(unit, "pending" if unit.needed else "dropped")
        if unit.is_spent_by(failure):
            self._give_up(unit, failure, actions, attempt)

    def _move(self, state: UnitState, to: str) -> None:
        if state.unit.key in self._backlog:
            self._backlog.move(state, to)
        else:
            state.state = to

    def _give_up(self, state: UnitState, failure: Failure, actions: list[Action], attempt: int | None = None) -> None:
        self._move(state, "given_up")
        last = state.attempt if attempt is None else attempt
        actions.append(GiveUp(state.unit.key, last, failure.model_copy(update={"given_up": True})))

    # ------------------------------------------------------------------------------------------------------ scheduling

    def _schedule(self, names: Iterable[str], actions: list[Action]) -> None:
        """Give the nodes what they can take, one thing each in turn until none takes any more.

        The node with the fewest samples in flight goes first, then the one that has waited longest: nodes that share a
        host alternate, which also puts the same point of two targets side by side in time.
        """
        able = [name for name in names if name in self._nodes]
        while able:
            able.sort(key=lambda n: (len(self._nodes[n].asked), self._nodes[n].turn, n))
            taken: list[str] = []
            for name in able:
                action = self._next(name, self._nodes[name])
                if action is None:
                    continue
                self._turn += 1
                actions.append(action)
                if isinstance(action, ReleaseNode):
                    self._hosts.remove(name)
                    del self._nodes[name]
                    continue
                self._nodes[name].turn = self._turn
                if isinstance(action, RunUnit):
                    taken.append(name)
            able = taken

    def _next(self, name: str, node: NodeState) -> Action | None:
        engine = node.engine
        if engine is None:
            return ReleaseNode(name, node.leaving) if node.leaving is not None else self._start(name, node)
        if engine.phase != "ready":
            return None
        ending = (
            engine.fault or node.leaving or ("draining" if self._draining and "drained" not in self._stay else None)
        )
        if ending is not None:
            return None if node.running else self._stop(node, name, ending)
        if self._draining or node.suspect:
            return None if self._draining else self._rest(name, node, engine)
        perf = self._points.next(name, engine)
        if node.running and not node.asked:
            return self._run(name, node, perf) if perf is not None and self._may_wait(name, node, engine) else None
        if perf is not None:
            free = not node.running and self._hosts.free(name, alone=True, wants_perf=self._wants_perf)
            return self._run(name, node, perf) if free else None
        if self._points.follow(engine):
            return None  # they come as soon as the first one has come back; evals would be in their way for long
        return self._next_samples(name, node, engine)

    def _next_samples(self, name: str, node: NodeState, engine: EngineState) -> Action | None:
        block = self._backlog.next_block(engine.target)
        if block is not None:
            block = self._preflight.owed(node) or (None if engine.target in self._preflight.stopped else block)
        if block is not None:
            can = self._has_room(node, block) and self._hosts.free(name, alone=False, wants_perf=self._wants_perf)
            return self._run(name, node, block) if can else None
        if node.running:
            return None
        if self._wanted(name, node) is not None:
            return self._stop(node, name, "another target or launch needs the node")
        return self._rest(name, node, engine)

    def _rest(self, name: str, node: NodeState, engine: EngineState) -> Action | None:
        """What a node gets that is to begin nothing: the end, when all is done."""
        if node.running or "idle" in self._stay or self._backlog.num_open(engine.target):
            return None
        return self._stop(node, name, "no work left")

    def _has_room(self, node: NodeState, state: UnitState) -> bool:
        if not isinstance(state.unit, EvalUnit):
            return not node.running and state.state == "pending"  # a check may still run on a node that leaves
        if not node.running:
            return True
        missing = sum(1 for sample in state.unit.samples if sample.key not in self._samples)
        return len(node.asked) + missing <= state.unit.concurrency

    def _may_wait(self, name: str, node: NodeState, engine: EngineState) -> bool:
        """True if a timed unit may wait at the node behind the one that runs there, so that it need not wait for us.

        Not where another node shares the host, for they alternate; and none that another node could begin at once.
        """
        if len(node.running) > 1 or self._hosts.neighbours(name):
            return False
        if any(not isinstance(self._state(key).unit, Timed) for key in node.running):
            return False
        others = sum(1 for o in self._nodes.values() if engine.target in o.targets and not o.suspect) - 1
        return self._points.spare(name, engine, others)

    def _start(self, name: str, node: NodeState) -> Action | None:
        wanted = None if self._draining or node.suspect else self._wanted(name, node)
        if wanted is None or not self._hosts.quiet(name):
            return None
        node.engine = EngineState(*wanted, "starting")
        return StartEngine(name, *wanted)

    def _stop(self, node: NodeState, name: str, reason: str) -> Action:
        if node.engine is not None:
            node.engine.phase = "stopping"
        return StopEngine(name, reason)

    def _run(self, name: str, node: NodeState, state: UnitState) -> Action:
        self._move(state, "running")
        state.attempt += 1
        unit = state.unit
        node.running[unit.key] = state.attempt
        self._points.take(name, unit)
        if not isinstance(unit, EvalUnit):
            return RunUnit(name, unit, state.attempt)
        missing = tuple(sample for sample in unit.samples if sample.key not in self._samples)
        node.asked.update((sample.key, unit.key) for sample in missing)
        rest = unit if len(missing) == len(unit.samples) else unit.model_copy(update={"samples": missing})
        return RunUnit(name, rest, state.attempt)

    def _wants_perf(self, name: str) -> bool:
        node = self._nodes[name]
        if node.suspect or node.engine is None or node.engine.phase != "ready":
            return False
        return self._points.next(name, node.engine) is not None

    def _wanted(self, name: str, node: NodeState) -> tuple[str, int] | None:
        """(target, launch) of the first pending unit that this node could do after a start of that engine."""
        targets = [target for target in node.targets if self._starts.may(name, target)]
        stopped = self._preflight.stopped
        found = [self._points.startable(name, target, blocks=target not in stopped) for target in targets]
        first = min((one for one in found if one is not None), default=None)
        return None if first is None else first[1:]

    # -------------------------------------------------------------------------------------------------------- giving up

    def _give_up_stopped(self, actions: list[Action]) -> None:
        """Give up pending blocks of targets that a check has stopped: their scores would say nothing."""
        if self._draining:
            return
        checking = {node.engine.target for node in self._nodes.values() if node.engine and self._preflight.owed(node)}
        for target, reason in self._preflight.stopped.items():
            if target in checking:
                continue
            while (state := self._backlog.next_block(target)) is not None:
                self._give_up(state, Failure(cause="preflight", message=reason), actions)

    def _give_up_failed_first(self, actions: list[Action]) -> None:
        """Give up the perf units of targets whose first point could not be measured."""
        for target in self._backlog.targets():
            failed = self._points.failed(target)
            if failed is None:
                continue
            message = f"the target's first and cheapest point ({failed.unit.key}) could not be measured"
            for state in self._backlog.pending(target):
                if isinstance(state.unit, Timed):
                    self._give_up(state, Failure(cause="preflight", message=message), actions)

    def _give_up_unreachable(self, actions: list[Action]) -> None:
        """Give up pending units of targets that no node, present or awaited, can serve any more."""
        if self._draining:
            return  # nobody tries any more: what is pending stays missing, and is no failure
        awaited = {target for slot in self._awaited for target in self._slots[slot]}
        for target in self._backlog.targets():
            if target in awaited or not self._backlog.num_open(target):
                continue
            nodes = [(name, node) for name, node in self._nodes.items() if target in node.targets]
            if any(node.leaving is None and self._starts.may(name, target) for name, node in nodes):
                continue
            for state in self._backlog.pending(target):
                if not any(node.serves(state.unit) for _, node in nodes):
                    self._give_up(state, self._starts.why_not(target), actions)

    def _give_up_homeless(self, actions: list[Action]) -> None:
        """Give up pending units that one slot alone may do and that no node of it, present or awaited, can do."""
        if self._draining or not self._points.any_at_home:
            return
        for state in self._backlog.pending():
            bound, slot = self._points.home(state.unit)
            if not bound or slot in self._awaited:
                continue
            nodes = [(name, node) for name, node in self._nodes.items() if node.slot == slot]
            target = state.unit.target
            if any((not n.leaving and self._starts.may(name, target)) or n.serves(state.unit) for name, n in nodes):
                continue
            self._give_up(state, self._starts.why_not(target), actions)

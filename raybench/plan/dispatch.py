"""Who does what next: a pure state machine, events in, actions out.

Invariant, after every event:
1. Every unit is in exactly one state: pending, running on exactly one node, done, dropped, or given up; done and
   dropped are for ever.
2. While a perf unit runs, no other unit runs and no engine starts on any of its hosts.
3. A unit runs only on a node whose engine is ready for its target, and a perf unit only on the launch that it asks for.
4. All perf units of one (target, sweep, repeat, launch) that run while their node lives run on that node, in order.
5. A block of samples runs only where every check of the node's place has ended on the engine that is to answer it,
   done or given up. A check is done for its engine only; on the next engine of its place it is another attempt. Checks
   run where samples are pending, after the perf units, and are no work of their own: nothing waits for one.
6. Once a check has said stop, no block of its target starts. Engines that are up make their other checks, so that every
   fault is told at once; then the pending blocks are given up. Perf units go on.
7. When nothing is under way, everything is done, dropped or given up, or the dispatcher is draining.

The dispatcher knows no clock, no Ray and no ledger. The driver turns completions into events and actions into calls.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

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
from raybench.plan.preflight import Preflight
from raybench.plan.states import ENGINE_START_TRIES, REPLACEMENTS, RETRIES, EngineState, NodeState, UnitState
from raybench.records import CheckUnit, EvalUnit, Failure, PerfUnit

Group = tuple[str, str, int, int]
"""(target, sweep, repeat, launch): perf units that stay on one node."""


class Dispatcher:
    """The state machine. Not safe for threads; one event at a time."""

    def __init__(
        self,
        units: Iterable[PerfUnit | EvalUnit | CheckUnit],
        slots: Mapping[int, tuple[str, ...]],
        *,
        hold: bool = False,
        done: Iterable[str] = (),
        done_samples: Iterable[str] = (),
        attempts: Mapping[str, int] | None = None,
    ) -> None:
        """`slots`: targets that the node of each slot may serve; all slots are awaited at first. `hold`: engines stay
        up when no work is left. `done`, `done_samples` and `attempts` come from the ledger of earlier sessions.
        """
        tried = attempts or {}
        finished = set(done)
        every = tuple(units)
        self._units = {
            unit.key: UnitState(unit, "done" if unit.key in finished else "pending", tried.get(unit.key, 0))
            for unit in every
            if not isinstance(unit, CheckUnit)
        }
        self._preflight = Preflight((unit for unit in every if isinstance(unit, CheckUnit)), slots, tried)
        self._samples = set(done_samples)
        self._nodes: dict[str, NodeState] = {}
        self._slots = dict(slots)
        self._awaited = set(slots)
        self._replaced = dict.fromkeys(slots, 0)
        self._groups: dict[Group, str] = {}
        self._start_failures: dict[tuple[str, str], int] = {}
        self._refused: dict[str, str] = {}
        self._slot_reasons: list[str] = []
        self._turn = 0
        self._draining = False
        self._hold = hold

    # ------------------------------------------------------------------------------------------------------- questions

    @property
    def finished(self) -> bool:
        """Nothing is under way and nothing will be started."""
        busy = any(node.running or self._engine_to_end(node) for node in self._nodes.values())
        pending = any(unit.state == "pending" for unit in self._units.values())
        return not busy and (self._draining or not pending)

    def _engine_to_end(self, node: NodeState) -> bool:
        """True while the node's engine is on its way up or down, or is still to be stopped."""
        if node.engine is None:
            return False
        return node.engine.phase != "ready" or not self._hold or self._draining

    def is_current(self, node: str, key: str, attempt: int) -> bool:
        """True if this node is running this attempt now; anything else that comes back is late and must be dropped."""
        found = self._nodes.get(node)
        return found is not None and found.running == (key, attempt)

    def running_on(self, node: str) -> tuple[str, int] | None:
        """(key, attempt) that the node is running; None for none, and for a node that is unknown or lost."""
        found = self._nodes.get(node)
        return None if found is None else found.running

    def needs_sample(self, key: str) -> bool:
        """True if no record of this sample is known yet."""
        return key not in self._samples

    def counts(self) -> dict[str, int]:
        """Units by state; checks are not counted."""
        result = {"pending": 0, "running": 0, "done": 0, "dropped": 0, "given_up": 0}
        for unit in self._units.values():
            result[unit.state] += 1
        return result

    # ---------------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event) -> list[Action]:
        """Take one event in and say what is to be done now."""
        actions: list[Action] = []
        match event:
            case NodeJoined() | NodeLost() | SlotLost():
                self._node_event(event, actions)
            case EngineReady() | EngineFailed() | EngineStopped():
                self._engine_event(event)
            case UnitDone() | UnitFailed():
                self._unit_event(event, actions)
            case SampleDone():
                self._samples.add(event.key)
                return actions
            case UnitsDropped():
                self._drop(event.keys)
            case Drain():
                self._draining = True
            case _:
                assert_never(event)
        self._schedule(actions)
        return actions

    def _node_event(self, event: NodeJoined | NodeLost | SlotLost, actions: list[Action]) -> None:
        match event:
            case NodeJoined():
                self._awaited.discard(event.slot)
                self._nodes[event.node] = NodeState(event.slot, event.hosts, self._slots[event.slot])
            case NodeLost():
                self._lose(event, actions)
            case SlotLost():
                self._awaited.discard(event.slot)
                self._slot_reasons.append(event.reason)

    def _engine_event(self, event: EngineReady | EngineFailed | EngineStopped) -> None:
        node = self._nodes.get(event.node)
        if node is None or node.engine is None:
            return
        match event:
            case EngineReady():
                if node.engine.phase == "starting":
                    node.engine.phase = "ready"
                    self._start_failures.pop((event.node, node.engine.target), None)
            case EngineStopped():
                node.engine = None
            case EngineFailed():
                place = (event.node, node.engine.target)
                tries = self._start_failures.get(place, 0) + 1
                self._start_failures[place] = tries if event.retry else ENGINE_START_TRIES
                self._refused[node.engine.target] = event.reason
                if self._start_failures[place] >= ENGINE_START_TRIES:
                    self._unpin(event.node, node.engine.target)
                node.engine = None

    def _unit_event(self, event: UnitDone | UnitFailed, actions: list[Action]) -> None:
        if not self.is_current(event.node, event.key, event.attempt):
            return
        node = self._nodes[event.node]
        node.running = None
        state = self._state(event.key)
        if isinstance(event, UnitDone) and isinstance(state.unit, CheckUnit):
            self._preflight.done(state, node, event.stop)
        elif isinstance(event, UnitDone):
            state.state = "done"
        else:
            self._unit_failed(event, actions)

    def _state(self, key: str) -> UnitState:
        return self._units[key] if key in self._units else self._preflight.states[key]

    def _lose(self, event: NodeLost, actions: list[Action]) -> None:
        node = self._nodes.pop(event.node, None)
        if node is None:
            return
        self._unpin(event.node)
        if node.running:
            key, attempt = node.running
            self._charge(key, Failure(cause="node_lost", message=event.reason), attempt, actions)
        if self._replaced[node.slot] < REPLACEMENTS and not self._draining and self._work_left(node.targets):
            self._replaced[node.slot] += 1
            self._awaited.add(node.slot)
            actions.append(ReplaceNode(node.slot))

    def _unpin(self, node: str, target: str | None = None) -> None:
        """Let other nodes take the groups of a node that can no longer serve them."""
        for group in [g for g, name in self._groups.items() if name == node and target in (None, g[0])]:
            del self._groups[group]

    def _unit_failed(self, event: UnitFailed, actions: list[Action]) -> None:
        node = self._nodes[event.node]
        self._charge(event.key, event.failure, event.attempt, actions)
        if event.failure.cause in ("engine_died", "timeout") and node.engine:
            # A server that died or hung is not to be trusted with the next unit.
            node.engine.phase = "stopping"
            actions.append(StopEngine(event.node, event.failure.cause))

    def _drop(self, keys: frozenset[str]) -> None:
        for key in keys & self._units.keys():
            unit = self._units[key]
            unit.needed = False
            if unit.state == "pending":
                unit.state = "dropped"

    def _charge(self, key: str, failure: Failure, attempt: int, actions: list[Action]) -> None:
        unit = self._state(key)
        unit.state = "pending" if unit.needed else "dropped"
        if failure.cause == "stopped" or not unit.needed:
            return
        unit.failures[failure.cause] = unit.failures.get(failure.cause, 0) + 1
        if unit.failures[failure.cause] > RETRIES[failure.cause]:
            unit.state = "given_up"
            actions.append(GiveUp(key, attempt, failure.model_copy(update={"given_up": True})))

    # ------------------------------------------------------------------------------------------------------ scheduling

    def _schedule(self, actions: list[Action]) -> None:
        self._give_up_stopped(actions)
        self._give_up_unreachable(actions)
        # The node that has waited longest goes first: nodes that share a host alternate, which also puts the same point
        # of two targets side by side in time.
        for name in sorted(self._nodes, key=lambda n: (self._nodes[n].turn, n)):
            node = self._nodes[name]
            if node.running or (node.engine and node.engine.phase != "ready"):
                continue
            action = self._next(name, node)
            if action is not None:
                self._turn += 1
                node.turn = self._turn
                actions.append(action)

    def _next(self, name: str, node: NodeState) -> Action | None:
        if node.engine is None:
            return self._start(name, node)
        if self._draining:
            return self._stop(node, name, "draining")
        perf = self._perf_unit(name, node.engine)
        if perf is not None:
            return self._run(name, node, perf) if self._host_is_free(node, alone=True) else None
        block = self._eval_unit(node.engine.target)
        if block is not None:
            block = self._preflight.owed(node) or (None if node.engine.target in self._preflight.stopped else block)
        if block is not None:
            return self._run(name, node, block) if self._host_is_free(node, alone=False) else None
        if self._wanted(name, node) is not None:
            return self._stop(node, name, "another target or launch needs the node")
        if not self._hold and not self._work_left((node.engine.target,)):
            return self._stop(node, name, "no work left")
        return None

    def _start(self, name: str, node: NodeState) -> Action | None:
        wanted = None if self._draining else self._wanted(name, node)
        if wanted is None or not self._host_is_quiet(node):
            return None
        node.engine = EngineState(wanted[0], wanted[1], "starting")
        return StartEngine(name, wanted[0], wanted[1])

    def _stop(self, node: NodeState, name: str, reason: str) -> Action:
        if node.engine is not None:
            node.engine.phase = "stopping"
        return StopEngine(name, reason)

    def _run(self, name: str, node: NodeState, state: UnitState) -> Action:
        state.state = "running"
        state.attempt += 1
        node.running = (state.unit.key, state.attempt)
        unit = state.unit
        if isinstance(unit, PerfUnit):
            self._groups[_group(unit)] = name
            return RunUnit(name, unit, state.attempt)
        if isinstance(unit, CheckUnit):
            return RunUnit(name, unit, state.attempt)
        missing = tuple(sample for sample in unit.samples if sample.key not in self._samples)
        return RunUnit(name, unit.model_copy(update={"samples": missing}), state.attempt)

    # -------------------------------------------------------------------------------------------------------- choosing

    def _perf_unit(self, name: str, engine: EngineState) -> UnitState | None:
        """Next point for this engine: its own groups first, then one that no node has."""
        free: UnitState | None = None
        for state in self._pending((engine.target,)):
            unit = state.unit
            if not isinstance(unit, PerfUnit) or unit.launch != engine.launch:
                continue
            owner = self._groups.get(_group(unit))
            if owner == name:
                return state
            if owner is None and free is None:
                free = state
        return free

    def _eval_unit(self, target: str) -> UnitState | None:
        return next((s for s in self._pending((target,)) if isinstance(s.unit, EvalUnit)), None)

    def _wanted(self, name: str, node: NodeState) -> tuple[str, int] | None:
        """(target, launch) of the first pending unit that this node could do after a start of that engine."""
        for state in self._pending(node.targets):
            unit = state.unit
            if self._start_failures.get((name, unit.target), 0) >= ENGINE_START_TRIES:
                continue
            if isinstance(unit, EvalUnit):
                if unit.target in self._preflight.stopped:
                    continue
                return unit.target, 0
            if isinstance(unit, PerfUnit) and self._groups.get(_group(unit), name) == name:
                return unit.target, unit.launch
        return None

    def _pending(self, targets: tuple[str, ...]) -> Iterable[UnitState]:
        return (s for s in self._units.values() if s.state == "pending" and s.unit.target in targets)

    def _work_left(self, targets: tuple[str, ...] | None = None) -> bool:
        """True if a unit of these targets is pending, or running and so may come back."""
        return any(
            s.state in ("pending", "running") and (targets is None or s.unit.target in targets)
            for s in self._units.values()
        )

    # ----------------------------------------------------------------------------------------------------------- hosts

    def _neighbours(self, node: NodeState) -> list[tuple[str, NodeState]]:
        return [(n, other) for n, other in self._nodes.items() if other is not node and other.hosts & node.hosts]

    def _host_is_free(self, node: NodeState, *, alone: bool) -> bool:
        """True if a unit may run here now; `alone` for a perf unit, which tolerates nothing beside it."""
        for other_name, other in self._neighbours(node):
            running = self._state(other.running[0]).unit if other.running else None
            starting = other.engine is not None and other.engine.phase != "ready"
            if isinstance(running, PerfUnit) or (alone and (running is not None or starting)):
                return False
            if not alone and self._wants_perf(other_name, other):
                # Evals would keep the host busy for as long as there are any: perf units go first.
                return False
        return True

    def _wants_perf(self, name: str, node: NodeState) -> bool:
        ready = node.engine is not None and node.engine.phase == "ready"
        return ready and node.engine is not None and self._perf_unit(name, node.engine) is not None

    def _host_is_quiet(self, node: NodeState) -> bool:
        """True if an engine may start here: no perf unit is running on any of the hosts."""
        return not any(
            other.running and isinstance(self._state(other.running[0]).unit, PerfUnit)
            for _, other in self._neighbours(node)
        )

    # -------------------------------------------------------------------------------------------------------- giving up

    def _give_up_stopped(self, actions: list[Action]) -> None:
        """Give up pending blocks of targets that a check has stopped: their scores would say nothing."""
        if self._draining:
            return
        checking = {node.engine.target for node in self._nodes.values() if node.engine and self._preflight.owed(node)}
        for target, reason in self._preflight.stopped.items():
            if target in checking:
                continue
            for state in [s for s in self._pending((target,)) if isinstance(s.unit, EvalUnit)]:
                state.state = "given_up"
                failure = Failure(cause="preflight", message=reason, given_up=True)
                actions.append(GiveUp(state.unit.key, state.attempt, failure))

    def _give_up_unreachable(self, actions: list[Action]) -> None:
        """Give up pending units of targets that no node, present or awaited, can serve any more."""
        if self._draining:
            return  # nobody tries any more: what is pending stays missing, and is no failure
        awaited = {target for slot in self._awaited for target in self._slots[slot]}
        for state in [s for s in self._units.values() if s.state == "pending"]:
            target = state.unit.target
            if target in awaited or any(self._may_serve(name, node, state.unit) for name, node in self._nodes.items()):
                continue
            state.state = "given_up"
            cause, message = (
                ("engine_start", self._refused[target])
                if target in self._refused
                else ("node_lost", "; ".join(["no node is left that could serve the target", *self._slot_reasons]))
            )
            failure = Failure(cause=cause, message=message, given_up=True)
            actions.append(GiveUp(state.unit.key, state.attempt, failure))

    def _may_serve(self, name: str, node: NodeState, unit: PerfUnit | EvalUnit | CheckUnit) -> bool:
        if unit.target not in self._slots[node.slot]:
            return False
        engine = node.engine
        up = engine is not None and engine.target == unit.target and engine.phase != "stopping"
        if up and (not isinstance(unit, PerfUnit) or (engine is not None and engine.launch == unit.launch)):
            return True
        return self._start_failures.get((name, unit.target), 0) < ENGINE_START_TRIES


def _group(unit: PerfUnit) -> Group:
    return unit.target, unit.sweep, unit.repeat, unit.launch

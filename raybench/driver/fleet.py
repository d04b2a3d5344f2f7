"""Actions become calls on actors, what comes back becomes occurrences: an event with the records that it leaves."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never
from urllib.parse import urlsplit

from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from raybench.config.schema import EngineConfig, RunConfig, engine_of
from raybench.driver.calls import Silent, closed, first_line, in_time, stream, talking, value
from raybench.driver.ended import ended
from raybench.driver.joining import JOIN_TIMEOUT_S, Cloud, Joining, NoNode
from raybench.driver.occurrence import Entry, Occurrence
from raybench.engine.base import Launch
from raybench.errors import EngineRefused, RaybenchError
from raybench.ledger.bodies import Decision
from raybench.node.actor import SAMPLES, WORK
from raybench.node.session import NodeSpec, UnitResult
from raybench.plan.demands import Slot
from raybench.plan.events import (
    Action,
    EngineFailed,
    EngineReady,
    EngineStopped,
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
    WithdrawUnit,
)
from raybench.plan.heartbeat import Silence
from raybench.plan.watchdog import Overdue
from raybench.records import EngineFacts, EvalUnit, Failure, SampleRecord
from raybench.records.calibration import Calibration

ASK_AGAIN_S = 1.0
CLOSE_TIMEOUT_S = 40.0
STOP_LIMIT_S = 180.0
"""For a node to stop its engine, which it kills after a grace: one that does not answer is paused or cut off."""
START_GRACE_S = 300.0
"""Beyond the engine's own limit, which its node keeps, without a word from it."""


@dataclass(slots=True)
class _Member:
    actor: Any
    slot: int
    hosts: frozenset[str] = frozenset()
    machine: str | None = None
    """Ray's id of its machine."""
    leaving: bool = False
    """True once it was told that its machine is to be taken away."""
    start: str | None = None
    """Id of the engine's physical start while one is up or starting."""
    num_starts: int = 0
    lost: bool = False
    """True once its loss was told; calls that were made before the dispatcher heard of it fail without a word."""


@dataclass(frozen=True, slots=True)
class FleetOrder:
    """What all nodes of a run have in common."""

    run_id: str
    """Id of the run."""
    config: RunConfig
    """Its configuration."""
    answer_key: Mapping[str, str] = field(default_factory=dict[str, str])
    """Prompt hash -> gold, for simulated engines."""
    calibrations: tuple[Calibration, ...] = ()
    """What earlier sessions measured of the load client's own error."""
    join_limit_s: float = JOIN_TIMEOUT_S
    """How long a machine is looked for where a slot has none, or has lost its own."""
    lease_s: float | None = None
    """How long a node and its server outlive a driver that ends before the run does; None: not at all."""


class Fleet:
    """All actors of a run. Made inside the event loop; `close` ends everything that it started."""

    def __init__(self, order: FleetOrder, slots: Sequence[Slot], first_name: int, cloud: Cloud | None = None) -> None:
        """`first_name`: number of the first node's name; lower ones were used by earlier sessions."""
        self._run_id = order.run_id
        self._config = order.config
        self._slots = tuple(slots)
        self._lease_s = order.lease_s
        self._answer_key = dict(order.answer_key)
        self._calibrations = list(order.calibrations)
        self._next_name = first_name
        self._reasons_told: set[str] = set()
        self._cloud = cloud or Cloud()
        self._joining = Joining(
            slots, order.join_limit_s, self._cloud, spec_of=self._spec, held=self._held,
            say=lambda line: self._tell(Occurrence(None, line=line)),
        )  # fmt: skip
        self._members: dict[str, _Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.occurrences: asyncio.Queue[Occurrence] = asyncio.Queue()

    # --------------------------------------------------------------------------------------------------------- actions

    def make_node(self, slot: int) -> None:
        """Make the actor of a slot; ends in NodeJoined or SlotLost."""
        name = f"n{self._next_name}"
        self._next_name += 1
        self._spawn(None, self._join(name, slot))

    def do(self, action: Action) -> None:
        """Carry an action out; what comes of it arrives as occurrences."""
        match action:
            case StartEngine():
                self._spawn(action.node, self._start(action))
            case StopEngine():
                self._spawn(action.node, self._stop(action))
            case RunUnit():
                self._spawn(action.node, self._run(action))
            case WithdrawUnit():
                if not (member := self._members[action.node]).lost:
                    member.actor.withdraw.remote(action.key)
            case ReleaseNode():
                self._spawn(action.node, self._release(action))
            case ReplaceNode():
                self._joining.set_free(action.slot)
                self.make_node(action.slot)
            case GiveUp():
                entry = Entry("unit_failed", action.failure, action.key, action.attempt + 1)
                self._tell(Occurrence(None, (entry,), line=self._given_up_line(action.failure.message.splitlines()[0])))
            case _:
                assert_never(action)

    def _given_up_line(self, reason: str) -> str | None:
        """One engine that cannot start gives up every unit that waited for it: one reason, told once."""
        if reason in self._reasons_told:
            return None
        self._reasons_told.add(reason)
        return f"given up: {reason}"

    def cancel(self) -> None:
        """End running units and starting engines at once; they come back as failures. No node starts anything more."""
        for member in self._living():
            member.actor.cancel.remote()

    def end_unit(self, late: Overdue) -> None:
        """End a unit that makes no progress with what it has; a node that was told so in vain is lost."""
        member = self._members[late.node]
        if member.lost:
            return
        if late.lost:
            self._lose(late.node, member, f"it does not end {late.key} ({late.reason})")
        else:
            member.actor.end_unit.remote(late.key, late.reason)

    def look_for_leaving(self) -> None:
        """Tell of nodes whose machines are about to be taken away."""
        leaving = self._cloud.leaving()
        for name, member in self._members.items():
            if member.lost or member.leaving or member.machine not in leaving:
                continue
            member.leaving = True
            reason = "its machine is being drained"
            entry = Entry("decision", Decision(what="node_leaving", reason=f"{name}: {reason}"))
            self._tell(Occurrence(NodeLeaving(name, reason), (entry,), name, line=f"{name} is leaving: {reason}"))

    def ping(self, answered: Callable[[str], None], wanted: Callable[[str], bool]) -> None:
        """Ask the nodes that are `wanted` for a sign of life; `answered` is told who has given one."""
        for name, member in list(self._members.items()):
            if not member.lost and wanted(name):
                self._spawn(name, self._ask(name, member, answered))

    async def _ask(self, name: str, member: _Member, answered: Callable[[str], None]) -> None:
        while not member.lost:
            try:
                await member.actor.ping.remote()
            except ActorUnavailableError:  # Ray cannot reach it just now: that is silence, no death
                await asyncio.sleep(ASK_AGAIN_S)
            else:
                answered(name)
                return

    def tell_silence(self, found: Silence) -> None:
        """A node does not answer: it is suspect, or lost."""
        member = self._members[found.node]
        if member.lost:
            return
        if found.lost:
            self._lose(found.node, member, found.reason)
            return
        entry = Entry("decision", Decision(what="node_suspect", reason=found.reason))
        line = f"{found.node} gets no new work: {found.reason}"
        self._tell(Occurrence(NodeSuspect(found.node, found.reason), (entry,), found.node, line=line))

    def tell_well(self, node: str) -> None:
        """A suspect node has answered."""
        if not self._members[node].lost:
            entry = Entry("decision", Decision(what="node_well", reason="it answers again"))
            self._tell(Occurrence(NodeWell(node), (entry,), node, line=f"{node} answers again"))

    def start_of(self, node: str) -> str | None:
        """Id of the physical start of the node's engine."""
        return self._members[node].start

    async def addresses(self) -> list[tuple[str, str, int | None]]:
        """(target's start id, URL, process id) of every engine that is up; none of a node that is just being lost."""
        found: list[tuple[str, str, int | None]] = []
        for member in self._living():
            if member.start is not None:
                with suppress(RayError):
                    found.append((member.start, *await member.actor.engine_address.remote()))
        return found

    @property
    def leased(self) -> bool:
        """True if the nodes end themselves when no driver has asked them for a sign of life for long."""
        return self._lease_s is not None

    def _living(self) -> list[_Member]:
        return [member for member in self._members.values() if not member.lost]

    def leave_warm(self) -> list[str]:
        """Let the nodes with a server go as they are: their leases run from now on. Returns what to say."""
        if self._lease_s is None:
            return []
        self._joining.leaving = True
        said: list[str] = []
        for name, member in self._members.items():
            if not member.lost and member.start is not None:
                member.lost = True
                said.append(f"{name}: its server stays up for {self._lease_s:.0f} s, for --resume with --keep-warm")
        return said

    async def close(self) -> None:
        """End every actor's engine, bounded in time."""
        living = self._living()
        closing = [asyncio.ensure_future(closed(member.actor)) for member in living]
        try:
            if closing:
                await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_S)
        finally:
            for task in [*closing, *self._tasks]:
                task.cancel()
            await asyncio.gather(*closing, *self._tasks, return_exceptions=True)
            # Those too that have joined meanwhile.
            for member in self._living() if self._lease_s is not None else ():
                self._cloud.end(member.actor)  # it would outlive the driver

    # ----------------------------------------------------------------------------------------------------- tasks, nodes

    def _spawn(self, node: str | None, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(self._guarded(node, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, node: str | None, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (RayError, Silent) as error:
            # Not only RayActorError: an actor that Ray's memory monitor ends raises OutOfMemoryError, a result whose
            # machine went before it was fetched raises ObjectLostError.
            member = self._members.get(node or "")
            if member is None:
                self._tell(Occurrence(None, bug=error))
            elif not member.lost:
                self._lose(node or "", member, first_line(error))
        except Exception as error:  # noqa: BLE001 - carried to the loop, which raises it
            self._tell(Occurrence(None, bug=error))

    def _lose(self, name: str, member: _Member, reason: str) -> None:
        member.lost = True
        # Ray may only have lost sight of it (ActorUnavailableError): what is measured anew must not meet it again.
        self._cloud.end(member.actor)
        entry = Entry("decision", Decision(what="node_lost", reason=f"{name}: {reason}"))
        self._tell(Occurrence(NodeLost(name, reason), (entry,), name, line=f"{name} lost: {reason}"))

    def _tell(self, occurrence: Occurrence) -> None:
        self.occurrences.put_nowait(occurrence)

    async def _join(self, name: str, number: int) -> None:
        try:
            joined = await self._joining.node(name, number)
        except NoNode as error:
            self._no_node(number, str(error))
            return
        if joined.warm and self._joining.leaving:
            return  # its server is for another session
        slot, facts = self._slots[number], joined.facts
        urls = [urlsplit(engine.url).hostname or "" for engine in self._engines(slot) if engine.url]
        hosts = frozenset([facts.host, *urls])
        self._members[name] = _Member(joined.actor, number, hosts, joined.machine)
        line = f"{name} joined for {', '.join(slot.targets)}"
        if facts.strangers:
            line += f"; also there: {'; '.join(stranger.words for stranger in facts.strangers)}"
        self._tell(Occurrence(NodeJoined(name, number, hosts), (Entry("node", facts),), name, line=line))

    def _no_node(self, number: int, reason: str) -> None:
        targets = ", ".join(self._slots[number].targets)
        entry = Entry("decision", Decision(what="slot_lost", reason=f"no node for {targets}: {reason}"))
        self._tell(Occurrence(SlotLost(number, reason), (entry,), line=f"no node for {targets}: {reason}"))

    def _spec(self, name: str, slot: Slot) -> NodeSpec:
        simulated = all(engine.kind == "simulated" for engine in self._engines(slot))
        return NodeSpec(
            run_id=self._run_id, node=name, accelerator=slot.accelerator, num_gpus=slot.num_gpus,
            declared_host=f"simulated:{name}" if simulated else None, ray_node_id=slot.machine,
            calibrations=tuple(self._calibrations), lease_s=self._lease_s,
        )  # fmt: skip

    def _held(self) -> set[str]:
        """Machines whose GPUs nodes have."""
        return {m.machine for m in self._living() if m.machine and self._slots[m.slot].num_gpus}

    def _engines(self, slot: Slot) -> list[EngineConfig]:
        return [engine_of(self._config, t) for t in self._config.targets if t.name in slot.targets]

    # --------------------------------------------------------------------------------------------------- tasks, engines

    async def _start(self, action: StartEngine) -> None:
        member = self._members[action.node]
        start = f"{action.node}.{member.num_starts}"
        member.num_starts += 1
        member.start = start
        launch = self._launch(action, start, member.slot)
        try:
            limit_s = launch.engine.startup_timeout_s + START_GRACE_S
            async for item in talking(stream(member.actor.start_engine, launch), limit_s):
                if isinstance(item, EngineFacts):
                    total = next((p.duration_s for p in item.startup if p.name == "total"), 0.0)
                    how = "ready" if item.adopted_from is None else f"taken over from {item.adopted_from}"
                    line = f"{action.node} {action.target}: {how} after {total:.1f} s at {item.url}"
                    entry = Entry("engine", item)
                    self._tell(Occurrence(EngineReady(action.node), (entry,), action.node, start, line))
                else:
                    self._tell(Occurrence(None, node=action.node, line=f"{action.node} {action.target}: {item}"))
        except (RaybenchError, RayTaskError) as error:
            member.start = None
            reason = error.message if isinstance(error, RaybenchError) else str(error)
            decision = Decision(what="engine_start_failed", target=action.target, reason=reason)
            event = EngineFailed(action.node, reason, retry=not isinstance(error, EngineRefused))
            entry = Entry("decision", decision)
            self._tell(Occurrence(event, (entry,), action.node, start, f"{action.node}: {reason}"))

    def _launch(self, action: StartEngine, start: str, slot: int) -> Launch:
        target = next(t for t in self._config.targets if t.name == action.target)
        engine = engine_of(self._config, target)
        return Launch(
            run_id=self._run_id, target=action.target, launch=action.launch, start=start, model=self._config.model,
            engine=engine, folder=Path(), host="", num_gpus=self._slots[slot].num_gpus,
            answer_key=self._answer_key if engine.kind == "simulated" else {},
        )  # fmt: skip

    async def _stop(self, action: StopEngine) -> None:
        member = self._members[action.node]
        await in_time(value(member.actor.stop_engine.remote()), STOP_LIMIT_S, "did not stop its engine")
        start, member.start = member.start, None
        decision = Decision(what="stop_engine", reason=action.reason)
        line = f"{action.node}: engine stopped ({action.reason})"
        entry = Entry("decision", decision)
        self._tell(Occurrence(EngineStopped(action.node), (entry,), action.node, start, line))

    async def _release(self, action: ReleaseNode) -> None:
        """Let a node go whose engine is stopped; its actor must not hold up the machine's end."""
        member = self._members[action.node]
        member.lost = True
        decision = Decision(what="node_released", reason=f"{action.node}: {action.reason}")
        entry = Entry("decision", decision)
        self._tell(Occurrence(None, (entry,), action.node, line=f"{action.node} let go: {action.reason}"))
        try:
            await closed(member.actor)
        finally:
            self._cloud.end(member.actor)

    # ----------------------------------------------------------------------------------------------------- tasks, units

    async def _run(self, action: RunUnit) -> None:
        member = self._members[action.node]
        unit, attempt = action.unit, action.attempt
        beside = sum(1 for other in self._living() if other.start is not None and other.hosts & member.hosts)
        try:
            group = SAMPLES if isinstance(unit, EvalUnit) else WORK
            async for item in stream(member.actor.run_unit, unit, beside, group=group):
                match item:
                    case SampleRecord():
                        entry = Entry("sample", item, item.key, attempt)
                        event = SampleDone(action.node, item.key)
                        self._tell(Occurrence(event, (entry,), action.node, member.start))
                    case Calibration():
                        self._calibrations.append(item)
                        self._tell(Occurrence(None, (Entry("calibration", item),), action.node, member.start))
                    case UnitResult():
                        self._tell(ended(action, item, member.start))
                    case _:
                        line = f"{action.node}: {item}"
                        self._tell(Occurrence(None, node=action.node, line=line, unit=unit.key))
        except RayTaskError as error:
            failure = Failure(cause="bug", message=str(error))
            self._tell(ended(action, UnitResult(None, None, failure), member.start))

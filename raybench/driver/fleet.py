"""Actions become calls on actors, what comes back becomes occurrences: an event with the records that it leaves."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never
from urllib.parse import urlsplit

from pydantic import BaseModel
from ray.exceptions import RayActorError, RayError, RayTaskError

from raybench.config.schema import EngineConfig, RunConfig, engine_of
from raybench.driver.cluster import actor_options
from raybench.engine.base import Launch
from raybench.errors import EngineRefused, RaybenchError
from raybench.ledger.bodies import Decision
from raybench.node.actor import make_actor
from raybench.node.session import NodeSpec, UnitResult
from raybench.plan.demands import Slot
from raybench.plan.events import (
    Action,
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
)
from raybench.records import EngineFacts, Failure, Kind, NodeFacts, SampleRecord

JOIN_TIMEOUT_S = 180.0
CLOSE_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to be written."""

    kind: Kind
    body: BaseModel
    key: str | None = None
    attempt: int | None = None
    rows: bytes | None = None
    """Per-request rows to be written before the record."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened: what it tells the dispatcher, and what it leaves in the ledger."""

    event: Event | None
    """None = only a line of progress."""
    entries: tuple[Entry, ...] = ()
    node: str | None = None
    start: str | None = None
    line: str | None = None
    """For the screen."""
    bug: BaseException | None = None
    """A fault of ours that must end the run instead of letting it wait for ever."""


@dataclass(slots=True)
class _Member:
    actor: Any
    slot: int
    hosts: frozenset[str] = frozenset()
    start: str | None = None
    """Id of the engine's physical start while one is up or starting."""
    num_starts: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Fleet:
    """All actors of a run. Made inside the event loop; `close` ends everything that it started."""

    def __init__(
        self, run_id: str, config: RunConfig, slots: Sequence[Slot], answer_key: Mapping[str, str], first_name: int
    ) -> None:
        self._run_id = run_id
        self._config = config
        self._slots = slots
        self._answer_key = dict(answer_key)
        self._next_name = first_name
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
            case ReplaceNode():
                self.make_node(action.slot)
            case GiveUp():
                entry = Entry("unit_failed", action.failure, action.key, action.attempt + 1)
                self._tell(Occurrence(None, (entry,), line=f"given up: {action.failure.message.splitlines()[0]}"))
            case _:
                assert_never(action)

    def cancel(self) -> None:
        """End running units and starting engines at once; they come back as failures."""
        for member in self._members.values():
            member.actor.cancel.remote()

    def start_of(self, node: str) -> str | None:
        """Id of the physical start of the node's engine."""
        return self._members[node].start

    async def addresses(self) -> list[tuple[str, str, int | None]]:
        """(target's start id, URL, process id) of every engine that is up."""
        return [
            (member.start, *await member.actor.engine_address.remote())
            for member in self._members.values()
            if member.start is not None
        ]

    async def close(self) -> None:
        """End every actor's engine, bounded in time."""
        closing = [asyncio.ensure_future(_closed(member.actor)) for member in self._members.values()]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_S)
        for task in [*closing, *self._tasks]:
            task.cancel()
        await asyncio.gather(*closing, *self._tasks, return_exceptions=True)

    # ----------------------------------------------------------------------------------------------------- tasks, nodes

    def _spawn(self, node: str | None, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(self._guarded(node, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, node: str | None, work: Any) -> None:
        try:
            await work
        except RayActorError as error:
            if node is not None and self._members.pop(node, None) is not None:
                reason = _first_line(error)
                decision = Decision(what="node_lost", reason=reason)
                entry = Entry("decision", decision)
                self._tell(Occurrence(NodeLost(node, reason), (entry,), node, line=f"{node} lost: {reason}"))
        except Exception as error:  # noqa: BLE001 - carried to the loop, which raises it
            self._tell(Occurrence(None, bug=error))

    def _tell(self, occurrence: Occurrence) -> None:
        self.occurrences.put_nowait(occurrence)

    async def _join(self, name: str, number: int) -> None:
        slot = self._slots[number]
        simulated = all(engine.kind == "simulated" for engine in self._engines(slot))
        spec = NodeSpec(
            run_id=self._run_id, node=name, accelerator=slot.accelerator, num_gpus=slot.num_gpus,
            declared_host=f"simulated:{name}" if simulated else None, ray_node_id=slot.machine,
        )  # fmt: skip
        try:
            actor = make_actor(spec, actor_options(slot))
            facts: NodeFacts = await asyncio.wait_for(actor.facts.remote(), JOIN_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            reason = _first_line(error) or f"no answer within {JOIN_TIMEOUT_S:.0f} s"
            self._tell(Occurrence(SlotLost(number, reason), line=f"no node for {', '.join(slot.targets)}: {reason}"))
            return
        urls = [urlsplit(engine.url).hostname or "" for engine in self._engines(slot) if engine.url]
        hosts = frozenset([facts.host, *urls])
        self._members[name] = _Member(actor, number, hosts)
        line = f"{name} joined for {', '.join(slot.targets)}"
        self._tell(Occurrence(NodeJoined(name, number, hosts), (Entry("node", facts),), name, line=line))

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
            async for item in _stream(member.actor.start_engine, launch):
                if isinstance(item, EngineFacts):
                    total = next((p.duration_s for p in item.startup if p.name == "total"), 0.0)
                    line = f"{action.node} {action.target}: ready after {total:.1f} s at {item.url}"
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
        await member.actor.stop_engine.remote()
        start, member.start = member.start, None
        decision = Decision(what="stop_engine", reason=action.reason)
        line = f"{action.node}: engine stopped ({action.reason})"
        entry = Entry("decision", decision)
        self._tell(Occurrence(EngineStopped(action.node), (entry,), action.node, start, line))

    # ----------------------------------------------------------------------------------------------------- tasks, units

    async def _run(self, action: RunUnit) -> None:
        member = self._members[action.node]
        unit, attempt = action.unit, action.attempt
        beside = sum(1 for other in self._members.values() if other.start is not None and other.hosts & member.hosts)
        try:
            async for item in _stream(member.actor.run_unit, unit, beside):
                match item:
                    case SampleRecord():
                        entry = Entry("sample", item, item.key, attempt)
                        event = SampleDone(action.node, item.key)
                        self._tell(Occurrence(event, (entry,), action.node, member.start))
                    case UnitResult():
                        self._tell(_ended(action, item, member.start))
                    case _:
                        self._tell(Occurrence(None, node=action.node, line=f"{action.node}: {item}"))
        except RayTaskError as error:
            failure = Failure(cause="bug", message=str(error))
            self._tell(_ended(action, UnitResult(None, None, failure), member.start))


def _ended(action: RunUnit, result: UnitResult, start: str | None) -> Occurrence:
    key, attempt, node = action.unit.key, action.attempt, action.node
    if result.measurement is not None:
        entry = Entry("unit_done", result.measurement, key, attempt, result.rows)
        return Occurrence(UnitDone(node, key, attempt), (entry,), node, start)
    failure = result.failure or Failure(cause="bug", message="the node gave neither result nor failure")
    entry = Entry("unit_failed", failure, key, attempt)
    line = f"{node}: {key} failed ({failure.cause}): {failure.message.splitlines()[0]}"
    return Occurrence(UnitFailed(node, key, attempt, failure), (entry,), node, start, line)


async def _stream(method: Any, *args: object) -> AsyncIterator[Any]:
    """Items of a streaming actor call; a RaybenchError that it raised comes out as itself."""
    try:
        async for reference in method.options(num_returns="streaming").remote(*args):
            yield await reference
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RaybenchError):
            raise cause from None
        raise


async def _closed(actor: Any) -> None:
    # An actor that is gone already has left its engine to the guardian.
    with suppress(RayError):
        await actor.close.remote()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]

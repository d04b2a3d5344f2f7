"""A fleet without Ray on a virtual clock, and the faults that it plays: the driver's own loop, fleet, dispatcher,
watchdog and ledger run on it, so that thousands of histories take a minute.

Times of Ray's faults are those that were measured with Ray 2.60: a killed worker is known at once, a dead host or
raylet after 14 s, a partition after 65 s, with what was produced meanwhile delivered first.
"""

import asyncio
import random
import selectors
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from driver.fake_cloud import FakeActor, FakeCloud
from ledger_builder import measurement
from ray.exceptions import ActorDiedError

from raybench.driver import run as driver_run
from raybench.driver.cluster import Cluster
from raybench.driver.fleet import Entry, Fleet, FleetOrder, Occurrence
from raybench.driver.run import Order, _begin, _Loop, _open
from raybench.errors import EngineStartError, StorageError
from raybench.ledger.journal import Journal, read
from raybench.ledger.view import RunView, fold
from raybench.node.session import NodeSpec, UnitResult
from raybench.plan.demands import Slot
from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import UnitDone
from raybench.plan.searches import Searches
from raybench.plan.watch import Watch
from raybench.records import (
    EngineFacts,
    EvalMeasurement,
    EvalUnit,
    Failure,
    LedgerRecord,
    PerfUnit,
    SampleRecord,
    prompt_hash,
)

STARTUP_S = 60.0
PERF_S = 20.0
SAMPLE_S = 8.0
RAYLET_KNOWN_S = 14.0
PARTITION_S = 60.0
PARTITION_KNOWN_S = 65.0
GUARDIAN_S = 0.5
"""Until a guardian has ended its server after the death of what it watches."""

MAX_SESSIONS = 8

driver_run.LOOK_S = 30.0  # type: ignore[misc]  # a tenth of what it looks for here; every look costs real time
driver_run.PING_EVERY_S = 30.0  # type: ignore[misc]  # likewise: a node is suspect at the second look

LIMIT_S = 50_000.0
"""Virtual time that no history needs: beyond it the driver hangs."""

FAULTS = (
    "worker", "raylet", "host", "partition", "server", "hung server", "paused node", "failed start", "late result",
    "driver", "torn tail", "full disk",
)  # fmt: skip
"""Everything that can happen."""

ENDS_DRIVER = ("driver", "torn tail", "full disk")


class _Selector(selectors.SelectSelector):
    """Waits for nothing: where nothing is ready, the time is over at once."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout != 0:
            assert timeout is not None, "everybody waits and nothing will ever happen"
            self.now_s += timeout
            assert self.now_s < LIMIT_S, "the driver hangs"
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio on a virtual clock."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s

    def add_signal_handler(self, *_: Any) -> None:
        """Nobody sends signals to a simulation."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, `at_s` seconds into the session `session`."""

    kind: str
    at_s: float
    session: int
    pick: float
    """Which of the nodes that are there, as a number in [0, 1)."""


@dataclass
class Server:
    """An engine's process; it lives where its guardian is."""

    actor: "Worker"
    alive: bool = True
    hung: bool = False


@dataclass
class World:
    """What is really running, whatever the driver believes."""

    rng: random.Random
    servers: list[Server] = field(default_factory=list)
    actors: list["Worker"] = field(default_factory=list)
    fail_starts: int = 0
    played: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Virtual time of all sessions so far."""

    def make(self, spec: NodeSpec) -> "Worker":
        actor = Worker(spec, self)
        self.actors.append(actor)
        return actor

    @property
    def alive(self) -> list["Worker"]:
        return [actor for actor in self.actors if not actor.gone.done() and not actor.frozen]

    def guardian_ends(self, actor: "Worker", after_s: float = GUARDIAN_S) -> None:
        """What the guardian does when its worker or the raylet is gone: it ends the server, and then itself."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            if server.actor is actor:
                loop.call_later(after_s, setattr, server, "alive", False)


class Worker(FakeActor):
    """The actor of one node, with its server."""

    def __init__(self, spec: NodeSpec, world: World) -> None:
        super().__init__(spec)
        self.world = world
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frozen = False
        """Nothing of it reaches the driver any more, or it has been stopped."""
        self.silent_until_s = 0.0
        self.server: Server | None = None
        self.turn = asyncio.Lock()
        self.withdrawn: set[str] = set()
        self.ended: dict[str, str] = {}

    def die(self) -> None:
        """The driver learns of the death."""
        if not self.gone.done():
            self.gone.set_result(None)
        self.world.guardian_ends(self)

    async def wait(self, seconds: float) -> None:
        """Time passes on the node; raises ActorDiedError when the actor dies meanwhile."""
        if not self.gone.done():
            await asyncio.wait([self.gone], timeout=seconds)
        while not self.gone.done() and self.frozen:
            await asyncio.wait([self.gone])
        quiet_s = self.silent_until_s - asyncio.get_running_loop().time()
        if not self.gone.done() and quiet_s > 0:
            await asyncio.wait([self.gone], timeout=quiet_s)
        if self.gone.done():
            raise ActorDiedError()

    async def _ping(self) -> AsyncIterator[Any]:
        await self.wait(0)
        yield None

    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        self.server = Server(self)
        self.world.servers.append(self.server)
        await self.wait(STARTUP_S)
        if self.world.fail_starts:
            self.world.fail_starts -= 1
            self.server.alive = False
            raise EngineStartError("the server ended with code 1")
        yield EngineFacts(
            engine="simulated", target=launch.target, launch=launch.launch, start=launch.start, url="http://127.0.0.1:1",
            simulated=True,
        )  # fmt: skip

    async def _stop_engine(self) -> AsyncIterator[Any]:
        await self.wait(1.0)
        if self.server is not None:
            self.server.alive = False
        yield None

    async def _withdraw(self, key: str) -> AsyncIterator[Any]:
        self.withdrawn.add(key)
        yield None

    async def _end_unit(self, key: str, reason: str) -> AsyncIterator[Any]:
        if not self.gone.done() and not self.frozen:  # nobody waits for the answer
            self.ended[key] = reason
        yield None

    async def _close(self) -> AsyncIterator[Any]:
        self.world.guardian_ends(self, 0.0)
        yield None

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        server = self.server
        assert server is not None
        if isinstance(unit, EvalUnit):
            for spec in unit.samples:
                async for failure in self._work(server, unit.key, SAMPLE_S + self.world.rng.random()):
                    yield failure
                    return
                yield _answered(unit, spec)
            await self.wait(0)
            yield UnitResult(EvalMeasurement(num_samples=len(unit.samples), duration_s=1.0), None, None)
            return
        assert isinstance(unit, PerfUnit)
        async with self.turn:
            if unit.key in self.withdrawn:
                yield UnitResult(None, None, Failure(cause="withdrawn", message="it never began"))
                return
            async for failure in self._work(server, unit.key, PERF_S):
                yield failure
                return
            yield UnitResult(measurement(unit, simulated=True), b"rows of " + unit.key.encode(), None)

    async def _work(self, server: Server, key: str, seconds: float) -> AsyncIterator[UnitResult]:
        """Nothing when the work was done, else what it came to."""
        await self.wait(seconds)
        while server.hung and server.alive and key not in self.ended:
            await self.wait(driver_run.LOOK_S)
        if key in self.ended:
            yield UnitResult(None, None, Failure(cause="timeout", message=self.ended[key]))
        elif not server.alive:
            yield UnitResult(None, None, Failure(cause="engine_died", message="signal 9"))


def _answered(unit: EvalUnit, spec: Any) -> SampleRecord:
    return SampleRecord(
        key=spec.key, unit=unit.key, target=unit.target, eval=unit.eval, question=spec.question, repeat=spec.repeat,
        status="ok", reply=f"Answer: {spec.gold}" if hash_of(spec.key) % 5 else "Answer: 7", finish_reason="stop",
        prompt_tokens=12, output_tokens=6, prompt_sha256=prompt_hash(spec.messages), gold=spec.gold, seed=spec.seed,
        sent_unix_s=0.0, duration_s=0.5,
    )  # fmt: skip


def hash_of(text: str) -> int:
    return int(text[:6], 16)


class _Paper(Journal):
    """The ledger, whose disk can be full and whose writer can be killed."""

    full = dead = False

    def append(self, kind: Any, body: Any, **place: Any) -> Any:
        if self.full or self.dead:
            raise StorageError("no space left on device")
        return super().append(kind, body, **place)


class _Quiet:
    """A chronicle that only writes."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.screen: Any = self
        self.append = journal.append

    def line(self, words: str) -> None: ...

    def counts(self, counts: Any) -> None: ...

    async def keep_showing(self) -> None:
        await asyncio.sleep(LIMIT_S)


def session(order: Order, world: World, faults: list[Fault]) -> bool:
    """One session of the driver; True if it came to its own end."""
    journal, view, _ = _open(order)
    journal = journal or Journal.create(order.folder, lambda: 0.0)
    journal.__class__ = _Paper
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_session(order, world, faults, journal, view))
    finally:
        world.seconds += loop.time()
        loop.close()
        journal.close()


async def _session(order: Order, world: World, faults: list[Fault], journal: Any, view: RunView | None) -> bool:
    _begin(journal, order, Cluster("no Ray", private=True), view)
    slots = [Slot(None, t.accelerator, 0, 0.0, (t.name,)) for t in order.config.targets for _ in range(t.nodes)]
    cloud = FakeCloud()
    cloud._make = lambda spec, options: world.make(spec)  # type: ignore[method-assign]
    cloud._kill = lambda actor: actor.die()  # type: ignore[method-assign,assignment]
    fleet = Fleet(FleetOrder(order.run_id, order.config), slots, len(view.nodes) if view else 0, cloud.cloud())
    dispatcher = Dispatcher(
        order.plan.units, {i: slot.targets for i, slot in enumerate(slots)}, done=view.done if view else (),
        done_samples=view.samples if view else (), attempts=view.attempts if view else {},
    )  # fmt: skip
    rules = (Watch(order.config, order.plan, {}, view), Searches(order.plan, view))
    chronicle: Any = _Quiet(journal)
    running = asyncio.ensure_future(_Loop(dispatcher, rules, fleet, chronicle).run(len(slots), hold=False))
    for fault in faults:
        asyncio.get_running_loop().call_later(fault.at_s, _play, fault, world, journal, fleet, running)
    try:
        await running
        whole = True
    except (StorageError, asyncio.CancelledError):
        whole = False
    for actor in world.actors:  # they belong to the driver's job
        actor.die()
    await asyncio.sleep(PARTITION_KNOWN_S + GUARDIAN_S)
    return whole


def _play(fault: Fault, world: World, journal: _Paper, fleet: Fleet, running: "asyncio.Future[Any]") -> None:
    if running.done() or not world.alive:
        return
    world.played.append(fault.kind)
    match fault.kind:
        case "failed start":
            world.fail_starts += 1
        case "late result":
            # Of an attempt that has ended, as a node that was cut off sends it.
            for occurrence in _late(read(journal.folder)):
                fleet.occurrences.put_nowait(occurrence)
        case "full disk":
            journal.full = True
        case "driver" | "torn tail":
            journal.dead = True
            running.cancel()
            if fault.kind == "torn tail":
                asyncio.get_running_loop().call_soon(_tear, journal.folder / "ledger.jsonl", fault.pick)
        case _:
            _strike(world.alive[int(fault.pick * len(world.alive))], fault.kind)


def _strike(actor: Worker, kind: str) -> None:
    """What happens to one node."""
    loop = asyncio.get_running_loop()
    if kind == "worker":
        actor.die()
    elif kind in ("raylet", "host"):
        actor.frozen = True
        actor.world.guardian_ends(actor, 0.0 if kind == "host" else GUARDIAN_S)
        loop.call_later(RAYLET_KNOWN_S, actor.die)
    elif kind == "partition":
        actor.silent_until_s = loop.time() + PARTITION_S
        loop.call_later(PARTITION_KNOWN_S, actor.die)
    elif kind == "paused node":
        actor.frozen = True
    elif actor.server is not None:
        actor.server.alive = kind != "server" and actor.server.alive
        actor.server.hung = kind == "hung server"


def _late(records: tuple[LedgerRecord, ...]) -> list[Any]:
    done = [r for r in records if r.kind == "unit_done"][-2:]
    nothing = EvalMeasurement(num_samples=0, duration_s=0.0)
    return [
        Occurrence(
            UnitDone(r.node, r.key, r.attempt), (Entry("unit_done", nothing, r.key, r.attempt),), r.node
        )
        for r in done
    ]  # fmt: skip


def _tear(path: Path, pick: float) -> None:
    """The writer died within a line: the last one, or the one after it, is half there."""
    data = path.read_bytes()
    last = data.rstrip(b"\n").rpartition(b"\n")[2]
    cut = 1 + int(pick * len(last))
    if data.count(b"\n") > 3 and pick < 0.5:
        path.write_bytes(data[:-cut])
    else:
        path.write_bytes(data + last[:cut])


def play(order: Order, faults: list[Fault], seed: int) -> tuple[World, tuple[LedgerRecord, ...], RunView]:
    """Sessions until everything is done, as a user resumes a run that was cut off; returns what the ledger holds."""
    world = World(random.Random(seed))
    for number in range(MAX_SESSIONS):
        mine = [fault for fault in faults if fault.session == number]
        if not session(replace(order, resume=number > 0), world, mine):
            continue
        records = read(order.folder)
        view = fold(records)
        if not view.missing_units():
            return world, records, view
    raise AssertionError(f"not done after {MAX_SESSIONS} sessions")

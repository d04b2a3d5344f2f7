"""What becomes of calls on actors that fail, die, are silent or come too late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)

from raybench.config.schema import EngineConfig, ModelConfig, OneBatchSweep, RunConfig, SimulatedConfig, TargetConfig
from raybench.driver import fleet as fleet_module
from raybench.driver import joining
from raybench.driver.fleet import Entry, Fleet, FleetOrder, Occurrence
from raybench.errors import EngineRefused
from raybench.ledger.bodies import Decision
from raybench.node.session import NodeSpec, UnitResult
from raybench.plan.demands import Machine, Slot
from raybench.plan.events import (
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
    SlotLost,
    StartEngine,
    StopEngine,
    UnitFailed,
    WithdrawUnit,
)
from raybench.plan.heartbeat import Silence
from raybench.plan.watchdog import Overdue
from raybench.records import EngineFacts, Failure, OneBatchLoad, PerfUnit, WarmUp

from .fake_cloud import FakeActor, FakeCloud

CONFIG = RunConfig(
    name="fleet", model=ModelConfig(path="m"), targets=(TargetConfig(name="a", accelerator="CPU"),),
    engine=EngineConfig(kind="simulated", simulated=SimulatedConfig(prefill_tok_per_s={1: 1}, itl_ms={1: 1})),
    perf=(OneBatchSweep(batch_sizes=(1,), input_tokens=1, output_tokens=2),),
)  # fmt: skip
UNIT = PerfUnit(
    key="key", target="a", sweep="s", load=OneBatchLoad(batch_size=1, input_tokens=1, output_tokens=2), repeat=0,
    launch=0, order=0, prompt_seed=0, warm_up=WarmUp(), timeout_s=1,
)  # fmt: skip
SLOT = Slot(None, "CPU", 0, 0.0, ("a",))


def play(
    clouds: FakeCloud,
    script: Callable[[Fleet, Callable[[], Awaitable[Occurrence]]], Awaitable[None]],
    *slots: Slot,
    join_limit_s: float = 0.2,
    lease_s: float | None = None,
) -> None:
    """Make node n0 and let the script act; `heard` gives the next occurrence that is more than a line."""

    async def body() -> None:
        order = FleetOrder("run", CONFIG, join_limit_s=join_limit_s, lease_s=lease_s)
        fleet = Fleet(order, slots or (SLOT,), 0, clouds.cloud())

        async def heard() -> Occurrence:
            while True:
                occurrence = await asyncio.wait_for(fleet.occurrences.get(), 30)
                if occurrence.event is not None or occurrence.bug is not None or occurrence.entries:
                    return occurrence

        fleet.make_node(0)
        await script(fleet, heard)
        await fleet.close()

    asyncio.run(body())


async def join(heard: Callable[[], Awaitable[Occurrence]]) -> None:
    assert isinstance((await heard()).event, NodeJoined)


def test_an_engine_starts_and_stops_under_ids_of_its_own() -> None:
    clouds = FakeCloud(FakeActor)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        for start in ("n0.0", "n0.1"):
            fleet.do(StartEngine("n0", "a", 0))
            ready = await heard()
            assert (ready.event, ready.start, fleet.start_of("n0")) == (EngineReady("n0"), start, start)
            assert [place[:2] for place in await fleet.addresses()] == [(start, "http://127.0.0.1:1")]
            fleet.do(StopEngine("n0", "enough"))
            assert (await heard()).event == EngineStopped("n0")

    play(clouds, script)
    assert clouds.actors[0].calls[-1] == "close"


class Refuses(FakeActor):
    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        yield "starting"
        raise RayTaskError("start_engine", "traceback", EngineRefused("no such flag")).as_instanceof_cause()


class Breaks(FakeActor):
    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        yield "starting"
        raise RayTaskError("start_engine", "traceback of ours", ZeroDivisionError("of ours"))

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        raise RayTaskError("run_unit", "traceback of ours", ZeroDivisionError("of ours"))
        yield


@pytest.mark.parametrize(("kind", "retry", "words"), [(Refuses, False, "no such flag"), (Breaks, True, "of ours")])
def test_a_start_that_fails_says_whether_another_may_succeed(kind: type[FakeActor], retry: bool, words: str) -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(StartEngine("n0", "a", 0))
        failed = (await heard()).event
        assert isinstance(failed, EngineFailed) and failed.retry is retry
        assert words in failed.reason
        assert fleet.start_of("n0") is None

    play(FakeCloud(kind), script)


def test_a_bug_on_the_node_fails_the_unit() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(RunUnit("n0", UNIT, 1))
        failed = (await heard()).event
        assert isinstance(failed, UnitFailed) and failed.failure.cause == "bug"
        assert "of ours" in failed.failure.message

    play(FakeCloud(Breaks), script)


class GivesNothing(FakeActor):
    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        yield UnitResult(None, None, None)


class GivesNonsense(FakeActor):
    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        raise KeyError("a fault in the driver's own task")
        yield


def test_a_node_without_result_and_without_failure_is_a_bug_of_ours() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(RunUnit("n0", UNIT, 1))
        failed = (await heard()).event
        assert isinstance(failed, UnitFailed) and failed.failure.cause == "bug"

    play(FakeCloud(GivesNothing), script)


def test_a_fault_in_a_task_comes_out_instead_of_silence() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(StartEngine("n0", "a", 0))
        assert isinstance((await heard()).bug, KeyError)

    play(FakeCloud(GivesNonsense), script)


class Dies(FakeActor):
    error: Exception = ActorDiedError()

    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        yield "starting"
        raise self.error

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        yield UnitResult(None, None, Failure(cause="client", message="one"))
        raise self.error

    async def _close(self) -> AsyncIterator[Any]:
        raise self.error
        yield


class Vanishes(Dies):
    error = ActorUnavailableError("out of sight", None)


class RunsOutOfMemory(Dies):
    error = OutOfMemoryError("Task was killed due to the node running low on memory.")


class LosesItsResult(Dies):
    error = ObjectLostError("00" * 28, None, "")


@pytest.mark.parametrize("kind", [Dies, Vanishes, RunsOutOfMemory, LosesItsResult])
def test_a_lost_actor_is_killed_told_once_and_later_calls_on_it_do_nothing(kind: type[FakeActor]) -> None:
    clouds = FakeCloud(kind)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(RunUnit("n0", UNIT, 1))
        assert isinstance((await heard()).event, UnitFailed)
        # The dispatcher heard of the result before it hears of the loss, and gave the node more to do.
        fleet.do(RunUnit("n0", UNIT, 2))
        fleet.do(StartEngine("n0", "a", 0))
        assert fleet.start_of("n0") is None
        events = [(await heard()).event]
        await asyncio.sleep(0.05)
        while not fleet.occurrences.empty():
            events.append(fleet.occurrences.get_nowait().event)
        assert [type(event) for event in events if event].count(NodeLost) == 1
        assert await fleet.addresses() == []
        fleet.cancel()

    play(clouds, script)
    assert clouds.actors[0].killed
    assert "cancel" not in clouds.actors[0].calls


class Silent(FakeActor):
    async def _facts(self) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield None

    async def _close(self) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield None


@pytest.mark.parametrize(
    ("clouds", "words"),
    [
        (FakeCloud(Silent), "found no room for its actor"),
        (FakeCloud(Silent, machines=()), "no machine of the cluster is alive"),
    ],
)
def test_an_actor_that_never_answers_is_a_lost_slot(
    clouds: FakeCloud, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOIN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.05)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        told = await heard()
        assert isinstance(told.event, SlotLost) and words in told.event.reason
        (entry,) = told.entries
        assert isinstance(entry.body, Decision) and entry.body.what == "slot_lost" and words in entry.body.reason

    play(clouds, script)
    assert clouds.actors[0].killed, "it would take its place later, when nobody wants it any more"


def dying(times: int, error: RayError) -> FakeCloud:
    """A cloud whose first so many actors die before they answer, as those do that are placed on a dead machine."""
    left = [times]

    class Dies(FakeActor):
        async def _facts(self) -> AsyncIterator[Any]:
            if left[0] > 0:
                left[0] -= 1
                raise error
            async for facts in super()._facts():
                yield facts

    return FakeCloud(Dies)


@pytest.mark.parametrize("error", [RayActorError(), OutOfMemoryError("low on memory"), NodeDiedError("gone")])
@pytest.mark.parametrize(("times", "joins"), [(2, True), (3, False)])
def test_an_actor_that_dies_before_it_joins_is_made_again_a_few_times(
    times: int, joins: bool, error: RayError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.01)
    clouds = dying(times, error)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        assert isinstance((await heard()).event, NodeJoined if joins else SlotLost)

    play(clouds, script)
    assert len(clouds.actors) == 3
    assert all(actor.killed for actor in clouds.actors[:times])


def test_closing_does_not_wait_for_a_silent_actor_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "CLOSE_TIMEOUT_S", 0.05)

    class SilentAtTheEnd(FakeActor):
        _close = Silent._close

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)

    play(FakeCloud(SilentAtTheEnd), script)


def test_giving_up_is_an_attempt_of_its_own() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(GiveUp("key", 2, Failure(cause="client", message="one\ntwo", given_up=True)))
        told = await heard()
        assert told.event is None and told.line == "given up: one"
        assert [(entry.kind, entry.key, entry.attempt) for entry in told.entries] == [("unit_failed", "key", 3)]
        fleet.do(GiveUp("other", 2, Failure(cause="client", message="one\nthree", given_up=True)))
        told = await heard()
        assert told.line is None, "one reason is told once, however many units it takes along"
        assert [entry.key for entry in told.entries] == ["other"]

    play(FakeCloud(FakeActor), script)


M0, M1, M7 = "a0" * 28, "a1" * 28, "a7" * 28
"""Ids as Ray makes them."""


def gpus(name: str) -> Machine:
    return Machine(name, "h.host", 8, 8, ("H200",))


GPU_SLOT = Slot(M0, "H200", 8, 1.0, ("a",))


def test_a_node_on_a_drained_machine_leaves_once_and_is_let_go_when_its_engine_is_stopped() -> None:
    clouds = FakeCloud(FakeActor, machines=(gpus(M0), gpus(M1)))

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.look_for_leaving()
        clouds.leaving = frozenset([M0])
        fleet.look_for_leaving()
        fleet.look_for_leaving()
        told = await heard()
        assert told.event == NodeLeaving("n0", "its machine is being drained")
        assert [entry.kind for entry in told.entries] == ["decision"]
        fleet.do(ReplaceNode(0))
        joined = (await heard()).event
        assert isinstance(joined, NodeJoined) and joined.node == "n1"
        assert clouds.actors[1].spec.ray_node_id == M1, "the drained machine is not asked again"
        fleet.do(WithdrawUnit("n0", "key", 1))
        fleet.do(ReleaseNode("n0", "drained"))
        assert (await heard()).event is None
        await asyncio.sleep(0.05)
        assert await fleet.addresses() == []

    play(clouds, script, GPU_SLOT)
    assert clouds.actors[0].killed and {"withdraw", "close"} <= set(clouds.actors[0].calls)


def test_a_slot_whose_machine_is_gone_takes_the_next_one_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.02)
    clouds = FakeCloud(FakeActor, machines=())

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await asyncio.sleep(0.1)
        assert clouds.actors == []
        clouds.machines = (Machine("cpu", "c.host", 8, 0, ()), gpus(M7))
        await join(heard)
        assert clouds.actors[0].spec.ray_node_id == M7

    play(clouds, script, GPU_SLOT, join_limit_s=30)


def bundle(gpus: int) -> dict[str, float]:
    return {"GPU": float(gpus), "CPU": 1.0, "accelerator_type:H200": 0.001}


def test_a_slot_without_a_machine_is_wished_for_beside_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.02)
    clouds = FakeCloud(FakeActor, machines=(gpus(M0),))

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        assert clouds.requests == []
        clouds.leaving = frozenset([M0])
        fleet.do(ReplaceNode(0))
        await asyncio.sleep(0.1)
        # A wish is for the whole cluster: one machine would be the one that is drained.
        assert clouds.requests == [[bundle(8), bundle(8)]]
        clouds.machines = ()
        await asyncio.sleep(0.1)
        assert clouds.requests[1:] == [[bundle(8)]]
        clouds.machines = (gpus(M1),)
        await join(heard)
        assert clouds.requests[2:] == [[]], "the autoscaler would bring it again when it is no longer needed"

    play(clouds, script, GPU_SLOT, join_limit_s=30)


def test_a_wish_is_taken_back_when_its_slot_is_lost_or_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.05)
    clouds = FakeCloud(FakeActor, machines=())

    async def lost(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        assert isinstance((await heard()).event, SlotLost)

    async def ended(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await asyncio.sleep(0.1)

    play(clouds, lost, GPU_SLOT, join_limit_s=0.1)
    play(clouds, ended, GPU_SLOT, join_limit_s=30)
    assert clouds.requests == [[bundle(8)], [], [bundle(8)], []]


def test_a_node_without_gpus_is_made_anywhere_once_its_machine_may_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.01)
    clouds = dying(1, RayActorError())

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.make_node(1)
        await join(heard)
        fleet.do(ReplaceNode(1))
        await join(heard)

    play(clouds, script, Slot(M0, "H200", 0, 0.0, ("a",)), Slot(M1, "H200", 0, 0.0, ("a",)))
    asked = [actor.spec.ray_node_id for actor in clouds.actors]
    assert asked == [M0, None, M1, None], "after a death before it joined, and as a replacement"


def test_stand_ins_on_a_machine_do_not_keep_a_real_node_off_it() -> None:
    clouds = FakeCloud(FakeActor, machines=(gpus(M0),))

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.make_node(1)
        await join(heard)
        assert clouds.actors[1].spec.ray_node_id == M0

    play(clouds, script, Slot(M0, "H200", 0, 0.0, ("a",)), GPU_SLOT, join_limit_s=0.1)


def test_two_slots_never_take_the_same_machine_and_the_one_without_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.05)
    clouds = FakeCloud(FakeActor, machines=(gpus(M1),))

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        fleet.make_node(1)
        await join(heard)
        lost = (await heard()).event
        assert isinstance(lost, SlotLost) and "no machine with 8 H200" in lost.reason

    play(clouds, script, GPU_SLOT, GPU_SLOT)
    assert len(clouds.actors) == 1


def test_an_overdue_unit_is_ended_at_its_node_and_a_node_that_does_not_is_lost() -> None:
    clouds = FakeCloud(FakeActor)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.end_unit(Overdue("n0", "key", "no progress", lost=False))
        fleet.end_unit(Overdue("n0", "key", "no progress", lost=True))
        lost = (await heard()).event
        assert isinstance(lost, NodeLost) and "does not end key" in lost.reason
        fleet.end_unit(Overdue("n0", "key", "no progress", lost=True))
        await asyncio.sleep(0.05)

    play(clouds, script)
    assert clouds.actors[0].killed and "end_unit" in clouds.actors[0].calls


WARM = NodeSpec("run", "n0", "CPU", 0, None, lease_s=90.0)


class TakenOver(FakeActor):
    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        async for item in super()._start_engine(launch):
            yield item.model_copy(update={"adopted_from": "n0.0"}) if isinstance(item, EngineFacts) else item


@pytest.mark.parametrize("leaves", [True, False])
def test_nodes_with_a_lease_have_names_are_taken_over_and_left_or_ended(leaves: bool) -> None:
    clouds = FakeCloud(FakeActor)
    warm = clouds.warm["run.slot0.n0.abcdef"] = TakenOver(WARM)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.make_node(1)
        await join(heard)
        fleet.do(StartEngine("n0", "a", 0))
        assert ((await heard()).line or "").startswith("n0 a: taken over from n0.0 after 0.0 s at")
        assert warm.calls[:4] == ["facts", "cancel", "adopt", "facts"]
        said = fleet.leave_warm() if leaves else []
        assert said == ["n0: its server stays up for 90 s, for --resume with --keep-warm"] * leaves

    play(clouds, script, SLOT, SLOT, lease_s=90.0)
    (asked,) = clouds.options
    assert asked["name"].startswith("run.slot1.n1.") and asked["lifetime"] == "detached"
    assert "get_if_exists" not in asked and "adopt" not in clouds.actors[0].calls
    assert warm.killed is not leaves
    assert ("close" in warm.calls) is not leaves


def test_nodes_without_a_lease_are_not_left() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(StartEngine("n0", "a", 0))
        await heard()
        assert fleet.leave_warm() == []

    play(FakeCloud(FakeActor), script)


class Unreachable(FakeActor):
    """Ray cannot reach it at first."""

    tries = 0

    async def _ping(self) -> AsyncIterator[Any]:
        self.tries += 1
        if self.tries < 3:
            raise ActorUnavailableError("not now", None)
        yield None


class Died(FakeActor):
    async def _ping(self) -> AsyncIterator[Any]:
        raise ActorDiedError
        yield


def test_signs_of_life_are_asked_for_until_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "ASK_AGAIN_S", 0.01)
    clouds, answered = FakeCloud(Unreachable), asyncio.Event()

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.ping(lambda node: answered.set(), lambda node: False)
        fleet.ping(lambda node: answered.set(), lambda node: node == "n0")
        await asyncio.wait_for(answered.wait(), 10)
        assert clouds.actors[0].calls.count("ping") == 3

    play(clouds, script)


def test_a_node_that_is_found_dead_by_asking_is_lost() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.ping(lambda node: None, lambda node: True)
        assert isinstance((await heard()).event, NodeLost)

    play(FakeCloud(Died), script)


def test_silence_is_told_as_suspicion_then_as_loss_and_an_answer_in_between() -> None:
    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.tell_silence(Silence("n0", 10.0, lost=False))
        told = await heard()
        assert told.event == NodeSuspect("n0", "no answer for 10 s")
        assert told.line == "n0 gets no new work: no answer for 10 s"
        assert [decision_of(entry) for entry in told.entries] == ["node_suspect"]
        fleet.tell_well("n0")
        told = await heard()
        assert told.event == NodeWell("n0") and [decision_of(entry) for entry in told.entries] == ["node_well"]
        fleet.tell_silence(Silence("n0", 300.0, lost=True))
        lost = (await heard()).event
        assert isinstance(lost, NodeLost) and "no answer for 300 s" in lost.reason
        fleet.tell_silence(Silence("n0", 300.0, lost=True))
        fleet.tell_well("n0")
        assert fleet.occurrences.empty()

    play(FakeCloud(FakeActor), script)


def decision_of(entry: Entry) -> str:
    assert isinstance(entry.body, Decision)
    return entry.body.what


class Paused(FakeActor):
    """Its process is stopped while its engine stops: Ray takes it for alive."""

    async def _stop_engine(self) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield None


class PausedAtStart(FakeActor):
    """Its process is stopped while its engine starts."""

    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        yield "starting"
        await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Paused, "it did not stop its engine within 0 s"), (PausedAtStart, "it said nothing of its engine within 0 s")],
)
def test_a_node_that_is_paused_while_its_engine_starts_or_stops_is_lost(
    kind: type[FakeActor], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "STOP_LIMIT_S", 0.2)
    monkeypatch.setattr(fleet_module, "START_GRACE_S", 0.2 - CONFIG.engine.startup_timeout_s)
    clouds = FakeCloud(kind)

    async def script(fleet: Fleet, heard: Callable[[], Awaitable[Occurrence]]) -> None:
        await join(heard)
        fleet.do(StartEngine("n0", "a", 0))
        if kind is Paused:
            assert isinstance((await heard()).event, EngineReady)
            fleet.do(StopEngine("n0", "no work left"))
        event = (await heard()).event
        assert event == NodeLost("n0", reason)
        assert clouds.actors[0].killed

    play(clouds, script)

"""What an earlier session kept warm is taken over once; whatever comes after it is a node of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RaySystemError

from raybench.driver import fleet as fleet_module
from raybench.driver import joining
from raybench.driver.fleet import Fleet, Occurrence
from raybench.driver.warm import fresh_options, newest
from raybench.node.session import NodeSpec
from raybench.plan.events import NodeJoined, NodeLeaving, ReleaseNode, ReplaceNode, SlotLost, StartEngine

from .fake_cloud import FakeActor, FakeCloud, node_facts
from .test_fleet import GPU_SLOT, M0, M1, M7, SLOT, gpus, join, play

LEASE_S = 90.0
Heard = Callable[[], Awaitable[Occurrence]]


def left(machine: str | None = M0, kind: type[FakeActor] = FakeActor, accelerator: str = "H200") -> FakeActor:
    """An actor that an earlier session has left on a machine."""
    return kind(NodeSpec("run", "n0", accelerator, 8, None, ray_node_id=machine, lease_s=LEASE_S))


def until_joined(clouds: FakeCloud) -> list[str]:
    """A session of one slot with GPUs until its node has joined; returns the lines before that."""
    said: list[str] = []

    async def script(fleet: Fleet, heard: Heard) -> None:
        while (told := await fleet.occurrences.get()).event is None:
            said.append(told.line or "")
        assert isinstance(told.event, NodeJoined)

    play(clouds, script, GPU_SLOT, lease_s=LEASE_S)
    return said


@pytest.mark.parametrize("warm", [True, False])
def test_the_replacement_of_a_drained_node_is_a_node_of_its_own(warm: bool) -> None:
    clouds = FakeCloud(FakeActor, machines=(gpus(M0), gpus(M1)))
    if warm:
        clouds.warm["run.slot0.n7.abcdef"] = left()

    async def script(fleet: Fleet, heard: Heard) -> None:
        await join(heard)
        old = clouds.warm["run.slot0.n7.abcdef"] if warm else clouds.actors[0]
        clouds.warm["run.slot0.n0.abcdef"] = old  # Ray has it by its name as long as it works
        told = old.calls.copy()
        fleet.do(StartEngine("n0", "a", 0))
        await heard()
        clouds.leaving = frozenset([M0])
        fleet.look_for_leaving()
        assert isinstance((await heard()).event, NodeLeaving)
        fleet.do(ReplaceNode(0))
        joined = (await heard()).event
        assert isinstance(joined, NodeJoined) and joined.node == "n1"
        assert clouds.actors[-1] is not old and clouds.actors[-1].spec.ray_node_id == M1
        assert old.calls == [*told, "start_engine"], "the drained node goes on with what it does"
        fleet.do(ReleaseNode("n0", "drained"))
        await asyncio.sleep(0.05)
        assert old.killed and not clouds.actors[-1].killed

    play(clouds, script, GPU_SLOT, lease_s=LEASE_S)
    names = [options["name"] for options in clouds.options]
    assert len(names) == len(set(names)) == 2 - warm


def test_the_newest_actor_of_a_slot_is_taken_over_and_the_others_are_ended() -> None:
    clouds = FakeCloud(FakeActor)
    clouds.warm = {
        f"run.slot{rest}": left(None, accelerator="CPU") for rest in ("0", "0.n9.aa", "0.n10.bb", "10.n11.cc")
    }

    async def script(fleet: Fleet, heard: Heard) -> None:
        await join(heard)

    play(clouds, script, SLOT, lease_s=LEASE_S)
    assert [name for name, actor in clouds.warm.items() if "adopt" in actor.calls] == ["run.slot0.n10.bb"]
    assert all(actor.killed for actor in clouds.warm.values())
    assert clouds.actors == []


def test_an_actor_is_found_by_the_number_of_its_slot() -> None:
    made = [fresh_options("run", slot, "n0")["name"] for slot in (1, 10)]
    assert newest("run", [*made, "run.slot2", "run.slotx"], 11) == {1: made[0], 2: "run.slot2", 10: made[1]}


class Gone(FakeActor):
    async def _adopt(self, spec: NodeSpec) -> AsyncIterator[Any]:
        raise ActorDiedError
        yield


class Stuck(FakeActor):
    async def _adopt(self, spec: NodeSpec) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield


@pytest.mark.parametrize(("kind", "words"), [(Gone, "died"), (Stuck, "it did not let itself be taken over within 0 s")])
def test_a_node_that_cannot_be_taken_over_is_ended_and_made_anew(
    kind: type[FakeActor], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "TAKE_OVER_LIMIT_S", 0.2)
    clouds = FakeCloud(FakeActor, machines=(gpus(M0),))
    old = clouds.warm["run.slot0.n0.aa"] = left(kind=kind)

    said = until_joined(clouds)
    assert old.killed and len(clouds.actors) == 1
    assert any("slot 0 gets a new node, the one kept warm is ended" in line and words in line for line in said)


def test_a_slot_whose_machine_another_slots_warm_node_holds_takes_a_free_one() -> None:
    """Machine M0 was lost: slot 0 is now planned on M1, where the node of slot 1 was kept warm."""
    clouds = FakeCloud(FakeActor, machines=(gpus(M1), gpus(M7)))
    warm = clouds.warm["run.slot1.n1.aa"] = left(M1, SlowlyTakenOver)

    async def script(fleet: Fleet, heard: Heard) -> None:
        fleet.make_node(1)
        assert [(await heard()).event for _ in range(2)] == [
            NodeJoined("n1", 1, frozenset(["simulated:n1"])), NodeJoined("n0", 0, frozenset(["simulated:n0"]))
        ]  # fmt: skip

    play(clouds, script, replace(GPU_SLOT, machine=M1), replace(GPU_SLOT, machine=M7), lease_s=LEASE_S)
    assert warm.spec.node == "n1" and [actor.spec.ray_node_id for actor in clouds.actors] == [M7]


class SlowlyTakenOver(FakeActor):
    async def _adopt(self, spec: NodeSpec) -> AsyncIterator[Any]:
        await asyncio.sleep(0.2)
        async for item in super()._adopt(spec):
            yield item


class Crowded(FakeActor):
    """Its machine is somebody else's."""

    async def _facts(self) -> AsyncIterator[Any]:
        if self.spec.ray_node_id == M0:
            await asyncio.sleep(3600)
        yield node_facts(self.spec)


@pytest.mark.parametrize("others", [(M1,), ()])
def test_a_machine_without_room_gives_way_to_another_where_there_is_one(
    others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOIN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(joining, "JOIN_LOOK_S", 0.05)
    clouds = FakeCloud(Crowded, machines=tuple(gpus(name) for name in (M0, *others)))

    async def script(fleet: Fleet, heard: Heard) -> None:
        told = (await heard()).event
        if others:
            assert isinstance(told, NodeJoined)
        else:
            assert isinstance(told, SlotLost) and "found no room for its actor" in told.reason

    play(clouds, script, GPU_SLOT, join_limit_s=30)
    assert [actor.spec.ray_node_id for actor in clouds.actors] == [M0, *others]
    assert clouds.actors[0].killed


class Older(FakeActor):
    async def _facts(self) -> AsyncIterator[Any]:
        yield node_facts(self.spec).model_copy(update={"raybench_version": "0.0.1"})


def test_a_node_kept_warm_by_another_version_is_ended_and_made_anew() -> None:
    clouds = FakeCloud(FakeActor, machines=(gpus(M0),))
    old = clouds.warm["run.slot0.n0.aa"] = left(kind=Older)

    said = until_joined(clouds)
    assert old.killed and "adopt" not in old.calls and len(clouds.actors) == 1
    assert len(said) == 1 and "h.host: Python" in said[0] and "raybench 0.0.1; driver: Python" in said[0]


def test_a_node_kept_warm_for_another_accelerator_is_ended_and_made_anew() -> None:
    clouds = FakeCloud(FakeActor, machines=(gpus(M0),))
    old = clouds.warm["run.slot0.n0.aa"] = left(accelerator="B200")

    until_joined(clouds)
    assert old.killed and "adopt" not in old.calls and len(clouds.actors) == 1


@pytest.mark.parametrize("lease_s", [None, LEASE_S])
def test_a_node_of_another_version_does_not_join(lease_s: float | None) -> None:
    clouds = FakeCloud(Older, machines=(gpus(M0),))

    async def script(fleet: Fleet, heard: Heard) -> None:
        lost = (await heard()).event
        assert isinstance(lost, SlotLost)
        assert lost.reason.startswith("these machines cannot work with the driver: h.host: Python")
        assert "raybench 0.0.1; driver: Python" in lost.reason and "Install the driver's versions" in lost.reason

    play(clouds, script, GPU_SLOT, lease_s=lease_s)
    assert clouds.actors[0].killed and len(clouds.actors) == 1


class SilentAtFirst(FakeActor):
    async def _facts(self) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield


class SilentAtTheEnd(FakeActor):
    async def _close(self) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield


@pytest.mark.parametrize("warm", [True, False])
def test_a_join_that_the_end_of_the_run_cuts_off_leaves_no_actor(warm: bool) -> None:
    clouds = FakeCloud(SilentAtFirst)
    if warm:
        clouds.warm["run.slot0.n0.aa"] = left(None, SilentAtFirst, "CPU")

    async def script(fleet: Fleet, heard: Heard) -> None:
        await asyncio.sleep(0.05)

    play(clouds, script, SLOT, lease_s=LEASE_S)
    (actor,) = [*clouds.actors, *clouds.warm.values()]
    assert actor.calls == ["facts"] and actor.killed


def test_a_node_that_is_let_go_when_the_run_ends_leaves_no_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "CLOSE_TIMEOUT_S", 0.05)
    clouds = FakeCloud(SilentAtTheEnd)

    async def script(fleet: Fleet, heard: Heard) -> None:
        await join(heard)
        fleet.do(ReleaseNode("n0", "drained"))
        await heard()

    play(clouds, script, SLOT, lease_s=LEASE_S)
    assert clouds.actors[0].calls[-1] == "close" and clouds.actors[0].killed


class LateToJoin(SilentAtTheEnd):
    async def _facts(self) -> AsyncIterator[Any]:
        if self.spec.node == "n1":
            await asyncio.sleep(0.1)
        yield node_facts(self.spec)


def test_a_node_that_joins_while_the_run_ends_leaves_no_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "CLOSE_TIMEOUT_S", 0.4)
    clouds = FakeCloud(LateToJoin)

    async def script(fleet: Fleet, heard: Heard) -> None:
        await join(heard)
        fleet.make_node(1)
        await asyncio.sleep(0)

    play(clouds, script, SLOT, SLOT, lease_s=LEASE_S)
    assert len(clouds.actors) == 2 and all(actor.killed for actor in clouds.actors)


class SlowToChange(FakeActor):
    async def _adopt(self, spec: NodeSpec) -> AsyncIterator[Any]:
        await asyncio.sleep(self.adopts_after_s)
        self.spec = spec
        yield None

    adopts_after_s = 3600.0


class QuickToChange(SlowToChange):
    adopts_after_s = 0.1


@pytest.mark.parametrize("kind", [SlowToChange, QuickToChange])
def test_a_take_over_that_a_stop_cuts_off_leaves_the_server_for_the_next_session(
    kind: type[SlowToChange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "CLOSE_TIMEOUT_S", 0.4)
    clouds = FakeCloud(SilentAtTheEnd)
    clouds.warm["run.slot1.n1.bb"] = left(None, kind, "CPU")

    async def script(fleet: Fleet, heard: Heard) -> None:
        await join(heard)
        fleet.make_node(1)
        await asyncio.sleep(0.05)
        assert clouds.warm["run.slot1.n1.bb"].calls[-1] == "adopt"
        fleet.leave_warm()

    play(clouds, script, SLOT, SLOT, lease_s=LEASE_S)
    assert not clouds.warm["run.slot1.n1.bb"].killed
    assert clouds.actors[0].killed, "it has no server"


def test_what_the_cluster_does_not_answer_costs_warm_nodes_and_wishes_but_not_the_run() -> None:
    clouds = FakeCloud(FakeActor, machines=())
    asked = list[Any]()

    def unanswered(what: Any) -> Any:
        asked.append(what)
        if len(asked) == 2:
            clouds.machines = (gpus(M0),)
        raise RaySystemError("no answer")

    cloud = replace(clouds.cloud(), warm=unanswered, request=unanswered)
    clouds.cloud = lambda: cloud  # type: ignore[method-assign]

    async def script(fleet: Fleet, heard: Heard) -> None:
        await join(heard)

    play(clouds, script, GPU_SLOT, join_limit_s=60, lease_s=LEASE_S)
    assert asked[0] == "run" and len(asked) >= 2

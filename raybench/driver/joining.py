"""Nodes that join: the machine that a slot gets, the actor that serves it, and what becomes of those that never answer.

With `--keep-warm` a slot may have an actor that an earlier session left. It is taken over once, before any other slot
looks for a machine, and where it is; every later node of the slot is an actor of its own.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raybench.driver.calls import Silent, first_line, in_time, taken_over, value
from raybench.driver.cluster import actor_options, leaving_machines, machines, node_complaint
from raybench.driver.waiting import Wish
from raybench.driver.warm import fresh_options, newest, warm_actors
from raybench.node.actor import make_actor
from raybench.node.session import NodeSpec
from raybench.plan.demands import Machine, Slot, free_machine, more_bundles
from raybench.records import NodeFacts

JOIN_TIMEOUT_S = 180.0
JOIN_TRIES = 3
JOIN_LOOK_S = 5.0
"""Between two looks at the cluster while a node is awaited."""
TAKE_OVER_LIMIT_S = 60.0
"""For an actor that an earlier session left to answer, to end what it does and to be handed on."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """What the fleet asks of Ray, so that its faults can be played without Ray."""

    make_actor: Callable[[NodeSpec, dict[str, Any]], Any] = make_actor
    """Makes the actor of a node."""
    kill_actor: Callable[[Any], None] = ray.kill
    """Ends an actor without asking it."""
    machines: Callable[[], tuple[Machine, ...]] = machines
    """Machines that are alive."""
    leaving: Callable[[], frozenset[str]] = leaving_machines
    """Ids of the machines that are to be taken away."""
    warm: Callable[[str], Mapping[str, Any]] = warm_actors
    """Actors by name that earlier sessions of the run have left."""
    request: Callable[[list[dict[str, float]]], None] = Wish().ask
    """Tells the autoscaler how many machines there must be; an empty list takes the wish back."""

    def end(self, actor: Any) -> None:
        """End an actor that may be gone already."""
        with suppress(RayError, ValueError):
            self.kill_actor(actor)


@dataclass(frozen=True, slots=True)
class Joined:
    """A node that has answered."""

    actor: Any
    facts: NodeFacts
    machine: str | None
    """Ray's id of its machine; None = Ray chose one that it has not named."""
    warm: bool = False
    """An earlier session left it."""


class NoNode(Exception):
    """A slot gets no node; the text says why."""


class Joining:
    """The slots of a run and how they come to their nodes. Made inside the event loop."""

    def __init__(
        self, slots: Sequence[Slot], limit_s: float, cloud: Cloud, *, spec_of: Callable[[str, Slot], NodeSpec],
        held: Callable[[], set[str]], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`limit_s`: how long a machine is looked for. `spec_of(name, slot)` makes the specification of a node, `held`
        gives the machines whose GPUs nodes have, `say` shows a line."""
        self._slots = list(slots)
        self._limit_s = limit_s
        self._cloud = cloud
        self._spec_of, self._held, self._say = spec_of, held, say
        self._reserved: set[str] = set()
        """Machines of nodes that are being made."""
        self._waiting: dict[int, Slot] = {}
        """Slots that look for a machine, by number."""
        self._asked: list[dict[str, float]] = []
        """What the autoscaler was asked for last."""
        self._warm: dict[int, Any] | None = None
        """Actors to be taken over, by slot; None: nobody has looked yet."""
        self._undecided: set[int] = set()
        """Slots whose take-over may still succeed: where their machines are is not known before."""
        self._decided = asyncio.Event()
        self.leaving = False
        """True: what is being taken over is left as it is, for another session."""

    async def node(self, name: str, number: int) -> Joined:
        """A node for a slot, known by a name that no other has. Raises NoNode."""
        spec = self._spec_of(name, self._slots[number])
        if spec.lease_s is not None:
            if (joined := await self._warm_node(number, spec)) is not None:
                return joined
            if spec.num_gpus:
                await self._decided.wait()
        return await self._new_node(name, number)

    def set_free(self, number: int) -> None:
        """Let a slot without GPUs have its next node anywhere: its machine may be the one that died."""
        if not self._slots[number].num_gpus:
            self._slots[number] = replace(self._slots[number], machine=None)

    # ------------------------------------------------------------------------------------------------------- warm nodes

    async def _warm_node(self, number: int, spec: NodeSpec) -> Joined | None:
        """The node that an earlier session left for the slot, once; None: it needs a new one."""
        if self._warm is None:
            self._warm = self._left_by_earlier_sessions(spec.run_id)
            self._undecided = set(self._warm)
        actor = self._warm.pop(number, None)
        try:
            return None if actor is None else await self._taken_over(actor, number, spec)
        finally:
            self._undecided.discard(number)
            if not self._undecided:
                self._decided.set()

    def _left_by_earlier_sessions(self, run_id: str) -> dict[int, Any]:
        try:
            found = self._cloud.warm(run_id)
        except RayError as error:
            self._say(f"what is kept warm cannot be found, and every slot gets a new node: {first_line(error)}")
            found = {}
        chosen = newest(run_id, found, len(self._slots))
        for name, actor in found.items():
            if name not in chosen.values():
                self._say(f"ending {name}, which no slot takes over")
                self._cloud.end(actor)
        return {number: found[name] for number, name in chosen.items()}

    async def _taken_over(self, actor: Any, number: int, spec: NodeSpec) -> Joined | None:
        try:
            found = await in_time(value(actor.facts.remote()), TAKE_OVER_LIMIT_S, "did not answer")
            if found.accelerator != spec.accelerator:
                raise NoNode(f"it serves {found.accelerator}, and the slot is for {spec.accelerator}")
            self._check_versions(found)
            facts = await in_time(taken_over(actor, spec), TAKE_OVER_LIMIT_S, "did not let itself be taken over")
        except (RayError, Silent, NoNode) as error:
            self._cloud.end(actor)
            self._say(f"slot {number} gets a new node, the one kept warm is ended: {first_line(error)}")
            return None
        except BaseException:
            if not self.leaving:
                self._cloud.end(actor)
            raise
        return Joined(actor, facts, facts.ray_node_id, warm=True)

    # -------------------------------------------------------------------------------------------------------- new nodes

    async def _new_node(self, name: str, number: int) -> Joined:
        reason, refused = "", set[str]()
        for left in reversed(range(JOIN_TRIES)):
            slot = self._slots[number]
            if slot.num_gpus:
                machine = self._free_machine(slot, refused) if refused else await self._machine_for(number, slot)
                if machine is None:
                    wanted = f"{slot.num_gpus} {slot.accelerator}"
                    raise NoNode(reason or f"no machine with {wanted} came within {self._limit_s:.0f} s")
                slot = replace(slot, machine=machine)
            try:
                return await self._new_node_at(name, number, slot)
            except RayTaskError as error:
                raise NoNode(first_line(error)) from None
            except (NoNode, TimeoutError) as error:
                # Somebody else has the machine, or it is no good: another one where there is one.
                reason = first_line(error)
                if not slot.num_gpus or slot.machine is None:
                    raise NoNode(reason) from None
                refused.add(slot.machine)
            except RayError as error:
                # Ray may place an actor on a machine that has just died, as long as it has not noticed.
                reason = first_line(error)
                self.set_free(number)
                if left:
                    await asyncio.sleep(JOIN_LOOK_S)
            finally:
                self._reserved.discard(slot.machine or "")
        raise NoNode(reason)

    async def _machine_for(self, number: int, slot: Slot) -> str | None:
        """A machine for a slot with GPUs, reserved: its own, or another that is free, as soon as one is there."""
        try:
            for _ in range(max(round(self._limit_s / JOIN_LOOK_S), 1)):
                if (machine := self._free_machine(slot)) is not None:
                    return machine
                self._waiting[number] = slot
                self._ask()
                await asyncio.sleep(JOIN_LOOK_S)
            return None
        finally:
            if self._waiting.pop(number, None) is not None:
                self._ask()

    def _free_machine(self, slot: Slot, refused: Collection[str] = ()) -> str | None:
        """A machine that is free now, reserved."""
        taken = self._held() | self._reserved | self._cloud.leaving() | set(refused)
        machine = free_machine(slot, self._cloud.machines(), taken)
        if machine is not None:
            self._reserved.add(machine)
        return machine

    def _ask(self) -> None:
        """Ask the autoscaler for what the slots that wait lack."""
        waiting = tuple(self._waiting.values())
        wanted = more_bundles(waiting, self._cloud.machines()) if waiting else []
        if wanted != self._asked:
            with suppress(RayError):  # it is asked again with the next look
                self._cloud.request(wanted)
                self._asked = wanted

    async def _new_node_at(self, name: str, number: int, slot: Slot) -> Joined:
        spec = self._spec_of(name, slot)
        options = actor_options(slot)
        if spec.lease_s is not None:
            options |= fresh_options(spec.run_id, number, name)
        actor = None
        try:
            actor = self._cloud.make_actor(spec, options)
            facts = await self._facts(actor)
            self._check_versions(facts)
        except BaseException:  # cancelled too: it would hold its machine until its lease is over
            if actor is not None:
                self._cloud.end(actor)
            raise
        return Joined(actor, facts, facts.ray_node_id or slot.machine)

    def _check_versions(self, facts: NodeFacts) -> None:
        """Raise NoNode for a node that cannot work with the driver. Machines that were there when the run began were
        asked then; this one may have come since, or the driver is a later one."""
        addresses = {machine.id: machine.address for machine in self._cloud.machines()}
        if complaint := node_complaint(addresses.get(facts.ray_node_id or "", facts.node), facts):
            raise NoNode(complaint)

    async def _facts(self, actor: Any) -> NodeFacts:
        """First answer of a new actor. Raises TimeoutError when it cannot be expected any more."""
        answer = asyncio.ensure_future(value(actor.facts.remote()))
        try:
            for _ in range(round(JOIN_TIMEOUT_S / JOIN_LOOK_S)):
                done, _ = await asyncio.wait([answer], timeout=JOIN_LOOK_S)
                if done:
                    return answer.result()
                if not self._cloud.machines():
                    raise TimeoutError("no machine of the cluster is alive any more")
            raise TimeoutError(
                f"the cluster found no room for its actor within {JOIN_TIMEOUT_S:.0f} s: something else holds its "
                "CPUs or GPUs (see ray status)"
            )
        finally:
            answer.cancel()

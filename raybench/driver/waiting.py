"""Waiting for machines that an autoscaler brings or a person is about to start: with a limit and with progress."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from raybench.driver.cluster import check_versions, machines
from raybench.errors import ClusterError
from raybench.plan.demands import Demand, Machine, Slot, assign, assign_some, bundles, shortage

LOOK_S = 5.0
REPORT_EVERY_S = 60.0


def _send(wanted: list[dict[str, float]]) -> None:
    # Without an autoscaler nobody reads it.
    request_resources(bundles=wanted)


class Wish:
    """What the autoscaler was asked to bring. It stands until another takes its place, even when its driver is gone."""

    def __init__(self, send: Callable[[list[dict[str, float]]], None] = _send) -> None:
        """`send` replaces the wish of this cluster."""
        self._send = send
        self._standing = False

    def ask(self, wanted: list[dict[str, float]]) -> None:
        """Ask for so many machines in all, those that are there included; an empty list takes the wish back."""
        self._send(wanted)
        self._standing = bool(wanted)

    def take_back(self) -> None:
        """Ask for nothing any more, if anything was asked for."""
        if self._standing:
            with suppress(RayError):  # the cluster may be gone
                self.ask([])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What waiting asks of the world."""

    machines: Callable[[], tuple[Machine, ...]] = machines
    """Machines that are alive."""
    request: Callable[[list[dict[str, float]]], None] = _send
    """Tells the autoscaler what to bring; an empty list takes the wish back."""
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    check: Callable[[Sequence[Machine]], tuple[str, ...]] = check_versions
    """Raises ClusterError for machines that cannot work with the driver; returns addresses of those lost meanwhile."""


def checked_slots(
    wanted: Sequence[Demand], limit_s: float, say: Callable[[str], None], *, fewer: bool,
    around: Surroundings | None = None,
) -> tuple[Slot, ...]:  # fmt: skip
    """Slots on machines that can work with the driver. Raises ClusterError after `limit_s`, or naming the misfits.

    `fewer`: True = as soon as every target has a machine (`some_slots`). A machine that is lost while it is asked is
    waited for as one that never came.
    """
    world = around or Surroundings()
    ends_s = world.now_s() + limit_s
    while True:
        slots = (some_slots if fewer else await_slots)(wanted, max(ends_s - world.now_s(), 0.0), say, world)
        if not (lost := world.check(world.machines())):
            return slots
        say(f"lost before the run began: {', '.join(lost)}")


def await_slots(
    wanted: Sequence[Demand], limit_s: float, say: Callable[[str], None], around: Surroundings | None = None
) -> tuple[Slot, ...]:
    """Slots for all demands, as soon as the cluster can hold them. Raises ClusterError after `limit_s`.

    A line is said whenever something else is missing, and once a minute.
    """
    world = around or Surroundings()
    began_s = world.now_s()
    there = world.machines()
    told: tuple[str, ...] = ()
    told_s = began_s
    asked = False
    try:
        while missing := shortage(wanted, there):
            waited_s = world.now_s() - began_s
            if waited_s >= limit_s:
                break
            if not asked:
                world.request(bundles(wanted))
                asked = True
            if missing != told or world.now_s() - told_s >= REPORT_EVERY_S:
                say(f"waiting for machines ({waited_s:.0f} of {limit_s:.0f} s): {'; '.join(missing)}")
                told, told_s = missing, world.now_s()
            world.sleep(min(LOOK_S, limit_s - waited_s))
            there = world.machines()
        return _assigned(wanted, there, limit_s)
    finally:
        if asked:
            # What was brought stays: it is busy from now on, or idle and the autoscaler's to take down.
            world.request([])


def some_slots(
    wanted: Sequence[Demand], limit_s: float, say: Callable[[str], None], around: Surroundings | None = None
) -> tuple[Slot, ...]:
    """Slots for all demands as soon as every target has a machine; the others have none yet, and nodes join as they
    come. The autoscaler goes on bringing them. Raises ClusterError after `limit_s`."""
    world = around or Surroundings()
    await_slots([replace(demand, nodes=1) for demand in wanted], limit_s, say, world)
    slots = assign_some(wanted, world.machines())
    if missing := sum(1 for slot in slots if slot.num_gpus and slot.machine is None):
        say(f"beginning with {len(slots) - missing} of {len(slots)} nodes; the others may join")
        world.request(bundles(wanted))
    return slots


def _assigned(wanted: Sequence[Demand], there: Sequence[Machine], limit_s: float) -> tuple[Slot, ...]:
    try:
        return assign(wanted, there)
    except ClusterError as error:
        if not limit_s:
            raise
        raise ClusterError(f"after {limit_s:.0f} s of waiting {error.message}") from None

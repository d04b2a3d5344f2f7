"""Nodes that outlive the driver on request (`--keep-warm`): actors with a name, detached from its job.

A session that goes on with the run finds them by run and slot, and takes them over with their servers. The node itself
ends when its lease is over: no driver has asked it for a sign of life for so long.
"""

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from raybench.driver.cluster import NAMESPACE

CLOSE_LIMIT_S = 40.0


def fresh_options(run_id: str, slot: int, node: str) -> dict[str, Any]:
    """Ray's options for a new actor of a slot."""
    # An actor that was just killed has its name for a moment longer, and the next try is for the same node.
    name = f"{_prefix(run_id)}{slot}.{node}.{secrets.token_hex(3)}"
    return {"name": name, "namespace": NAMESPACE, "lifetime": "detached"}


def warm_actors(run_id: str) -> dict[str, Any]:
    """Actors by name that earlier sessions of the run have kept warm and that still live."""
    found: dict[str, Any] = {}
    for name in ray.util.list_named_actors():
        if name.startswith(_prefix(run_id)):
            with suppress(ValueError):  # it ended in between
                found[name] = ray.get_actor(name, NAMESPACE)
    return found


def newest(run_id: str, names: Iterable[str], num_slots: int) -> dict[int, str]:
    """The last actor that was made for each slot, by slot; those of slots that there are no more are left out."""
    last: dict[int, tuple[int, str]] = {}
    for name in names:
        slot, *rest = name.removeprefix(_prefix(run_id)).split(".")
        node = rest[0].removeprefix("n") if rest else ""
        if slot.isdigit() and int(slot) < num_slots:
            made = (int(node) if node.isdigit() else -1, name)
            last[int(slot)] = max(last.get(int(slot), made), made)
    return {slot: name for slot, (_, name) in last.items()}


def end_warm(run_id: str, say: Callable[[str], None]) -> None:
    """End what earlier sessions of the run have kept warm: a session without leases could not have its machines."""
    for name, actor in warm_actors(run_id).items():
        say(f"ending {name}, which an earlier session kept warm (--keep-warm takes it over)")
        with suppress(RayError, ValueError):
            with suppress(RayError):
                ray.get(actor.close.remote(), timeout=CLOSE_LIMIT_S)
            ray.kill(actor)


def _prefix(run_id: str) -> str:
    return f"{run_id}.slot"

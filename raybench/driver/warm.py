"""Nodes that outlive the driver on request (`--keep-warm`): actors with a name, detached from its job.

A session that goes on with the run finds them by run and slot, and takes them over with their servers. The node itself
ends when its lease is over: no driver has asked it for a sign of life for so long.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from raybench.driver.cluster import NAMESPACE

CLOSE_LIMIT_S = 40.0


def warm_options(run_id: str, slot: int) -> dict[str, Any]:
    """Ray's options for the actor of a slot: the one that is there already, else a new one."""
    return {"name": _prefix(run_id) + str(slot), "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}


def end_warm(run_id: str, say: Callable[[str], None]) -> None:
    """End what earlier sessions of the run have kept warm: a session without leases could not have its machines."""
    for name in ray.util.list_named_actors():
        if not name.startswith(_prefix(run_id)):
            continue
        say(f"ending {name}, which an earlier session kept warm (--keep-warm takes it over)")
        with suppress(RayError, ValueError):
            actor = ray.get_actor(name, NAMESPACE)
            with suppress(RayError):
                ray.get(actor.close.remote(), timeout=CLOSE_LIMIT_S)
            ray.kill(actor)


def _prefix(run_id: str) -> str:
    return f"{run_id}.slot"

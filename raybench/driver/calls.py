"""Calls on actors, as the fleet makes them: streams of items, answers that must come in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError, RayTaskError

from raybench.errors import RaybenchError
from raybench.node.actor import WORK
from raybench.node.session import NodeSpec
from raybench.records import NodeFacts


class Silent(Exception):
    """A node does not answer, though Ray takes it for alive: a process that is paused is no death to Ray."""


async def stream(method: Any, *args: object, group: str = WORK) -> AsyncIterator[Any]:
    """Items of a streaming actor call; a RaybenchError that it raised comes out as itself."""
    try:
        async for reference in method.options(num_returns="streaming", concurrency_group=group).remote(*args):
            yield await reference
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RaybenchError):
            raise cause from None
        raise


async def value(reference: Any) -> Any:
    """What a call comes to."""
    return await reference


async def closed(actor: Any) -> None:
    """Ask an actor to end everything."""
    # An actor that is gone already has left its engine to the guardian.
    with suppress(RayError):
        await actor.close.remote()


async def taken_over(actor: Any, spec: NodeSpec) -> NodeFacts:
    """Facts of an actor that may have served an earlier session of the driver, and serves this one from now on."""
    await actor.cancel.remote()
    await actor.adopt.remote(spec)
    return await actor.facts.remote()


def first_line(error: BaseException) -> str:
    """What went wrong, without the traceback that Ray appends."""
    return str(error).strip().partition("\n")[0]


async def in_time(answer: Awaitable[Any], limit_s: float, what: str) -> Any:
    """Raises Silent when the answer does not come."""
    try:
        return await asyncio.wait_for(answer, limit_s)
    except TimeoutError:
        raise Silent(f"it {what} within {limit_s:.0f} s") from None


async def talking(items: AsyncIterator[Any], limit_s: float) -> AsyncIterator[Any]:
    """The items of a stream. Raises Silent when none comes for too long."""
    end = object()
    while (item := await in_time(anext(items, end), limit_s, "said nothing of its engine")) is not end:
        yield item

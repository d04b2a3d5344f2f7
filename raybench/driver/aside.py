"""Works that go on beside the driver's loop until they are cancelled."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


def begin(
    works: Iterable[Coroutine[Any, Any, None]], hear: Callable[[BaseException], None]
) -> list[asyncio.Task[None]]:
    """Start them; `hear` is told of one that breaks, because without it a run may wait for ever."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            hear(error)

    tasks: list[asyncio.Task[None]] = []
    for work in works:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        task.add_done_callback(ended)
        tasks.append(task)
    return tasks

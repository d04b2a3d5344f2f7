"""`canned_server` in a thread of its own: the executor is a loop of its own and would leave it no time."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from canned_server import CannedServer, canned


@contextmanager
def canned_in_thread(
    answers: Sequence[bytes], pause_s: float = 0.0, routes: Mapping[str, bytes] | None = None
) -> Iterator[CannedServer]:
    """Serve until the end of the `with` block."""
    started, found = threading.Event(), list[CannedServer]()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with canned(answers, pause_s, routes) as server:
            found.append(server)
            started.set()
            await ended.wait()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()

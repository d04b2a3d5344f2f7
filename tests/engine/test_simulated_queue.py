"""The simulated engine under a serving load, on paper: who waits, who runs, and how long it takes."""

import asyncio
import time

import pytest

from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_queue import ContinuousBatch, QueuedRequest

SCALE = 20.0


def model(**changes: object) -> SimulatedConfig:
    content = {"prefill_tok_per_s": {1: 1000}, "itl_ms": {1: 100, 4: 200}, "jitter_fraction": 0, "time_scale": SCALE}
    return SimulatedConfig.model_validate(content | changes)


async def _served(batch: ContinuousBatch, requests: list[QueuedRequest]) -> list[list[float]]:
    """Simulated seconds at which every token of every request came."""
    start = time.perf_counter()

    async def one(request: QueuedRequest) -> list[float]:
        times: list[float] = []
        async for made in batch.tokens(request):
            times += [(time.perf_counter() - start) * SCALE] * (made - len(times))
        return times

    return await asyncio.gather(*(one(request) for request in requests))


def test_one_request_takes_its_prefill_and_its_steps() -> None:
    async def run() -> list[list[float]]:
        return await _served(ContinuousBatch(model()), [QueuedRequest(500, 6)])

    (times,) = asyncio.run(run())
    # 0.5 s for 500 tokens at 1,000 a second, then five steps of 0.1 s; never early, late by the loop's own wake.
    assert len(times) == 6
    assert times[0] >= 0.5
    assert times[-1] >= 1.0


def test_requests_beyond_the_limit_wait_in_the_order_of_their_arrival() -> None:
    batch = ContinuousBatch(model(max_running_requests=2))
    seen: list[tuple[int, int]] = []

    async def run() -> list[list[float]]:
        async def look() -> None:
            while True:
                seen.append((batch.num_running, batch.num_waiting))
                await asyncio.sleep(0.001)

        looking = asyncio.create_task(look())
        try:
            return await _served(batch, [QueuedRequest(100, 8) for _ in range(5)])
        finally:
            looking.cancel()

    times = asyncio.run(run())
    assert max(running for running, _ in seen) == 2
    assert max(waiting for _, waiting in seen) >= 3
    firsts = [one[0] for one in times]
    assert firsts == sorted(firsts)
    # The third starts when the first two have ended.
    assert times[2][0] > times[0][-1]
    assert (batch.num_running, batch.num_waiting) == (0, 0)


def test_the_cache_holds_only_what_fits() -> None:
    batch = ContinuousBatch(model(token_capacity=250))
    times = asyncio.run(_run_all(batch, [QueuedRequest(100, 10), QueuedRequest(100, 10), QueuedRequest(100, 10)]))
    assert times[1][0] < times[0][-1]
    assert times[2][0] > times[0][-1]


async def _run_all(batch: ContinuousBatch, requests: list[QueuedRequest]) -> list[list[float]]:
    return await _served(batch, requests)


def test_a_reader_that_leaves_makes_room() -> None:
    batch = ContinuousBatch(model(max_running_requests=1))

    async def run() -> None:
        first = batch.tokens(QueuedRequest(10, 1_000_000))
        await anext(first)
        await first.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            await _served(batch, [QueuedRequest(10, 2)])

    asyncio.run(run())
    assert batch.num_running == 0


@pytest.mark.parametrize("running", [1, 4])
def test_larger_batches_take_longer_steps(running: int) -> None:
    batch = ContinuousBatch(model())
    times = asyncio.run(_run_all(batch, [QueuedRequest(1, 11) for _ in range(running)]))
    assert times[0][-1] - times[0][0] >= 10 * (0.1 if running == 1 else 0.2) - 0.05 * SCALE


def test_a_request_whose_prompt_is_read_runs() -> None:
    batch = ContinuousBatch(model())
    seen: set[tuple[int, int, int]] = set()

    async def run() -> None:
        async def look() -> None:
            while True:
                seen.add((batch.num_running, batch.num_waiting, batch.num_kept_tokens))
                await asyncio.sleep(0.001)

        looking = asyncio.create_task(look())
        await _served(batch, [QueuedRequest(4000, 2)])
        looking.cancel()

    asyncio.run(run())
    # Before its first token, 4 simulated seconds long.
    assert (1, 0, 4000) in seen
    assert batch.num_running == 0

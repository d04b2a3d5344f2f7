"""Looks at a server's metrics page from a thread, which outlives whatever the server answers."""

import asyncio
import time

from canned_server import canned, reply
from cli_runs import wait_for

from raybench.node.serverside import MetricsSampler

PAGE = b"sglang:num_running_reqs 3.0\n"
CUT_PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nsglang:"
NO_HTTP = b"SSH-2.0\r\nConnection: close\r\n"


def test_answers_that_are_cut_or_no_http_are_failed_looks_and_the_next_one_is_made() -> None:
    async def look() -> MetricsSampler:
        async with canned([CUT_PAGE, NO_HTTP, reply({}, 500), reply(PAGE)]) as server:
            sampler = MetricsSampler(server.url, None, interval_s=0.02)
            sampler.start()
            try:
                await asyncio.to_thread(wait_for, lambda: len(sampler.samples(0, time.time(), 1.0)) > 1)
            finally:
                await asyncio.to_thread(sampler.stop)
            return sampler

    sampler = asyncio.run(look())
    assert sampler.num_failed == 3
    assert {sample.running for sample in sampler.samples(0, time.time(), 1.0)} == {3.0}

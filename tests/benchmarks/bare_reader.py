"""The least that a client can do: what the machine itself costs, to hold load clients against.

    python tests/benchmarks/bare_reader.py PORT STREAMS ROUNDS TOKENS TTFT_S ITL_S OUT.json

One asyncio protocol a stream over uvloop, no parsing but a search for the end, one time stamp a read. It starts its
streams one by one over the time of a reply, as raybench's calibration does.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

PORT, STREAMS, ROUNDS, TOKENS = (int(text) for text in sys.argv[1:5])
TTFT_S, ITL_S = (float(text) for text in sys.argv[5:7])
PROMPT = {"messages": [{"role": "user", "content": "word " * 128}]}
USAGE = {"stream_options": {"include_usage": True}}


def request(index: int) -> bytes:
    body = json.dumps(
        {"rid": str(index), "model": "mock", "stream": True, "max_tokens": TOKENS} | PROMPT | USAGE
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return (head % len(body)).encode() + body


class Stream(asyncio.Protocol):
    ttfts: list[tuple[int, float]] = []
    gaps: list[float] = []
    left = STREAMS
    ended: asyncio.Event

    def __init__(self, number: int) -> None:
        self.requests = [(index, request(index)) for index in range(number, STREAMS * ROUNDS, STREAMS)]

    def connection_made(self, transport) -> None:
        self.transport = transport

    def send(self) -> None:
        if not self.requests:
            Stream.left -= 1
            if not Stream.left:
                Stream.ended.set()
            return
        self.index, data = self.requests.pop(0)
        self.before = 0.0
        self.tail = b""
        self.sent = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if b'"finish_reason"' in data:
            if self.before:
                Stream.gaps.append(now - self.before)
            else:
                Stream.ttfts.append((self.index, now - self.sent))
            self.before = now
        if (self.tail + data).endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
            self.send()
        else:
            self.tail = data[-32:]


async def main() -> None:
    Stream.ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    streams = []
    for number in range(STREAMS):
        _, stream = await loop.create_connection(lambda number=number: Stream(number), "127.0.0.1", PORT)
        streams.append(stream)
    pause_s = (TTFT_S + ITL_S * (TOKENS - 1)) / STREAMS
    start = loop.time()
    for number, stream in enumerate(streams):
        await asyncio.sleep(max(start + number * pause_s - loop.time(), 0))
        stream.send()
    await Stream.ended.wait()
    steady = [ttft for index, ttft in Stream.ttfts if index >= STREAMS]
    Path(sys.argv[7]).write_text(json.dumps({"ttft_s": steady, "gaps_s": Stream.gaps}))


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())

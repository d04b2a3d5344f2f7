"""An HTTP server that answers each request with the next of some prepared bytes, and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HANG = b"<hang>"
"""Answer that never comes."""
CUT = b"<cut>"
"""The connection is closed without an answer."""


@dataclass
class CannedServer:
    """What was asked, in order."""

    port: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body in self.requests]


def reply(body: object, status: int = 200) -> bytes:
    """A JSON answer with its length."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(text),
        text,
    )


def chunked(*pieces: bytes, whole: bool = True) -> bytes:
    """A 200 answer in chunks; without its end if it is not whole."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + (b"0\r\n\r\n" if whole else b"")


@asynccontextmanager
async def canned(
    answers: Sequence[bytes], pause_s: float = 0.0, routes: Mapping[str, bytes] | None = None
) -> AsyncIterator[CannedServer]:
    """Serve `answers` one by one, the last one for ever, but a route in `routes` always that one.

    An answer that is not whole ends the connection.
    """
    server = CannedServer()
    left = list(answers)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().lower().split("\r\n")
                length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length")), 0)
                server.requests.append((head.decode(), await reader.readexactly(length)))
                server._at_once += 1
                server.most_at_once = max(server.most_at_once, server._at_once)
                answer = (routes or {}).get(head.split()[1].decode())
                if answer is None:
                    answer = left.pop(0) if len(left) > 1 else left[0]
                await asyncio.sleep(3600 if answer == HANG else pause_s)
                server._at_once -= 1
                if answer == CUT:
                    break
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer or (b"chunked" in answer and not answer.endswith(b"0\r\n\r\n")):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

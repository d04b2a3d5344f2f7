"""One keep-alive HTTP/1.1 connection whose every read is time-stamped before anything else happens.

The clock of a request starts right before its bytes, made beforehand, go to the socket, and every piece of the answer
carries the time of the read that brought it. A C parser undoes the chunked encoding; what the pieces mean is none of
this module's business. Requests never raise: an exchange ends as whole, cut or timeout.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, cast
from urllib.parse import urlsplit

import httptools

from raybench.errors import ClientError

Ending = Literal["whole", "cut", "timeout"]
Sink = Callable[[int, bytes], None]
"""Takes (time of the read in perf_counter nanoseconds, piece of the body)."""

MAX_ERROR_BODY_BYTES = 4096
"""Body that is kept of an answer that nobody asked to see (errors, flush_cache)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine listens."""

    host: str
    """Name or address."""
    port: int
    """TCP port."""
    tls: bool
    """https."""
    prefix: str
    """Path in front of every route, without a slash at the end."""
    api_key: str | None
    """Bearer token."""

    @classmethod
    def of(cls, url: str, api_key: str | None) -> Self:
        """Endpoint of a base URL. Raises ClientError if it names no host."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.scheme not in ("http", "https"):
            raise ClientError(f"the engine's URL {url!r} is not http://HOST:PORT")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"), api_key)

    def post(self, path: str, body: bytes) -> bytes:
        """Bytes of a POST request with a JSON body, ready to be sent."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"POST {self.prefix}{path} HTTP/1.1",
            f"Host: {host}:{self.port}",
            "User-Agent: raybench",
            "Accept: */*",
            # A compressing proxy would hold tokens back until its block is full.
            "Accept-Encoding: identity",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if self.api_key is not None:
            lines.append(f"Authorization: Bearer {self.api_key}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and how it ended. Times in nanoseconds of `time.perf_counter_ns`."""

    sent_ns: int
    """Right before the request's bytes were written."""
    ended_ns: int
    """Read that completed the answer, or the moment of the cut or timeout."""
    ending: Ending
    """How it ended."""
    http_status: int | None
    """Status of the answer; None if none came."""
    body: bytes
    """First bytes of the body; for a status-200 answer with a sink, empty."""


class _Answer:
    """Callbacks of the parser for one answer."""

    def __init__(self, sink: Sink | None, ended: asyncio.Future[Ending]) -> None:
        self.now_ns = 0
        self.http_status: int | None = None
        self.body = bytearray()
        self._sink = sink
        self._ended = ended
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.http_status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._sink is not None and self.http_status == 200:
            self._sink(self.now_ns, body)
        elif len(self.body) < MAX_ERROR_BODY_BYTES:
            self.body += body

    def on_message_complete(self) -> None:
        self.end("whole")

    def end(self, ending: Ending) -> None:
        if not self._ended.done():
            self._ended.set_result(ending)


class Connection(asyncio.Protocol):
    """One connection; at most one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: _Answer | None = None

    @classmethod
    async def open(cls, endpoint: Endpoint, timeout_s: float) -> Self:
        """Connect. Raises ClientError when nobody listens or the time is over."""
        context = ssl.create_default_context() if endpoint.tls else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(cls, endpoint.host, endpoint.port, ssl=context)
        except TimeoutError as error:
            raise ClientError(
                f"timeout: no connection to {endpoint.host}:{endpoint.port} within {timeout_s:.1f} s"
            ) from error
        except OSError as error:
            raise ClientError(f"cannot connect to {endpoint.host}:{endpoint.port}: {error}") from error
        return connection

    @property
    def is_open(self) -> bool:
        """False once either side has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, sink: Sink | None, timeout_s: float) -> Exchange:
        """Send a request made by `Endpoint.post` and wait for the end of its answer; a 200 body goes to `sink`."""
        ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        answer = self._answer = _Answer(sink, ended)
        transport = self._transport
        sent_ns = time.perf_counter_ns()
        if transport is None or transport.is_closing():
            return Exchange(sent_ns, sent_ns, "cut", None, b"")
        transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                ending = await ended
            ended_ns = answer.now_ns
        except TimeoutError:
            ending, ended_ns = "timeout", time.perf_counter_ns()
            transport.abort()
        self._answer = None
        return Exchange(sent_ns, ended_ns, ending, answer.http_status, bytes(answer.body))

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands."""
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes were read."""
        now_ns = time.perf_counter_ns()
        answer = self._answer
        if answer is None:
            return
        answer.now_ns = now_ns
        try:
            answer.parser.feed_data(data)
        except httptools.HttpParserError:
            # Not HTTP any more: nothing after this can be trusted.
            answer.end("cut")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone; an answer in progress is cut."""
        del exc
        self._transport = None
        if self._answer is not None:
            self._answer.now_ns = time.perf_counter_ns()
            self._answer.end("cut")

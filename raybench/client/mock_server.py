"""`python -m raybench.client.mock_server SETTINGS.json`: a server of known truth, to measure the client against.

It streams tokens at times that it is told, over the routes of a real server, and logs when each request reached the
kernel and when each token went out. Its clock is the client's (`perf_counter_ns` of one machine), so that what the
client says can be held against what happened, request by request. A token that is late is logged when it really goes
out: the log is the truth, not the schedule. The process is tied to whoever started it.
"""

import heapq
import json
import re
import resource
import select
import socket
import sys
import time
from array import array
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field

from raybench.client.mock_wire import HEAD, JSON_HEAD, MODELS, chunk
from raybench.client.planned import GENERATE
from raybench.client.reads import wall_ns
from raybench.client.wire import SO_TIMESTAMPNS, Wire, allow_files, clock_offset_ns
from raybench.records import Record

_NUMBER = re.compile(rb'"(rid|max_tokens|max_completion_tokens|max_new_tokens)":\s*"?(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
MAX_EVENTS = 8192
Longs: TypeAlias = "array[int]"


class MockSettings(Record):
    """What the mock does."""

    listen_fd: int
    """Inherited listening socket."""
    ttft_s: float = Field(default=0.05, ge=0)
    """Time from the arrival of a request to its first token."""
    itl_s: float = Field(default=0.01, ge=0)
    """Time between two tokens of a stream, or between two steps."""
    chunk_tokens: int = Field(default=1, ge=1)
    """Tokens that go out together."""
    pattern: Literal["ticks", "steps"] = "ticks"
    """ticks: each stream has a clock of its own. steps: all streams emit at once, as an engine does."""
    max_running: int | None = None
    """Requests that are served at once; others wait. None = no limit."""
    stall_at_s: float | None = None
    """When nothing goes out, in seconds since the first request; None = never."""
    stall_s: float = 0.0
    """How long."""


@dataclass(slots=True)
class _Stream:
    """A request under way."""

    wire: Wire
    path: bytes
    num_tokens: int
    place: int
    counts: bool
    begun_ns: int = 0
    sent_tokens: int = 0


class _Truth:
    """What happened."""

    def __init__(self) -> None:
        self.rids, self.arrived_ns, self.late_ns = array("q"), array("q"), array("q")
        self.emitted_ns: list[Longs] = []
        self.num_tokens = 0
        self.peak_streams = 0
        self.cpu_s = _cpu_s()


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class MockServer:
    """The server and its log."""

    def __init__(self, settings: MockSettings) -> None:
        self._settings = settings
        self._listener = socket.socket(fileno=settings.listen_fd)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._wires: dict[int, Wire] = {}
        self._heads: dict[int, bytes] = {}
        self._streams: dict[int, _Stream] = {}
        self._waiting: deque[_Stream] = deque()
        self._due: list[tuple[int, int, _Stream]] = []
        self._itl_ns = round(settings.itl_s * settings.chunk_tokens * 1e9)
        self._ttft_ns = round(settings.ttft_s * 1e9)
        self._first_ns = 0
        self._truth = _Truth()

    def serve(self) -> None:
        """Serve until the process is ended."""
        while True:
            now_ns = time.perf_counter_ns()
            stalled_ns = self._stalled_until(now_ns)
            if not stalled_ns:
                self._emit_due(now_ns)
            next_ns = stalled_ns or (self._due[0][0] if self._due else now_ns + 50_000_000)
            left_ns = next_ns - time.perf_counter_ns()
            if 0 < left_ns < 1_000_000:
                # A poll waits for whole milliseconds; sockets are looked at once before this short sleep.
                events = self._poll.poll(0, MAX_EVENTS)
                if not events:
                    time.sleep(left_ns * 1e-9)
            else:
                events = self._poll.poll(max(left_ns // 1_000_000 - 0.5, 0) * 1e-3, MAX_EVENTS)
            offset_ns = clock_offset_ns()
            for fd, _ in events:
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._wires:
                    self._read(self._wires[fd], offset_ns)

    def _stalled_until(self, now_ns: int) -> int:
        """End of the stall if it is on, else 0."""
        settings = self._settings
        if settings.stall_at_s is None or not self._first_ns:
            return 0
        start_ns = self._first_ns + round(settings.stall_at_s * 1e9)
        end_ns = start_ns + round(settings.stall_s * 1e9)
        return end_ns if start_ns <= now_ns < end_ns else 0

    def _emit_due(self, now_ns: int) -> None:
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, stream = heapq.heappop(self._due)
            self._emit(stream, due_ns)

    def _emit(self, stream: _Stream, due_ns: int) -> None:
        if self._streams.get(stream.wire.fd) is not stream:
            return
        before = stream.sent_tokens
        stream.sent_tokens = min(before + self._settings.chunk_tokens, stream.num_tokens)
        data = chunk(stream.path, stream.sent_tokens, stream.num_tokens, stream.counts)
        now_ns = time.perf_counter_ns()
        try:
            stream.wire.send(stream.wire.unsent + data)
        except OSError:
            self._lose(stream.wire)
            return
        self._truth.emitted_ns[stream.place].append(now_ns)
        self._truth.late_ns.append(now_ns - due_ns)
        self._truth.num_tokens += stream.sent_tokens - before
        if stream.sent_tokens >= stream.num_tokens:
            self._end(stream)
        else:
            self._plan(stream, due_ns + self._itl_ns)

    def _plan(self, stream: _Stream, due_ns: int) -> None:
        if self._settings.pattern == "steps" and self._itl_ns:
            due_ns = -(-due_ns // self._itl_ns) * self._itl_ns
        heapq.heappush(self._due, (due_ns, stream.place, stream))

    def _end(self, stream: _Stream) -> None:
        del self._streams[stream.wire.fd]
        if self._waiting:
            self._begin(self._waiting.popleft(), time.perf_counter_ns())

    def _begin(self, stream: _Stream, now_ns: int) -> None:
        self._streams[stream.wire.fd] = stream
        self._truth.peak_streams = max(self._truth.peak_streams, len(self._streams))
        stream.begun_ns = now_ns
        try:
            stream.wire.send(HEAD)
        except OSError:
            self._lose(stream.wire)
            return
        self._plan(stream, now_ns + self._ttft_ns)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            wire = Wire(sock, kernel_stamps=True)
            self._wires[wire.fd] = wire
            self._heads[wire.fd] = b""
            self._poll.register(wire.fd, select.EPOLLIN)

    def _read(self, wire: Wire, offset_ns: int) -> None:
        try:
            data, wall = wire.read()
        except BlockingIOError:
            return
        except OSError:
            data, wall = b"", b""
        if not data:
            self._lose(wire)
            return
        buffer = self._heads[wire.fd] + data
        end = buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(buffer, 0, end) if end >= 0 else None
        size = end + 4 + (int(length.group(1)) if length else 0)
        if end < 0 or len(buffer) < size:
            self._heads[wire.fd] = buffer
            return
        self._heads[wire.fd] = buffer[size:]
        t_ns = wall_ns(wall) - offset_ns if wall else time.perf_counter_ns()
        self._answer(wire, buffer[:size].split(b" ", 2)[1], buffer[end + 4 : size], t_ns)

    def _answer(self, wire: Wire, path: bytes, body: bytes, t_ns: int) -> None:
        if path in (GENERATE.encode(), b"/v1/chat/completions", b"/v1/completions"):
            self._take(wire, path, body, t_ns)
        elif path == b"/truth":
            said = self._said()
            wire.sock.setblocking(True)
            wire.sock.sendall(JSON_HEAD % (b"200 OK", len(said)) + said)
            wire.sock.setblocking(False)
        elif path == b"/reset":
            self._truth, self._first_ns = _Truth(), 0
            wire.send(JSON_HEAD % (b"200 OK", 2) + b"{}")
        else:
            said = MODELS if path == b"/v1/models" else b"{}"
            status = b"200 OK" if path in (b"/v1/models", b"/health", b"/flush_cache") else b"404 Not Found"
            wire.send(JSON_HEAD % (status, len(said)) + said)

    def _take(self, wire: Wire, path: bytes, body: bytes, t_ns: int) -> None:
        numbers = {name: int(number) for name, number in _NUMBER.findall(body)}
        num_tokens = next((number for name, number in numbers.items() if name != b"rid"), 16)
        truth = self._truth
        stream = _Stream(wire, path, num_tokens, len(truth.rids), b"continuous_usage_stats" in body)
        truth.rids.append(numbers.get(b"rid", -1))
        truth.arrived_ns.append(t_ns)
        truth.emitted_ns.append(array("q"))
        self._first_ns = self._first_ns or t_ns
        limit = self._settings.max_running
        if limit is not None and len(self._streams) >= limit:
            self._waiting.append(stream)
        else:
            self._begin(stream, t_ns)

    def _lose(self, wire: Wire) -> None:
        stream = self._streams.pop(wire.fd, None)
        self._waiting = deque(each for each in self._waiting if each.wire is not wire)
        self._poll.unregister(wire.fd)
        del self._wires[wire.fd], self._heads[wire.fd]
        wire.close()
        if stream is not None and self._waiting:
            self._begin(self._waiting.popleft(), time.perf_counter_ns())

    def _said(self) -> bytes:
        """A line of JSON, then int64: ids, arrivals, numbers of emissions, emissions, lateness of each."""
        truth = self._truth
        numbers = {
            "num_requests": len(truth.rids),
            "num_emissions": len(truth.late_ns),
            "num_tokens": truth.num_tokens,
            "peak_streams": truth.peak_streams,
            "cpu_s": _cpu_s() - truth.cpu_s,
        }
        counts = array("q", [len(emitted) for emitted in truth.emitted_ns])
        parts = [truth.rids, truth.arrived_ns, counts, *truth.emitted_ns, truth.late_ns]
        return json.dumps(numbers).encode() + b"\n" + b"".join(part.tobytes() for part in parts)


def main(settings_file: Path) -> None:
    """Serve until the process is ended."""
    settings = MockSettings.model_validate_json(settings_file.read_bytes())
    allow_files(4096)
    MockServer(settings).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

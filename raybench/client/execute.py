"""Send requests at their times and keep what comes back, in one thread with a loop of its own.

The loop does three things: send what is due, wait, read what came. It knows no coroutines: at 100,000 tokens a
second they would cost as much as the reads. Between two polls some time passes while tokens flow (`pace`), so that one
wake reads many sockets; that costs no accuracy, as arrivals are stamped by the kernel (`wire`). Requests never raise:
each ends with a status.
"""

import gc
import heapq
import os
import select
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybench.client.answer import Answer, may_end
from raybench.client.archive import Ended, EndedRequests
from raybench.client.columns import (
    CUT,
    NEVER,
    OK,
    TIMEOUT,
    UNSENT,
    ColumnBuilder,
    LoadColumns,
)
from raybench.client.decode import decode
from raybench.client.outcome import judged
from raybench.client.overload import Count, OverloadRule, overload
from raybench.client.pace import Pace
from raybench.client.planned import PlannedRequest
from raybench.client.reads import Ints, ReadLog, ReadsByRequest, percentiles_s
from raybench.client.stream import Endpoint
from raybench.client.wire import READ_BYTES, STAMP_BYTES, Wire, allow_files, clock_offset_ns, connect
from raybench.errors import ClientError
from raybench.records.client import ClientProcess

CONNECT_LIMIT_S = 10.0
MAX_SENDS_AT_ONCE = 64
"""Requests that are sent before the sockets are looked at again."""
MAX_KEPT_BYTES = 256 * 2**20
"""Bytes of ended answers that are kept in memory; beyond, each answer that ends sends the oldest one to a file."""
MAX_FAILED_IN_ROW = 200
"""So many connections that fail one after the other end the load: there is no server."""
MAX_EVENTS = 8192
READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""Announced once: the kernel need not look again at sockets that were read empty. A close is announced as such, since
a read that brought bytes does not look for it."""
WRITING = select.EPOLLIN | select.EPOLLOUT
COUNT_EVERY_NS = 250_000_000


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How to send."""

    url: str
    """Base URL of the server."""
    api_key: str | None = None
    """Bearer token."""
    num_connections: int = 64
    """Connections opened before the clock starts."""
    max_connections: int = 16_384
    """Connections at most; requests that find none wait, and their lateness shows it."""
    request_timeout_s: float = 600.0
    """Limit of one request from its sending."""
    sending_s: float | None = None
    """Nothing is sent after this time; None = the whole schedule."""
    drain_s: float | None = None
    """Time that requests under way get after the last sending; None = their own limit."""
    overload: OverloadRule | None = None
    """Ends a load that only grows; None = never."""
    max_kept_bytes: int = MAX_KEPT_BYTES
    """Bytes of ended answers in memory."""
    kernel_stamps: bool = True
    """False: stamp reads in the process, and never pause."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What a load came to."""

    columns: LoadColumns
    """All requests of the schedule, those that were not sent among them."""
    processes: tuple[ClientProcess, ...]
    """The client's processes."""


class Executor:
    """Runs one load. `open` makes the connections, `run` sends and reads, `result` decodes."""

    def __init__(self, requests: Sequence[PlannedRequest], settings: ExecutorSettings, process: int = 0) -> None:
        self._requests = requests
        self._settings = settings
        self._process = process
        self._endpoint = Endpoint.of(settings.url, settings.api_key)
        self._is_paced = settings.kernel_stamps and not self._endpoint.tls
        num = len(requests)
        self._scheduled_ns, self._sent_ns = array("q", [NEVER]) * num, array("q", [NEVER]) * num
        self._in_flight_at, self._next = array("q", [NEVER]) * num, array("q", [NEVER]) * num
        self._due: list[tuple[int, int]] = []
        self._poll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._flows: dict[int, tuple[Callable[..., Any], Callable[[bytes], None], int]] = {}
        self._log = ReadLog()
        self._idle: deque[Wire] = deque()
        self._waiting: deque[int] = deque()
        self._running: deque[tuple[int, Wire]] = deque()
        self._ended = EndedRequests(settings.max_kept_bytes)
        self._builder = ColumnBuilder(process)
        self._counts: list[Count] = []
        self._resent: set[int] = set()
        self._start_ns = self._end_ns = self._last_poll_ns = self._next_count_ns = 0
        self._sending_end_ns, self._drain_end_ns = 2**62, 2**62
        self._num_in_flight = self._max_in_flight = self._num_due = self._num_ended = self._num_first_ended = 0
        self._num_first = 0 if settings.overload is None else settings.overload.num_first
        self._num_opened = self._num_opened_late = self._failed_in_row = 0
        self._pace = Pace(is_closed=any(request.chain is not None for request in requests))
        self._stopped: str | None = None
        self._started_unix_s = self._cpu_fraction = 0.0

    def open(self, pause_s: float = 0.002) -> None:
        """Open the connections, a few at a time. Raises ClientError when the server cannot be reached."""
        allow_files(min(max(self._settings.num_connections, 1), self._settings.max_connections))
        for number in range(self._settings.num_connections):
            try:
                self._idle.append(self._connect())
            except ClientError:
                self.close()
                raise
            if number % 32 == 31:
                # A backlog of 128 is common; beyond it the kernel drops, and a connection takes a second.
                time.sleep(pause_s)
        self._num_opened = len(self._wires)
        # With many requests both take longer than the word to start leaves.
        self._plan_chains()
        gc.collect()

    def run(self, start_ns: int) -> None:
        """Send and read until all has ended. `start_ns`: start of the schedule, on `perf_counter_ns`."""
        settings = self._settings
        self._start_ns = start_ns
        if settings.sending_s is not None:
            self._sending_end_ns = start_ns + round(settings.sending_s * 1e9)
        gc.disable()
        ends_ns = self._sending_end_ns - start_ns
        self._due = [(due_ns + start_ns, place) for due_ns, place in self._due if due_ns < ends_ns]
        heapq.heapify(self._due)
        pause_ns = start_ns - time.perf_counter_ns()
        if pause_ns > 0:
            time.sleep(pause_ns * 1e-9)
        self._started_unix_s, cpu_s = time.time(), time.process_time()
        self._next_count_ns = start_ns
        try:
            while self._due or self._num_in_flight or self._waiting:
                self._round()
        finally:
            gc.enable()
            self._end_ns = time.perf_counter_ns()
            wall_s = max(self._end_ns - start_ns, 1) * 1e-9
            self._cpu_fraction = (time.process_time() - cpu_s) / wall_s
            self.close()

    def close(self) -> None:
        """Close the connections. Idempotent."""
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()
        self._poll.close()

    def result(self) -> LoadRun:
        """Decode what was kept."""
        reads = ReadsByRequest(self._log, self._sent_ns)
        for ended in self._ended.drain():
            self._add_row(ended, reads)
        for place in range(len(self._requests)):
            if self._sent_ns[place] == NEVER and self._in_flight_at[place] == NEVER:
                self._builder.add(self._known(place, UNSENT, NEVER, None), (), None, None)
        return LoadRun(self._builder.build(), (self._facts(reads.lags_ns),))

    # ------------------------------------------------------------------------------------------------ sending

    def _plan_chains(self) -> None:
        last: dict[int, int] = {}
        for place, request in enumerate(self._requests):
            before = None if request.chain is None else last.get(request.chain)
            if before is None:
                self._due.append((self._own_due_ns(place), place))
            else:
                self._next[before] = place
            if request.chain is not None:
                last[request.chain] = place
        heapq.heapify(self._due)

    def _own_due_ns(self, place: int) -> int:
        return self._start_ns + round((self._requests[place].due_s or 0.0) * 1e9)

    def _round(self) -> None:
        now_ns = time.perf_counter_ns()
        if now_ns >= self._next_count_ns:
            self._look_around(now_ns)
        self._send_due(now_ns)
        next_ns = min(self._due[0][0] if self._due else 2**62, self._next_count_ns)
        self._take(self._wait(next_ns))

    def _send_due(self, now_ns: int) -> None:
        for _ in range(MAX_SENDS_AT_ONCE):
            if not self._due or self._due[0][0] > now_ns:
                return
            due_ns, place = heapq.heappop(self._due)
            self._begin(place, due_ns)

    def _wait(self, next_ns: int) -> list[tuple[int, int]]:
        """Events, or nothing when it is time to send."""
        now_ns = time.perf_counter_ns()
        if self._is_paced and self._pace.pause_ns:
            pause_ns = min(self._last_poll_ns + self._pace.pause_ns, next_ns) - now_ns
            if pause_ns > 0:
                time.sleep(pause_ns * 1e-9)
                now_ns = time.perf_counter_ns()
                if now_ns >= next_ns:
                    return []
        # A poll waits for whole milliseconds: the last one before a sending is slept.
        left_ms = (next_ns - now_ns) // 1_000_000
        events = self._poll.poll(max(left_ms - 0.5, 0) * 1e-3, MAX_EVENTS)
        self._last_poll_ns = time.perf_counter_ns()
        self._log.begin_poll(clock_offset_ns())
        self._pace.saw(len(events), len(self._flows), self._last_poll_ns)
        return events

    def _begin(self, place: int, due_ns: int) -> None:
        """Send a request that is due, over an idle connection or a new one."""
        if self._scheduled_ns[place] == NEVER:
            self._scheduled_ns[place] = due_ns
            self._num_due += 1
        while True:
            if not self._idle:
                if len(self._wires) >= self._settings.max_connections:
                    self._waiting.append(place)
                    return
                try:
                    self._idle.append(self._connect())
                    self._num_opened_late += 1
                    self._failed_in_row = 0
                except ClientError as error:
                    self._fail_to_connect(place, error)
                    return
            if self._send(self._idle.popleft(), place):
                return

    def _send(self, wire: Wire, place: int) -> bool:
        request = self._requests[place]
        data = self._endpoint.post(request.path, request.body)
        sent_ns = time.perf_counter_ns()
        try:
            wire.send(data)
        except OSError:
            self._drop(wire)
            return False
        if self._sent_ns[place] == NEVER:
            self._sent_ns[place] = sent_ns
        wire.request, wire.answer = place, Answer()
        wire.num_requests += 1
        self._num_in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._num_in_flight)
        self._in_flight_at[place] = self._num_in_flight
        self._running.append((place, wire))
        if wire.unsent:
            self._poll.modify(wire.fd, WRITING)
        return True

    def _send_rest(self, wire: Wire) -> None:
        try:
            wire.send(wire.unsent)
        except OSError:
            self._lose(wire, time.perf_counter_ns())
            return
        if not wire.unsent:
            self._poll.modify(wire.fd, READING)

    def _connect(self) -> Wire:
        wire = connect(self._endpoint, CONNECT_LIMIT_S, self._settings.kernel_stamps)
        self._wires[wire.fd] = wire
        self._poll.register(wire.fd, READING)
        return wire

    def _fail_to_connect(self, place: int, error: ClientError) -> None:
        now_ns = time.perf_counter_ns()
        self._in_flight_at[place] = 0
        self._ended.add(Ended(place, None, CUT, now_ns, error.message))
        self._failed_in_row += 1
        if self._failed_in_row >= MAX_FAILED_IN_ROW:
            self._stop(f"no server: {self._failed_in_row} connections failed, one after the other: {error.message}")
        self._go_on(place, now_ns)

    # ------------------------------------------------------------------------------------------------ reading

    def _take(self, events: list[tuple[int, int]]) -> None:
        """Read what a poll announced. Nearly all reads are the next piece of a stream that flows."""
        due, flows, log, clock_ns = self._due, self._flows, self._log, time.perf_counter_ns
        add_wall, add_place, add_seen_ns = log.walls.extend, log.places.append, log.seen_ns.append
        now_ns = self._last_poll_ns
        for fd, event in events:
            # What is due does not wait for a burst of tokens to be read: their time is known already.
            if due and due[0][0] <= now_ns:
                self._send_due(clock_ns())
            if event == select.EPOLLIN and fd in flows:
                read, keep, place = flows[fd]
                try:
                    data, said, _, _ = read(READ_BYTES, STAMP_BYTES)
                except OSError:
                    self._read(self._wires[fd])
                    continue
                now_ns = clock_ns()
                if said and len(data) < READ_BYTES and not may_end(data):
                    add_wall(said[0][2])
                    add_place(place)
                    add_seen_ns(now_ns)
                    keep(data)
                    continue
                wire = self._wires[fd]
                self._put(wire, data, said[0][2] if said else b"")
                if len(data) == READ_BYTES:
                    self._read(wire)
            elif (wire := self._wires.get(fd)) is not None:
                if event & select.EPOLLOUT:
                    self._send_rest(wire)
                if event & ~select.EPOLLOUT:
                    self._read(wire)
                now_ns = clock_ns()

    def _read(self, wire: Wire) -> None:
        """Read until there is nothing: this socket will not be announced again."""
        while self._wires.get(wire.fd) is wire:
            try:
                data, wall = wire.read()
            except BlockingIOError:
                return
            except OSError:
                data, wall = b"", b""
            self._put(wire, data, wall)

    def _put(self, wire: Wire, data: bytes, wall: bytes) -> None:
        """Take what a read brought."""
        answer, place = wire.answer, wire.request
        if not data:
            self._lose(wire, time.perf_counter_ns())
        elif answer is None or place < 0:
            # Bytes that nobody asked for: this connection cannot be trusted.
            self._drop(wire)
        else:
            self._log.add(place, wall, time.perf_counter_ns(), self._last_poll_ns)
            if answer.feed(data) != "open":
                self._end(wire, OK if answer.state == "whole" else CUT, self._log.newest_ns(self._sent_ns[place]))
            elif wire.stamped_read is not None and answer.is_flowing:
                self._flows[wire.fd] = (wire.stamped_read, answer.pieces.append, place)
            else:
                self._flows.pop(wire.fd, None)

    def _end(self, wire: Wire, status: int, t_ns: int) -> None:
        """An answer has ended; its chain goes on at once."""
        place, answer = wire.request, wire.answer
        wire.request, wire.answer = -1, None
        self._flows.pop(wire.fd, None)
        self._num_in_flight -= 1
        if status == OK and answer is not None and answer.keep_alive and not wire.unsent:
            self._idle.append(wire)
        else:
            self._drop(wire)
        if self._next[place] >= 0:
            self._pace.took(t_ns - self._sent_ns[place])
        self._ended.add(Ended(place, answer, status, t_ns, None))
        self._go_on(place, t_ns)

    def _go_on(self, place: int, t_ns: int) -> None:
        self._num_ended += 1
        if place < self._num_first:
            self._num_first_ended += 1
        if self._waiting:
            waiting = self._waiting.popleft()
            heapq.heappush(self._due, (self._scheduled_ns[waiting], waiting))
        following = self._next[place]
        if following < 0 or self._stopped is not None:
            return
        due_ns = max(self._own_due_ns(following), t_ns + round(self._requests[following].pause_s * 1e9))
        now_ns = time.perf_counter_ns()
        if due_ns >= self._sending_end_ns or now_ns >= self._sending_end_ns:
            return
        if due_ns <= now_ns and self._failed_in_row == 0:
            self._begin(following, due_ns)
        else:
            heapq.heappush(self._due, (due_ns, following))

    def _lose(self, wire: Wire, t_ns: int) -> None:
        """The connection is gone. A request that an old connection swallowed whole is sent once more."""
        place, answer = wire.request, wire.answer
        if place < 0 or answer is None:
            self._drop(wire)
        elif not answer.pieces and wire.num_requests > 1 and place not in self._resent:
            self._resent.add(place)
            wire.request, wire.answer = -1, None
            self._num_in_flight -= 1
            self._drop(wire)
            self._begin(place, self._scheduled_ns[place])
        else:
            self._end(wire, OK if answer.close() == "whole" else CUT, t_ns)

    def _drop(self, wire: Wire) -> None:
        self._flows.pop(wire.fd, None)
        if self._wires.pop(wire.fd, None) is not None:
            self._poll.unregister(wire.fd)
            wire.close()
        if wire in self._idle:
            self._idle.remove(wire)

    # ------------------------------------------------------------------------------------------------ looking around

    def _look_around(self, now_ns: int) -> None:
        """Four times a second: limits, the end of sending, the overload rule."""
        self._next_count_ns = now_ns + COUNT_EVERY_NS
        limit_ns = now_ns - round(self._settings.request_timeout_s * 1e9)
        while self._running:
            place, wire = self._running[0]
            if wire.request == place:
                if self._sent_ns[place] > limit_ns and now_ns < self._drain_end_ns:
                    break
                self._end(wire, TIMEOUT, now_ns)
            self._running.popleft()
        if now_ns >= self._sending_end_ns and self._drain_end_ns == 2**62:
            self._stop(None)
        if self._settings.overload is not None and self._stopped is None:
            t_s = (now_ns - self._start_ns) * 1e-9
            self._counts.append(Count(t_s, self._num_due, self._num_ended, self._num_first_ended))
            why = overload(self._counts, self._settings.overload)
            if why is not None:
                self._stop(why)

    def _stop(self, why: str | None) -> None:
        """Send nothing more."""
        self._stopped = self._stopped or why
        now_ns = time.perf_counter_ns()
        self._sending_end_ns = min(self._sending_end_ns, now_ns)
        if self._settings.drain_s is not None:
            self._drain_end_ns = now_ns + round(self._settings.drain_s * 1e9)
        else:
            self._drain_end_ns = 2**62 - 1
        self._due.clear()
        self._waiting.clear()

    # ------------------------------------------------------------------------------------------------ results

    def _known(self, place: int, status: int, end_ns: int, answer: Answer | None) -> dict[str, int]:
        request = self._requests[place]
        http_status = None if answer is None else answer.http_status
        return {
            "index": request.index,
            "chain": NEVER if request.chain is None else request.chain,
            "scheduled_ns": self._scheduled_ns[place],
            "sent_ns": self._sent_ns[place],
            "end_ns": end_ns,
            "status": status,
            "http_status": NEVER if http_status is None else http_status,
            "in_flight": self._in_flight_at[place],
        }

    def _add_row(self, ended: Ended, reads: ReadsByRequest) -> None:
        place, answer, status, end_ns, error = ended
        if answer is None:
            self._builder.add(self._known(place, status, end_ns, None), (), None, error)
            return
        reply = decode(self._requests[place].path, answer.pieces)
        status, error = judged(status, answer, reply)
        self._builder.add(self._known(place, status, end_ns, answer), reads.of(place), reply, error)

    def _facts(self, lags_ns: Ints) -> ClientProcess:
        sent, scheduled = np.array(self._sent_ns, np.int64), np.array(self._scheduled_ns, np.int64)
        late_s = (sent - scheduled)[sent != NEVER] * 1e-9
        lag_s = lags_ns * 1e-9
        lag_p50_s, lag_p99_s, lag_max_s = percentiles_s(lag_s)
        late_p50_s, late_p99_s, late_max_s = percentiles_s(late_s)
        return ClientProcess(
            process=self._process, num_sent=len(late_s), num_reads=len(lag_s), cpu_fraction=self._cpu_fraction,
            read_lag_p50_s=lag_p50_s, read_lag_p99_s=lag_p99_s, read_lag_max_s=lag_max_s,
            lateness_p50_s=late_p50_s, lateness_p99_s=late_p99_s, lateness_max_s=late_max_s,
            max_in_flight=self._max_in_flight, num_connections=self._num_opened,
            num_opened_late=self._num_opened_late, num_resent=len(self._resent),
            kernel_stamps=self._is_paced,
            num_threads=threading.active_count(), cpus=tuple(sorted(os.sched_getaffinity(0))),
            stopped_early=self._stopped, started_unix_s=self._started_unix_s,
            duration_s=(self._end_ns - self._start_ns) * 1e-9,
        )  # fmt: skip

"""Streams that flow: what a read meets there, on sockets that are announced once."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from canned_server import chunked

from raybench.client.columns import STATUSES
from raybench.client.execute import ExecutorSettings, LoadRun
from raybench.client.planned import GENERATE, PlannedRequest
from raybench.client.workers import run_load

PAUSE_S = 0.03
Ending = Callable[[socket.socket], None]


def event(tokens: int, text: str = "a", finish: str | None = None, end: str = "\n\n") -> bytes:
    reason = None if finish is None else {"type": finish}
    meta = {"finish_reason": reason, "prompt_tokens": 3, "completion_tokens": tokens}
    return f"data: {json.dumps({'text': text, 'meta_info': meta})}{end}".encode()


def frame(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = chunked(whole=False)
FIRST = HEAD + frame(event(1))
LAST = frame(event(3, finish="length")) + frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@contextmanager
def serving(answers: Sequence[tuple[Sequence[bytes], Ending | None]]) -> Iterator[str]:
    """A server that sends the pieces of each answer with pauses between, and does something to the socket at once after
    the last. One connection after the other."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        left = list(answers)
        while left:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                while left and connection.fileno() >= 0 and connection.recv(65_536):
                    pieces, ending = left.pop(0)
                    for number, piece in enumerate(pieces):
                        time.sleep(PAUSE_S * (number > 0))
                        connection.sendall(piece)
                    if ending is not None:
                        ending(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(10)


def run(url: str, num: int = 1, pause_s: float = 0.0) -> tuple[LoadRun, list[str]]:
    requests = [PlannedRequest(index, None, 0, b"{}", GENERATE, pause_s * (index > 0)) for index in range(num)]
    done = run_load(requests, ExecutorSettings(url, num_connections=1, request_timeout_s=5))
    return done, [STATUSES[code] for code in done.columns.status]


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("ending", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_stream_that_ends_right_after_a_token_is_cut_and_no_timeout(ending: Ending) -> None:
    with serving([([FIRST, frame(event(2)), frame(event(3))], ending)]) as url:
        start_s = time.monotonic()
        done, statuses = run(url)
        took_s = time.monotonic() - start_s
    assert statuses == ["cut"]
    assert took_s < 2
    assert "the connection was cut after" in done.columns.errors[0]


def test_a_read_larger_than_the_buffer_is_read_whole() -> None:
    with serving([([FIRST, frame(event(2, "b" * 400_000)), LAST], None)]) as url:
        done, statuses = run(url)
    assert statuses == ["ok"]
    assert int(done.columns.output_tokens[0]) == 3
    assert done.processes[0].num_reads > 6


def test_reads_that_end_like_the_answer_are_looked_at_and_the_stream_goes_on() -> None:
    # The frame's own end comes with the next piece: four reads in a row end like an answer.
    looks_ended = frame(event(2, end="\r\n\r\n"))[:-2]
    pieces = [FIRST, looks_ended, *[b"\r\n" + looks_ended] * 3, b"\r\n" + LAST]
    with serving([(pieces, None)] * 2) as url:
        done, statuses = run(url, num=2)
    assert statuses == ["ok", "ok"]
    assert done.processes[0].num_opened_late == 0


def test_each_piece_has_a_time_of_its_own() -> None:
    with serving([([FIRST, frame(event(2)), LAST], None)]) as url:
        done, statuses = run(url)
    assert statuses == ["ok"]
    first, second, last = done.columns.read_ns.tolist()
    assert second - first >= 0.9 * PAUSE_S * 1e9
    assert last - second >= 0.9 * PAUSE_S * 1e9


def test_a_connection_that_was_closed_while_idle_is_noticed_before_it_is_used() -> None:
    with serving([([FIRST, LAST], socket.socket.close), ([FIRST, LAST], None)]) as url:
        done, statuses = run(url, num=2, pause_s=0.3)
    assert statuses == ["ok", "ok"]
    assert (done.processes[0].num_resent, done.processes[0].num_opened_late) == (0, 1)

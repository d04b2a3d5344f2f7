"""The connection: answers cut at every byte, errors, cuts, silence."""

import asyncio
import time

import pytest
from canned_server import CUT, HANG, canned, chunked, reply

from raybench.client.stream import Connection, Endpoint, Exchange
from raybench.errors import ClientError

PIECES = (b"data: one\n\n", b"data: two\r\n0\r\n\r\n", b"data: [DONE]\n\n")


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


async def exchanged(parts: list[bytes], *, lost: bool = False) -> tuple[Exchange, list[tuple[int, bytes]]]:
    """An exchange whose answer comes in the given reads."""
    connection = Connection()
    connection.connection_made(FakeTransport())
    pieces: list[tuple[int, bytes]] = []
    pending = asyncio.ensure_future(
        connection.exchange(b"request", lambda t_ns, piece: pieces.append((t_ns, piece)), 30)
    )
    await asyncio.sleep(0)
    for part in parts:
        connection.data_received(part)
    if lost:
        connection.connection_lost(None)
    return await pending, pieces


@pytest.mark.parametrize("answer", [chunked(*PIECES), reply(b"".join(PIECES))])
def test_an_answer_cut_at_any_byte_is_whole(answer: bytes) -> None:
    async def all_cuts() -> None:
        for cut in range(1, len(answer)):
            exchange, pieces = await exchanged([answer[:cut], answer[cut:]])
            assert (exchange.ending, exchange.http_status) == ("whole", 200), cut
            assert b"".join(piece for _, piece in pieces) == b"".join(PIECES), cut
            assert exchange.sent_ns <= min(t_ns for t_ns, _ in pieces)
            assert exchange.ended_ns >= max(t_ns for t_ns, _ in pieces)

    asyncio.run(all_cuts())


def test_every_piece_has_the_time_of_its_own_read() -> None:
    async def two_reads() -> None:
        answer = chunked(*PIECES)
        cut = answer.index(b"data: two")
        before_ns = time.perf_counter_ns()
        _, pieces = await exchanged([answer[:cut], answer[cut:]])
        times_ns = [t_ns for t_ns, _ in pieces]
        assert times_ns[0] < times_ns[1] == times_ns[2]
        assert before_ns <= times_ns[0]

    asyncio.run(two_reads())


@pytest.mark.parametrize("keep", [1, 30, 120, -1])
def test_a_lost_connection_is_cut_and_keeps_what_came(keep: int) -> None:
    exchange, _ = asyncio.run(exchanged([chunked(*PIECES)[:keep]], lost=True))
    assert exchange.ending == "cut"


def test_what_is_not_http_is_cut() -> None:
    exchange, _ = asyncio.run(exchanged([b"SSH-2.0-hello\r\n\r\n"]))
    assert (exchange.ending, exchange.http_status) == ("cut", None)


def test_an_error_answer_does_not_reach_the_sink() -> None:
    exchange, pieces = asyncio.run(exchanged([reply({"error": "no"}, 503)]))
    assert pieces == []
    assert (exchange.ending, exchange.http_status, exchange.body) == ("whole", 503, b'{"error": "no"}')


def test_over_a_socket_the_connection_is_kept_then_cut_then_silent() -> None:
    async def three() -> None:
        async with canned([reply({"n": 1}), chunked(*PIECES), CUT, HANG]) as server:
            endpoint = Endpoint.of(server.url + "/base/", "secret")
            connection = await Connection.open(endpoint, 5)
            request = endpoint.post("/generate", b'{"a":1}')
            assert (await connection.exchange(request, None, 5)).body == b'{"n": 1}'
            assert (await connection.exchange(request, None, 5)).ending == "whole"
            assert (await connection.exchange(request, None, 5)).ending == "cut"
            assert not connection.is_open
            assert (await connection.exchange(request, None, 5)).ending == "cut"
            again = await Connection.open(endpoint, 5)
            assert (await again.exchange(request, None, 0.05)).ending == "timeout"
            assert not again.is_open
            head, body = server.requests[0]
            assert head.startswith("POST /base/generate HTTP/1.1\r\n")
            assert "Authorization: Bearer secret" in head
            assert body == b'{"a":1}'

    asyncio.run(three())


def test_nobody_listens() -> None:
    with pytest.raises(ClientError, match=r"cannot connect to 127\.0\.0\.1:1"):
        asyncio.run(Connection.open(Endpoint.of("http://127.0.0.1:1", None), 5))


@pytest.mark.parametrize("url", ["ftp://host", "http://", "host:80"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ClientError, match="is not http"):
        Endpoint.of(url, None)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "prefix"),
    [
        ("http://10.0.0.1:30000", "10.0.0.1", 30000, False, ""),
        ("https://host.example/v", "host.example", 443, True, "/v"),
        ("http://[::1]:8", "::1", 8, False, ""),
    ],
)
def test_endpoints(url: str, host: str, port: int, tls: bool, prefix: str) -> None:
    endpoint = Endpoint.of(url, None)
    assert (endpoint.host, endpoint.port, endpoint.tls, endpoint.prefix) == (host, port, tls, prefix)
    assert b"Authorization" not in endpoint.post("/x", b"")

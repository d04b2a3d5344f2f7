"""Small requests to an engine's control routes never raise, whatever comes back."""

import asyncio

import pytest
from canned_server import CUT, canned, reply

from raybench.engine.http_json import Answer, ask


def asked(answer: bytes) -> Answer:
    async def once() -> Answer:
        async with canned([answer]) as server:
            return await asyncio.to_thread(ask, f"{server.url}/server_info", timeout_s=20)

    return asyncio.run(once())


def cut_answer(status: int) -> bytes:
    """An answer whose connection ends in the middle of its body."""
    return b"HTTP/1.1 %d Said\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{" % status


def test_an_answer_and_an_error_are_told_with_their_body() -> None:
    assert asked(reply({"a": 1})) == Answer(200, {"a": 1})
    assert asked(reply({"error": "no"}, 500)) == Answer(500, {"error": "no"}, "HTTP 500")
    assert asked(reply(b"<html>", 404)) == Answer(404, None, "HTTP 404")


@pytest.mark.parametrize("status", [401, 500, 503])
def test_an_error_whose_body_is_cut_keeps_its_status(status: int) -> None:
    assert asked(cut_answer(status)) == Answer(status, None, f"HTTP {status}")


def test_a_cut_body_a_foreign_protocol_and_a_closed_connection_are_no_answer() -> None:
    for answer, words in (
        (cut_answer(200), "IncompleteRead: "),
        (b"SSH-2.0\r\nConnection: close\r\n", "BadStatusLine: "),
    ):
        found = asked(answer)
        assert found.status is None
        assert found.error is not None
        assert found.error.startswith(words)
    assert asked(CUT).status is None
    assert ask("http://127.0.0.1:1/", timeout_s=5).error is not None

"""When an answer has ended: cut at every byte, and with ends of events that look like the end of the answer."""

import pytest
from canned_server import chunked, reply

from raybench.client.answer import Answer

EVENTS = (b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n")
CRLF_EVENTS = tuple(event.replace(b"\n", b"\r\n") for event in EVENTS) * 3
TRAILER = chunked(*EVENTS)[:-2] + b"x-took: 1\r\n\r\n"


def fed(*reads: bytes) -> list[str]:
    answer = Answer()
    return [answer.feed(number, read) for number, read in enumerate(reads)]


@pytest.mark.parametrize(
    "answer",
    [chunked(*EVENTS), chunked(*CRLF_EVENTS), TRAILER, reply({"a": 1}), reply({"a": 1}, 503)],
    ids=["chunked", "crlf events", "trailer", "length", "error"],
)
def test_an_answer_cut_at_any_byte_ends_with_its_last_one(answer: bytes) -> None:
    for cut in range(1, len(answer)):
        assert fed(answer[:cut], answer[cut:]) == ["open", "whole"], cut
    assert fed(answer) == ["whole"]


@pytest.mark.parametrize("events", [EVENTS, CRLF_EVENTS])
def test_an_answer_in_one_read_a_byte(events: tuple[bytes, ...]) -> None:
    answer = chunked(*events)
    states = fed(*(answer[place : place + 1] for place in range(len(answer))))
    assert states[-1] == "whole"
    assert set(states[:-1]) == {"open"}


def test_every_chunk_in_a_read_of_its_own() -> None:
    answer = chunked(*CRLF_EVENTS)
    head, _, body = answer.partition(b"\r\n\r\n")
    reads = [head + b"\r\n\r\n"]
    for event in CRLF_EVENTS:
        frame = b"%x\r\n%s\r\n" % (len(event), event)
        assert body.startswith(frame)
        reads.append(frame)
        body = body[len(frame) :]
    assert fed(*reads, body) == ["open"] * len(reads) + ["whole"]


def test_what_is_no_http_is_broken() -> None:
    assert fed(b"SSH-2.0-hello\r\n\r\n") == ["broken"]


def test_status_and_keep_alive() -> None:
    answer = Answer()
    answer.feed(0, reply({"error": "busy"}, 503))
    assert (answer.http_status, answer.keep_alive) == (503, True)
    closing = Answer()
    closing.feed(0, chunked(*EVENTS).replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n"))
    assert (closing.http_status, closing.keep_alive) == (200, False)


def test_a_cut_answer_still_has_its_status() -> None:
    answer = Answer()
    answer.feed(0, chunked(*EVENTS)[:-5])
    assert answer.close() == "open"
    assert answer.http_status == 200


def test_times_and_pieces_are_kept_together() -> None:
    answer = Answer()
    for number, piece in enumerate((chunked(*EVENTS)[:40], chunked(*EVENTS)[40:])):
        answer.feed(100 + number, piece)
    assert answer.times_ns == [100, 101]
    assert b"".join(answer.pieces) == chunked(*EVENTS)

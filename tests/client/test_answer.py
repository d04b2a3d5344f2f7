"""When an answer has ended: cut at every byte, and with ends of events that look like the end of the answer."""

import pytest
from canned_server import chunked, reply

from raybench.client.answer import Answer

EVENTS = (b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n")
CRLF_EVENTS = tuple(event.replace(b"\n", b"\r\n") for event in EVENTS) * 3
TRAILER = chunked(*EVENTS)[:-2] + b"x-took: 1\r\n\r\n"


def fed(*reads: bytes) -> list[str]:
    answer = Answer()
    return [answer.feed(read) for read in reads]


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
    answer.feed(reply({"error": "busy"}, 503))
    assert (answer.http_status, answer.keep_alive) == (503, True)
    closing = Answer()
    closing.feed(chunked(*EVENTS).replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n"))
    assert (closing.http_status, closing.keep_alive) == (200, False)


def test_a_cut_answer_still_has_its_status() -> None:
    answer = Answer()
    answer.feed(chunked(*EVENTS)[:-5])
    assert answer.close() == "open"
    assert answer.http_status == 200


def test_pieces_are_kept_and_an_answer_flows_once_it_is_known_to_be_chunked() -> None:
    answer, flows = Answer(), []
    whole = chunked(*EVENTS)
    for piece in (whole[:100], whole[100:130], whole[130:]):
        answer.feed(piece)
        flows.append(answer.is_flowing)
    assert flows == [True, True, False]
    assert b"".join(answer.pieces) == whole
    by_length = Answer()
    by_length.feed(reply({"a": 1})[:-3])
    assert not by_length.is_flowing, "only the parser knows its end"

"""Reading a stream: the same chunks however it is cut, the same values as a full JSON parse."""

import json

import pytest

from raybench.client.transcript import Chunk, Transcript, chunk_of

TRAP = '{"meta_info":{"completion_tokens":99,"finish_reason":null},"index":7} \\" \n\r\n0\r\n\r\n data: [DONE]'


def event(index: int, tokens: int, finish: object = None, text: str = "") -> dict[str, object]:
    """A chunk in the order of fields that SGLang 0.5.17 sends."""
    meta = {
        "id": f"r{index}", "finish_reason": finish, "prompt_tokens": 40 + index, "weight_version": "default",
        "num_retractions": index, "queue_time": 0.0005, "reasoning_tokens": 0, "completion_tokens": tokens,
        "cached_tokens": 3, "cached_tokens_details": {"device": 3, "host": 0}, "dp_rank": None,
    }  # fmt: skip
    return {"text": text, "output_ids": list(range(tokens)), "meta_info": meta, "index": index}


LENGTH = {"type": "length", "length": 3}
EVENTS = [
    event(1, 1, text=TRAP),
    event(0, 2, text="é\u2028&"),
    event(0, 3, LENGTH),
    event(1, 3, {"type": "stop", "matched": '}]"meta_info":'}, text=TRAP),
]


def stream(events: list[dict[str, object]], newline: bytes = b"\n") -> bytes:
    lines = [b"data: " + json.dumps(one, separators=(",", ":")).encode() + newline * 2 for one in events]
    return b"".join([*lines, b"data: [DONE]" + newline * 2])


def expected(one: dict[str, object], t_ns: int) -> Chunk:
    fields = json.loads(json.dumps(one))
    meta = fields["meta_info"]
    reason = meta["finish_reason"]
    return Chunk(
        t_ns, fields["index"], meta["completion_tokens"], meta["prompt_tokens"], meta["cached_tokens"],
        meta["num_retractions"], reason and reason["type"],
    )  # fmt: skip


@pytest.mark.parametrize("one", EVENTS)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_chunk_reads_as_its_full_json_does(one: dict[str, object], separators: tuple[str, str]) -> None:
    assert chunk_of(5, json.dumps(one, separators=separators).encode()) == expected(one, 5)


@pytest.mark.parametrize("one", EVENTS)
def test_the_order_of_fields_does_not_matter(one: dict[str, object]) -> None:
    backwards = dict(reversed(one.items()))
    assert chunk_of(5, json.dumps(backwards, separators=(",", ":")).encode()) == expected(one, 5)


def test_a_single_request_has_index_0() -> None:
    one = event(0, 2)
    del one["index"]
    assert chunk_of(1, json.dumps(one).encode()).index == 0


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_stream_cut_at_any_byte_gives_the_same_chunks_at_the_read_that_completed_them(newline: bytes) -> None:
    whole = stream(EVENTS, newline)
    ends = [place + 1 for place in range(len(whole)) if whole[place : place + 1] == b"\n"][::2]
    for cut in range(len(whole) + 1):
        transcript = Transcript()
        transcript.add(1, whole[:cut])
        transcript.add(2, whole[cut:])
        transcript.finish()
        reads = [1 if end <= cut else 2 for end in ends]
        assert transcript.chunks == [expected(one, t_ns) for one, t_ns in zip(EVENTS, reads[:-1], strict=True)], cut
        assert transcript.done_ns == reads[-1]
        assert transcript.error is None


def test_byte_by_byte() -> None:
    whole = stream(EVENTS)
    transcript = Transcript()
    for place in range(len(whole)):
        transcript.add(place, whole[place : place + 1])
    transcript.finish()
    assert [chunk.completion_tokens for chunk in transcript.chunks] == [1, 2, 3, 3]
    assert transcript.num_bytes == len(whole)


@pytest.mark.parametrize("limit_bytes", [0, 1, 100, 1_000])
def test_a_small_memory_changes_nothing(limit_bytes: int) -> None:
    whole = stream(EVENTS * 5)
    transcript = Transcript(limit_bytes)
    for place in range(0, len(whole), 37):
        transcript.add(place, whole[place : place + 37])
    kept = Transcript()
    for place in range(0, len(whole), 37):
        kept.add(place, whole[place : place + 37])
    assert len(transcript.chunks) > len(kept.chunks) == 0
    transcript.finish()
    kept.finish()
    assert transcript.chunks == kept.chunks
    assert len(kept.chunks) == 20


def test_an_unfinished_line_is_dropped() -> None:
    whole = stream(EVENTS[:2])
    transcript = Transcript()
    transcript.add(1, whole[: whole.rindex(b'data: {"text"') + 40])
    transcript.finish()
    assert transcript.chunks == [expected(EVENTS[0], 1)]
    assert transcript.done_ns is None
    assert transcript.error is None


def test_no_counts_are_none_and_not_zero() -> None:
    chunk = chunk_of(1, b'{"text":"x","meta_info":{"finish_reason":{"type":"length"}},"index":2}')
    assert (chunk.completion_tokens, chunk.prompt_tokens, chunk.cached_tokens) == (None, None, None)
    assert (chunk.num_retractions, chunk.finish_reason) == (0, "length")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"error": {"message": "too long", "code": 400}}', "too long"),
        (b'{"error": "plain"}', "plain"),
        (b"not json", "no /generate chunk"),
        (b'{"index": 1}', "no /generate chunk"),
        (b"[1]", "no /generate chunk"),
    ],
)
def test_errors_in_the_stream_are_kept_the_first_one_wins(data: bytes, said: str) -> None:
    transcript = Transcript()
    transcript.add(1, b": a comment\n\nevent: x\ndata: " + data + b'\n\ndata: {"error":"later"}\n\n')
    transcript.finish()
    assert transcript.error is not None
    assert said in transcript.error
    assert transcript.chunks == []

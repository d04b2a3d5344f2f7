"""What streams say: tokens by read, usage, finish reasons, errors; the same wherever the reads cut them."""

import json

import pytest
from canned_server import chunked, reply

from raybench.client.columns import spread
from raybench.client.decode import Reply, decode
from raybench.client.planned import CHAT, COMPLETIONS, GENERATE


def event(data: object) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def chat(text: str | None, finish: str | None = None, **more: object) -> bytes:
    delta = {"role": "assistant"} if text is None else {"content": text}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def generated(tokens: int, finish: str | None = None, **meta: object) -> bytes:
    said = {"prompt_tokens": 9, "completion_tokens": tokens, "cached_tokens": 4} | meta
    reason = {"type": finish} if finish else None
    return event({"text": "ab" * tokens, "meta_info": {"id": "x", "finish_reason": reason} | said})


DONE = event(b"[DONE]")
CHAT_STREAM = (
    chat(None),
    chat("a"),
    chat("b"),
    chat("", "length"),
    event({"choices": [], "usage": usage(7, 2, 3)}),
    DONE,
)
TEXT_STREAM = (
    event({"choices": [{"text": "a", "finish_reason": None}]}),
    event({"choices": [{"text": "b", "finish_reason": "stop"}]}),
    event({"choices": [], "usage": usage(7, 2, 3)}),
    DONE,
)
GENERATE_STREAM = (generated(1), generated(4), generated(5, "length", num_retractions=2, queue_time=0.25), DONE)


def reads(*events: bytes) -> list[bytes]:
    """The head, then every event in a read of its own, then the end."""
    whole = chunked(*events)
    at = whole.index(b"\r\n\r\n") + 4
    found = [whole[:at]]
    for one in events:
        size = len(b"%x\r\n%s\r\n" % (len(one), one))
        found.append(whole[at : at + size])
        at += size
    return [*found, whole[at:]]


def test_chat_counts_text_not_roles() -> None:
    said = decode(CHAT, reads(*CHAT_STREAM))
    assert (said.reads, said.tokens, said.counted) == ([2, 3], [1, 2], True)
    assert (said.prompt_tokens, said.output_tokens, said.cached_tokens) == (7, 2, 3)
    assert (said.finish_reason, said.done, said.error) == ("length", True, None)


def test_completions() -> None:
    said = decode(COMPLETIONS, reads(*TEXT_STREAM))
    assert (said.reads, said.tokens, said.finish_reason, said.output_tokens) == ([1, 2], [1, 2], "stop", 2)


def test_generate_takes_the_servers_counts() -> None:
    said = decode(GENERATE, reads(*GENERATE_STREAM))
    assert (said.reads, said.tokens, said.counted) == ([1, 2, 3], [1, 4, 5], True)
    assert (said.prompt_tokens, said.output_tokens, said.cached_tokens) == (9, 5, 4)
    assert (said.num_retractions, said.queue_s, said.finish_reason) == (2, 0.25, "length")


@pytest.mark.parametrize(
    ("path", "stream"), [(CHAT, CHAT_STREAM), (COMPLETIONS, TEXT_STREAM), (GENERATE, GENERATE_STREAM)]
)
def test_where_the_reads_cut_does_not_matter(path: str, stream: tuple[bytes, ...]) -> None:
    whole = chunked(*stream)
    last = decode(path, [whole]).tokens[-1]
    for cut in range(1, len(whole)):
        said = decode(path, [whole[:cut], whole[cut:]])
        assert said.tokens[-1] == last, cut
        assert (said.done, said.error) == (True, None), cut
    bytewise = decode(path, [whole[place : place + 1] for place in range(len(whole))])
    assert bytewise.tokens[-1] == last


def test_a_token_belongs_to_the_read_with_the_last_byte_of_its_event() -> None:
    whole = chunked(*CHAT_STREAM)
    at = whole.index(b'"content": "a"')
    end = whole.index(b"\n\n", at)
    assert decode(CHAT, [whole[:at], whole[at : end + 2], whole[end + 2 :]]).reads == [1, 2]
    # The end of the line is what completes it.
    assert decode(CHAT, [whole[:end], whole[end:]]).reads == [1]


def test_a_body_without_chunks_and_with_crlf() -> None:
    stream = b"".join(CHAT_STREAM).replace(b"\n", b"\r\n")
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(stream)
    said = decode(CHAT, [head, stream])
    assert (said.tokens, said.done) == ([2], True)


def test_text_that_looks_like_a_field_is_text() -> None:
    sly = 'x", "finish_reason": null, "completion_tokens": 99, "content": "y'
    said = decode(
        CHAT, reads(chat(None), chat(sly), chat("", "stop"), event({"choices": [], "usage": usage(7, 1)}), DONE)
    )
    assert (said.tokens, said.output_tokens) == ([1], 1)
    text = '"meta_info": {"completion_tokens": 77, "finish_reason": null'
    meta = {"prompt_tokens": 1, "completion_tokens": 1, "finish_reason": None}
    assert decode(GENERATE, reads(event({"text": text, "meta_info": meta}))).tokens == [1]


def test_counts_in_every_chunk_are_taken() -> None:
    stream = (
        chat("abc", usage=usage(7, 3)),
        chat("de", usage=usage(7, 5)),
        chat("f", "length", usage=usage(7, 6)),
        event({"choices": [], "usage": usage(7, 6)}),
        DONE,
    )
    said = decode(CHAT, reads(*stream))
    assert (said.tokens, said.counted, said.output_tokens) == ([3, 5, 6], True, 6)


def test_chunks_of_unknown_size_are_spread_and_say_so() -> None:
    stream = (chat("abc"), chat("def"), chat("", "length"), event({"choices": [], "usage": usage(7, 6)}), DONE)
    said = decode(CHAT, reads(*stream))
    assert (said.tokens, said.counted) == ([1, 2], False)
    assert spread(said) == [3, 6]
    assert spread(Reply(reads=[1], tokens=[4], counted=True, output_tokens=4)) == [4]


@pytest.mark.parametrize("name", ["reasoning_content", "tool_calls"])
def test_thinking_and_calls_are_tokens_too(name: str) -> None:
    value: object = "hm" if name == "reasoning_content" else [{"function": {"arguments": "{"}}]
    first = event({"choices": [{"index": 0, "delta": {"content": None, name: value}, "finish_reason": None}]})
    assert decode(CHAT, reads(first, chat("", "stop"), DONE)).tokens == [1]


def test_errors_of_the_stream_and_of_http() -> None:
    stream = (chat("a"), event({"error": {"message": "out of memory"}}), DONE)
    assert decode(CHAT, reads(*stream)).error == "out of memory"
    assert decode(GENERATE, reads(event({"error": "no"}))).error == "no"
    assert decode(CHAT, [reply({"message": "too long"}, 400)]).error == '{"message": "too long"}'
    assert "no chunk" in (decode(CHAT, reads(event(b"{not json"))).error or "")
    assert "no chunk" in (decode(GENERATE, reads(event(b"[1]"))).error or "")


def test_a_silent_stream_has_no_token() -> None:
    said = decode(CHAT, reads(chat(None), chat("", "stop"), event({"choices": [], "usage": usage(7, 0)}), DONE))
    assert (said.reads, said.tokens, said.done) == ([], [], True)


@pytest.mark.parametrize(
    "pieces", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]]
)
def test_answers_that_end_too_early_are_empty(pieces: list[bytes]) -> None:
    assert decode(CHAT, pieces).tokens == []

"""What the bytes of a streamed answer say: which read brought how many tokens, usage, the finish reason, errors.

Runs after the window, on the pieces that were kept. A token belongs to the read that brought the last byte of its
event. Where the server counts tokens in every chunk (`/generate`, `continuous_usage_stats`) its count is taken. Chat
streams show only text: a chunk with text then counts as one token, until the usage at the end says how many there were;
if it says another number, how many tokens a single chunk carried is not known (`counted` is False).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from raybench.client.planned import GENERATE
from raybench.client.transcript import chunk_of

_HEAD_END = b"\r\n\r\n"
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
# Quotes inside a JSON string are escaped, so none of these can be text of a reply.
_TEXT = re.compile(rb'"(?:content|text|reasoning_content)":\s*"(?!")')
_NOT_LAST = re.compile(rb'"finish_reason":\s*null')
_META = b'"meta_info":'
_COUNTED = re.compile(rb'"completion_tokens":\s*(\d+)')
MAX_ERROR_CHARS = 500


@dataclass(slots=True)
class Reply:
    """A decoded answer."""

    reads: list[int] = field(default_factory=list[int])
    """Places of the reads that brought tokens."""
    tokens: list[int] = field(default_factory=list[int])
    """Tokens of the reply after each of them (chunks with text, if not `counted`)."""
    counted: bool = False
    """`tokens` are the server's own numbers, or agree with its usage."""
    prompt_tokens: int | None = None
    """Prompt tokens by the server's usage."""
    output_tokens: int | None = None
    """Reply tokens by the server's usage."""
    cached_tokens: int | None = None
    """Prompt tokens from the prefix cache."""
    num_retractions: int = 0
    """Times that the scheduler took the request back."""
    queue_s: float | None = None
    """Time in the server's queue, where it says."""
    finish_reason: str | None = None
    """Why it ended."""
    done: bool = False
    """`[DONE]` came."""
    error: str | None = None
    """First error that the stream or the body reported."""


def decode(path: str, pieces: Sequence[bytes]) -> Reply:
    """Decode the whole answer to a request for `path`, from its first byte on."""
    head, body = unframed(pieces)
    reply = Reply()
    if b" 200" not in head.split(b"\r\n", 1)[0]:
        reply.error = b"".join(part for _, part in body).decode(errors="replace")[:MAX_ERROR_CHARS]
        return reply
    read = _read_generate if path == GENERATE else _read_openai
    for number, data in events(body):
        if data == b"[DONE]":
            reply.done = True
        else:
            try:
                read(reply, number, data)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reply.error = (
                    reply.error or _said_error(data) or f"an event that is no chunk: {error}"[:MAX_ERROR_CHARS]
                )
    if reply.tokens and reply.output_tokens is not None and not reply.counted:
        reply.counted = reply.tokens[-1] == reply.output_tokens
    return reply


def unframed(pieces: Sequence[bytes]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Head of the answer, and the parts of its body with the places of the reads that brought them."""
    head, start = b"", 0
    for number, piece in enumerate(pieces):
        head += piece
        end = head.find(_HEAD_END)
        if end >= 0:
            rest: list[tuple[int, bytes]] = [(number, head[end + 4 :])]
            head, start = head[:end], number + 1
            break
    else:
        return head, []
    rest += [(number, pieces[number]) for number in range(start, len(pieces))]
    return head, list(_unchunked(rest)) if _CHUNKED.search(head) else rest


def _unchunked(parts: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    left, skip, size = 0, 0, b""
    for number, part in parts:
        data, at = size + part, 0
        size = b""
        while at < len(data):
            if left:
                piece = data[at : at + left]
                yield number, piece
                left -= len(piece)
                at += len(piece)
                skip = 0 if left else 2
            elif skip:
                step = min(skip, len(data) - at)
                at, skip = at + step, skip - step
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    size = data[at:]
                    break
                try:
                    left = int(data[at:end].split(b";")[0], 16)
                except ValueError:
                    return
                if not left:
                    return
                at = end + 2


def events(body: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Data of every event, with the place of the read that completed it. A line without its end was cut: dropped."""
    rest = b""
    for number, part in body:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield number, line[5:].strip()


def _read_generate(reply: Reply, number: int, data: bytes) -> None:
    # The text so far stands before it; a chunk in another order is parsed whole.
    start = data.rfind(_META)
    counted = _COUNTED.search(data, start) if start >= 0 else None
    if counted is not None and _NOT_LAST.search(data, start):
        _grow(reply, number, int(counted.group(1)))
        reply.counted = True
        return
    chunk = chunk_of(0, data)
    if chunk.index != 0:
        raise ValueError("a chunk of another request")
    if chunk.completion_tokens is not None:
        _grow(reply, number, chunk.completion_tokens)
        reply.counted = True
        reply.output_tokens = chunk.completion_tokens
    reply.prompt_tokens, reply.cached_tokens = chunk.prompt_tokens, chunk.cached_tokens
    reply.num_retractions = chunk.num_retractions
    if chunk.finish_reason is not None:
        reply.finish_reason = chunk.finish_reason
        queue_s = json.loads(data)["meta_info"].get("queue_time")
        reply.queue_s = queue_s if isinstance(queue_s, float) and queue_s >= 0 else None


def _read_openai(reply: Reply, number: int, data: bytes) -> None:
    counted = _COUNTED.search(data)
    if counted is not None and _NOT_LAST.search(data):
        _grow(reply, number, int(counted.group(1)))
        reply.counted = True
    elif counted is None and _TEXT.search(data) and _NOT_LAST.search(data):
        _grow(reply, number, (reply.tokens[-1] if reply.tokens else 0) + 1)
    else:
        _read_rare(reply, number, data)


def _read_rare(reply: Reply, number: int, data: bytes) -> None:
    """The first chunk (a role, no text), the last, usage, calls of tools, errors: parsed whole."""
    chunk = json.loads(data)
    error = _said_error(data)
    if error is not None:
        reply.error = reply.error or error
        return
    usage = chunk.get("usage")
    if usage is not None:
        reply.prompt_tokens = usage.get("prompt_tokens")
        reply.output_tokens = usage.get("completion_tokens")
        reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    for choice in chunk.get("choices") or ():
        if choice.get("finish_reason") is not None:
            reply.finish_reason = str(choice["finish_reason"])
        delta = choice.get("delta") or choice
        if any(delta.get(name) for name in ("content", "text", "reasoning_content", "tool_calls")):
            if reply.counted and usage is not None:
                _grow(reply, number, usage.get("completion_tokens"))
            else:
                _grow(reply, number, (reply.tokens[-1] if reply.tokens else 0) + 1)


def _grow(reply: Reply, number: int, tokens: int) -> None:
    if tokens <= (reply.tokens[-1] if reply.tokens else 0):
        return
    if reply.reads and reply.reads[-1] == number:
        reply.tokens[-1] = tokens
    else:
        reply.reads.append(number)
        reply.tokens.append(tokens)


def _said_error(data: bytes) -> str | None:
    """Message of an error event; SGLang sends `{"error": {"message": ...}}` within a stream of status 200."""
    try:
        fields = json.loads(data)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not fields.get("error"):
        return None
    error = fields["error"]
    said = error.get("message") if isinstance(error, dict) else error
    return str(said)[:MAX_ERROR_CHARS]

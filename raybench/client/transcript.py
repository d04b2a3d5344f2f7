"""What a batched streaming `/generate` said, read off the time-stamped pieces of its body.

The pieces are kept as they came and parsed only when the stream has ended, so that parsing delays no time stamp. Chunks
repeat all token ids so far: 64 requests of 512 tokens make 100 MB, longer ones grow with the square. Beyond
`limit_bytes` the oldest pieces are therefore parsed as new ones come, about as many bytes as each read brings.

A chunk belongs to the read that brought its last byte. Only the part from `"meta_info":` on is parsed as JSON; inside a
JSON string the quotes would be escaped, so the last such key is never text of the reply. A chunk whose parts stand in
another order is parsed whole.
"""

import json
from collections import deque
from dataclasses import dataclass

LIMIT_BYTES = 512 * 2**20
_META = b'"meta_info":'


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk says of its request."""

    t_ns: int
    """Read that completed it, nanoseconds of `time.perf_counter_ns`."""
    index: int
    """Place of the request in the batch."""
    completion_tokens: int | None
    """Tokens of the reply so far; None if the server did not say."""
    prompt_tokens: int | None
    """Tokens of the prompt."""
    cached_tokens: int | None
    """Prompt tokens from the prefix cache."""
    num_retractions: int
    """Times that the request was retracted so far."""
    finish_reason: str | None
    """Type of the finish reason; None while it runs."""


class Transcript:
    """Collects pieces (`add`), then holds chunks, the error and the end mark (`finish`)."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.chunks: list[Chunk] = []
        """All chunks, in the order in which they came."""
        self.error: str | None = None
        """First error that the stream itself reported."""
        self.done_ns: int | None = None
        """Read that brought `[DONE]`."""
        self.num_bytes = 0
        """Bytes of the body."""
        self._limit_bytes = limit_bytes
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._rest = b""

    def add(self, t_ns: int, piece: bytes) -> None:
        """Keep a piece of the body."""
        self._pieces.append((t_ns, piece))
        self.num_bytes += len(piece)
        self._kept_bytes += len(piece)
        while self._kept_bytes > self._limit_bytes:
            self._parse_oldest()

    def finish(self) -> None:
        """Parse what is left. A line without its end is dropped: its stream was cut."""
        while self._pieces:
            self._parse_oldest()

    def _parse_oldest(self) -> None:
        t_ns, piece = self._pieces.popleft()
        self._kept_bytes -= len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._parse_event(t_ns, line[5:].strip())

    def _parse_event(self, t_ns: int, data: bytes) -> None:
        if data == b"[DONE]":
            self.done_ns = t_ns
            return
        try:
            chunk = chunk_of(t_ns, data)
        except ValueError as error:
            self.error = self.error or _stream_error(data) or f"chunk that is no /generate chunk: {error}"
            return
        self.chunks.append(chunk)


def chunk_of(t_ns: int, data: bytes) -> Chunk:
    """A chunk from the JSON text after `data:`. Raises ValueError if it is none."""
    start = data.rfind(_META)
    fields = _mapping(b"{" + data[start:]) if start >= 0 else None
    if fields is None or "index" not in fields:
        fields = _mapping(data)
    if fields is None:
        raise ValueError(f"no JSON object: {data[:200]!r}")
    meta = fields.get("meta_info")
    # A request that is not a list of prompts has no index.
    index = fields.get("index", 0)
    if not isinstance(meta, dict) or not isinstance(index, int):
        raise ValueError(f"no meta_info or index: {data[:200]!r}")
    finish = meta.get("finish_reason")
    return Chunk(
        t_ns=t_ns,
        index=index,
        completion_tokens=_count(meta, "completion_tokens"),
        prompt_tokens=_count(meta, "prompt_tokens"),
        cached_tokens=_count(meta, "cached_tokens"),
        num_retractions=_count(meta, "num_retractions") or 0,
        finish_reason=str(finish["type"]) if isinstance(finish, dict) and "type" in finish else None,
    )


def _mapping(text: bytes) -> dict[str, object] | None:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _count(meta: dict[str, object], name: str) -> int | None:
    value = meta.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def _stream_error(data: bytes) -> str | None:
    """Message of an error event; SGLang sends `{"error": {"message": ...}}` within a 200 stream."""
    fields = _mapping(data)
    if fields is None or "error" not in fields:
        return None
    error = fields["error"]
    message = error.get("message") if isinstance(error, dict) else None
    return str(message if message is not None else error)[:1000]

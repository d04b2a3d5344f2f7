"""Bytes that the mock sends, as a real server writes them; made once for each kind of chunk."""

import json
from functools import cache

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
MODELS = b'{"object": "list", "data": [{"id": "mock", "object": "model", "created": 1, "owned_by": "mock"}]}'
PROMPT_TOKENS = 128
"""What usage says of every prompt: the mock reads none."""
_END = b"0\r\n\r\n"


def _event(data: bytes) -> bytes:
    text = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(text), text)


@cache
def chunk(path: bytes, num_tokens: int, of_tokens: int, counts: bool = False) -> bytes:
    """What goes out when the reply has come to `num_tokens` of `of_tokens`; `counts`: usage in every chunk."""
    last = num_tokens >= of_tokens
    if path == b"/generate":
        return _generate(num_tokens, last)
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": num_tokens,
        "total_tokens": PROMPT_TOKENS + num_tokens,
    }
    head: dict[str, object] = {"id": "c0", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
    text: dict[str, object] = {"delta": {"content": " a"}} if path.endswith(b"/chat/completions") else {"text": " a"}
    choice = {"index": 0, **text, "finish_reason": "length" if last else None}
    said = _event(json.dumps({**head, "choices": [choice], "usage": usage if counts else None}).encode())
    if last:
        said += _event(json.dumps({**head, "choices": [], "usage": usage}).encode()) + _event(b"[DONE]") + _END
    return said


def _generate(num_tokens: int, last: bool) -> bytes:
    meta = {
        "id": "c0",
        "finish_reason": {"type": "length", "length": num_tokens} if last else None,
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": num_tokens,
        "cached_tokens": 0,
    }
    said = _event(json.dumps({"text": " a" * num_tokens, "meta_info": meta}).encode())
    return said + _event(b"[DONE]") + _END if last else said

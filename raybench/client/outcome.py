"""How a request ended, by what its connection and its bytes say. A stream without a token is a failure, never quick."""

from raybench.client.answer import Answer
from raybench.client.columns import CUT, HTTP_ERROR, OK, TIMEOUT
from raybench.client.decode import Reply

HTTP_OK = 200


def judged(status: int, answer: Answer, reply: Reply) -> tuple[int, str | None]:
    """How a request ended, and why it failed if it did."""
    if status == TIMEOUT:
        return TIMEOUT, f"timeout: no end of the stream after {sum(map(len, answer.pieces))} bytes"
    if answer.http_status is not None and answer.http_status != HTTP_OK:
        return HTTP_ERROR, f"HTTP {answer.http_status}: {reply.error or ''}"
    if answer.http_status is None:
        return CUT, f"the connection was cut after {sum(map(len, answer.pieces))} bytes"
    if reply.error is not None:
        return HTTP_ERROR, reply.error
    if reply.finish_reason == "abort":
        return HTTP_ERROR, "the server aborted it"
    if status != OK and not reply.done:
        return CUT, f"the connection was cut after {sum(map(len, answer.pieces))} bytes"
    if not reply.reads:
        return CUT, "the stream ended without a token"
    if reply.finish_reason is None and not reply.done:
        return CUT, "the stream ended without a finish reason"
    return OK, None

"""The bytes of one answer as they came, and whether it has ended; what they mean is decoded later.

Following the chunked encoding byte by byte costs as much as reading does. An answer that says it is chunked ends
with an empty chunk, so its last bytes are `\\r\\n\\r\\n`: only when a read ends like that, a C parser looks at the
whole. The ends of events may look the same (some servers separate them so); after a few such looks in vain, and for
every answer of another kind, the parser follows read by read.
"""

import re
from array import array
from typing import Literal

import httptools

_END = b"\r\n\r\n"
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_MAX_LOOKS = 2

State = Literal["open", "whole", "broken"]


class Answer:
    """One answer; `feed` it until it is not open any more."""

    __slots__ = (
        "_is_followed",
        "_looks",
        "_parser",
        "http_status",
        "keep_alive",
        "lengths",
        "offset",
        "pieces",
        "state",
    )

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        """What every read brought."""
        self.state: State = "open"
        """whole: it has ended as HTTP says. broken: it is no HTTP."""
        self.http_status: int | None = None
        """Status; None until it has been parsed."""
        self.keep_alive = True
        """The connection may be used again."""
        self.offset = 0
        """Where its bytes stand in the archive."""
        self.lengths: array[int] | None = None
        """Length of each piece there; None = its bytes are here."""
        self._looks = 0
        self._parser: httptools.HttpResponseParser | None = None
        self._is_followed = False

    @property
    def is_flowing(self) -> bool:
        """A read that does not end like the answer may be put to `pieces` as it is."""
        return self.state == "open" and bool(self.pieces) and not self._is_followed

    def feed(self, data: bytes) -> State:
        """Take what a read brought; returns the state afterwards."""
        self.pieces.append(data)
        if self._is_followed:
            self._parse(data)
        elif (len(self.pieces) == 1 and not _is_chunked(data)) or may_end(data):
            self._look()
        return self.state

    def on_message_complete(self) -> None:
        """httptools: the end."""
        self.state = "whole"
        if self._parser is not None:
            # Only now does the parser know it.
            self.keep_alive = self._parser.should_keep_alive()
            self.http_status = self._parser.get_status_code()

    def _look(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parse(b"".join(self.pieces))
        self._looks += 1
        self._is_followed = self._looks > _MAX_LOOKS or not _is_chunked(self.pieces[0])

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.state = "broken"

    def close(self) -> State:
        """The connection is gone: an answer without a length ends by that, any other is cut. Returns the state."""
        if self.http_status is None and self.pieces:
            self.http_status = _status(self.pieces[0])
        return self.state


def may_end(data: bytes) -> bool:
    """True if a chunked answer may have ended with this read."""
    return data[-4:] == _END or len(data) < 4


def _is_chunked(first: bytes) -> bool:
    """True if the first read holds the whole head of a chunked answer of status 200."""
    end = first.find(_END)
    return first.startswith(b"HTTP/1.1 200") and end >= 0 and _CHUNKED.search(first, 0, end) is not None


def _status(first: bytes) -> int | None:
    found = re.match(rb"HTTP/1\.[01] (\d{3})", first)
    return None if found is None else int(found.group(1))

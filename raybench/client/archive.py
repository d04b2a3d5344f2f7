"""Answers that have ended, until they are decoded: in memory, and beyond a limit in a file.

So a long load needs little memory and no time for decoding: to decode an answer while the load runs would cost ten
times as much as to write it to a file.
"""

import tempfile
from array import array
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from raybench.client.answer import Answer

BUFFER_BYTES = 2**20
READ_OVERHEAD_BYTES = 60
"""What Python adds to the bytes of a read."""


class Ended(NamedTuple):
    """A request that has ended."""

    place: int
    """Its place in the load."""
    answer: Answer | None
    """None: it was never sent."""
    status: int
    """One of `columns.STATUSES`."""
    end_ns: int
    """When."""
    error: str | None
    """Why it was not sent."""


class EndedRequests:
    """Requests in the order of their ends; answers of more than `max_kept_bytes` are in a file, the oldest ones."""

    def __init__(self, max_kept_bytes: int) -> None:
        self._max_kept_bytes = max_kept_bytes
        self._all: deque[Ended] = deque()
        self._in_memory: deque[Answer] = deque()
        self._kept_bytes = 0
        self._archive: Archive | None = None

    def add(self, ended: Ended) -> None:
        """Keep one."""
        self._all.append(ended)
        if ended.answer is None:
            return
        self._in_memory.append(ended.answer)
        self._kept_bytes += _kept_bytes(ended.answer)
        while self._kept_bytes > self._max_kept_bytes and self._in_memory:
            oldest = self._in_memory.popleft()
            self._kept_bytes -= _kept_bytes(oldest)
            self._archive = self._archive or Archive()
            self._archive.put(oldest)

    def drain(self) -> Iterator[Ended]:
        """Give each away, its bytes in memory again."""
        while self._all:
            ended = self._all.popleft()
            if ended.answer is not None and self._archive is not None:
                self._archive.restore(ended.answer)
            yield ended
        if self._archive is not None:
            self._archive.close()


def _kept_bytes(answer: Answer) -> int:
    return sum(map(len, answer.pieces)) + READ_OVERHEAD_BYTES * len(answer.pieces)


class Archive:
    """A file without a name, made when the first answer comes."""

    def __init__(self) -> None:
        # Lives as long as this object; `close` ends it.
        self._file = tempfile.TemporaryFile(buffering=BUFFER_BYTES)  # noqa: SIM115
        self._num_bytes = 0

    def put(self, answer: Answer) -> None:
        """Move the bytes of an answer that has ended to the file."""
        answer.lengths = array("i", map(len, answer.pieces))
        answer.offset = self._num_bytes
        self._num_bytes += self._file.write(b"".join(answer.pieces))
        answer.pieces = []

    def restore(self, answer: Answer) -> None:
        """Bring them back."""
        if answer.lengths is None:
            return
        self._file.seek(answer.offset)
        answer.pieces = [self._file.read(length) for length in answer.lengths]
        answer.lengths = None

    def close(self) -> None:
        """Give the file back. Idempotent."""
        self._file.close()

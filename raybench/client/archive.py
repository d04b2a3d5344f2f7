"""Bytes of answers on disk until they are decoded, so that a long load needs little memory and no time for decoding.

To decode an answer while the load runs would cost ten times as much as to write it to a file.
"""

import tempfile
from array import array

from raybench.client.answer import Answer

BUFFER_BYTES = 2**20


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
        answer.times_ns = array("q", answer.times_ns)

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

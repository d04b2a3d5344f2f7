"""Does a reply go round in circles? Pure, and linear in the part of the reply that is looked at.

On 95 normal texts the compression ratio never exceeded 3.3, on 449 synthetic loops it never fell below 9; counting
repeated word groups found only four loops in five.
"""

import zlib

TAIL_CHARS = 6_000
MIN_CHARS = 400
"""Shorter texts cannot loop: a bare sum that is said twice is none."""
MAX_RATIO = 6.0
MAX_PERIOD_CHARS = 400
MIN_ROUNDS = 4
MIN_REPEATED_CHARS = 200
"""Four equal rounds shorter than this in all are a row of a table, or dots."""
_SUFFIX_CHARS = 16


def is_looping(text: str) -> bool:
    """True if the end of the text repeats itself: it compresses far better than language, or has an exact period."""
    if len(text) < MIN_CHARS:
        return False
    tail = text[-TAIL_CHARS:]
    data = tail.encode(errors="replace")
    return len(data) / len(zlib.compress(data)) > MAX_RATIO or period(tail) is not None


def period(text: str) -> int | None:
    """Length of a piece of at most 400 characters whose repetition, four times or more, ends the text; the shortest."""
    suffix = text[-_SUFFIX_CHARS:]
    # A text that repeats itself also repeats its last characters: only their earlier places can be a period.
    place = text.rfind(suffix, 0, len(text) - 1)
    while place >= 0 and (length := len(text) - len(suffix) - place) <= MAX_PERIOD_CHARS:
        if _repeats(text, length, max(MIN_ROUNDS, -(-MIN_REPEATED_CHARS // length))):
            return length
        place = text.rfind(suffix, 0, place + len(suffix) - 1)
    return None


def _repeats(text: str, length: int, num_rounds: int) -> bool:
    size = length * num_rounds
    return len(text) >= size and text[-size + length :] == text[-size:-length]

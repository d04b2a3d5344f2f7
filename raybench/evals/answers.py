"""Reads the answer off a reply: integers, letters, short LaTeX and texts.

Pure, linear in the length of the reply, and free of any computer algebra: graders that evaluate what a model wrote can
be frozen by a tower of powers, and those that lean on signals fail outside the main thread.

Rules, the same for all kinds:
- Only text that the model addresses to the user counts: nothing before the last `</think>`, nothing after a `<think>`
  that is never closed.
- The last answer wins. One that stands in the requested form but cannot be read is final all the same: the reply then
  has no answer, for earlier ones were withdrawn. In another form it is prose and is passed over.
- A reply that was cut (finish reason `length`) is read in the requested form only.
- Nothing is guessed: no last number of the text, no bare mention of a letter.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from raybench.errors import RowsError
from raybench.evals.base import NO_ANSWER, Extraction, Method
from raybench.evals.latex import is_plain_number, math_value
from raybench.evals.notation import integer_value, letter_value, plain_text
from raybench.evals.options import FOUR_LETTERS

Read = Callable[[str], str | None]
"""Text of an answer -> its normal form; None when it is none."""

# Longer than any answer.
_MAX_BOX_CHARS = 400
# A reply that states more answers than this is a loop: its last ones are as good as all.
_MAX_CANDIDATES = 500

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<brace>\{)|(?P<bare>\d+))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is one of the text
_JSON = re.compile(
    r"""(?i)\\?["']answer\\?["']\s*:\s*(?:\\?"(?P<double>[^"\\\n]*)\\?"|'(?P<single>[^'\n]*)'|(?P<plain>[^\s"'{},][^"{},\n]*))"""
)
# The value is a look-ahead, so that an empty "Answer:" does not hide one on the next line.
_ANSWER_LINE = re.compile(
    r"(?i)(?<!incorrect )(?<!wrong )\banswer[*_`\s]{0,9}[:\uff1a](?=(?P<value>[*_`\s]{0,40}[^\n]{0,400}))"
)
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    end: int
    method: Method


def last_integer(reply: str, finish_reason: str | None) -> Extraction:
    """The integer that a reply gives, asked for in a box, else on an `Answer:` line or in a JSON `answer` field."""
    return _last(reply, finish_reason, "boxed", integer_value)


def last_letter(reply: str, finish_reason: str | None) -> Extraction:
    """The letter A to D that a reply gives, asked for in a JSON `answer` field, else on an `Answer:` line or boxed."""
    return _last(reply, finish_reason, "json", letter_value)


def letter_reader(letters: str) -> Callable[[str, str | None], Extraction]:
    """Reads one of `letters`, as `last_letter` reads one of A to D."""

    def read(reply: str, finish_reason: str | None) -> Extraction:
        return _last(reply, finish_reason, "json", lambda text: letter_value(text, letters))

    return last_letter if letters == FOUR_LETTERS else read


def last_math(reply: str, finish_reason: str | None) -> Extraction:
    """The short LaTeX expression that a reply gives in a box, or a number elsewhere: prose is no expression."""
    return _last(reply, finish_reason, "boxed", math_value, _number_or_formula)


def last_text(reply: str, finish_reason: str | None) -> Extraction:
    """The text that a reply gives in a box, else on an `Answer:` line or in a JSON `answer` field."""
    return _last(reply, finish_reason, "boxed", text_value)


def text_value(text: str) -> str | None:
    """Normal form of an answer that is a text: without markup, blanks joined; capitals count."""
    return plain_text(text) or None


def _number_or_formula(text: str) -> str | None:
    value = math_value(text.strip("*_`. \n"))
    wrapped = re.fullmatch(r"[*_`\s]*\$[^$]*\$[*_`\s.]*", text)
    return value if value is not None and (wrapped or is_plain_number(value)) else None


def integer_of(gold: str, eval_name: str) -> str:
    """Normal form of a row's integer answer. Raises RowsError when it is none."""
    value = integer_value(gold)
    if value is None:
        raise RowsError(f"{eval_name}: the rows hold an answer that is not an integer: {gold[:40]!r}")
    return value


def math_of(gold: str, eval_name: str) -> str:
    """Normal form of a row's LaTeX answer. Raises RowsError when it has none."""
    value = math_value(gold)
    if value is None:
        raise RowsError(f"{eval_name}: the rows hold an answer that is no short expression: {gold[:40]!r}")
    return value


def _last(
    reply: str, finish_reason: str | None, requested: Method, read: Read, read_elsewhere: Read | None = None
) -> Extraction:
    start, end = addressed(reply)
    candidates = sorted(_candidates(reply, start, end), key=lambda candidate: candidate.start, reverse=True)
    for found in candidates:
        if finish_reason == "length" and found.method != requested:
            continue
        reads = read if found.method == requested else read_elsewhere or read
        value = reads(reply[found.start : found.end])
        if value is not None or found.method == requested:
            return Extraction(value, found.method, (found.start, found.end))
    return NO_ANSWER


def addressed(reply: str) -> tuple[int, int]:
    """Start and end of the text that is addressed to the user, without the model's thoughts."""
    closed = reply.rfind(_THINK_CLOSE)
    start = 0 if closed < 0 else closed + len(_THINK_CLOSE)
    opened = reply.find(_THINK_OPEN, start)
    return start, len(reply) if opened < 0 else opened


def _candidates(reply: str, start: int, end: int) -> Iterator[_Candidate]:
    yield from _boxes(reply, start, end)
    json_end = start
    for place in _answer_words(reply, start, end):
        # A quote, or a backslash and a quote, stand before the word.
        field = _JSON.match(reply, place - 2, end) if place - 2 >= json_end else None
        if field is None and place - 1 >= json_end:
            field = _JSON.match(reply, place - 1, end)
        if field is not None:
            json_end = field.end()
            group = "double" if field["double"] is not None else "single" if field["single"] is not None else "plain"
            if field[group].strip():
                yield _Candidate(*field.span(group), "json")
        line = _ANSWER_LINE.match(reply, place, end)
        if line is not None:
            yield _Candidate(*line.span("value"), "answer_line")


def _boxes(reply: str, start: int, end: int) -> Iterator[_Candidate]:
    found = list(_BOX.finditer(reply, start, end))[-_MAX_CANDIDATES:]
    if not found:
        return
    last_close = start
    closes = _closing_braces(reply, found[0].start(), end)
    for box in found:
        if box.start() < last_close:
            continue  # a box inside a box is part of its answer
        if box["bare"]:
            yield _Candidate(*box.span("bare"), "boxed")
            continue
        close = closes.get(box.end() - 1)
        # An empty box repeats the request; an unclosed one was never finished.
        if close is not None and close - box.end() < _MAX_BOX_CHARS and reply[box.end() : close].strip():
            last_close = close
            yield _Candidate(box.end(), close, "boxed")


def _answer_words(reply: str, start: int, end: int) -> list[int]:
    """The last places of the word `answer` in any case, in order.

    A search for plain text is a hundred times as quick as a pattern that ignores case, and most of a reply is work.
    """
    lower = reply.lower()
    if len(lower) != len(reply):  # a capital of Turkish becomes two characters
        found = [word.start() for word in re.finditer("(?i)answer", reply[:end]) if word.start() >= start]
        return found[-_MAX_CANDIDATES:]
    places: list[int] = []
    while len(places) < _MAX_CANDIDATES and (place := lower.rfind("answer", start, end)) >= 0:
        places.append(place)
        end = place
    return places[::-1]


def _closing_braces(text: str, start: int, end: int) -> dict[int, int]:
    """Place of the brace that closes each opened one between `start` and `end`, where one does."""
    closes: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text, start, end):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            closes[opened.pop()] = brace.start()
    return closes

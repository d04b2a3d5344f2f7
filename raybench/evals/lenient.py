"""What a reader who overlooks the requested format would take for the answer. Pure.

Never counts: a fallback that guesses also finds answers where none was given. It tells a model that cannot do the task
from one that does it in another form, which is a fault of the prompt, the chat template or the grader.
"""

import re
from collections.abc import Callable

from raybench.evals.answers import addressed, last_integer, last_math, last_text, letter_reader, text_value
from raybench.evals.base import NO_ANSWER, Extraction
from raybench.evals.latex import math_value
from raybench.evals.notation import integer_value, letter_value
from raybench.evals.options import FOUR_LETTERS

# An answer that matters stands at the end; and a reply of a million digits stays cheap.
_MAX_CHARS = 20_000

_SAID = re.compile(
    r"(?i)\banswer\s+(?:is|was|should be|must be|=)\s*:?\s*(?P<value>[^\n]{1,80}?)(?=\.?(?:\s*$|\n|\.\s|,\s))"
)
_MARKED = re.compile(r"(?m)^[ \t]*####[ \t]*(?P<value>[^\n]{1,80}?)[ \t]*$")
_BOLD = re.compile(r"\*\*(?P<value>[^*\n]{1,80})\*\*")
_NUMBER = re.compile(r"(?<![\w.,])-?\d{1,18}(?:,\d{3})*(?![\w]|[.,]\d)")
_FORMULA = re.compile(r"\$(?P<value>[^$\n]{1,120})\$")
_OPTION = re.compile(r"(?i:option|choice|choose|select|pick)\s*:?\s*(?P<value>\(?[A-J]\)?)(?![\w'])")
_ALONE = re.compile(r"(?m)^[ \t]*(?P<value>[(\[]?[A-J][)\].]?)[ \t]*$")


def lenient_integer(reply: str) -> Extraction:
    """The answer in the requested form, else what prose says it is, else the last integer of the text."""
    strict = last_integer(reply, None)
    if strict.value is not None:
        return strict
    return _first_of(reply, (_SAID, _MARKED, _BOLD, _NUMBER), integer_value)


def lenient_letter(reply: str) -> Extraction:
    """The answer in the requested form, else the letter that prose names, else one on a line of its own; A to D."""
    return lenient_letter_reader(FOUR_LETTERS)(reply)


def lenient_letter_reader(letters: str) -> Callable[[str], Extraction]:
    """Reads one of `letters`, as `lenient_letter` reads one of A to D."""

    def read(reply: str) -> Extraction:
        strict = letter_reader(letters)(reply, None)
        if strict.value is not None:
            return strict
        return _first_of(reply, (_SAID, _OPTION, _BOLD, _ALONE), lambda text: letter_value(text, letters))

    return read


def lenient_math(reply: str) -> Extraction:
    """The answer in the requested form, else what prose says it is, else the last formula of the text."""
    strict = last_math(reply, None)
    if strict.value is not None:
        return strict
    return _first_of(reply, (_SAID, _MARKED, _FORMULA, _NUMBER), math_value)


def lenient_text(reply: str) -> Extraction:
    """The answer in the requested form, else what prose says it is."""
    strict = last_text(reply, None)
    return strict if strict.value is not None else _first_of(reply, (_SAID, _MARKED), text_value)


def _first_of(reply: str, forms: tuple[re.Pattern[str], ...], read: Callable[[str], str | None]) -> Extraction:
    """The last readable text of the first form that has one."""
    start, end = addressed(reply)
    start = max(start, end - _MAX_CHARS)
    for form in forms:
        group = "value" if "value" in form.groupindex else 0
        for found in reversed(list(form.finditer(reply, start, end))):
            value = read(found[group])
            if value is not None:
                return Extraction(value, "prose", found.span(group))
    return NO_ANSWER

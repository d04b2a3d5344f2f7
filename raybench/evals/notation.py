"""What a short piece of LaTeX or Markdown says: an integer, or one of the letters of a few options. Pure.

Only notations that leave no doubt are read. Whatever needs computing beyond a product or an exact division is not.
"""

import re
import unicodedata
from functools import cache

from raybench.evals.options import FOUR_LETTERS

# Longer pieces are prose; numbers longer than this are no answer to anything here (and int() refuses long ones).
_MAX_CHARS = 300
_NUMBER = r"[+-]?\d{1,18}(?:\.0+)?"

_DROPPED = re.compile(
    r"\\[,;:!> ]|~|\\(?:displaystyle|left|right|quad|qquad)(?![A-Za-z])"
    r"|\^\s*\{?\s*\\circ\s*\}?|\\degree|\u00b0|\\?[%$]|\\[()\[\]]|[*_`\"]"
)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|mbox|boxed|fbox)\s*\{([^{}]*)\}"
)
# 1,070  1{,}070  1\,070  1,\!070
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\{,\}|,?\\[,!]|,)\d{3})+(?![\d,])")
_FRACTION = re.compile(
    rf"\\[dtc]?frac\s*\{{\s*({_NUMBER})\s*\}}\s*\{{\s*({_NUMBER})\s*\}}|({_NUMBER})\s*/\s*({_NUMBER})"
)
_TIMES = re.compile(r"\s*(?:\\cdot|\\times|\u00d7|\u22c5)\s*")
_UNIT = re.compile(rf"({_NUMBER})(?P<unit>(?:\s[A-Za-z]+){{1,2}}\s*(?:\^\s?\{{?[23]\}}?)?)?")
# Words after a number that change or question it, so that it is not the answer.
_NO_UNITS = frozenset(
    {"or", "and", "to", "not", "is", "isnt", "was", "pi", "mod", "modulo", "times", "plus", "minus", "over", "hundred",
     "thousand", "million", "billion", "dozen", "factorial", "choose", "maybe", "but", "squared", "cubed", "if"}
)  # fmt: skip
_SINGLE_LETTER_UNITS = frozenset("mgslh")

_OPTION_WORD = re.compile(r"(?i:option|choice)\s+")
# "I, however" is a person and no option.
_A_PERSON = re.compile(r"I,\s*[a-z]")


@cache
def _letter_patterns(letters: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Patterns of one letter of `letters`: with what may follow it, in lower case alone, and a second one beside it."""
    upper, lower = f"[{letters[0]}-{letters[-1]}]", f"[{letters[0].lower()}-{letters[-1].lower()}]"
    return (
        re.compile(rf"[(\[]?\s*(?P<letter>{upper})\s*(?:$|(?:[)\].:,]|\s[-\u2013\u2014(])(?P<text>.*))", re.DOTALL),
        re.compile(rf"[(\[]?({lower})[)\]]?[.)]?"),
        # "A, B", "(A) or (B)"; not the text of an option, as in "B. C-H bonds break".
        re.compile(
            rf"(?:and|or|/|&|\+)\s*[(\[]?{upper}(?:\W|$)|[(\[]?{upper}[)\]]?\s*(?:[.,;:/&]|$|(?:and|or)\b)",
            re.IGNORECASE,
        ),
    )


def integer_value(text: str) -> str | None:
    """The integer that `text` states, as decimal text without leading zeros; None when it states none."""
    if len(text) > _MAX_CHARS:
        return None
    folded = unicodedata.normalize("NFKC", text)
    plain = plain_text(THOUSANDS.sub(lambda found: re.sub(r"\D", "", found[0]), folded)).rpartition("=")[2].strip()
    plain = _unbraced(plain)
    product = 1
    for factor in _TIMES.split(plain):
        value = _factor(factor)
        if value is None:
            return None
        product *= value
    return str(product)


def letter_value(text: str, letters: str = FOUR_LETTERS) -> str | None:
    """The one of `letters` that `text` states; None when it states none or more than one."""
    stated, alone, second = _letter_patterns(letters)
    plain = _unbraced(plain_text(text[:_MAX_CHARS]))
    word = _OPTION_WORD.match(plain)
    plain = plain[word.end() :] if word else plain
    lower = alone.fullmatch(plain)
    if lower:
        return lower[1].upper()
    found = stated.fullmatch(plain)
    if found is None or _A_PERSON.match(plain) or second.match((found["text"] or "").strip()):
        return None
    return found["letter"]


def plain_text(text: str) -> str:
    """Text without markup: full-width forms folded, wrappers opened, spacing and dollar signs dropped."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    for _ in range(4):  # nested wrappers are rare, and deeper nesting is no plain answer
        opened = _WRAPPER.sub(r" \1 ", plain)
        if opened == plain:
            break
        plain = opened
    return " ".join(_DROPPED.sub(" ", plain).split()).rstrip(".,; ")


def _unbraced(text: str) -> str:
    while text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    return text


def _factor(text: str) -> int | None:
    fraction = _FRACTION.fullmatch(text.strip())
    if fraction:
        top, bottom = (_whole(part) for part in (fraction[1] or fraction[3], fraction[2] or fraction[4]))
        return top // bottom if bottom != 0 and top % bottom == 0 else None
    number = _UNIT.fullmatch(text.strip())
    if number is None or not _is_unit((number["unit"] or "").split()):
        return None
    return _whole(number[1])


def _whole(number: str) -> int:
    return int(number.partition(".")[0])


def _is_unit(words: list[str]) -> bool:
    return all(word.lower() not in _NO_UNITS and (len(word) > 1 or word in _SINGLE_LETTER_UNITS) for word in words)

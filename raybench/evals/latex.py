r"""Normal forms of short LaTeX answers, and whether two of them say the same. Pure.

Nothing is computed beyond reading a number: an algebra system that evaluates what a model wrote can be frozen by it.
Two different texts are therefore told apart only where both are numbers, tuples of numbers or words; of anything else
(`x+1` beside `1+x`) it is said that it cannot be told.
"""

import re
import unicodedata
from fractions import Fraction

from raybench.evals.notation import THOUSANDS

_MAX_CHARS = 300
_MAX_DEPTH = 6

_SPACING = re.compile(
    r"(?<!\\)\\[,;:!> ]|~|\\(?:displaystyle|left|right|quad|qquad|big|Big|bigg|Bigg)(?![A-Za-z])|\\?[$%]|\\[()]"
)
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree|\u00b0")
_WORDS = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed|fbox)\s*\{([^{}]*)\}")
# A unit after a number: 5 \text{ cm}^2.
_UNIT = re.compile(
    r"(?<=[\d})])\s*\\(?:text|textrm|mathrm|mbox)\s*\{\s*(?!(?:or|and)\b)[A-Za-z][A-Za-z .]*\}"
    r"\s*(?:\^\s?\{?[23]\}?)?\s*$"
)
_FRAC = re.compile(r"\\[dtc]?frac")
_BARE_FRAC = re.compile(r"\\frac\s*(\d)\s*(\d)")
_HALF_BARE_FRAC = re.compile(r"\\frac\s*\{(\d+)\}\s*(\d)(?!\d)")
_BARE_SQRT = re.compile(r"\\sqrt\s*(\d+|[A-Za-z])")
_VARIABLE = re.compile(r"^\s*[A-Za-z](?:_\{?\w\}?)?(?:\s*\(\s*[A-Za-z]\s*\))?\s*=(?P<value>[^=]*)$")
_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>\d{0,18})(?:\.(?P<part>\d{1,18}))?")
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d{1,9})?(?:\\frac\{(?P<sign_2>-?)(?P<top>\d{1,18})\}\{(?P<bottom>\d{1,18})\}"
    r"|(?<!\d)(?P<top_2>\d{1,18})/(?P<bottom_2>\d{1,18}))"
)
_CHOICE = re.compile(r"[(\[]([A-Z])[)\]]\.?")
_KNOWN = re.compile(
    r"(?P<number>-?\d+(?:/[1-9]\d*)?)|(?P<word>[a-z]{4,})|(?P<tuple>(?:[(\[]|\\\{)[-\d/, ]+(?:[)\]]|\\\}))"
)


def math_value(text: str) -> str | None:
    """Normal form of a short LaTeX answer; None when it is empty, too long, or nested too deeply."""
    if len(text) > _MAX_CHARS:
        return None
    folded = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    folded = re.sub(r"\\!\s*", "", folded)
    folded = THOUSANDS.sub(lambda found: re.sub(r"\D", "", found[0]), folded)
    plain = _DEGREES.sub("", _UNIT.sub("", _SPACING.sub(" ", folded))).strip().rstrip(".;, ")
    if plain.startswith("^"):
        return None
    plain = _words_opened(plain)
    equation = _VARIABLE.match(plain)
    plain = (equation["value"] if equation else plain).strip()
    choice = _CHOICE.fullmatch(plain)
    if choice:
        return choice[1]
    return _normal(plain, _MAX_DEPTH) or None


def math_agree(answer: str, gold: str) -> bool | None:
    """Do two normal forms say the same? None = it cannot be told without algebra."""
    if answer == gold:
        return True
    kinds = [found.lastgroup if (found := _KNOWN.fullmatch(form)) else None for form in (answer, gold)]
    return False if kinds[0] is not None and kinds[0] == kinds[1] else None


def is_plain_number(form: str) -> bool:
    """True of the normal form of a number or a tuple of numbers."""
    found = _KNOWN.fullmatch(form)
    return found is not None and found.lastgroup != "word"


def _words_opened(text: str) -> str:
    for _ in range(4):
        opened = _WORDS.sub(r" \1 ", text)
        if opened == text:
            break
        text = opened
    return text


def _normal(text: str, depth: int) -> str:
    text = text.strip()
    while text.startswith("{") and text.endswith("}") and _matching(text) == len(text) - 1:
        text = text[1:-1].strip()
    number = _number(text)
    if number is not None:
        return str(number)
    if depth == 0:
        return ""
    if text.startswith("\\{") and text.endswith("\\}"):
        return _list(text[2:-2], ("\\{", "\\}"), depth)
    if text[:1] in {"(", "["} and text[-1:] in {")", "]"} and _matching(text) == len(text) - 1:
        inner = text[1:-1]
        parts = _parts(inner)
        # Round brackets around one thing say nothing.
        if len(parts) == 1 and (text[0], text[-1]) == ("(", ")"):
            return _normal(inner, depth - 1)
        return _list(inner, (text[0], text[-1]), depth)
    if len(_parts(text)) > 1:
        return _list(text, ("\\{", "\\}"), depth)
    return _symbols(text)


def _list(inner: str, brackets: tuple[str, str], depth: int) -> str:
    parts = [_normal(part, depth - 1) for part in _parts(inner)]
    if not all(parts):
        return ""
    if brackets[0] == "\\{":
        parts.sort()  # a set
    # With a blank, so that no pair becomes a number of thousands when it is read again.
    return brackets[0] + ", ".join(parts) + brackets[1]


def _symbols(text: str) -> str:
    """What is no number: one spelling for each command, no blanks, words in lower case."""
    text = _BARE_SQRT.sub(r"\\sqrt{\1}", _braced_fractions(text))
    text = re.sub(r"\\(?:cdot|times)(?![A-Za-z])", "*", text).replace("\\le ", "\\leq ").replace("\\ge ", "\\geq ")
    if len(text) > 1 and text.replace(" ", "").isalpha():
        text = text.lower()
    # Two numbers side by side are not one.
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _braced_fractions(text: str) -> str:
    text = _BARE_FRAC.sub(r"\\frac{\1}{\2}", _FRAC.sub(r"\\frac", text))
    return _HALF_BARE_FRAC.sub(r"\\frac{\1}{\2}", text)


def _number(text: str) -> Fraction | None:
    compact = re.sub(r"\s+", "", _braced_fractions(text)) if not re.search(r"\d\s+\d", text) else text
    found = _NUMBER.fullmatch(compact)
    if found and (found["whole"] or found["part"]):
        return Fraction(f"{found['sign']}{found['whole'] or '0'}.{found['part'] or '0'}")
    found = _FRACTION.fullmatch(compact)
    if found is None:
        return None
    top, bottom = int(found["top"] or found["top_2"]), int(found["bottom"] or found["bottom_2"])
    if bottom == 0 or (found["whole"] and (found["sign_2"] or found["top_2"])):
        return None
    value = int(found["whole"] or 0) + Fraction(top, bottom)
    return -value if (found["sign"] == "-") != (found["sign_2"] == "-") else value


def _matching(text: str) -> int:
    """Place of the bracket that closes the first character, whatever its kind; -1 when none does."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place
    return -1


def _parts(text: str) -> list[str]:
    """`text` split at the commas that stand in no bracket."""
    parts, depth, start = list[str](), 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]

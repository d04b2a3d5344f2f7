"""Lenient readings: what a reader who overlooks the format takes; never part of a score."""

import pytest

from raybench.evals.base import NO_ANSWER
from raybench.evals.lenient import lenient_integer, lenient_letter, lenient_letter_reader, lenient_math, lenient_text


@pytest.mark.parametrize(
    ("reply", "value", "method"),
    [
        (r"\boxed{70} for 12 people", "70", "boxed"),
        ("The final answer is 70", "70", "prose"),
        ("So the answer is: **70**.", "70", "prose"),
        ("30 + 40 = 70.\n#### 70", "70", "prose"),
        ("It is **70** in all, for 3 boxes.", "70", "prose"),
        ("We count 12, then 70.", "70", "prose"),
        ("1,070 in all", "1070", "prose"),
        ("It is 70.5", None, "none"),
        ("no number", None, "none"),
        ("<think>the answer is 70", None, "none"),
        ("the answer is 12</think>no", None, "none"),
        ("", None, "none"),
    ],
)
def test_integers(reply: str, value: str | None, method: str) -> None:
    found = lenient_integer(reply)
    assert (found.value, found.method) == (value, method)
    assert found == NO_ANSWER or (found.span is not None and reply[found.span[0] : found.span[1]].strip())


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"answer": "C"} rather than option B', "C"),
        ("The correct answer is C.", "C"),
        ("The answer is (C), since B is void", "C"),
        ("I choose option C", "C"),
        ("So it must be **C**", "C"),
        ("A and B are void.\n\n(C)", "C"),
        ("Because of A and B.", None),
        ("The answer is Cobalt", None),
        ("The answer is G.", None),
    ],
)
def test_letters(reply: str, value: str | None) -> None:
    assert lenient_letter(reply).value == value


def test_other_forms() -> None:
    assert lenient_letter_reader("ABCDEFGHIJ")("The answer is G.").value == "G"
    assert lenient_math(r"so the answer is $\frac{1}{2}$").value == "1/2"
    assert lenient_math(r"which leaves $x+1$").value == "x+1"
    assert lenient_text("The answer is Paris.").value == "Paris"
    assert lenient_text("Nothing here") == NO_ANSWER

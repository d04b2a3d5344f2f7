"""Normal forms of short LaTeX answers, and when two of them can be told apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.errors import RowsError
from raybench.evals.answers import last_math, math_of
from raybench.evals.latex import math_agree, math_value

SAME = [
    (r"\frac{3}{4}", "0.75"), (r"\dfrac34", r"\frac{3}{4}"), ("3/4", r"\frac{6}{8}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    ("x=5", "5"), (r"f(x) = 5", "5"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"), ("1,-2", "-2, 1"),
    (r"\{1,2\}", "2,1"), ("10,000", "10000"), (r"11,\! 111", "11111"), (r"\$32,348", "32348"), (r"90^\circ", "90"),
    (r"\text{Evelyn}", "evelyn"), (r"\text{(C)}", "C"), ("(C)", "C"), (r"\sqrt{13}", r"\sqrt13"),
    (r"5\text{ cm}^2", "5"), ("6 - 5i", "6-5i"), ("[-2,7]", "[-2, 7]"), ("[1, 2]", "[1,2.0]"),
    (r"1\frac{1}{2}", r"\frac32"),
    (r"(-\infty, 2)\cup(3,\infty)", r"(-\infty,2) \cup (3,\infty)"), ("y = 2x + 3", "2x+3"), (r"10\%", "10"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (".5", r"\frac12"), ("-.5", "-1/2"),
    ("0", "-0"), ("{70}", "70"), ("$70$", "70"), ("\uff17\uff10", "70"), (r"3 \cdot x", r"3 \times x"),
]  # fmt: skip

DIFFERENT = [
    ("3", "4"), (r"\frac{1}{3}", "0.33"), ("(1,2)", "(2,1)"), ("[1,2)", "(1,2)"), (r"\text{east}", r"\text{west}"),
    (r"\{1,2\}", r"\{1,2,3\}"), ("1,070", "70"), ("-5", "5"),
]  # fmt: skip

UNTOLD = [
    (r"3\sqrt{13}", r"\sqrt{117}"), ("x+1", "1+x"), ("3", r"\sqrt{9}"), ("2220_7", "2220"), ("x^2+y^2=4", "4"),
    ("1 2", "12"), ("3 m", "3"), ("a", "A"), (r"x \in [1,2]", "[1,2]"), (r"\pm 3", "3"), ("1/0", "0"), ("xy", "yx"),
    (r"2^{10^{10}}", "70"),
]  # fmt: skip


@pytest.mark.parametrize(("pairs", "verdict"), [(SAME, True), (DIFFERENT, False), (UNTOLD, None)])
def test_pairs(pairs: list[tuple[str, str]], verdict: bool | None) -> None:
    for one, other in pairs:
        forms = math_value(one), math_value(other)
        assert forms[0] is not None and forms[1] is not None, (one, other)
        assert math_agree(*forms) is verdict, (one, other, forms)
        assert math_agree(*reversed(forms)) is verdict


def test_a_normal_form_is_its_own() -> None:
    for one in {text for pairs in (SAME, DIFFERENT, UNTOLD) for pair in pairs for text in pair}:
        form = math_value(one)
        assert form is not None and math_value(form) == form, one


@pytest.mark.parametrize("text", ["", " ", "$$", "x" * 301, "," * 3, r"\text{}", "(1,)"])
def test_nothing_that_can_be_compared(text: str) -> None:
    assert math_value(text) is None


def test_a_gold_answer_without_a_form_is_refused() -> None:
    with pytest.raises(RowsError, match="math500: the rows hold an answer that is no short expression"):
        math_of("x" * 400, "math500")


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (r"\boxed{\frac{3}{4}}", "3/4"), (r"Answer: $x + 1$", "x+1"), ("Answer: 0.75", "3/4"),
        (r"Answer: \boxed{(1, 2)}", "(1, 2)"), ("Answer: the sum of both", None), ("Answer: x", None),
        (r"\boxed{3} and then \boxed{}", "3"), (r"\boxed{3} and then \boxed{,}", None), ('{"answer": "2/4"}', "1/2"),
    ],
)  # fmt: skip
def test_a_formula_is_read_and_prose_is_none(reply: str, value: str | None) -> None:
    assert last_math(reply, "stop").value == value


PIECES = st.sampled_from(
    ["\\frac", "{", "}", "\\sqrt", "1", "23", ",", "(", ")", "[", "]", "\\{", "\\}", "=", "x", "-", "+", "/", ".", " ",
     "\\text{", "\\", "^", "\\circ", "$", "\\!", "\\left", "word", "\u2212", "\uff11"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_has_a_form_or_none(text: str) -> None:
    form = math_value(text)
    assert form is None or math_agree(form, form) is True

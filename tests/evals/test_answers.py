"""Reading integers and letters off replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.errors import RowsError
from raybench.evals.answers import integer_of, last_integer, last_letter
from raybench.evals.base import NO_ANSWER, Extraction

INTEGERS = [
    # in a box
    (r"So the sum is \boxed{70}.", "70"),
    (r"\boxed{070}", "70"),
    (r"\boxed{0}", "0"),
    (r"\boxed{-7}", "-7"),
    (r"\boxed{70.}", "70"),
    (r"\boxed{70.0}", "70"),
    (r"\boxed {70}", "70"),
    (r"\boxed 70", "70"),
    (r"\fbox{70}", "70"),
    (r"$\boxed{70}$", "70"),
    (r"\[ \boxed{70} \]", "70"),
    (r"**\boxed{70}**", "70"),
    (r"\boxed{$70$}", "70"),
    (r"\boxed{\text{70}}", "70"),
    (r"\boxed{\mathbf{70}}", "70"),
    (r"\boxed{\textbf{(70)}}", None),
    (r"\boxed{{70}}", "70"),
    (r"\boxed{\boxed{70}}", "70"),
    (r"\boxed{70^\circ}", "70"),
    (r"\boxed{70^{\circ}}", "70"),
    (r"\boxed{70\%}", "70"),
    (r"\boxed{\$70}", "70"),
    (r"\boxed{70 \text{ cm}^2}", "70"),
    (r"\boxed{70\text{ square units}}", "70"),
    (r"\boxed{\,70\;}", "70"),
    (r"\boxed{\displaystyle 70}", "70"),
    (r"\boxed{1,070}", "1070"),
    (r"\boxed{1{,}070}", "1070"),
    (r"\boxed{1,\!070}", "1070"),
    (r"\boxed{12\,345\,678}", "12345678"),
    (r"\boxed{\frac{140}{2}}", "70"),
    (r"\boxed{\dfrac{140}{2}}", "70"),
    (r"\boxed{140/2}", "70"),
    (r"\boxed{7 \cdot 10}", "70"),
    (r"\boxed{m+n = 70}", "70"),
    (r"\boxed{2\cdot 30 + 10 = 70}", "70"),
    ("\\boxed{\uff17\uff10}", "70"),
    ("\\boxed{\u221270}", "-70"),
    ("\\boxed{\n70\n}", "70"),
    # the last one wins
    (r"First \boxed{12}, then \boxed{70}", "70"),
    (r"\boxed{12} and \boxed{70} on one line", "70"),
    ("\\boxed{12}\n\n**Answer:** 70", "70"),
    ("Answer: 12\n\nNo, it is \\boxed{70}", "70"),
    # on an answer line
    ("Answer: 70", "70"),
    ("**Answer:** 70", "70"),
    ("**Answer**: 70", "70"),
    ("**Final Answer:** $70$", "70"),
    ("### Answer: 70.", "70"),
    ("Answer: **70**", "70"),
    ("ANSWER\uff1a70", "70"),
    (r"Answer: \(70\)", "70"),
    (r"Answer: 70^\circ", "70"),
    ("Answer: 70 degrees", "70"),
    ("Answer:\n\n70", "70"),
    ("The answer:\n**Answer:** 70", "70"),
    ('```json\n{"answer": 70}\n```', "70"),
    ('{"answer": "070"}', "70"),
    # thoughts do not count, what follows them does
    (r"<think>\boxed{12}</think> \boxed{70}", "70"),
    (r"\boxed{12}</think>Answer: 70", "70"),
    (r"<think>perhaps \boxed{70}", None),
    (r"\boxed{12} <think>better \boxed{70}", "12"),
    (r"<think>a</think>\boxed{12}<think>\boxed{70}", "12"),
    # nothing that can be read
    ("", None),
    ("I do not know.", None),
    ("The final answer is 70", None),
    ("We count 12, 35 and 70", None),
    (r"\boxed{}", None),
    (r"Put it in \boxed{} ... \boxed{70", None),
    (r"\boxed{12, 70}", None),
    (r"\boxed{12,70}", None),
    (r"\boxed{70 \text{ or } 71}", None),
    (r"\boxed{70.5}", None),
    (r"\boxed{\frac{141}{2}}", None),
    (r"\boxed{\frac{141}{0}}", None),
    (r"\boxed{70\pi}", None),
    (r"\boxed{70x}", None),
    (r"\boxed{70 x}", None),
    (r"\boxed{70!}", None),
    (r"\boxed{\sqrt{4900}}", None),
    (r"\boxed{\pm 70}", None),
    (r"\boxed{\{70\}}", None),
    (r"\boxed{\text{a \} b} 7}", None),
    (r"\boxed{\boxed{6} + 64 = 70}", "70"),
    (r"\boxed{70 million}", None),
    (r"\boxed{2^{10^{10}}}", None),
    (r"\boxed{\text{seventy}}", None),
    (r"\boxed{" + "9" * 5000 + "}", None),
    ("Answer:\n1. Compute the sum", None),
    ("Incorrect answer: 70", None),
    # a box that cannot be read withdraws what stood before it
    (r"\boxed{70} ... but then \boxed{\text{no solution}}", None),
    ("Answer: 70\n\\boxed{70 \\text{ or } 71}", None),
    # an answer line that cannot be read is prose
    ("\\boxed{70}\nAnswer: the sum of all bases", "70"),
]

LETTERS = [
    ('"answer": "C"', "C"),
    ('{"answer": "C"}', "C"),
    ('```json\n{\n  "reasoning": "x",\n  "answer": "C"\n}\n```', "C"),
    ('{"Answer": "(C)"}', "C"),
    ('{"answer": "C) 3.2 eV"}', "C"),
    ('{"answer": "c"}', "C"),
    ('{"answer": C}', "C"),
    ("{'answer': 'C'}", "C"),
    (r"{\"answer\": \"C\"}", "C"),
    ('**"answer": "C"**', "C"),
    ("Answer: C", "C"),
    ("**Answer:** C", "C"),
    ("**Answer: C**", "C"),
    ("Answer: (C)", "C"),
    ("Answer: [C]", "C"),
    ("Answer: C.", "C"),
    ("Answer: C) the third", "C"),
    ("Answer: C. C-H bonds break", "C"),
    ("Answer: C, since the spin flips", "C"),
    ("Answer: $C$", "C"),
    (r"Answer: \textbf{(C)}", "C"),
    (r"Answer: \boxed{C}", "C"),
    ("Answer: Option C", "C"),
    ("Correct answer: choice (c)", "C"),
    ("`answer`: C", "C"),
    ("Answer:\nC", "C"),
    (r"\boxed{C}", "C"),
    (r"\boxed{\text{(C)}}", "C"),
    (r"\boxed{\mathrm{C}}", "C"),
    # the last one wins
    ("Answer: A\nNo, wait.\nAnswer: C", "C"),
    ('{"answer": "A"} I was wrong. {"answer": "C"}', "C"),
    ('{"answer": "A"}\n\nAnswer: C', "C"),
    ("<think>Answer: A</think>Answer: C", "C"),
    # a value in a box is no letter, and no answer here
    ("Answer: C\n\nThe energy is \\boxed{3.2\\text{ eV}}", "C"),
    # nothing that can be read
    ("", None),
    ("Answer: Because of the field", None),
    ("Answer: a value of 3 eV", None),
    ("Answer: A value of 3 eV", None),
    ("The answer is B.", None),
    ("I choose B", None),
    ("B", None),
    ("Answer: A and B", None),
    ("Answer: A, B", None),
    ("Answer: (A) or (B)", None),
    ("Answer: A/B", None),
    ("Answer: E", None),
    ('{"answer": "A|B|C|D"}', None),
    ('{"answer": "C"} ... {"answer": "none"}', None),
    ('{"answer": ""}', None),
    ("<think>Answer: C", None),
    ("Wrong answer: C", None),
    ("I cannot help with that.", None),
]


@pytest.mark.parametrize(("reply", "value"), INTEGERS)
def test_integer(reply: str, value: str | None) -> None:
    assert last_integer(reply, "stop").value == value


@pytest.mark.parametrize(("reply", "value"), LETTERS)
def test_letter(reply: str, value: str | None) -> None:
    assert last_letter(reply, "stop").value == value


def test_extraction_says_where_and_how() -> None:
    reply = r"x \boxed{070} y"
    found = last_integer(reply, "stop")
    assert found == Extraction("70", "boxed", (9, 12))
    assert reply[9:12] == "070"
    assert last_integer("no", "stop") == NO_ANSWER
    assert last_integer(r"\boxed{no}", "stop") == Extraction(None, "boxed", (7, 9))
    assert last_integer("Answer: 7", "stop").method == "answer_line"
    assert last_letter('"answer": "B"', "stop").method == "json"


@pytest.mark.parametrize(
    ("reply", "read", "value"),
    [
        (r"\boxed{70} and furthermore", last_integer, "70"),
        ("Answer: 70\nand furthermore", last_integer, None),
        (r"\boxed{7", last_integer, None),
        ('{"answer": "C"} and', last_letter, "C"),
        ('{"answer": "C', last_letter, None),
        ("Answer: C\nand", last_letter, None),
        (r"\boxed{C} and", last_letter, None),
    ],
)
def test_a_cut_reply_is_read_in_the_requested_form_only(reply: str, read, value: str | None) -> None:
    assert read(reply, "length").value == value


@pytest.mark.parametrize(("gold", "value"), [("70", "70"), ("070", "70"), ("70.0", "70"), (" 70 ", "70")])
def test_gold_is_normalised(gold: str, value: str) -> None:
    assert integer_of(gold, "aime25") == value


def test_gold_that_is_no_integer_is_refused() -> None:
    with pytest.raises(RowsError, match="aime25: the rows hold an answer that is not an integer: 'about 3'"):
        integer_of("about 3", "aime25")


PIECES = st.sampled_from(
    ["\\boxed{", "\\boxed ", "{", "}", "Answer:", '"answer":', '"', "\n", " ", "7", "70", "C", "<think>", "</think>",
     "\\frac", "=", ",", "\\text{", "*", "$", "\\", "/", "0", ".0", "\\cdot", "or"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60), st.sampled_from(["stop", "length", None]))
def test_any_text_is_read_without_an_error(reply: str, finish_reason: str | None) -> None:
    for read in (last_integer, last_letter):
        found = read(reply, finish_reason)
        if found.value is not None:
            assert found.span is not None
            assert reply[found.span[0] : found.span[1]].strip()


@given(st.integers(-999, 999), st.text(alphabet="abc \n.", max_size=40))
def test_a_boxed_integer_is_read_whatever_stands_before_it(number: int, before: str) -> None:
    assert last_integer(f"{before}\\boxed{{{number}}}", "stop").value == str(number)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["\\boxed{", "answer: ", '"answer": "', "**", "answer ", "{" * 20, "\\text{", "1,000"]
)
def test_a_long_loop_is_read_in_linear_time(piece: str) -> None:
    reply = piece * (100_000 // len(piece))
    assert last_integer(reply, "stop").value is None
    assert last_letter(reply, "stop").value is None

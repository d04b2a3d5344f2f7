r"""Replies that have misled graders, with what a careful reader takes from them: the graders' own exam. Pure data.

Every form here was graded wrongly by at least one widely used harness: boxes with a blank or of another name, bold and
dollar signs, units, two boxes on a line, boxes in thoughts that never ended, JSON as the model card asks for it, "the
last number" of a reply that was cut, words that start with a letter. `self_test` runs them through the graders of this
installation, so that a run can stop before it spends GPU hours on answers that nobody can read.

A wrong answer that is accepted is a failure. A right one that is refused is not, while there are few: it is counted as
unparsed, which the report shows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from raybench.evals.answers import last_integer, last_letter
from raybench.evals.base import Extraction

MAX_REFUSED = 4
"""Right answers of one table that a grader may leave unread."""


@dataclass(frozen=True, slots=True)
class Case:
    """One reply."""

    reply: str
    """Its text."""
    right: str | None
    """What it gives as its answer; None = nothing that may be taken for one."""
    finish_reason: str = "stop"
    """Why it ended."""


INTEGERS: tuple[Case, ...] = (
    # boxes
    Case(r"Adding up, we get \boxed{70}.", "70"),
    Case(r"\boxed {70}", "70"),
    Case(r"\boxed 70", "70"),
    Case(r"\fbox{70}", "70"),
    Case(r"$$\boxed{70}$$", "70"),
    Case(r"\[\boxed{70}\]", "70"),
    Case(r"**$\boxed{70}$**", "70"),
    Case(r"### \boxed{70}", "70"),
    Case("\\boxed{\n  70\n}", "70"),
    Case(r"\boxed{070}", "70"),
    Case(r"\boxed{70.}", "70"),
    Case(r"\boxed{70.0}", "70"),
    Case(r"\boxed{+70}", "70"),
    Case("\\boxed{\u221270}", "-70"),
    Case("\\boxed{\uff17\uff10}", "70"),
    Case(r"\boxed{{70}}", "70"),
    Case(r"\boxed{\boxed{70}}", "70"),
    Case(r"\boxed{\text{70}}", "70"),
    Case(r"\boxed{\mathbf{70}}", "70"),
    Case(r"\boxed{\textbf{70}}", "70"),
    Case(r"\boxed{\mathrm{70}}", "70"),
    Case(r"\boxed{$70$}", "70"),
    Case(r"\boxed{\(70\)}", "70"),
    Case(r"\boxed{70\%}", "70"),
    Case(r"\boxed{\$70}", "70"),
    Case(r"\boxed{70^\circ}", "70"),
    Case(r"\boxed{70^{\circ}}", "70"),
    Case("\\boxed{70\u00b0}", "70"),
    Case(r"\boxed{70 \text{ cm}}", "70"),
    Case(r"\boxed{70\,\text{square units}}", "70"),
    Case(r"\boxed{70~\mathrm{km}}", "70"),
    Case(r"\boxed{1,070}", "1070"),
    Case(r"\boxed{1{,}070}", "1070"),
    Case(r"\boxed{1\,070}", "1070"),
    Case(r"\boxed{1,\!070}", "1070"),
    Case(r"\boxed{\frac{140}{2}}", "70"),
    Case(r"\boxed{\dfrac{140}{2}}", "70"),
    Case(r"\boxed{140/2}", "70"),
    Case(r"\boxed{7 \cdot 10}", "70"),
    Case(r"\boxed{7 \times 10}", "70"),
    Case(r"\boxed{m + n = 70}", "70"),
    Case(r"\boxed{x = 70}", "70"),
    # answer lines and JSON
    Case("Answer: 70", "70"),
    Case("**Answer:** 70", "70"),
    Case("**Answer: 70**", "70"),
    Case("**Final Answer**: $70$", "70"),
    Case("Answer: $70$", "70"),
    Case("Answer: \\boxed{70}", "70"),
    Case("Answer: **70**.", "70"),
    Case("ANSWER\uff1a 70", "70"),
    Case("Answer:\n70", "70"),
    Case("Answer: 70 degrees", "70"),
    Case('```json\n{"answer": 70}\n```', "70"),
    Case('{"reasoning": "30 and 40", "answer": "70"}', "70"),
    # which of several
    Case(r"\boxed{12} or rather \boxed{70}", "70"),
    Case(r"First \boxed{12}. Wait, I forgot a case: \boxed{70}.", "70"),
    Case("Answer: 12\nThat is wrong.\nAnswer: 70", "70"),
    Case("Answer: 12\n\nCorrected: \\boxed{70}", "70"),
    Case(r"<think>maybe \boxed{12}</think>It is \boxed{70}", "70"),
    Case(r"maybe \boxed{12}</think>It is \boxed{70}", "70"),
    Case(r"\boxed{70} <think>or \boxed{12}", "70"),
    Case(r"\boxed{70}, cut while it went on", "70", "length"),
    # right, and known to be left unread
    Case("The final answer is: 70", "70"),
    Case("#### 70", "70"),
    Case(r"\boxed{7.0\times10^1}", "70"),
    Case(r"\boxed{\binom{8}{4}}", "70"),
    # nothing may be taken
    Case("", None),
    Case("I cannot solve this.", None),
    Case(r"<think>so \boxed{70}", None),
    Case(r"<think>so \boxed{70}, but then", None, "length"),
    Case("We have 30 and 40, which makes 70", None, "length"),
    Case("Answer: 7", None, "length"),
    Case(r"\boxed{7", None, "length"),
    Case("There are 12 cases with 70 each.", None),
    Case(r"Put it in \boxed{}.", None),
    Case(r"\boxed{12, 70}", None),
    Case(r"\boxed{70 \text{ or } 71}", None),
    Case(r"\boxed{70.5}", None),
    Case(r"\boxed{\frac{141}{2}}", None),
    Case(r"\boxed{70\pi}", None),
    Case(r"\boxed{70x}", None),
    Case(r"\boxed{\sqrt{70}}", None),
    Case(r"\boxed{\pm 70}", None),
    Case(r"\boxed{70!}", None),
    Case(r"\boxed{2^{10^{10}}}", None),
    Case(r"\boxed{70 million}", None),
    Case(r"\boxed{70} ... no, there is no solution: \boxed{\text{none}}", None),
    Case("Answer: the sum of all 70 bases", None),
    Case("Incorrect answer: 70", None),
    Case("Answer: 1. Compute 70", None),
    Case(r"\boxed{70 \pmod{1000}}", None),
    Case(r"\boxed{" + "9" * 5_000 + "}", None),
)
"""Replies to a question of which the answer is an integer, asked for in a box."""

LETTERS: tuple[Case, ...] = (
    Case('"answer": "C"', "C"),
    Case('{"answer": "C"}', "C"),
    Case('{"Answer": "C"}', "C"),
    Case('```json\n{\n  "answer": "C"\n}\n```', "C"),
    Case('{"reasoning": "A and B fail", "answer": "(C)"}', "C"),
    Case('{"answer": "C) 3.2 eV"}', "C"),
    Case("{'answer': 'C'}", "C"),
    Case('**"answer": "C"**', "C"),
    Case('{"answer": "c"}', "C"),
    Case("Answer: C", "C"),
    Case("**Answer:** C", "C"),
    Case("**Answer: C**", "C"),
    Case("**Answer**: C", "C"),
    Case("Answer: (C)", "C"),
    Case("Answer: **(C)**", "C"),
    Case("Answer: C.", "C"),
    Case("Answer: C) the third one", "C"),
    Case("Answer: C. C-H bonds are weaker", "C"),
    Case("Answer: $C$", "C"),
    Case(r"Answer: \boxed{C}", "C"),
    Case("### Answer: Option C", "C"),
    Case("Correct answer: (C)", "C"),
    Case("Answer:\n\nC", "C"),
    Case(r"\boxed{C}", "C"),
    Case(r"\boxed{\text{C}}", "C"),
    Case(r"\boxed{\textbf{(C)}}", "C"),
    Case(r"$\boxed{\mathrm{C}}$", "C"),
    Case("Answer: A\nOn reflection this is wrong.\nAnswer: C", "C"),
    Case('{"answer": "A"}\nI must correct myself.\n{"answer": "C"}', "C"),
    Case("<think>Answer: A</think>Answer: C", "C"),
    Case('"answer": "C"\nand so on', "C", "length"),
    # right, and known to be left unread
    Case("The correct answer is C.", "C"),
    Case("I choose option C.", "C"),
    # nothing may be taken
    Case("", None),
    Case("Answer: Because the field is constant", None),
    Case("Answer: a value of 3 eV", None),
    Case("Answer: A value near B", None),
    Case("Answer: Depends on the solvent", None),
    Case("A careful look shows that nothing fits.", None),
    Case("I cannot help with that.", None),
    Case("Answer: A and C", None),
    Case("Answer: A, C", None),
    Case("Answer: A/C", None),
    Case("Answer: (A) or (C)", None),
    Case('{"answer": "A|B|C|D"}', None),
    Case('{"answer": "C"} ... {"answer": "none of these"}', None),
    Case('{"answer": ""}', None),
    Case("Answer: E", None),
    Case("Answer: 3.2 eV", None),
    Case("<think>Answer: C", None),
    Case("Wrong answer: C", None),
    Case("Answer: C", None, "length"),
    Case('{"answer": "C', None, "length"),
    Case("Options A, B and D are impossible", None, "length"),
)
"""Replies to a question with four options, whose letter is asked for in a JSON `answer` field."""


def self_test() -> tuple[str, ...]:
    """What the graders of this installation get wrong, in words; empty when they can be trusted."""
    return (*failures("integer", last_integer, INTEGERS), *failures("letter", last_letter, LETTERS))


def failures(name: str, extract: Callable[[str, str | None], Extraction], cases: tuple[Case, ...]) -> tuple[str, ...]:
    """Every wrong acceptance of a grader, and the refusals when there are more than `MAX_REFUSED`."""
    found = list(_accepted_wrongly(name, extract, cases))
    refused = [repr(case.reply[:60]) for case in refusals(extract, cases)]
    if len(refused) > MAX_REFUSED:
        found.append(f"the {name} grader leaves {len(refused)} right answers unread: {', '.join(refused)}")
    return tuple(found)


def refusals(extract: Callable[[str, str | None], Extraction], cases: tuple[Case, ...]) -> list[Case]:
    """Cases with an answer that the grader reads nothing from."""
    return [c for c in cases if c.right is not None and extract(c.reply, c.finish_reason).value is None]


def _accepted_wrongly(
    name: str, extract: Callable[[str, str | None], Extraction], cases: tuple[Case, ...]
) -> Iterator[str]:
    for case in cases:
        value = extract(case.reply, case.finish_reason).value
        if value is not None and value != case.right:
            yield f"the {name} grader reads {value} from {case.reply[:60]!r}, which gives {case.right or 'no answer'}"

"""The section "Diagnosis" of every page: a named cause for each sick eval, and scores under smaller limits. Pure."""

from raybench.report import numbers
from raybench.report.model import Report
from raybench.report.tables import Table
from raybench.validity.counterfactual import Counterfactual
from raybench.validity.diagnosis import Diagnosis

CAUSES = {
    "grader": "the grader",
    "transport": "requests that fail",
    "prompt": "chat template or system prompt",
    "node": "one node",
    "reasoning_parser": "the reasoning parser",
    "loops": "endless repetition",
    "engine_limit": "the engine's own limit of length",
    "max_tokens": "max_tokens is too low",
    "stop_tokens": "stop tokens",
    "format": "answer format or grader",
    "identical_repeats": "repeats that are no repeats",
    "hidden_cap": "a hidden limit of length",
    "numerics": "numerics",
    "drift": "the engine changed while it ran",
    "guessing": "guessing",
    "engine_lost": "an engine or a machine was lost",
    "model_or_reference": "the model, or its reference",
}
"""A cause in words."""


def headline(diagnosis: Diagnosis) -> str:
    """Cause and evidence in one line."""
    return f"{CAUSES[diagnosis.cause]}: {diagnosis.sentence}"


def diagnosis_lines(report: Report) -> list[str]:
    """One line for every sick eval, for a terminal."""
    return [f"{d.eval} on {d.target}: {headline(d)}. To do: {d.change}." for d in report.diagnoses]


def diagnosis_blocks(report: Report) -> tuple[list[str], list[Table]]:
    """Paragraphs in Markdown, and the table of scores under smaller limits; both empty where all is well and short."""
    lines: list[str] = []
    for found in report.diagnoses:
        also = f" Its signature fits as well: {', '.join(CAUSES[cause] for cause in found.also)}." if found.also else ""
        evidence = ", ".join(f"{name} {numbers.evidence(value)}" for name, value in found.evidence.items())
        lines.append(
            f"- **{found.eval}** on **{found.target}**: **{CAUSES[found.cause]}**. {_sentence(found.sentence)}{also}\n"
            f"  - Change: {found.change}.\n  - Evidence: {evidence}."
        )
    paragraphs = ["\n".join(lines)] if lines else []
    return paragraphs, [_table(report.counterfactuals)] if report.counterfactuals else []


CURVE_NOTE = (
    "Stored replies, scored again as if cut at each limit; the last row of an eval is what ran. A cut reply is not "
    "correct. *Answer stood* counts cut replies whose text up to the limit already held the right answer; a reply's "
    "text is taken to be spread evenly over its tokens, of which only the number is known."
)
"""What stands above the table."""


def _table(curves: tuple[Counterfactual, ...]) -> Table:
    rows = tuple(
        (
            curve.eval, curve.target, f"{point.max_tokens:,}", numbers.share(point.score),
            f"{100 * point.truncated_fraction:.1f}%", f"{point.answer_stood:,}",
        )
        for curve in curves
        for point in curve.points
    )  # fmt: skip
    return Table(("eval", "target", "max_tokens", "score", "cut", "answer stood"), rows, num_left=2)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."

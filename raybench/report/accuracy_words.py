"""Scores, intervals and verdicts of evals in words. Pure; shared by all pages."""

from raybench.report import numbers
from raybench.report.model import EvalRow


def eval_sentence(row: EvalRow) -> str:
    """Score, interval, n and the gate of one eval on one target."""
    text = f"**{row.eval}** on **{row.target}**: {score_text(row)}, {size_text(row)}"
    if row.synthetic:
        text += " (stand-in questions: says nothing about the model)"
    seen = row.accuracy
    if seen.num_samples < seen.num_planned:
        text += f", between {seen.worst:.3f} and {seen.best:.3f} with the missing ones"
    gate = seen.gate
    if gate is not None:
        text += f"; reference {numbers.share(gate.baseline)}: {gate.verdict}"
    return f"{text}. Findings: {codes_text(row.findings)}." if row.findings else f"{text}."


def score_text(row: EvalRow) -> str:
    """Score with its 95% interval for these questions."""
    seen = row.accuracy
    if seen.score is None or seen.exam is None:
        return "no score"
    return f"{numbers.share(seen.score)} [{numbers.share(seen.exam.low)}, {numbers.share(seen.exam.high)}]"


def size_text(row: EvalRow) -> str:
    """n, in questions and repeats."""
    seen = row.accuracy
    if seen.num_repeats == 1:
        return f"n = {seen.num_scored:,}"
    return f"n = {seen.num_scored:,} ({seen.num_questions:,} questions x {seen.num_repeats} repeats)"


def codes_text(codes: tuple[str, ...]) -> str:
    """Codes of findings, as pages write them."""
    return ", ".join(f"`{code}`" for code in codes)

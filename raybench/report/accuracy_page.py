"""The section of the Markdown page on accuracy, and its tables. Pure."""

from raybench.report import numbers
from raybench.report.accuracy_words import (
    MISSING,
    OTHER_HARNESS,
    codes_text,
    ends_text,
    is_bound,
    score_text,
    timed_text,
)
from raybench.report.model import Comparison, EvalDifference, EvalLeftOut, EvalRow, ReferenceInUse, Report
from raybench.report.tables import Table, markdown_table, with_findings

NOT_DISTINGUISHABLE_P = 0.05
_NUM_MOVED = 5


def accuracy_blocks(report: Report) -> list[str]:
    """The section on accuracy; nothing without evals."""
    if not report.evals:
        return []
    rows = list(report.evals)
    return [
        "## Accuracy",
        "Score = mean over the questions of the mean over their repeats, in percent. *This exam*: the same questions "
        "asked again on this server. *Question population*: other questions of this kind. PASS: the one-sided "
        "lower bound of the difference is above minus the margin. FAIL: the upper bound is below 0 and the difference "
        "below minus half of the margin. Otherwise INCONCLUSIVE. A red finding or missing samples leave no verdict.",
        markdown_table(accuracy_table(rows)),
        markdown_table(outcome_table(rows)),
        "\n".join([*_sampling(rows), *_references(rows), *(note for row in rows for note in _eval_notes(row))]),
    ]


def differences(comparison: Comparison) -> str:
    """Differences in accuracy between two targets, a line for each eval."""
    lines = [_difference(row) for row in comparison.evals]
    lines += [f"- **{each.eval}**: not compared; {_left_out_by(each)}." for each in comparison.evals_left_out]
    return "\n".join(lines)


def _left_out_by(left_out: EvalLeftOut) -> str:
    found = [f"findings: {codes_text(left_out.findings)}"] if left_out.findings else []
    if left_out.num_missing:
        found.append(f"{left_out.num_missing:,} {MISSING}")
    return "; ".join(found)


def _difference(row: EvalDifference) -> str:
    seen = row.accuracy
    text = f"- **{row.eval}**: {numbers.points(seen.difference)} points"
    if seen.low is not None and seen.high is not None:
        text += f", 95%: {numbers.points(seen.low)} to {numbers.points(seen.high)}"
    if row.p_adjusted is not None and seen.permutation_p is not None:
        text += ": distinguishable" if row.p_adjusted < NOT_DISTINGUISHABLE_P else ": not distinguishable"
        text += f" ({numbers.p_value(seen.permutation_p)} by permutation"
        if row.num_claims > 1:
            text += f", {numbers.p_value(row.p_adjusted)} by Holm over the {row.num_claims} differences of this report"
        text += ")"
    text += f"; {seen.num_questions:,} questions, {seen.num_discordant:,} answers that one alone got right."
    moved = [f"{question} ({by})" for question, by in zip(seen.moved, map(numbers.points, seen.moved_by), strict=False)]
    return f"{text} Moved most: {', '.join(moved[:_NUM_MOVED])}." if moved else text


def _sampling(rows: list[EvalRow]) -> list[str]:
    lines: list[str] = []
    for name in dict.fromkeys(row.eval for row in rows):
        sent = next(row.sampling for row in rows if row.eval == name).model_dump()
        lines.append(f"- Sent with every request of **{name}**: {', '.join(f'{k} {v:g}' for k, v in sent.items())}.")
    return lines


def _references(rows: list[EvalRow]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        known = row.reference
        if known is None or known.differs:
            continue
        lines.append(
            f"- Reference of **{row.eval}**: {numbers.score(known.score)} ± {100 * known.standard_error:.1f} (standard "
            f"error on this exam), avg@{known.repeats}, measured by raybench on {known.target} ({known.accelerator}, "
            f"{known.engine}, model `{known.model}`) in run {known.run_id} of {known.date}.{_unsaid(known)}"
        )
    held = [each for row in rows for each in (row.accuracy.gate, *row.accuracy.standings) if each is not None]
    if any(each.against == "published" for each in held):
        lines.append(
            f"- A published score is {OTHER_HARNESS}: its prompt, sampling and repeats may be others, its own error is "
            "not known, and it is taken as exact."
        )
    if any(is_bound(row.accuracy) for row in rows):
        lines.append(
            "- Asked once, the model's dice cannot be told from the choice of questions: for this exam such an "
            "interval is an upper bound of the width."
        )
    return list(dict.fromkeys(lines))


def _unsaid(known: ReferenceInUse) -> str:
    """What nobody can hold against this run, said before a gate is believed."""
    if not known.unsaid:
        return ""
    return f" Not known: {' and '.join(known.unsaid)}, for an older raybench saved it; save it again from its run."


def _eval_notes(row: EvalRow) -> list[str]:
    seen, name = row.accuracy, f"**{row.eval}** on **{row.target}**"
    notes = [f"- {name}: {timed_text(row)}."]
    if row.synthetic:
        notes.append(f"- {name}: stand-in questions made by code; the score says nothing about the model.")
    if seen.worst != seen.best:
        notes.append(
            f"- {name}: {numbers.score(seen.worst)} if every missing or errored sample were wrong, "
            f"{numbers.score(seen.best)} if every one were right."
        )
    return notes


def accuracy_table(rows: list[EvalRow]) -> Table:
    """Score, both intervals, size, and the verdict with what it stands on."""
    headers = (
        "Eval", "Target", "Score (%)", "This Exam, 95%", "Question Population, 95%", "Questions", "K", "Held Against",
        "Difference", "Margin", "Verdict",
    )  # fmt: skip
    cells = [
        (
            row.eval, row.target, score_text(row).partition("= ")[2].removesuffix("%") or "no score",
            f"{'within ' if is_bound(row.accuracy) else ''}{ends_text(row.accuracy.exam)}",
            ends_text(row.accuracy.population), f"{row.accuracy.num_questions:,}", f"{row.accuracy.num_repeats:,}",
            *_held(row),
        )
        for row in rows
    ]  # fmt: skip
    return with_findings(Table(headers, tuple(cells), num_left=2), [row.findings for row in rows])


def _held(row: EvalRow) -> tuple[str, str, str, str]:
    gate, beside = row.accuracy.gate, row.accuracy.standings
    if row.invalid_by or (gate is None and not beside):
        return (numbers.NONE, numbers.NONE, numbers.NONE, "none" if row.invalid_by else numbers.NONE)
    if gate is not None:
        word = "none" if gate.verdict in ("INVALID", "INCOMPLETE") else gate.verdict
        name = f"{gate.against} {numbers.score(gate.baseline)}"
        return name, numbers.points(gate.difference), f"{100 * gate.margin:g}", word
    name = f"{beside[0].against} {numbers.score(beside[0].reference)}"
    return name, numbers.points(beside[0].difference), numbers.NONE, "not gated"


def outcome_table(rows: list[EvalRow]) -> Table:
    """What the samples came to; the five outcomes never merge."""
    headers = (
        "Eval", "Target", "Correct", "Incorrect", "Unparsed", "Truncated", "Errored", "Missing", "Mean Reply (tokens)",
        "Longest", "Limit",
    )  # fmt: skip
    cells: list[tuple[str, ...]] = []
    for row in rows:
        seen = row.accuracy
        counts = [(seen.counts.get(name, 0), seen.num_samples) for name in ("correct", "incorrect")]
        rates = [(seen.counts.get(name, 0), seen.num_scored) for name in ("unparsed", "truncated")]
        others = [(seen.counts.get("errored", 0), seen.num_samples)]
        others.append((seen.num_missing, seen.num_planned))
        cells.append(
            (
                row.eval, row.target,
                *(f"{number} ({numbers.percent(number, total)})" for number, total in counts + rates + others),
                numbers.NONE if row.mean_output_tokens is None else f"{row.mean_output_tokens:,.0f}",
                numbers.NONE if row.max_output_tokens is None else f"{row.max_output_tokens:,}",
                f"{row.sampling.max_tokens:,}",
            )
        )  # fmt: skip
    return Table(headers, tuple(cells), num_left=2)

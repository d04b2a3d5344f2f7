"""The section of the Markdown page on accuracy, and its tables. Pure."""

from raybench.report import numbers
from raybench.report.accuracy_words import score_text, size_text
from raybench.report.model import Comparison, EvalRow, Report
from raybench.report.tables import Table, markdown_table, with_findings


def accuracy_blocks(report: Report) -> list[str]:
    """The section on accuracy; nothing without evals."""
    if not report.evals:
        return []
    rows = list(report.evals)
    blocks = [
        "## Accuracy",
        "The interval is for these questions on this server. Gate: PASS if the one-sided 95% lower bound is above the "
        "reference minus the margin, FAIL if the upper bound is below it, else INCONCLUSIVE.",
        markdown_table(accuracy_table(rows)),
        markdown_table(outcome_table(rows)),
        "\n".join(_sampling(rows)),
    ]
    notes = [note for row in rows for note in _eval_notes(row)]
    return [*blocks, "\n".join(notes)] if notes else blocks


def differences(comparison: Comparison) -> str:
    """Differences in accuracy between two targets, a line for each eval."""
    lines: list[str] = []
    for row in comparison.evals:
        seen = row.accuracy
        text = f"- **{row.eval}**: {seen.difference:+.3f}"
        if seen.low is not None and seen.high is not None:
            text += f", 95% interval [{seen.low:+.3f}, {seen.high:+.3f}]"
            text += ", which holds 0: no difference shown" if seen.low <= 0 <= seen.high else ", which excludes 0"
        else:
            text += ", every question alike, so without an interval"
        lines.append(
            f"{text} ({seen.num_questions:,} questions, {seen.num_discordant:,} answers that one alone got right)."
        )
    return "\n".join(lines)


def _sampling(rows: list[EvalRow]) -> list[str]:
    lines: list[str] = []
    for name in dict.fromkeys(row.eval for row in rows):
        sent = next(row.sampling for row in rows if row.eval == name).model_dump()
        lines.append(f"- Sent with every request of **{name}**: {', '.join(f'{k} {v:g}' for k, v in sent.items())}.")
    return lines


def _eval_notes(row: EvalRow) -> list[str]:
    seen, name = row.accuracy, f"**{row.eval}** on **{row.target}**"
    notes: list[str] = []
    if row.synthetic:
        notes.append(f"- {name}: stand-in questions made by code; the score says nothing about the model.")
    if seen.worst != seen.best:
        notes.append(
            f"- {name}: {seen.worst:.3f} if every missing or errored sample were wrong, {seen.best:.3f} if every one "
            "were right."
        )
    if seen.population is not None and seen.population != seen.exam:
        low, high = seen.population.low, seen.population.high
        notes.append(f"- {name}: for questions of this kind in general, 95% interval [{low:.3f}, {high:.3f}].")
    if seen.gate is not None and seen.gate.repeats_needed is not None:
        notes.append(
            f"- {name}: INCONCLUSIVE; about {seen.gate.repeats_needed} repeats of every question would decide."
        )
    return notes


def accuracy_table(rows: list[EvalRow]) -> Table:
    """Score, interval, n, reference and gate."""
    headers = ("Eval", "Target", "Score [95% interval]", "n", "Reference", "Margin", "Gate")
    cells: list[tuple[str, ...]] = []
    for row in rows:
        gate = row.accuracy.gate
        reference = (
            (numbers.share(gate.baseline), numbers.share(gate.margin), gate.verdict) if gate else (numbers.NONE,) * 3
        )
        cells.append((row.eval, row.target, score_text(row), size_text(row).removeprefix("n = "), *reference))
    return with_findings(Table(headers, tuple(cells), num_left=3), [row.findings for row in rows])


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
        others.append((seen.num_planned - seen.num_samples, seen.num_planned))
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

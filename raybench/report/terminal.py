"""The report in a terminal: verdict, findings, both targets side by side, accuracy. Fits 80 columns."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from raybench.report import numbers
from raybench.report.acceptance_page import acceptance_lines
from raybench.report.accuracy_words import against_parts, interval_parts, rates_text, score_text, timed_text
from raybench.report.diagnosis_page import diagnosis_lines
from raybench.report.model import Comparison, EvalRow, PerfRow, Report, Spread
from raybench.report.serving_terminal import print_serving
from raybench.report.words import (
    FindingGroup,
    groups,
    passes_text,
    short_caveat,
    verdict_sentence,
)

_COLOURS = {"VALID": "green", "INVALID": "red", "INCOMPLETE": "yellow"}
_MARK_COLOURS = {"RED": "red", "WARNING": "yellow", "NOTE": "cyan"}
_GATE_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def print_report(report: Report, console: Console) -> None:
    """Print the report; everything that is left out here is in `report.md`."""
    names = [target.name for target in report.targets if target.simulated]
    console.print()
    if names:
        console.print(
            Text(f"SIMULATED: a timing model made up every number of {' and '.join(names)}.", style="bold magenta")
        )
    name = (f"{report.provenance.name}: ", "bold")
    verdict = Text.assemble(name, (report.verdict, f"bold {_COLOURS[report.verdict]}"))
    verdict.append(f". {_plain(verdict_sentence(report))}")
    console.print(verdict)
    for group in groups(report.findings):
        _print_group(group, console)
    for sweep in dict.fromkeys(row.sweep for row in report.perf):
        console.print()
        _print_sweep(report, sweep, console)
    for line in acceptance_lines(report.acceptances):
        console.print(Text(f"FLEET {line}"))
    print_serving(report, console)
    if report.evals:
        console.print()
        _print_evals(report, console)
    for line in diagnosis_lines(report):
        console.print(Text(f"DIAGNOSIS {line}", style="bold yellow"))
    console.print()


def _print_group(group: FindingGroup, console: Console) -> None:
    count = f" ({group.num} times)" if group.num > 1 else ""
    head = Text.assemble((f"{group.mark:<8}", _MARK_COLOURS[group.mark]), f"{group.title}: {group.about}{count}")
    console.print(Padding(head, (0, 0, 0, 1), expand=False))
    if group.mark == "RED":
        for line in (*group.seen, *group.advice):
            console.print(Padding(Text(line, style="dim"), (0, 0, 0, 9), expand=False))


def _print_sweep(report: Report, sweep: str, console: Console) -> None:
    rows = [row for row in report.perf if row.sweep == sweep]
    first = rows[0]
    title = f"{sweep}: {first.input_tokens:,} tokens in, {first.output_tokens:,} out"
    if nums := [len(row.repeats) for row in rows if row.repeats]:
        title += f"; {passes_text(nums)}"
    console.print(Text(title, style="bold"))
    beside = [c for c in report.comparisons if c.kind == "targets" and c.sweep == sweep]
    if len(report.targets) == 2 and len(beside) == 1:
        console.print(_side_by_side(rows, beside[0]))
        note = f"Ratios are {beside[0].target} / {beside[0].baseline}; TTFT is the slowest request's. "
        note += short_caveat(beside[0])
        shown = [ratio for row in beside[0].rows for ratio in (row.output_throughput, row.itl, row.last_ttft)]
        if any(numbers.overlaps(ratio) for ratio in shown):
            note += f" ~ = the repeats of the two overlap: no difference shown.{numbers.unmarked_note(shown)}"
        console.print(Text(note, style="dim"))
    else:
        console.print(_one_by_one(rows))
    if any(row.findings for row in rows):
        console.print(Text("! a finding is about this batch size", style="yellow"))


def _side_by_side(rows: list[PerfRow], comparison: Comparison) -> Table:
    by_place = {(row.target, row.batch_size): row for row in rows}
    table = _table("batch")
    for what in ("out tok/s", "ITL ms", "TTFT ms"):
        for target in (comparison.baseline, comparison.target):
            table.add_column(Text(f"{what}\n{target}"), justify="right", overflow="fold")
        table.add_column("ratio", justify="right", style="cyan", vertical="top", no_wrap=True)
    for row in comparison.rows:
        a, b = (by_place[name, row.batch_size] for name in (comparison.baseline, comparison.target))
        table.add_row(
            _batch(row.batch_size, a, b),
            numbers.rate(_median(a.output_tok_per_s)), numbers.rate(_median(b.output_tok_per_s)),
            numbers.times(row.output_throughput, with_range=False),
            numbers.itl(_median(a.itl_ms)), numbers.itl(_median(b.itl_ms)), numbers.times(row.itl, with_range=False),
            numbers.milliseconds(_median(a.last_ttft_s)), numbers.milliseconds(_median(b.last_ttft_s)),
            numbers.times(row.last_ttft, with_range=False),
        )  # fmt: skip
    return table


def _one_by_one(rows: list[PerfRow]) -> Table:
    table = _table("batch")
    table.add_column("target", overflow="fold")
    for name in ("latency s", "TTFT ms", "in tok/s", "out tok/s", "ITL ms", "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda each: each.batch_size):
        table.add_row(
            _batch(row.batch_size, row), row.target, numbers.seconds(_median(row.latency_s)),
            numbers.milliseconds(_median(row.last_ttft_s)), numbers.rate(_median(row.input_tok_per_s)),
            numbers.rate(_median(row.output_tok_per_s)), numbers.itl(_median(row.itl_ms)),
            numbers.half_range(row.latency_s),
        )  # fmt: skip
    return table


def _batch(size: int, *rows: PerfRow) -> Text:
    marked = any(row.findings for row in rows)
    return Text(f"!{size}" if marked else str(size), style="yellow" if marked else "")


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, justify="right", no_wrap=True)
    return table


def _print_evals(report: Report, console: Console) -> None:
    for row in report.evals:
        console.print(Text.assemble((f"{row.eval} on {row.target}: ", "bold"), score_text(row)))
        for line in _eval_lines(row):
            console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _eval_lines(row: EvalRow) -> list[Text]:
    seen = row.accuracy
    lines = [Text(_plain(", ".join(interval_parts(seen))))] if seen.exam is not None else []
    for part in against_parts(row):
        text, arrow, verdict = _plain(part).partition(" -> ")
        if arrow:
            word, colon, meaning = verdict.partition(":")
            line = Text.assemble(f"{text} -> ", (word, _GATE_COLOURS.get(word, "yellow")), f"{colon}{meaning}")
        else:
            line = Text(text, style="red" if row.invalid_by else "")
        lines.append(line)
    clean = seen.num_scored == seen.num_planned and not (seen.counts["truncated"] or seen.counts["unparsed"])
    lines.append(Text(rates_text(seen), style="" if clean else "yellow"))
    if row.timed is not None and row.timed.status == "another":
        lines.append(Text(timed_text(row), style="yellow"))
    if row.synthetic:
        lines.append(Text("stand-in questions: says nothing about the model", style="magenta"))
    if row.findings:
        lines.append(Text(f"findings: {', '.join(row.findings)}", style="yellow"))
    return lines


def _median(value: Spread | None) -> float | None:
    return None if value is None else value.median


def _plain(text: str) -> str:
    return text.replace("`", "").replace("**", "")

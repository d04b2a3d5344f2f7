"""The report as a Markdown page: verdict and findings first, numbers after. Pure."""

from raybench.report import diagnosis_page, numbers, tables
from raybench.report.acceptance_page import acceptance_section
from raybench.report.accuracy_page import accuracy_blocks, differences
from raybench.report.fleet_page import fleet_section
from raybench.report.model import Comparison, PerfRow, Report
from raybench.report.preflight_page import preflight_section
from raybench.report.serving_page import serving_section
from raybench.report.tables import markdown_table
from raybench.report.words import groups, in_short, missing_sentence, run_command, verdict_sentence

SIMULATED = (
    "> **SIMULATED.** A timing model made up every number of {targets}. They show what a report looks like and how "
    "long a run takes; they are no measurements."
)


def render(report: Report) -> str:
    """The whole page, ending in a newline."""
    blocks = [
        *_head(report),
        *_findings(report),
        *_performance(report),
        *acceptance_section(report.acceptances),
        *serving_section(report),
        *_comparisons(report),
        *accuracy_blocks(report),
        *_diagnosis(report),
        *preflight_section(report.preflight),
        *_startup(report),
        *fleet_section(report.fleet),
        *_targets(report),
        *_failures(report),
        *_reproduce(report),
    ]
    return "\n\n".join(blocks) + "\n"


def _head(report: Report) -> list[str]:
    blocks = [f"# raybench: {report.provenance.name}"]
    names = [target.name for target in report.targets if target.simulated]
    if names:
        blocks.append(SIMULATED.format(targets=_and(names)))
    blocks.append(f"**Verdict: {report.verdict}.** {verdict_sentence(report)}")
    made = report.provenance
    ran = f"{numbers.moment(made.first_unix_s)} to {numbers.moment(made.last_unix_s)}"
    blocks.append(f"Model `{made.model}` on {_and([target.name for target in report.targets])}, {ran}.")
    lines = in_short(report)
    if lines:
        blocks.append("## In short")
        blocks.append("\n".join(f"- {line}" for line in lines))
    return blocks


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _findings(report: Report) -> list[str]:
    blocks = ["## Findings"]
    found = groups(report.findings)
    if not found:
        return [*blocks, "None: every check was made and found nothing."]
    for group in found:
        count = f" ({group.num} times)" if group.num > 1 else ""
        lines = [f"**{group.mark}: {group.title}** - {group.about}{count}, `{group.code}`", ""]
        lines += [f"- Rule: {rule}" for rule in group.rules]
        lines += [f"- Seen: {seen}" for seen in group.seen]
        lines += [f"- What to do: {advice}" for advice in group.advice]
        blocks.append("\n".join(lines))
    return blocks


def _performance(report: Report) -> list[str]:
    if not report.perf:
        return []
    blocks = [
        "## Performance",
        "One static batch: all prompts go out in one request. Medians over the repeats. Formulas are those of SGLang's "
        "`bench_one_batch_server`: input throughput = prompt tokens / TTFT last; output throughput = reply tokens / "
        "(latency - TTFT last); ITL = batch size / output throughput. Steady values count only the time in which the "
        "whole batch decodes, without first tokens. Latency spread is half of the distance between the slowest and the "
        "quickest repeat.",
    ]
    for target in report.targets:
        for sweep in dict.fromkeys(row.sweep for row in report.perf):
            rows = [row for row in report.perf if (row.target, row.sweep) == (target.name, sweep)]
            if rows:
                blocks += _sweep(rows, target.name, sweep, simulated=target.simulated)
    return blocks


def _sweep(rows: list[PerfRow], target: str, sweep: str, *, simulated: bool) -> list[str]:
    banner = " (SIMULATED)" if simulated else ""
    blocks = [
        f"### {target}{banner}: {sweep}, {rows[0].input_tokens:,} tokens in, {rows[0].output_tokens:,} out",
        markdown_table(tables.perf_table(rows)),
        markdown_table(tables.detail_table(rows)),
    ]
    if any(len(row.repeats) > 1 for row in rows):
        blocks += ["Smallest and largest of the repeats:", markdown_table(tables.range_table(rows))]
    return blocks


def _comparisons(report: Report) -> list[str]:
    beside = [comparison for comparison in report.comparisons if comparison.kind == "targets"]
    published = [comparison for comparison in report.comparisons if comparison.kind == "reference"]
    blocks: list[str] = []
    if beside:
        blocks.append("## Comparison")
    for comparison in beside:
        blocks += _comparison(comparison)
    for comparison in published:
        blocks += _reference(report, comparison)
    return blocks


def _comparison(comparison: Comparison) -> list[str]:
    blocks: list[str] = []
    if comparison.rows:
        blocks += [
            f"### {comparison.target} against {comparison.baseline}: {comparison.sweep}",
            f"{comparison.caveat} Each cell is {comparison.target} / {comparison.baseline}: the ratio of the medians "
            "and, in brackets, the smallest and largest ratio that the repeats allow. Below 1 is better for latency, "
            "TTFT, ITL and cost; above 1 is better for throughput.",
            markdown_table(tables.comparison_table(comparison)),
        ]
    if comparison.evals or comparison.evals_left_out:
        blocks += [
            f"Accuracy, {comparison.target} minus {comparison.baseline}, paired by question:",
            differences(comparison),
        ]
    if comparison.arguments:
        blocks += [
            "What differs in the engines' resolved arguments:",
            markdown_table(tables.argument_table(comparison.arguments, (comparison.baseline, comparison.target))),
        ]
    return blocks


def _reference(report: Report, comparison: Comparison) -> list[str]:
    return [
        f"## Reference: {comparison.target} beside {comparison.baseline}",
        f"{comparison.caveat} Ratios are this run / published.",
        markdown_table(tables.reference_table(comparison, report.perf)),
    ]


def _diagnosis(report: Report) -> list[str]:
    paragraphs, curves = diagnosis_page.diagnosis_blocks(report)
    blocks = ["## Diagnosis", *paragraphs] if paragraphs else []
    if curves:
        blocks += ["### Score by limit of the replies", diagnosis_page.CURVE_NOTE, *map(markdown_table, curves)]
    return blocks


def _startup(report: Report) -> list[str]:
    if not report.startup:
        return []
    blocks = ["## Start-up and memory", markdown_table(tables.startup_table(report))]
    memory = tables.memory_table(report)
    return blocks if memory is None else [*blocks, "Of one rank, as the engine reports it:", markdown_table(memory)]


def _targets(report: Report) -> list[str]:
    return ["## What ran", markdown_table(tables.target_table(report))]


def _failures(report: Report) -> list[str]:
    table = tables.failure_table(report)
    blocks = ["## Failures and retries"]
    return [*blocks, "None."] if table is None else [*blocks, markdown_table(table)]


def _reproduce(report: Report) -> list[str]:
    made = report.provenance
    last = made.sessions[-1]
    sessions = "1 session" if len(made.sessions) == 1 else f"{len(made.sessions)} sessions"
    lines = [
        f"- Run {made.run_id}, {sessions}; cluster: {last.cluster}.",
        f"- raybench {last.raybench_version}, Ray {last.ray_version}, Python {last.python_version}.",
        f"- Model `{made.model}`, revision {made.model_revision or 'default'}; seed {made.seed}.",
        f"- Configuration {made.config_digest}, plan {made.plan_digest or 'never written'}.",
        f"- The last session ended: {made.end or 'it was cut off before it could say'}.",
    ]
    blocks = ["## How to reproduce", f"```bash\n{run_command(report)}\n```", "\n".join(lines)]
    if report.num_missing:
        blocks.append(missing_sentence(report))
    blocks.append(
        "This page is made from `ledger.jsonl` alone; `raybench report RUN_DIR` makes it again. All numbers are in "
        "`report.json`."
    )
    return blocks

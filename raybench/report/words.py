"""Verdicts, findings and caveats in words that a newcomer understands. Pure; shared by all pages."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raybench.records import Finding
from raybench.report import numbers
from raybench.report.accuracy_words import codes_text, eval_sentence
from raybench.report.model import Comparison, RatioRow, Report
from raybench.report.serving_page import search_lines
from raybench.stats.compare import Ratio

TITLES = {
    "wrong_output_length": "Requests failed or replies had the wrong length",
    "requests_failed": "A few requests failed",
    "wrong_prompt_length": "The server counted other prompts than were sent",
    "unexpected_cache_hits": "Prompts were answered from the prefix cache",
    "retracted": "The batch did not fit into the KV cache",
    "cold_start": "Measured before the engine had warmed up",
    "stall": "The server stood still in the middle of a pass",
    "late_first_token": "First tokens came late and together with others",
    "client_saturated": "The load client may be the limit",
    "not_idle": "The server may have been busy before the load began",
    "prefix_not_cached": "Shared beginnings of prompts did not come from the prefix cache",
    "overloaded": "More requests arrived than the server could do",
    "short_window": "The run was over before it was steady",
    "too_few_samples": "Too few requests for a tail",
    "warmup_contaminated": "The start of the run is in its figures",
    "lockstep": "All users start together",
    "client_error": "The client's own error is too large for this many streams",
    "not_calibrated": "The client's own error is not known",
    "schedule_late": "The client did not keep its schedule",
    "frontend_saturated": "The server's front end is the limit",
    "queue_not_concurrency": "Users wait in the server's queue",
    "decode_outside_graph": "Decode steps ran outside of CUDA graphs",
    "counts_differ": "Client and server count different tokens",
    "untuned_kernels": "Kernels run without a tuned configuration",
    "slow_node": "A node is slower than the others at the same work",
    "shared_host": "Another engine was up on the same machine",
    "foreign_processes": "Other engines or GPU users were on a machine",
    "throttled": "GPUs lowered their clocks",
    "outlier_repeat": "One repeat is far from the others",
    "noisy": "Repeats differ widely",
    "prefill_collapse": "A larger batch reads its prompts far more slowly than a smaller one",
    "ttft_not_monotonic": "A batch waits longer for its first tokens than a larger one",
    "itl_not_monotonic": "A batch decodes more slowly than a larger one",
    "engine_died_during_unit": "An engine died while it was measured",
    "mixed_versions": "One target ran different versions",
    "mixed_kernels": "One target ran with different settings",
    "mixed_versions_between_targets": "The targets ran different engine versions",
    "simulated": "Simulated numbers",
    "simulated_beside_real": "Simulated and real engines in one report",
    "resolved_args_differ": "The engines chose different settings by themselves",
    "rows_altered": "Per-request rows are missing or were changed",
    "limits": "Replies have too little room",
    "grader_broken": "The graders fail their own test",
    "prompt_format": "Prompts are not in the model's own format",
    "canary_failed": "Trivial questions are not answered",
    "nodes_disagree": "Nodes of one target answer differently",
    "numerics_differ": "Nodes of one target compute differently",
    "unchecked": "A node answered samples without its checks",
    "truncated": "Replies were cut at max_tokens",
    "errored": "Samples ended in errors",
    "resent": "Samples were drawn anew after their replies had been cut on the way",
    "unparsed": "Answers could not be read",
    "max_tokens_low": "The reply limit is low for this eval",
    "identical_repeats": "Repeats of a question gave the same text",
    "letter_bias": "Wrong answers favour some letters",
    "reference_differs": "The measured reference is of something else",
    "position_bias": "The place of the right option decides",
    "stopped_by_rule": "An eval was stopped by a rule of the plan",
    "looping": "Replies repeat themselves without end",
    "run_on": "Replies go on after their answer",
    "stray_stop": "Stop words that nobody sent end replies",
    "thoughts_only": "All of the reply went to the thoughts",
    "same_length": "Many replies have the same length",
    "prompt_tokens_differ": "Servers of one target read the same prompt differently",
    "prompt_tokens_differ_between_targets": "The targets read the same prompt differently",
    "node_low": "One node answers worse than the others",
    "repeats_drift": "Answers changed while the run went on",
}
"""A headline for every check; checks without one are shown by their code."""

_MARKS = {"red": "RED", "warn": "WARNING", "info": "NOTE"}
_SHOWN = 3
"""Units of one group that are shown one by one."""


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """Findings of one check about one target, told once."""

    mark: str
    """RED, WARNING or NOTE."""
    code: str
    title: str
    about: str
    """Target, or `the whole run`."""
    rules: tuple[str, ...]
    seen: tuple[str, ...]
    """What was seen, one line for each finding, cut after a few."""
    advice: tuple[str, ...]
    num: int


def groups(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Findings by (check, severity, target), in their order."""
    together: dict[tuple[str, str, str | None], list[Finding]] = {}
    for finding in findings:
        together.setdefault((finding.code, finding.severity, finding.target), []).append(finding)
    return [
        FindingGroup(
            mark=_MARKS[severity],
            code=code,
            title=TITLES.get(code, code.replace("_", " ").capitalize()),
            about=target or "the whole run",
            rules=tuple(_sentence(rule) for rule in _distinct(f.rule for f in members)[:2]),
            seen=_seen(members),
            advice=tuple(_sentence(text) for text in _distinct(f.advice for f in members)[:2]),
            num=len(members),
        )
        for (code, severity, target), members in together.items()
    ]


def verdict_sentence(report: Report) -> str:
    """What the verdict means, in a sentence or two."""
    made = report.provenance
    reds = sum(finding.severity == "red" for finding in report.findings)
    warnings = len([group for group in groups(report.findings) if group.mark == "WARNING"])
    parts: list[str] = []
    match report.verdict:
        case "VALID":
            whole = f"all {_count(made.num_units - made.num_units_dropped, 'unit')}"
            if made.num_samples:
                whole += f" and {_count(made.num_samples - made.num_samples_dropped, 'sample')}"
            parts.append(f"{whole} came back and no check is red.")
        case "INVALID":
            about = "it is" if reds == 1 else "they are"
            parts.append(f"{_count(reds, 'red finding')} below. Do not use the numbers that {about} about.")
        case "INCOMPLETE":
            sound = "those that are here are sound as far as the checks can tell"
            parts.append(f"results are missing; {sound}{_unfair(report)}.")
    if report.num_missing:
        parts.append(missing_sentence(report))
    if made.num_samples_dropped:
        parts.append(f"{_count(made.num_samples_dropped, 'sample')} were not asked: a rule of the plan had decided.")
    if warnings:
        parts.append(f"{_count(warnings, 'warning')} below.")
    text = " ".join(parts)
    return text[0].upper() + text[1:]


def _unfair(report: Report) -> str:
    """What that does not hold for: the answered part of an eval is no fair sample of it."""
    unfinished = dict.fromkeys(row.eval for row in report.evals if row.accuracy.num_missing)
    return f", but for the scores of {', '.join(unfinished)}: short replies come back first" if unfinished else ""


def missing_sentence(report: Report) -> str:
    """How much is missing and how to get it."""
    made = report.provenance
    if made.plan_digest is None:
        what = "The run ended before its plan was written"
    else:
        what = f"Missing: {made.num_units_missing:,} of {_count(made.num_units, 'unit')}"
        if made.num_samples_missing:
            what += f", {made.num_samples_missing:,} of {_count(made.num_samples, 'sample')}"
    return f"{what}. Finish with `{resume_command(report)}`."


def resume_command(report: Report) -> str:
    """The first session's command without its folder, and the folder as the reader knows it."""
    return f"{run_command(report)} --resume RUN_DIR"


def run_command(report: Report) -> str:
    """The first session's command without `--out` and `--resume`."""
    sessions = report.provenance.sessions
    words = list(sessions[0].command) if sessions else ["raybench", "run", "CONFIG"]
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word.startswith(("--out=", "--resume=")):
            skip = False
        elif word in ("--out", "--resume"):
            skip = True
        else:
            kept.append(word)
    return " ".join(kept)


def in_short(report: Report) -> list[str]:
    """The result in a few sentences: one for each comparison and each eval."""
    beside = [c for c in report.comparisons if c.kind == "targets" and c.rows] or report.comparisons
    lines = [line for comparison in beside if (line := _comparison_line(comparison)) is not None]
    lines.extend(search_lines(report))
    lines.extend(eval_sentence(row) for row in report.evals if row.accuracy.num_samples)
    return lines


def _comparison_line(comparison: Comparison) -> str | None:
    rows = [row for row in comparison.rows if row.output_throughput is not None]
    beside = f"**{comparison.target}** against **{comparison.baseline}**"
    if not rows:
        red = dict.fromkeys(code for row in comparison.rows for code in row.findings)
        return f"{beside}: not compared at any batch size; findings: {codes_text(tuple(red))}." if red else None
    parts = [
        part
        for part in (
            _range("output throughput", rows, lambda row: row.output_throughput),
            _range("input throughput", rows, lambda row: row.input_throughput),
            _range("inter-token latency", rows, lambda row: row.itl),
        )
        if part is not None
    ]
    ratios = [row.output_throughput for row in rows if row.output_throughput is not None]
    nums = [ratio.num_a for ratio in ratios]
    if comparison.kind == "targets":  # published rows are single shots, as their caveat says
        nums += [ratio.num_b for ratio in ratios]
    text = f"{beside}: {'; '.join(parts)}; {passes_text(nums)}. {short_caveat(comparison)}"
    text += "".join(f" Batch {row.batch_size}: {codes_text(row.findings)}." for row in _ends(rows) if row.findings)
    left_out = [str(row.batch_size) for row in comparison.rows if row.output_throughput is None]
    if left_out:
        text += f" Not compared: batch {', '.join(left_out)}."
    if "~" in text:
        text += (
            f" ~ = the repeats of the two overlap.{numbers.unmarked_note(row.output_throughput for row in _ends(rows))}"
        )
    return text


def passes_text(nums: Iterable[int]) -> str:
    """How many passes figures come from; `nums` = those of every figure."""
    fewest, most = min(nums := list(nums)), max(nums)
    if most == 1:
        return "single passes"
    return f"medians of {most} passes" if fewest == most else f"medians of {fewest} to {most} passes"


def short_caveat(comparison: Comparison) -> str:
    """The first sentence of what a comparison rests on."""
    return f"{comparison.caveat.split('. ')[0].removesuffix('.')}."


def _ends(rows: list[RatioRow]) -> list[RatioRow]:
    return rows if len(rows) == 1 else [rows[0], rows[-1]]


def _range(what: str, rows: list[RatioRow], ratio_of: Callable[[RatioRow], Ratio | None]) -> str | None:
    """A figure at the smallest and the largest batch."""
    said = [
        f"{numbers.times(ratio, with_range=False)} at batch {row.batch_size}"
        for row in _ends(rows)
        if (ratio := ratio_of(row)) is not None
    ]
    return f"{what} {', '.join(said)}" if said else None


def _seen(members: list[Finding]) -> tuple[str, ...]:
    shown = [_evidence(finding) for finding in members[:_SHOWN]]
    if len(members) > _SHOWN:
        shown.append(f"and {len(members) - _SHOWN} more like these")
    return tuple(shown)


def _evidence(finding: Finding) -> str:
    values = dict(finding.evidence)
    place: list[str] = []
    if "batch_size" in values:
        place.append(f"batch {values.pop('batch_size'):.0f}")
    if "concurrency" in values:
        place.append(f"concurrency {values.pop('concurrency'):.0f}")
    if "rate_per_s" in values:
        place.append(f"{values.pop('rate_per_s'):.4g} req/s")
    if "repeat" in values:
        place.append(f"repeat {values.pop('repeat') + 1:.0f}")
    if "block" in values:
        place.append(f"block {values.pop('block') + 1:.0f}")
    if (launch := values.pop("launch", 0)) > 0:
        place.append(f"launch {launch + 1:.0f}")
    said = ", ".join(_said(name, value) for name, value in values.items())
    return f"{', '.join(place)}: {said}" if place else said


def _said(name: str, value: float) -> str:
    """`longest_gap_s` 0.2 -> longest gap 0.2 s; `cached_fraction` 0.01 -> cached fraction 1.0%."""
    words = name.removeprefix("num_").replace("_", " ")
    if name.endswith("_fraction"):
        return f"{words} {100 * value:.1f}%"
    if name.endswith("_tok_per_s"):
        return f"{words.removesuffix(' tok per s')} {numbers.evidence(value)} tok/s"
    for ending in ("_s", "_ms"):
        if name.endswith(ending):
            return f"{words.removesuffix(ending.replace('_', ' '))} {numbers.evidence(value)} {ending[1:]}"
    return f"{words} {numbers.evidence(value)}"


def _sentence(text: str) -> str:
    first = text.partition(" ")[0]
    # The name of an eval or of a node keeps its case.
    if not first.endswith(":") and not any(sign.isdigit() for sign in first):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", ")")) else f"{text}."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))

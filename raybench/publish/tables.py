"""Tables of a target's run: load points, repeats, samples, start-up, findings. Pure."""

from collections.abc import Callable, Iterable

from raybench.config.publish import ShareSamples
from raybench.publish import serving_tables
from raybench.publish.content import Cell, Table
from raybench.publish.names import PERF_NAMES, segment
from raybench.publish.privacy import clean
from raybench.publish.samples import sharing, text_hash
from raybench.records import Finding, Outcome, SampleRecord
from raybench.report.model import PerfRow, Report, Spread, TargetRow
from raybench.validity.accuracy import ScoredEval

SHOWN_CHARS = 2000
"""Of a longer reply, as many characters from its start and from its end are shown."""


def tables(report: Report, target: TargetRow, evals: Iterable[ScoredEval], share: ShareSamples) -> tuple[Table, ...]:
    """All tables of one target; those without rows are left out."""
    found = [
        _points(report, target.name),
        _repeats(report, target.name),
        serving_tables.loads(report, target.name),
        serving_tables.probes(report, target.name),
        _startup(report, target.name),
        findings_table([f for f in report.findings if f.target in (None, target.name)]),
        _preflight(report, target.name),
    ]
    for scored in evals:
        if scored.target == target.name:
            found.append(_samples(scored, sharing(scored.config, share)))
    return tuple(table for table in found if table.rows)


def findings_table(findings: list[Finding]) -> Table:
    """Findings, red ones first as in the report."""
    columns = ("severity", "code", "scope", "target", "rule", "evidence", "advice")
    rows = tuple(
        (f.severity, f.code, f.scope, f.target, clean(f.rule),
         ", ".join(f"{name}={value:g}" for name, value in f.evidence.items()), clean(f.advice))
        for f in findings
    )  # fmt: skip
    return Table("tables/findings", columns, rows)


def _points(report: Report, target: str) -> Table:
    columns = ("sweep", "batch_size", "input_len", "output_len", "repeats", *(n.name for n in PERF_NAMES), "findings")
    rows = sorted((row for row in report.perf if row.target == target and row.repeats), key=_order)
    return Table("tables/points", columns, tuple(_point(row) for row in rows))


def _order(row: PerfRow) -> tuple[str, int]:
    return row.sweep, row.batch_size


def _point(row: PerfRow) -> tuple[Cell, ...]:
    return (
        row.sweep, row.batch_size, row.input_tokens, row.output_tokens, len(row.repeats),
        *(_median(row, name.field, name.factor) for name in PERF_NAMES), ", ".join(row.findings),
    )  # fmt: skip


def _median(row: PerfRow, field: str, factor: float) -> float | None:
    value: Spread | float | None = getattr(row, field)
    if value is None:
        return None
    return factor * (value.median if isinstance(value, Spread) else value)


def _repeats(report: Report, target: str) -> Table:
    columns = (
        "sweep", "batch_size", "repeat", "launch", "node", "start", "attempt", "latency_s", "ttft_ms", "output_tok_s",
        "itl_ms", "warm_up", "flat",
    )  # fmt: skip
    rows = tuple(
        (row.sweep, row.batch_size, r.repeat, r.launch, r.node, r.start, r.attempt, r.latency_s,
         None if r.last_ttft_s is None else 1000 * r.last_ttft_s, r.output_tok_per_s, r.itl_ms, r.num_warm_up, r.flat)
        for row in sorted(report.perf, key=_order) if row.target == target
        for r in row.repeats
    )  # fmt: skip
    return Table("tables/repeats", columns, rows)


def _startup(report: Report, target: str) -> Table:
    rows = tuple(
        (row.start, row.launch, row.version, phase.name, phase.duration_s)
        for row in report.startup if row.target == target
        for phase in row.phases
    )  # fmt: skip
    return Table("tables/startup", ("start", "launch", "version", "phase", "duration_s"), rows)


def _preflight(report: Report, target: str) -> Table:
    rows = tuple(
        (row.check, row.route, row.node, row.start, row.result, clean(row.words), row.duration_s)
        for row in report.preflight if row.target == target
    )  # fmt: skip
    return Table("tables/preflight", ("check", "route", "node", "start", "result", "words", "duration_s"), rows)


def _samples(scored: ScoredEval, share: ShareSamples) -> Table:
    name = f"eval/{segment(scored.config.name)}/samples"
    columns: dict[str, Callable[[SampleRecord, Outcome], Cell]] = {
        "sample_id": lambda s, _: s.key,
        "question_hash": lambda s, _: text_hash(s.question),
        "repeat": lambda s, _: s.repeat,
        "outcome": lambda _, outcome: outcome,
        "correct": lambda _, outcome: outcome == "correct",
        "finish_reason": lambda s, _: s.finish_reason,
        "output_tokens": lambda s, _: s.output_tokens,
        "latency_s": lambda s, _: s.duration_s,
        "response_hash": lambda s, _: text_hash(s.reply),
    }
    if share == "full":
        columns |= {
            "question": lambda s, _: s.question,
            "gold": lambda s, _: s.gold,
            "answer": lambda s, _: scored.evaluation.extract(s.reply or "", s.finish_reason).value,
            "response": lambda s, _: clean(trimmed(s.reply)) if s.reply is not None else None,
        }
    rows = () if share == "none" else tuple(
        tuple(value(sample, scored.outcomes[sample.question, sample.repeat]) for value in columns.values())
        for sample in scored.samples
    )  # fmt: skip
    return Table(name, tuple(columns), rows)


def trimmed(text: str | None) -> str:
    """Start and end of a long text."""
    if text is None or len(text) <= 2 * SHOWN_CHARS:
        return text or ""
    return f"{text[:SHOWN_CHARS]}\n[... {len(text) - 2 * SHOWN_CHARS} characters ...]\n{text[-SHOWN_CHARS:]}"

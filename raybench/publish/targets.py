"""One run of a sink for each target: history, flat summary, flat configuration. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from raybench.config.publish import ShareSamples
from raybench.ledger.view import RunView
from raybench.publish import serving
from raybench.publish.content import Row, RunContent, Scalar
from raybench.publish.names import (
    CURVES,
    EVAL_NAMES,
    PERF_NAMES,
    RECORDS,
    X_AXIS,
    PerfName,
    at_path,
    curve_values,
    finite,
    last_part,
    run_ref,
    segment,
    slug,
    sweep_id,
)
from raybench.publish.privacy import clean, is_private
from raybench.publish.steps import PointId, schedule
from raybench.publish.tables import tables
from raybench.records import LedgerRecord, PerfMeasurement
from raybench.report.model import EvalRow, PerfRow, Report, Spread, TargetRow
from raybench.stats.accuracy import AccuracyScore
from raybench.validity.accuracy import ScoredEval, scored_evals

TAG_CHARS = 64


@dataclass(frozen=True)
class Source:
    """A run folder, read once."""

    records: tuple[LedgerRecord, ...]
    view: RunView
    report: Report
    closed: bool
    """True: nobody writes the ledger any more."""
    attempt: str = ""
    """Label that makes other ids."""

    @cached_property
    def scored(self) -> tuple[ScoredEval, ...]:
        """Its evals, sample by sample; grading them takes seconds where there are many."""
        return tuple(scored_evals(self.view))

    @property
    def sweep(self) -> str:
        """Name of the measurements, part of every run's id."""
        return sweep_id(self.view.run.run_id, self.view.plan.digest if self.view.plan else None, self.attempt)

    @property
    def group(self) -> str:
        """What W&B calls the group of the runs of this folder."""
        return f"{self.report.provenance.name}-{self.sweep}"

    def run_id(self, name: str) -> str:
        """Id of the run of a target, or of the comparison."""
        return run_ref(self.sweep, name)


def target_runs(source: Source, share: ShareSamples) -> tuple[RunContent, ...]:
    """A run for each target, in plan order; the same ledger gives the same ids, steps, rows and keys."""
    return tuple(_run(source, target, share) for target in source.report.targets)


def display_name(source: Source, target: TargetRow) -> str:
    """Name of a target's run for people. Legends show nothing else, and two runs of one study have the same targets."""
    hardware = f"{target.accelerator}x{target.gpus_per_node}" if target.gpus_per_node else target.accelerator
    return f"{target.name} · {hardware} · {last_part(source.report.provenance.model)} · {source.sweep}"


def _run(source: Source, target: TargetRow, share: ShareSamples) -> RunContent:
    report = source.report
    rows: dict[PointId, PerfRow] = {
        (row.target, row.sweep, row.batch_size): row for row in report.perf if row.target == target.name
    }
    plan = schedule(source.records, source.view, target.name, closed=source.closed)
    return RunContent(
        id=source.run_id(target.name),
        name=display_name(source, target),
        group=source.group,
        job_type="bench",
        tags=_tags(source, target),
        config=_config(source, target),
        history=tuple(
            sorted(
                (*_history(plan.points, rows), *serving.history(plan.points, report, target.name)),
                key=lambda row: row.step,
            )
        ),
        summary=_summary(source, target, list(rows.values())) | serving.summary(report, target.name),
        last_step=plan.last_step,
        tables=tables(report, target, source.scored, share) if source.closed else (),
    )


def _history(points: tuple[tuple[int, PointId], ...], rows: dict[PointId, PerfRow]) -> tuple[Row, ...]:
    found: list[Row] = []
    times: dict[PointId, int] = {}
    several = len({sweep for _, sweep, _ in rows}) > 1
    for step, point in points:
        times[point] = times.get(point, 0) + 1
        row = rows.get(point)
        if row is not None and row.repeats:
            values = _history_row(row)
            if several:
                values |= curve_values(values, "perf/", row.sweep, CURVES)
            found.append(Row(step, values | {"perf/attempt": times[point]}, _revisable(row)))
    return tuple(found)


def _history_row(row: PerfRow) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {
        X_AXIS: row.batch_size,
        "perf/concurrency": row.batch_size,
        "perf/sweep": row.sweep,
        "perf/input_len": row.input_tokens,
        "perf/output_len": row.output_tokens,
        "perf/repeats": len(row.repeats),
    }
    found |= figures(row, "perf/", (name for name in PERF_NAMES if name.settled))
    if row.itl_ms is not None and row.itl_ms.median > 0:
        found["perf/interactivity_tok_s_user"] = 1000 / row.itl_ms.median
    return finite(found)


def _revisable(row: PerfRow) -> dict[str, Scalar]:
    """A larger batch that turns out faster makes a finding about a smaller one; a resumed run may have other prices."""
    prices = figures(row, "perf/", (name for name in PERF_NAMES if not name.settled))
    return finite({"perf/findings": ", ".join(row.findings), **prices})


def figures(row: PerfRow, prefix: str, names: Iterable[PerfName] = PERF_NAMES) -> dict[str, Scalar]:
    """Medians of a load point, and the ends over repeats where there are several."""
    found: dict[str, Scalar] = {}
    for each in names:
        value: Spread | float | None = getattr(row, each.field)
        if isinstance(value, Spread):
            found[f"{prefix}{each.name}"] = value.median * each.factor
            if value.num > 1:
                found[f"{prefix}{each.name}_min"] = value.min * each.factor
                found[f"{prefix}{each.name}_max"] = value.max * each.factor
        elif value is not None:
            found[f"{prefix}{each.name}"] = value * each.factor
    return found


def _summary(source: Source, target: TargetRow, rows: list[PerfRow]) -> dict[str, Scalar]:
    report = source.report
    found: dict[str, Scalar] = {
        "raybench/schema_version": report.schema_version,
        "raybench/validity": report.verdict,
        "raybench/closed": source.closed,
        RECORDS: len(source.records),
        "raybench/units": target.num_units_done,
        "raybench/units_planned": target.num_units,
        "raybench/samples": target.num_samples_done,
        "raybench/samples_planned": target.num_samples,
        "raybench/simulated": target.simulated,
    }
    about = [finding for finding in report.findings if finding.target in (None, target.name)]
    for severity in ("red", "warn", "info"):
        found[f"raybench/findings_{severity}"] = sum(finding.severity == severity for finding in about)
    sweeps = list(dict.fromkeys(row.sweep for row in rows))
    for row in rows:
        section = "" if len(sweeps) == 1 else f"{segment(row.sweep)}/"
        found |= figures(row, f"perf/{section}bs{row.batch_size}/")
        # Sent where there is none too: one that was refuted must not stay.
        found[f"perf/{section}bs{row.batch_size}/findings"] = ", ".join(row.findings)
        found |= _energy(source.view, row, f"energy/{section}bs{row.batch_size}/")
    peaks = [row.output_tok_per_s.median for row in rows if row.output_tok_per_s is not None]
    if peaks:
        found["perf/peak_output_tok_s"] = max(peaks)
    for row in report.evals:
        if row.target == target.name:
            found |= eval_summary(row)
    first = next((row for row in report.startup if row.target == target.name), None)
    for phase in first.phases if first else ():
        found[f"startup/{segment(phase.name)}_s"] = phase.duration_s
    return finite(found)


def _energy(view: RunView, row: PerfRow, prefix: str) -> dict[str, Scalar]:
    """Power and energy of all GPUs together, medians over the repeats; nothing where no GPU tells."""
    joules: list[float] = []
    for repeat in row.repeats:
        measured = view.done[repeat.key].measurement
        if isinstance(measured, PerfMeasurement) and measured.gpus:
            counted = [gpu.energy_j for gpu in measured.gpus if gpu.energy_j is not None]
            if len(counted) == len(measured.gpus) and measured.measured.output_tokens:
                joules.append(sum(counted) / measured.measured.output_tokens)
    found: dict[str, Scalar] = {}
    if row.mean_power_w is not None:
        found[f"{prefix}power_w"] = row.mean_power_w
    if joules:
        found[f"{prefix}joules_per_output_token"] = median(joules)
    return found


def eval_summary(row: EvalRow) -> dict[str, Scalar]:
    """One eval's values under their names."""
    prefix = f"eval/{segment(row.eval)}"
    values: dict[str, Scalar | None] = {f"{prefix}/{each.name}": at_path(row, each.path) for each in EVAL_NAMES}
    values[f"{prefix}/baseline"], values[f"{prefix}/verdict"] = held_against(row.accuracy)
    if row.accuracy.gate is None and row.accuracy.standings:
        values[f"{prefix}/delta"] = row.accuracy.standings[0].difference
    values[f"{prefix}/missing"] = row.accuracy.num_missing
    for outcome in ("unparsed", "truncated", "errored"):
        name = "parse_failures" if outcome == "unparsed" else outcome
        if values[f"{prefix}/{name}"] is None:
            values[f"{prefix}/{name}"] = 0
    return finite(values)


def held_against(seen: AccuracyScore) -> tuple[float | None, str | None]:
    """What a score is held against, and the verdict; "not gated" where a reference is only shown beside it."""
    if seen.gate is not None:
        return seen.gate.baseline, seen.gate.verdict
    return (seen.standings[0].reference, "not gated") if seen.standings else (None, None)


def _config(source: Source, target: TargetRow) -> dict[str, Scalar]:
    report, made = source.report, source.report.provenance
    values: dict[str, Scalar | None] = {
        "target": target.name,
        "hardware": target.accelerator,
        "gpus": target.gpus_per_node,
        "nodes": target.num_nodes,
        "gpu_name": ", ".join(target.gpus) or None,
        "driver_version": ", ".join(target.drivers) or None,
        "model": last_part(made.model),
        "model_revision": ", ".join(target.model_revisions) or made.model_revision,
        "engine": target.engine,
        "engine_version": ", ".join(target.engine_versions) or None,
        "simulated": target.simulated,
        "time_scale": target.time_scale,
        "price_per_gpu_hour": target.price_per_gpu_hour,
        "seed": made.seed,
        "study": made.name,
        "sweep_id": source.sweep,
        "plan_hash": made.plan_digest,
        "config_hash": made.config_digest,
        "raybench_version": made.sessions[-1].raybench_version,
        "ray_version": made.sessions[-1].ray_version,
        "python_version": made.sessions[-1].python_version,
        "schema_version": report.schema_version,
    }
    for prefix, args in (("arg", target.args), ("resolved", target.resolved_args)):
        for name, value in args.items():
            if isinstance(value, str | int | float | bool) and not is_private(name):
                values[f"{prefix}_{slug(name, '_')}"] = clean(last_part(value)) if isinstance(value, str) else value
    return finite(values)


def _tags(source: Source, target: TargetRow) -> tuple[str, ...]:
    tags = [
        target.accelerator, last_part(source.report.provenance.model).split("/")[-1], target.engine,
        *target.engine_versions, source.report.verdict.lower(),
    ]  # fmt: skip
    if target.num_units_done < target.num_units or target.num_samples_done < target.num_samples:
        tags.append("partial")
    if any(failure.redone is False for failure in target.failures):
        tags.append("failed")
    if target.simulated and target.engine != "simulated":
        tags.append("simulated")
    return tuple(dict.fromkeys(tag[:TAG_CHARS] for tag in tags if tag))

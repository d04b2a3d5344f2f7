"""The one table from the report's names to W&B's. Pure.

W&B's names: lower case, `/` makes sections, no segment starts with a digit; a history row per batch size, a flat
summary (nested keys cannot be sorted or filtered), a flat configuration. None is dropped: W&B would show it as a value.
"""

import re
from dataclasses import dataclass

from raybench.records import content_hash
from raybench.report.model import EvalRow, PerfRow, Report, Spread, TargetRow

Scalar = str | int | float | bool

X_AXIS = "perf/batch_size"
RUN_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class PerfName:
    """One quantity of `PerfRow` under W&B's name."""

    field: str
    """Field of `raybench.report.model.PerfRow`."""
    name: str
    """Last segment of the name in W&B."""
    factor: float = 1.0
    """W&B's unit over ours."""


PERF_NAMES = (
    PerfName("latency_s", "latency_s"),
    PerfName("first_ttft_s", "ttft_first_ms", 1000),
    PerfName("median_ttft_s", "ttft_median_ms", 1000),
    PerfName("last_ttft_s", "ttft_ms", 1000),
    PerfName("input_tok_per_s", "input_tok_s"),
    PerfName("output_tok_per_s", "output_tok_s"),
    PerfName("overall_tok_per_s", "overall_tok_s"),
    PerfName("itl_ms", "itl_ms"),
    PerfName("steady_output_tok_per_s", "steady_output_tok_s"),
    PerfName("steady_itl_ms", "steady_itl_ms"),
    PerfName("output_tok_per_s_per_gpu", "output_tok_s_per_gpu"),
    PerfName("input_price_per_million_tokens", "input_cost_per_1m_tokens"),
    PerfName("output_price_per_million_tokens", "output_cost_per_1m_tokens"),
    PerfName("mean_power_w", "power_w"),
)


@dataclass(frozen=True, slots=True)
class WandbRun:
    """Everything that one W&B run holds."""

    id: str
    name: str
    group: str
    tags: tuple[str, ...]
    config: dict[str, Scalar]
    history: tuple[dict[str, Scalar], ...]
    """Rows in ascending order of batch size within a sweep."""
    summary: dict[str, Scalar]


def runs(report: Report) -> tuple[WandbRun, ...]:
    """One run for each target, in plan order; the same report gives the same ids, rows and keys."""
    return tuple(_run(report, target) for target in report.targets)


def sweep_id(report: Report) -> str:
    """Eight digits that name the run folder's measurements: another plan or another run has others."""
    return content_hash([report.provenance.run_id, report.provenance.plan_digest], 8)


def slug(text: str, joiner: str) -> str:
    """Lower case letters, digits and `joiner` only."""
    return re.sub(r"[^a-z0-9]+", joiner, text.lower()).strip(joiner)


def _run(report: Report, target: TargetRow) -> WandbRun:
    rows = [row for row in report.perf if row.target == target.name]
    return WandbRun(
        id=f"rb-{sweep_id(report)}-{slug(target.name, '-')}"[:RUN_ID_CHARS],
        name=f"{target.name} · {_hardware(target)} · {_last_part(report.provenance.model)}",
        group=f"{report.provenance.name}-{sweep_id(report)}",
        tags=_tags(report, target),
        config=_config(report, target),
        history=tuple(_history_row(row) for row in sorted(rows, key=lambda r: (r.sweep, r.batch_size)) if row.repeats),
        summary=_summary(report, target, rows),
    )


def _history_row(row: PerfRow) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {
        X_AXIS: row.batch_size,
        "perf/sweep": row.sweep,
        "perf/input_len": row.input_tokens,
        "perf/output_len": row.output_tokens,
        "perf/repeats": len(row.repeats),
        "perf/findings": ", ".join(row.findings),
    }
    found |= _figures(row, "perf/")
    if row.itl_ms is not None and row.itl_ms.median > 0:
        found["perf/interactivity_tok_s_user"] = 1000 / row.itl_ms.median
    return found


def _figures(row: PerfRow, prefix: str) -> dict[str, Scalar]:
    """Medians, and the ends over repeats where there are several."""
    found: dict[str, Scalar] = {}
    for each in PERF_NAMES:
        value: Spread | float | None = getattr(row, each.field)
        if isinstance(value, Spread):
            found[f"{prefix}{each.name}"] = value.median * each.factor
            if value.num > 1:
                found[f"{prefix}{each.name}_min"] = value.min * each.factor
                found[f"{prefix}{each.name}_max"] = value.max * each.factor
        elif value is not None:
            found[f"{prefix}{each.name}"] = value * each.factor
    return found


def _summary(report: Report, target: TargetRow, rows: list[PerfRow]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {
        "raybench/schema_version": report.schema_version,
        "raybench/status": report.verdict,
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
        section = "" if len(sweeps) == 1 else f"{_segment(row.sweep)}/"
        found |= _figures(row, f"perf/{section}bs{row.batch_size}/")
    peaks = [row.output_tok_per_s.median for row in rows if row.output_tok_per_s is not None]
    if peaks:
        found["perf/peak_output_tok_s"] = max(peaks)
    for row in report.evals:
        if row.target == target.name:
            found |= _eval(row)
    first = next((row for row in report.startup if row.target == target.name), None)
    for phase in first.phases if first else ():
        found[f"startup/{_segment(phase.name)}_s"] = phase.duration_s
    return found


def _eval(row: EvalRow) -> dict[str, Scalar]:
    seen, prefix = row.accuracy, f"eval/{_segment(row.eval)}"
    values: dict[str, Scalar | None] = {
        "score": seen.score,
        "ci_lo": seen.exam.low if seen.exam else None,
        "ci_hi": seen.exam.high if seen.exam else None,
        "worst": seen.worst,
        "best": seen.best,
        "n": seen.num_scored,
        "missing": seen.num_planned - seen.num_samples,
        "parse_failures": seen.counts.get("unparsed", 0),
        "truncated": seen.counts.get("truncated", 0),
        "errored": seen.counts.get("errored", 0),
        "mean_output_tokens": row.mean_output_tokens,
        "synthetic": row.synthetic,
    }
    if seen.gate is not None:
        values |= {"baseline": seen.gate.baseline, "delta": seen.gate.difference, "gate": seen.gate.verdict}
    return {f"{prefix}/{name}": value for name, value in values.items() if value is not None}


def _config(report: Report, target: TargetRow) -> dict[str, Scalar]:
    made = report.provenance
    values: dict[str, Scalar | None] = {
        "target": target.name,
        "hardware": target.accelerator,
        "gpus": target.gpus_per_node,
        "nodes": target.num_nodes,
        "gpu_name": ", ".join(target.gpus) or None,
        "driver_version": ", ".join(target.drivers) or None,
        "model": _last_part(made.model),
        "model_revision": ", ".join(target.model_revisions) or made.model_revision,
        "engine": target.engine,
        "engine_version": ", ".join(target.engine_versions) or None,
        "simulated": target.simulated,
        "time_scale": target.time_scale,
        "price_per_gpu_hour": target.price_per_gpu_hour,
        "seed": made.seed,
        "study": made.name,
        "sweep_id": sweep_id(report),
        "plan_hash": made.plan_digest,
        "config_hash": made.config_digest,
        "raybench_version": made.sessions[-1].raybench_version,
        "ray_version": made.sessions[-1].ray_version,
        "python_version": made.sessions[-1].python_version,
    }
    for name, value in target.args.items():
        if isinstance(value, str | int | float | bool):
            values[f"arg_{slug(name, '_')}"] = _last_part(value) if isinstance(value, str) else value
    for name, value in target.resolved_args.items():
        if isinstance(value, str | int | float | bool):
            values[f"resolved_{slug(name, '_')}"] = _last_part(value) if isinstance(value, str) else value
    return {name: value for name, value in values.items() if value is not None}


def _tags(report: Report, target: TargetRow) -> tuple[str, ...]:
    tags = [target.accelerator, target.engine, *target.engine_versions, report.verdict.lower()]
    if target.simulated and target.engine != "simulated":
        tags.append("simulated")
    return tuple(dict.fromkeys(tag[:64] for tag in tags if tag))


def _hardware(target: TargetRow) -> str:
    return f"{target.accelerator}x{target.gpus_per_node}" if target.gpus_per_node else target.accelerator


def _last_part(text: str) -> str:
    """A hub id as it is; of a path only its last part, for paths say where and whose a machine is."""
    if text.startswith(("/", "~", ".", "\\")) or text.count("/") > 1 or re.match(r"^[A-Za-z]:[\\/]", text):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return text


def _segment(text: str) -> str:
    """A name's segment may not start with a digit."""
    clean = slug(text, "_")
    return clean if clean[:1].isalpha() else f"n{clean}"

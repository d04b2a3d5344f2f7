"""The one table from the report's names to those of the sinks, and the rules of names. Pure.

W&B's names: lower case, `/` makes sections, no segment starts with a digit; a history row per batch size, a flat
summary (nested keys cannot be sorted or filtered), a flat configuration. None is dropped: W&B would show it as a value.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raybench.publish.content import Scalar
from raybench.records import content_hash

X_AXIS = "perf/batch_size"
SERVING_X = "serving/x"
ROW_AXES = (X_AXIS, SERVING_X)
"""Every history row has one of them: by that rows are told from tables when they are read back."""
ROW_IDENTITY = (*ROW_AXES, "perf/sweep", "serving/sweep")
"""What tells the rows of one point from those of others."""
RECORDS = "raybench/records"
"""Summary key that holds the number of ledger records: reading it back proves that a publication is whole."""
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
    settled: bool = True
    """False: settings that a later session may change are part of it."""


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
    PerfName("input_price_per_million_tokens", "input_cost_per_1m_tokens", settled=False),
    PerfName("output_price_per_million_tokens", "output_cost_per_1m_tokens", settled=False),
    PerfName("mean_power_w", "power_w"),
)


@dataclass(frozen=True, slots=True)
class EvalName:
    """One value of an eval's row under W&B's name."""

    path: str
    """Dotted path below `raybench.report.model.EvalRow`; a step that is missing or None leaves the value out."""
    name: str
    """Last segment of the name in W&B."""


EVAL_NAMES = (
    EvalName("accuracy.score", "score"),
    EvalName("accuracy.exam.low", "ci_lo"),
    EvalName("accuracy.exam.high", "ci_hi"),
    EvalName("accuracy.population.low", "population_lo"),
    EvalName("accuracy.population.high", "population_hi"),
    EvalName("lenient_score", "lenient_score"),
    EvalName("accuracy.worst", "worst"),
    EvalName("accuracy.best", "best"),
    EvalName("accuracy.num_scored", "n"),
    EvalName("accuracy.counts.unparsed", "parse_failures"),
    EvalName("accuracy.counts.truncated", "truncated"),
    EvalName("accuracy.counts.errored", "errored"),
    EvalName("mean_output_tokens", "mean_output_tokens"),
    EvalName("synthetic", "synthetic"),
    EvalName("accuracy.gate.difference", "delta"),
)


CURVES = (
    ("Output throughput", "output_tok_s", "tok/s"),
    ("Input throughput", "input_tok_s", "tok/s"),
    ("Inter-token latency", "itl_ms", "ms"),
    ("Latency", "latency_s", "s"),
    ("Time to first token, slowest request", "ttft_ms", "ms"),
    ("Output throughput per GPU", "output_tok_s_per_gpu", "tok/s"),
    ("Output throughput of one user", "interactivity_tok_s_user", "tok/s"),
)
"""What is drawn over the batch size: title, last segment of the name, unit."""


def finite(values: Mapping[str, Scalar | None]) -> dict[str, Scalar]:
    """The values that a sink may show: no None, no NaN, no infinity."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def at_path(start: object, path: str) -> Scalar | None:
    """The scalar at a dotted path of attributes and keys; None where a step is missing."""
    found: object = start
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else getattr(found, step, None)
    return found if isinstance(found, str | int | float | bool) else None


def sweep_id(run_id: str, plan_digest: str | None, attempt: str = "") -> str:
    """Eight digits that name a run folder's measurements: another plan, run or attempt to publish has others."""
    return content_hash([run_id, plan_digest, *([attempt] if attempt else [])], 8)


def slug(text: str, joiner: str) -> str:
    """Lower case letters, digits and `joiner` only."""
    return re.sub(r"[^a-z0-9]+", joiner, text.lower()).strip(joiner)


def segment(text: str) -> str:
    """A name's segment may not start with a digit."""
    clean = slug(text, "_")
    return clean if clean[:1].isalpha() else f"n{clean}"


def run_ref(sweep: str, name: str) -> str:
    """Id of a run: at most 64 of `[a-z0-9-]`. Two names that a cut would make alike keep a hash each."""
    plain = f"rb-{sweep}-{slug(name, '-')}"
    if len(plain) <= RUN_ID_CHARS and slug(name, "-") == name:
        return plain
    return f"{plain[: RUN_ID_CHARS - 7]}-{content_hash(name, 6)}"


def last_part(text: str) -> str:
    """A hub id as it is; of a path only its last part, for paths say where and whose a machine is."""
    if text.startswith(("/", "~", ".", "\\")) or text.count("/") > 1 or re.match(r"^[A-Za-z]:[\\/]", text):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return text


def curve_values(
    values: Mapping[str, Scalar], prefix: str, sweep: str, curves: Iterable[tuple[str, str, str]]
) -> dict[str, Scalar]:
    """What is drawn, once more under names of the sweep: a chart of a run joins all rows that hold a metric, so that
    two sweeps under one name would be one line."""
    names = [last for _, last, _ in curves if f"{prefix}{last}" in values]
    return {f"{prefix}{segment(sweep)}/{last}": values[f"{prefix}{last}"] for last in names}


def display_label(target: str, sweep: str | None) -> str:
    """A target in a table; `sweep` tells apart the same target of two runs."""
    return target if sweep is None else f"{target}@{sweep}"

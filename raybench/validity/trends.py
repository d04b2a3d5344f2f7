"""Checks of repeats against each other and of batch sizes against each other.

A single shot cannot tell a stall from a property of the machine: the report that this project grew from prints a time
to first token at batch 2 that is longer than the one at batch 4, and nobody saw it. These rules see it. A finding about
a whole point carries the key of its first repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from raybench.ledger.view import RunView
from raybench.records import Finding, PerfMeasurement, PerfUnit
from raybench.stats.one_batch import figures

OUTLIER_FRACTION = 0.10
NOISY_FRACTION = 0.10
DECREASE_FRACTION = 0.02
"""More work may not take less time; 2% is left for what repeats cannot show."""

PREFILL_FRACTION = 0.7
"""Healthy sweeps on H200 and B200 lie above 0.85; the cold row of the published B200 table at 0.59."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """One measured pass of a load point."""

    key: str
    repeat: int
    launch: int
    latency_s: float
    last_ttft_s: float | None
    itl_ms: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """All repeats of one load point on one target."""

    target: str
    sweep: str
    batch_size: int
    input_tokens: int
    repeats: tuple[Repeat, ...]


def trend_findings(view: RunView) -> list[Finding]:
    """Findings over repeats and batch sizes of every (target, sweep), in plan order."""
    found: list[Finding] = []
    for points in _sweeps(view):
        for point in points:
            found.extend(repeat_findings(point))
        found.extend(monotonic_findings(points))
        found.extend(prefill_findings(points))
    return found


def repeat_findings(point: Point) -> list[Finding]:
    """`outlier_repeat` for passes far from all others, else `noisy` for a wide spread. Needs 3 and 2 repeats.

    Where half of the passes lie alone nobody can say which are wrong: that is noise.
    """
    if len(point.repeats) < 2:
        return []
    outliers = [repeat for repeat in point.repeats if _is_outlier(point, repeat)]
    if outliers and 2 * len(outliers) < len(point.repeats):
        return [_outlier(point, repeat) for repeat in outliers]
    return _noisy(point)


def _noisy(point: Point) -> list[Finding]:
    """`noisy` for the latencies of a point, else for its times to first token."""
    latencies = [repeat.latency_s for repeat in point.repeats]
    ttfts = [repeat.last_ttft_s for repeat in point.repeats if repeat.last_ttft_s is not None]
    if _spread_fraction(latencies) > NOISY_FRACTION:
        name, values = "latency", latencies
    # As for outliers, 2% of the latency keeps clock grain out of short prefills.
    elif ttfts and _spread_fraction(ttfts) > NOISY_FRACTION and _range(ttfts) > DECREASE_FRACTION * median(latencies):
        name, values = "ttft", ttfts
    else:
        return []
    return [
        Finding(
            code="noisy", severity="warn", scope="unit", target=point.target, key=point.repeats[0].key,
            rule=f"latency and time to first token of a point's repeats may lie at most {NOISY_FRACTION:.0%} apart",
            evidence={
                "batch_size": point.batch_size, "num_repeats": len(values),
                f"{name}_spread_fraction": _spread_fraction(values),
                f"min_{name}_s": min(values), f"max_{name}_s": max(values),
            },
            advice="Differences smaller than this spread mean nothing. Quiet the machine, or raise repeats.",
        )
    ]  # fmt: skip


def _range(values: list[float]) -> float:
    return max(values) - min(values)


def _spread_fraction(values: list[float]) -> float:
    middle = median(values)
    return _range(values) / middle if middle > 0 else 0.0


def _is_outlier(point: Point, repeat: Repeat) -> bool:
    """True if even the nearest other repeat is far away, in latency or in a share of it that the prefill takes."""
    others = [other for other in point.repeats if other is not repeat]
    nearest_s = min((other.latency_s for other in others), key=lambda value: abs(value - repeat.latency_s))
    if abs(repeat.latency_s - nearest_s) > OUTLIER_FRACTION * nearest_s:
        return True
    ttft_s = repeat.last_ttft_s
    ttfts = [other.last_ttft_s for other in others if other.last_ttft_s is not None]
    if ttft_s is None or not ttfts:
        return False
    # A stall in a short prefill hides in a long decode; 2% of the latency keeps clock grain out.
    off_s, nearest_ttft_s = min((abs(ttft_s - other), other) for other in ttfts)
    return off_s > OUTLIER_FRACTION * nearest_ttft_s and off_s > DECREASE_FRACTION * nearest_s


def _outlier(point: Point, repeat: Repeat) -> Finding:
    others = [other for other in point.repeats if other is not repeat]
    evidence: dict[str, float] = {
        "batch_size": point.batch_size, "repeat": repeat.repeat, "launch": repeat.launch,
        "latency_s": repeat.latency_s, "median_latency_of_others_s": median(other.latency_s for other in others),
    }  # fmt: skip
    ttfts = [other.last_ttft_s for other in others if other.last_ttft_s is not None]
    if repeat.last_ttft_s is not None and ttfts:
        evidence |= {"last_ttft_s": repeat.last_ttft_s, "median_ttft_of_others_s": median(ttfts)}
    return Finding(
        code="outlier_repeat", severity="warn", scope="unit", target=point.target, key=repeat.key,
        rule=f"latency and time to first token of a repeat must lie within {OUTLIER_FRACTION:.0%} of another repeat's",
        evidence=evidence,
        advice="Tables show medians, so one odd pass does not move them; the server's log may tell what it was.",
    )  # fmt: skip


def monotonic_findings(points: Sequence[Point]) -> list[Finding]:
    """`ttft_not_monotonic` and `itl_not_monotonic`: a point that is slower than one with a larger batch.

    `points` belong to one target and sweep. A point is reported if its median is more than 2% above that of a larger
    batch and the two ranges over repeats do not touch.
    """
    found: list[Finding] = []
    ordered = sorted(points, key=lambda p: p.batch_size)
    for quantity in ("ttft", "itl"):
        values = [_values(point, quantity) for point in ordered]
        for index, point in enumerate(ordered):
            faster = [
                other
                for other in range(index + 1, len(ordered))
                if values[index]
                and values[other]
                and median(values[index]) > median(values[other]) * (1 + DECREASE_FRACTION)
                and min(values[index]) > max(values[other])
            ]
            if faster:
                worst = min(faster, key=lambda other: median(values[other]))
                pair = (point, ordered[worst])
                found.append(_not_monotonic(quantity, pair, (median(values[index]), median(values[worst]))))
    return found


def prefill_findings(points: Sequence[Point]) -> list[Finding]:
    """`prefill_collapse`: a larger batch whose prompts are read far more slowly than those of a smaller one.

    Prefill is bound by arithmetic: more prompts at once take as long a token, or less. A single shot that stood still
    for 6.7 s in a prefill was printed as 26,280 tok/s beside 104,000 by a tool that had no such rule.
    """
    found: list[Finding] = []
    best: tuple[Point, float] | None = None
    for point in sorted(points, key=lambda p: p.batch_size):
        ttfts = [repeat.last_ttft_s for repeat in point.repeats if repeat.last_ttft_s]
        if not ttfts:
            continue
        rate = point.batch_size * point.input_tokens / median(ttfts)
        if best is not None and rate < PREFILL_FRACTION * best[1]:
            found.append(_prefill_collapse(point, rate, best))
        if best is None or rate > best[1]:
            best = (point, rate)
    return found


def _prefill_collapse(point: Point, rate: float, best: tuple[Point, float]) -> Finding:
    return Finding(
        code="prefill_collapse", severity="warn", scope="unit", target=point.target, key=point.repeats[0].key,
        rule=f"a larger batch reads its prompts at {PREFILL_FRACTION:.0%} or more of a smaller batch's rate",
        evidence={
            "batch_size": point.batch_size, "input_tok_per_s": rate,
            "smaller_batch_size": best[0].batch_size, "smaller_input_tok_per_s": best[1],
            "num_repeats": len(point.repeats),
        },
        advice=(
            f"Batch {point.batch_size} is suspect: the server stood still while it read the prompts (a kernel "
            "compiling, a shape that was not warmed up, a queue). Repeat it, and do not use its TTFT, latency or input "
            "throughput."
        ),
    )  # fmt: skip


def _not_monotonic(
    quantity: Literal["ttft", "itl"], pair: tuple[Point, Point], medians: tuple[float, float]
) -> Finding:
    point, larger = pair
    words, unit, cause = {
        "ttft": ("time to the last first token", "s", "a stall, a lazy compilation or a shape that was not warmed up"),
        "itl": ("inter-token latency", "ms", "another kernel, a CUDA graph that is missing at this size, or a stall"),
    }[quantity]
    return Finding(
        code=f"{quantity}_not_monotonic", severity="warn", scope="unit", target=point.target, key=point.repeats[0].key,
        rule=f"the {words} may not fall by more than {DECREASE_FRACTION:.0%} as the batch grows",
        evidence={
            "batch_size": point.batch_size, f"{quantity}_{unit}": medians[0],
            "larger_batch_size": larger.batch_size, f"larger_{quantity}_{unit}": medians[1],
            "num_repeats": len(point.repeats),
        },
        advice=f"Batch {point.batch_size} is suspect: {cause}. Repeat it, and do not compare targets at this size.",
    )  # fmt: skip


def _values(point: Point, quantity: Literal["ttft", "itl"]) -> list[float]:
    all_values = [r.last_ttft_s if quantity == "ttft" else r.itl_ms for r in point.repeats]
    return [value for value in all_values if value is not None]


def _sweeps(view: RunView) -> list[list[Point]]:
    """Points of every (target, sweep) in plan order, each with the repeats that came back."""
    sweeps: dict[tuple[str, str, int], dict[int, list[Repeat]]] = {}
    for key, unit in view.units.items():
        done = view.done.get(key)
        if not isinstance(unit, PerfUnit) or done is None or not isinstance(done.measurement, PerfMeasurement):
            continue
        measured = done.measurement.measured
        if measured.num_ok < measured.num_requests:
            # Times of a pass that broke off say nothing; `wrong_output_length` has it.
            continue
        values = figures(measured, unit.load)
        repeat = Repeat(key, unit.repeat, unit.launch, measured.latency_s, measured.last_ttft_s, values.itl_ms)
        place = (unit.target, unit.sweep, unit.load.input_tokens)
        sweeps.setdefault(place, {}).setdefault(unit.load.batch_size, []).append(repeat)
    return [
        [Point(target, sweep, size, input_tokens, tuple(repeats)) for size, repeats in sorted(points.items())]
        for (target, sweep, input_tokens), points in sweeps.items()
    ]

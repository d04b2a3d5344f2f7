"""The comparison as tables: ratios with their range, accuracy with intervals, answers joined by question. Pure.

W&B computes no ratio over runs, draws no interval of one run, and stacks tables instead of joining them: all of that is
done here.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from raybench.config.publish import ShareSamples
from raybench.publish.arms import Arm, Graded
from raybench.publish.content import Cell, Scalar, Table
from raybench.publish.names import finite, segment
from raybench.publish.samples import settings_named, sharing, text_hash
from raybench.publish.targets import held_against
from raybench.report.accuracy_words import MISSING
from raybench.report.model import EvalRow, PerfRow, RepeatRow
from raybench.stats.compare import Ratio, compare_accuracy, ratio

SPEED_COLUMNS = (
    "metric", "sweep", "batch_size", "baseline", "target", "baseline_value", "target_value", "ratio", "low", "high",
    "better", "findings",
)  # fmt: skip
"""`better` = target, baseline or same; None with fewer than `MIN_REPEATS` repeats on either side."""
ACCURACY_COLUMNS = (
    "eval", "target", "n", "score", "ci_lo", "ci_hi", "baseline", "verdict", "difference", "difference_lo",
    "difference_hi", "permutation_p", "red", "not_compared",
)  # fmt: skip
"""`red` = codes of red findings about either side. `not_compared` = any other reason why there is no difference."""

MIN_REPEATS = 4
"""Of either side, for a winner: two equal sides with n repeats each are apart by chance in 2 of C(2n, n) cases:
100% at 1, 33% at 2, 10% at 3, 2.9% at 4."""

_Measure = Callable[[RepeatRow, PerfRow], float | None]


def _input_rate(repeat: RepeatRow, row: PerfRow) -> float | None:
    return row.batch_size * row.input_tokens / repeat.last_ttft_s if repeat.last_ttft_s else None


METRICS: dict[str, tuple[_Measure, bool]] = {
    "output_tok_s": (lambda repeat, _: repeat.output_tok_per_s, True),
    "input_tok_s": (_input_rate, True),
    "itl_ms": (lambda repeat, _: repeat.itl_ms, False),
    "latency_s": (lambda repeat, _: repeat.latency_s, False),
    "ttft_ms": (lambda repeat, _: None if repeat.last_ttft_s is None else 1000 * repeat.last_ttft_s, False),
}
"""Compared quantities of a repeat; True = more is better."""


def speed(arms: Sequence[Arm]) -> Table:
    """Every load point of every arm beside the same point of the first one: same lengths, same batch size."""
    return Table("compare/speedup", SPEED_COLUMNS, tuple(row for arm in arms[1:] for row in _speed(arms[0], arm)))


def _speed(baseline: Arm, arm: Arm) -> Iterator[tuple[Cell, ...]]:
    for row in sorted(arm.perf, key=lambda r: (r.sweep, r.batch_size)):
        other = _counterpart(row, baseline.perf)
        if other is None:
            continue
        for metric, (measure, more_is_better) in METRICS.items():
            found = None if row.red or other.red else _ratio(measure, row, other)
            codes = ", ".join(dict.fromkeys((*other.findings, *row.findings)))
            yield (
                metric, row.sweep, row.batch_size, baseline.label, arm.label,
                _median(measure, other), _median(measure, row),
                found.ratio if found else None, found.low if found else None, found.high if found else None,
                better(found, more_is_better), codes,
            )  # fmt: skip


def _shape(row: PerfRow) -> tuple[int, int, int]:
    return row.batch_size, row.input_tokens, row.output_tokens


def _counterpart(row: PerfRow, others: Sequence[PerfRow]) -> PerfRow | None:
    """The baseline's point of the same sweep; where its sweeps have other names, its only point of that shape."""
    alike = [other for other in others if _shape(other) == _shape(row)]
    named = [other for other in alike if other.sweep == row.sweep]
    return named[0] if named else alike[0] if len(alike) == 1 else None


def _values(measure: _Measure, row: PerfRow) -> list[float]:
    return [value for repeat in row.repeats if (value := measure(repeat, row)) is not None]


def _median(measure: _Measure, row: PerfRow) -> float | None:
    values = _values(measure, row)
    return median(values) if values else None


def _ratio(measure: _Measure, row: PerfRow, other: PerfRow) -> Ratio | None:
    return ratio(_values(measure, row), _values(measure, other))


def better(found: Ratio | None, more_is_better: bool) -> str | None:
    """Which side all repeats say is better; None where there are too few to say it."""
    if found is None or min(found.num_a, found.num_b) < MIN_REPEATS:
        return None
    if found.low <= 1 <= found.high:
        return "same"
    return "target" if (found.low > 1) == more_is_better else "baseline"


def accuracy(arms: Sequence[Arm]) -> Table:
    """Every eval of every arm with its interval, and its paired difference to the first arm.

    An eval with a red finding on either side, or that misses samples there, is compared with nothing, as in the report;
    so is one that two runs asked otherwise.
    """
    names = dict.fromkeys(row.eval for arm in arms for row in arm.evals)
    rows = (row for name in names for arm in arms for row in _accuracy(name, arms[0], arm))
    return Table("compare/accuracy", ACCURACY_COLUMNS, tuple(rows))


def _accuracy(name: str, baseline: Arm, arm: Arm) -> Iterator[tuple[Cell, ...]]:
    for row in (each for each in arm.evals if each.eval == name):
        seen = row.accuracy
        ours, theirs = arm.graded.get(row.eval), baseline.graded.get(row.eval)
        other = next((each for each in baseline.evals if each.eval == row.eval), None)
        reds = dict.fromkeys((*row.invalid_by, *(other.invalid_by if other else ())))
        reasons = () if arm is baseline or other is None else (*_missing(row, other), *_asked_otherwise(ours, theirs))
        comparable = arm is not baseline and not reds and not reasons
        paired = compare_accuracy(ours.outcomes, theirs.outcomes) if ours and theirs and comparable else None
        yield (
            row.eval, arm.label, seen.num_scored, seen.score,
            seen.exam.low if seen.exam else None, seen.exam.high if seen.exam else None,
            *held_against(seen),
            paired.difference if paired else None, paired.low if paired else None, paired.high if paired else None,
            paired.permutation_p if paired else None, ", ".join(reds), "; ".join(reasons) or None,
        )  # fmt: skip


def _missing(row: EvalRow, other: EvalRow) -> tuple[str, ...]:
    missing = row.accuracy.num_missing + other.accuracy.num_missing
    return (f"{missing:,} {MISSING}",) if missing else ()


def _asked_otherwise(ours: Graded | None, theirs: Graded | None) -> tuple[str, ...]:
    """The names of what differs; `compare/configuration` has the values."""
    if ours is None or theirs is None:
        return ()
    found = [name for name, value in ours.asked.items() if value != theirs.asked[name]]
    return (f"asked otherwise: {', '.join(found)}",) if found else ()


def questions(arms: Sequence[Arm], share: ShareSamples) -> tuple[Table, ...]:
    """For every eval a row per (question, repeat), with the outcome on each arm and whether they agree."""
    names = dict.fromkeys(name for arm in arms for name in arm.graded)
    return tuple(table for name in names if (table := _questions(arms, name, _sharing(arms, name, share))).rows)


def _sharing(arms: Sequence[Arm], name: str, share: ShareSamples) -> ShareSamples:
    """What every one of the runs allows for its eval of that name."""
    allowed = {sharing(settings_named(arm.settings, name), share) for arm in arms if name in arm.graded}
    return "none" if "none" in allowed else "hashed" if "hashed" in allowed else share


def _questions(arms: Sequence[Arm], name: str, share: ShareSamples) -> Table:
    found = [arm.graded.get(name) for arm in arms]
    columns = ("question" if share == "full" else "question_hash", "repeat", *(arm.key for arm in arms), "agree")
    items = sorted({item for graded in found if graded for item in graded.outcomes}) if share != "none" else []
    rows: list[tuple[Cell, ...]] = []
    for question, repeat in items:
        outcomes = [graded.outcomes.get((question, repeat)) if graded else None for graded in found]
        shown = question if share == "full" else text_hash(question)
        rows.append((shown, repeat, *outcomes, len({o == "correct" for o in outcomes if o is not None}) == 1))
    return Table(f"compare/{segment(name)}_questions", columns, tuple(rows))


def summary(speedup: Table, scores: Table, arms: Sequence[Arm]) -> dict[str, Scalar]:
    """The comparison as flat keys: `compare/b200/bs64/output_tok_s_ratio`, `compare/b200/aime25/difference`."""
    keys = {arm.label: segment(arm.label) for arm in arms}
    several = len({row[1] for row in speedup.rows}) > 1
    found: dict[str, Scalar | None] = {}
    for row in speedup.rows:
        metric, sweep, size, _, target = row[:5]
        where = f"{segment(str(sweep))}/bs{size}" if several else f"bs{size}"
        found[f"compare/{keys[str(target)]}/{where}/{metric}_ratio"] = row[7]
    for row in scores.rows:
        found[f"compare/{keys[str(row[1])]}/{segment(str(row[0]))}/difference"] = row[8]
    return finite(found)

"""Targets beside the first one, and beside published rows. Pure."""

from collections.abc import Callable, Mapping, Sequence

from raybench.config.schema import OneBatchSweep, TargetConfig
from raybench.ledger.view import RunView
from raybench.records import Timed
from raybench.report.model import (
    ArgRow,
    Comparison,
    EvalDifference,
    EvalLeftOut,
    EvalRow,
    PerfRow,
    RatioRow,
    ReferenceRow,
)
from raybench.report.points import Measured, measured_passes
from raybench.report.reference_rows import INPUT_TOKENS, OUTPUT_TOKENS, reference_for
from raybench.stats.accuracy import ItemOutcomes
from raybench.stats.compare import Ratio, compare_accuracy, ratio
from raybench.stats.one_batch import OneBatchFigures
from raybench.stats.permutation import holm
from raybench.validity.accuracy import ScoredEval
from raybench.validity.engine import argument_differences, simulated_targets

Quantity = Callable[[OneBatchFigures], float | None]


def comparisons(
    view: RunView, perf: Sequence[PerfRow], evals: Sequence[EvalRow], scored: Sequence[ScoredEval]
) -> tuple[Comparison, ...]:
    """Every other target against the first, sweep by sweep; then targets against published rows of their model.

    `scored`: every eval, graded once for the whole report: with twenty targets each grading takes seconds.
    """
    baseline, *others = view.config.targets
    outcomes = {(one.config.name, one.target): one.outcomes for one in scored}
    found: list[Comparison] = []
    for target in others:
        arguments = _arguments(view, baseline.name, target.name)
        differences, left_out = _evals(outcomes, (baseline.name, target.name), evals)
        sweeps: list[OneBatchSweep | None] = [*view.config.batch_sweeps] or [None]
        for number, sweep in enumerate(sweeps):
            found.append(
                Comparison(
                    kind="targets", baseline=baseline.name, target=target.name, sweep=sweep.name if sweep else None,
                    caveat=footing(view, baseline.name, target.name),
                    rows=_rows(view, (baseline, target), sweep, perf) if sweep else (),
                    evals=differences if number == 0 else (), evals_left_out=left_out if number == 0 else (),
                    arguments=arguments if number == 0 else (),
                )
            )  # fmt: skip
    found = _adjusted(found)
    for target in view.config.targets:
        found.extend(_reference(view, target, perf))
    return tuple(found)


def footing(view: RunView, baseline: str, target: str) -> str:
    """On how many machines and launches a comparison stands, in words."""
    places = [_places(view, name) for name in (baseline, target)]
    if not all(hosts and starts for hosts, starts in places):
        return "No performance results on both sides."
    (hosts_a, starts_a), (hosts_b, starts_b) = places
    if len(starts_a) == len(starts_b) == 1:
        if hosts_a == hosts_b:
            return (
                "One machine for both, one launch each. A difference shows these two launches; the ranges hold repeats "
                "within a launch only."
            )
        if len(hosts_a) == len(hosts_b) == 1:
            return (
                "One machine each, one launch. A difference may be that of two machines; the ranges hold repeats "
                "within a launch only."
            )
    return (
        f"{baseline}: {_num(len(hosts_a), 'machine')}, {_num(len(starts_a), 'launch')}; "
        f"{target}: {_num(len(hosts_b), 'machine')}, {_num(len(starts_b), 'launch')}."
    )


def _places(view: RunView, target: str) -> tuple[set[str], set[str]]:
    """(hosts, engine starts) that a target's perf results came from."""
    done = [view.done[key] for key, unit in view.units.items() if key in view.done and isinstance(unit, Timed)]
    mine = [each for each in done if each.unit.target == target]
    hosts = {view.nodes[each.node].host if each.node in view.nodes else each.node for each in mine}
    return hosts, {each.start for each in mine}


def _num(number: int, what: str) -> str:
    plural = "launches" if what == "launch" else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def _rows(
    view: RunView, targets: tuple[TargetConfig, TargetConfig], sweep: OneBatchSweep, perf: Sequence[PerfRow]
) -> tuple[RatioRow, ...]:
    points = {(row.target, row.batch_size): row for row in perf if row.sweep == sweep.name}
    return tuple(
        _row(view, targets, sweep, tuple(points[each.name, size] for each in targets)) for size in sweep.batch_sizes
    )


def _row(
    view: RunView, targets: tuple[TargetConfig, TargetConfig], sweep: OneBatchSweep, points: tuple[PerfRow, ...]
) -> RatioRow:
    size, red = points[0].batch_size, any(point.red for point in points)
    baseline, target = ([] if red else measured_passes(view, each.name, sweep.name, size) for each in targets)
    output = _ratio(target, baseline, lambda v: v.output_tok_per_s)
    return RatioRow(
        batch_size=size, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens,
        latency=_ratio(target, baseline, lambda v: v.latency_s),
        last_ttft=_ratio(target, baseline, lambda v: v.last_ttft_s),
        input_throughput=_ratio(target, baseline, lambda v: v.input_tok_per_s),
        output_throughput=output,
        itl=_ratio(target, baseline, lambda v: v.itl_ms),
        output_price=_price_ratio(targets, output),
        findings=tuple(dict.fromkeys(code for point in points for code in point.findings)),
    )  # fmt: skip


def _ratio(target: Sequence[Measured], baseline: Sequence[Measured], quantity: Quantity) -> Ratio | None:
    return ratio([quantity(each.values) for each in target], [quantity(each.values) for each in baseline])


def _price_ratio(targets: tuple[TargetConfig, TargetConfig], output: Ratio | None) -> Ratio | None:
    """Price per token is price per hour over tokens per hour: the ratio of prices divided by that of throughputs."""
    prices = [(target.price_per_gpu_hour or 0) * target.gpus_per_node for target in targets]
    if output is None or not all(prices) or not output.low > 0:
        return None
    dearer = prices[1] / prices[0]
    changes = {"ratio": dearer / output.ratio, "low": dearer / output.high, "high": dearer / output.low}
    return output.model_copy(update=changes)


def _arguments(view: RunView, baseline: str, target: str) -> tuple[ArgRow, ...]:
    rows: list[ArgRow] = []
    for difference in argument_differences(view):
        values = {name: value for name, value in difference.values if name in (baseline, target)}
        if len(values) == 2 and values[baseline] != values[target]:
            rows.append(ArgRow(name=difference.name, values=values, asked=difference.asked))
    return tuple(rows)


def _evals(
    outcomes: Mapping[tuple[str, str], ItemOutcomes], names: tuple[str, str], rows: Sequence[EvalRow]
) -> tuple[tuple[EvalDifference, ...], tuple[EvalLeftOut, ...]]:
    """Differences in accuracy, `names` = (baseline, target).

    An eval with a red finding is compared with nothing, nor is one of which a side misses samples: short replies come
    back first, so that pairs would be chosen by what one side had ended, and equal targets differ. `outcomes`: by
    (eval, target).
    """
    found: list[EvalDifference] = []
    left_out: list[EvalLeftOut] = []
    for eval_name in dict.fromkeys(name for name, _ in outcomes):
        b, a = (outcomes.get((eval_name, name)) for name in names)
        sides = [row for row in rows if row.eval == eval_name and row.target in names]
        reds = [code for row in sides for code in row.invalid_by]
        missing = sum(row.accuracy.num_missing for row in sides)
        if reds or missing:
            left_out.append(EvalLeftOut(eval=eval_name, findings=tuple(dict.fromkeys(reds)), num_missing=missing))
        elif a and b and (accuracy := compare_accuracy(a, b)) is not None:
            found.append(EvalDifference(eval=eval_name, accuracy=accuracy))
    return tuple(found), tuple(left_out)


def _adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    """Holm's correction over every difference in accuracy that the report states."""
    claims = [each.accuracy.permutation_p or 0.0 for comparison in found for each in comparison.evals]
    adjusted = iter(holm(claims))
    return [
        comparison.model_copy(
            update={
                "evals": tuple(
                    each.model_copy(update={"p_adjusted": next(adjusted), "num_claims": len(claims)})
                    for each in comparison.evals
                )
            }
        )
        for comparison in found
    ]


def _reference(view: RunView, target: TargetConfig, perf: Sequence[PerfRow]) -> list[Comparison]:
    published = reference_for(
        view.config.model.path, target.accelerator, simulated=target.name in simulated_targets(view)
    )
    if published is None:
        return []
    label, caveat, reference_rows = published
    found: list[Comparison] = []
    for sweep in view.config.batch_sweeps:
        if (sweep.input_tokens, sweep.output_tokens) != (INPUT_TOKENS, OUTPUT_TOKENS):
            continue
        by_size = {row.batch_size: row for row in reference_rows}
        rows = [
            _reference_row(row, by_size[row.batch_size])
            for row in perf
            if (row.target, row.sweep) == (target.name, sweep.name) and row.batch_size in by_size
        ]
        found.append(
            Comparison(
                kind="reference", baseline=label, target=target.name, sweep=sweep.name, caveat=caveat, rows=tuple(rows),
                reference_rows=tuple(by_size[row.batch_size] for row in rows),
            )
        )  # fmt: skip
    return found


def _reference_row(row: PerfRow, published: ReferenceRow) -> RatioRow:
    """Ratios of the medians; the range is that of this run's repeats, the published row is one shot."""

    def over(values: Sequence[float | None], single: float) -> Ratio | None:
        return ratio(values, [single])

    repeats = () if row.red else row.repeats
    prompt_tokens = row.batch_size * row.input_tokens
    ttfts = [repeat.last_ttft_s for repeat in repeats]
    rates = [prompt_tokens / ttft for ttft in ttfts if ttft]
    return RatioRow(
        batch_size=row.batch_size, input_tokens=row.input_tokens, output_tokens=row.output_tokens,
        latency=over([repeat.latency_s for repeat in repeats], published.latency_s),
        last_ttft=over(ttfts, prompt_tokens / published.input_tok_per_s),
        input_throughput=over(rates, published.input_tok_per_s),
        output_throughput=over([repeat.output_tok_per_s for repeat in repeats], published.output_tok_per_s),
        itl=over([repeat.itl_ms for repeat in repeats], published.itl_ms),
        output_price=None,
        findings=row.findings,
    )  # fmt: skip

"""`raybench plan`: what a run would do, without doing any of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from raybench.cli.options import Config, Earlier, Sets, earlier_views

if TYPE_CHECKING:
    from raybench.config.schema import RunConfig
    from raybench.plan.demands import Demand
    from raybench.plan.estimate import Estimate
    from raybench.records import AnyUnit, Plan


def plan(
    config: Config,
    sets: Sets = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    with_estimate: Annotated[
        bool, typer.Option("--estimate", help="Predict makespan, GPU-hours and cost of every target.")
    ] = False,
    earlier: Earlier = None,
) -> None:
    """Print the units of every target, their keys, and what they ask of the cluster."""
    from raybench.config.read import digest, load
    from raybench.evals import presets_of
    from raybench.evals.rows import rows_of
    from raybench.load.texts import texts_of
    from raybench.load.traces import traces_of
    from raybench.plan.demands import demands
    from raybench.plan.estimate import estimate, known_from
    from raybench.plan.expand import expand
    from raybench.plan.keys import plan_digest
    from raybench.plan.serving import Files

    settings = load(config, sets or (), presets_of)
    rows = rows_of(settings.evals)
    for note in (note for one in rows.values() for note in one.notes):
        typer.echo(f"note: {note}", err=True)
    whole = expand(settings, rows, Files(traces_of(settings.trace_sweeps), texts_of(settings.perf)))
    wanted = demands(settings)
    predicted = None
    if with_estimate:
        slots = [(demand.target,) for demand in wanted for _ in range(demand.nodes)]
        predicted = estimate(settings, whole.units, slots, known_from(earlier_views(earlier)))
    if as_json:
        content = {
            "name": settings.name,
            "config_digest": digest(settings),
            "plan_digest": plan_digest(whole),
            "demands": [
                {
                    "target": d.target,
                    "accelerator": d.accelerator,
                    "nodes": d.nodes,
                    "gpus_per_node": d.gpus_per_node,
                    "simulated": d.simulated,
                }
                for d in wanted
            ],
            "units": [_row(unit) for unit in whole.units],
            "rules": [rule.model_dump(mode="json") for rule in whole.rules],
            "estimate": None if predicted is None else asdict(predicted),
        }
        typer.echo(json.dumps(content, indent=2))
        return
    _print(settings, whole, wanted, plan_digest(whole))
    if predicted is not None:
        _print_estimate(predicted)


def _row(unit: "AnyUnit") -> dict[str, str | int]:
    from raybench.load.words import point_words
    from raybench.records import CheckUnit, LoadUnit, PerfUnit

    if isinstance(unit, PerfUnit):
        what = f"{unit.load.batch_size} x {unit.load.input_tokens} in, {unit.load.output_tokens} out"
        place: dict[str, str | int] = {"name": unit.sweep, "repeat": unit.repeat, "launch": unit.launch}
    elif isinstance(unit, LoadUnit):
        what = point_words(unit.load) + (", first probe of a search" if unit.probe else "")
        place = {"name": unit.sweep, "repeat": unit.repeat, "launch": unit.launch}
    elif isinstance(unit, CheckUnit):
        what = f"{len(unit.samples)} questions" if unit.samples else ""
        place = {"name": unit.check, "place": unit.place}
    else:
        what = f"{len(unit.samples)} samples"
        place = {"name": unit.eval, "block": unit.block}
    return {"key": unit.key, "target": unit.target, "kind": unit.kind, "what": what} | place


def _print(settings: "RunConfig", whole: "Plan", wanted: Sequence["Demand"], digest: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from raybench.records import CheckUnit, EvalUnit, Timed

    console = Console(highlight=False)
    console.print(f"{settings.name}: model {settings.model.path}, plan {digest}")
    targets = Table(
        "target", "accelerator", "nodes", "GPUs", "perf units", "eval units", "samples", "launches", box=None
    )
    for demand in wanted:
        perf = [u for u in whole.units if isinstance(u, Timed) and u.target == demand.target]
        evals = [u for u in whole.units if isinstance(u, EvalUnit) and u.target == demand.target]
        targets.add_row(
            demand.target,
            demand.accelerator + (" (simulated)" if demand.simulated else ""),
            str(demand.nodes),
            str(demand.gpus_per_node),
            str(len(perf)),
            str(len(evals)),
            str(sum(len(u.samples) for u in evals)),
            str(len({u.launch for u in perf} | ({0} if evals else set[int]()))),
        )
    console.print(targets)
    units = Table("key", "target", "unit", "place", "what", box=None)
    units.columns[0].no_wrap = True  # a key that is cut is no key
    units.columns[0].min_width = 16
    for unit in whole.units:
        row = _row(unit)
        if isinstance(unit, Timed):
            place = f"launch {unit.launch + 1}, repeat {unit.repeat + 1}"
        elif isinstance(unit, CheckUnit):
            place = f"node {unit.place + 1}"
        else:
            place = f"block {unit.block + 1}"
        units.add_row(unit.key, unit.target, f"{unit.kind} {row['name']}", place, str(row["what"]))
    console.print(units)


def _print_estimate(predicted: "Estimate") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("target", "makespan (s)", "GPU-hours", "cost", box=None)
    for one in predicted.targets:
        cost = "no price" if one.cost is None else f"{one.cost:,.2f}"
        table.add_row(one.target, f"{one.makespan_s:,.0f}", f"{one.gpu_hours:,.2f}", cost)
    console.print(table)
    if predicted.makespan_s is not None:
        console.print(f"the whole run: {predicted.makespan_s:,.0f} s on machines of each target's own, without faults")
    for name in predicted.unknown:
        console.print(f"{name}: nothing is known of its speed; give a run with load points of it: --earlier RUN_DIR")

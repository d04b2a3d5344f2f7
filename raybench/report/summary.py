"""A ledger's view, summed up as a Report. Pure: the same ledger gives the same report, byte for byte."""

from collections.abc import Iterable

from pydantic import JsonValue

from raybench.config.schema import TargetConfig, engine_of
from raybench.ledger.view import RunView
from raybench.load.words import point_words
from raybench.records import EngineFacts, EvalUnit, Finding, GpuFacts, LoadUnit, PerfUnit, Timed
from raybench.report.compare import comparisons
from raybench.report.fleet_page import fleet_times
from raybench.report.model import FailureRow, Provenance, Report, Session, StartUpRow, TargetRow
from raybench.report.points import perf_rows
from raybench.report.preflight_page import preflight_rows
from raybench.report.scores import eval_rows
from raybench.report.serving_rows import load_rows, ratio_rows, search_rows
from raybench.validity.acceptance import acceptance_findings, acceptances
from raybench.validity.counterfactual import counterfactual
from raybench.validity.diagnosis import diagnoses
from raybench.validity.engine import KERNEL_ARGS, engine_findings, simulated_targets, used_engines
from raybench.validity.eval_checks import checked_evals, eval_findings
from raybench.validity.load import load_findings
from raybench.validity.load_trends import load_trend_findings
from raybench.validity.perf import perf_findings
from raybench.validity.preflight import preflight_findings
from raybench.validity.verdict import verdict

_SEVERITIES = ("red", "warn", "info")


def make_report(view: RunView, more_findings: Iterable[Finding] = ()) -> Report:
    """The report of a view. `more_findings` are those that need the disk (`raybench.report.write`)."""
    provenance = _provenance(view)
    evals = checked_evals(view)
    found = [
        *more_findings,
        *engine_findings(view),
        *perf_findings(view),
        *acceptance_findings(view),
        *load_findings(view),
        *load_trend_findings(view),
        *preflight_findings(view),
        *eval_findings(evals),
    ]
    found.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    scored = tuple(one.scored for one in evals)
    perf, rows = perf_rows(view, found), eval_rows(view, found, scored)
    serving = load_rows(view, found)
    return Report(
        verdict=verdict(found, provenance.num_units_missing + provenance.num_samples_missing),
        findings=tuple(found),
        targets=tuple(_target(view, target) for target in view.config.targets),
        perf=perf,
        comparisons=comparisons(view, perf, rows, scored),
        evals=rows,
        preflight=preflight_rows(view),
        startup=tuple(_startup(facts) for facts in view.engines.values()),
        provenance=provenance,
        diagnoses=diagnoses(view, evals, found),
        serving=serving,
        serving_ratios=ratio_rows(serving),
        searches=search_rows(view),
        acceptances=acceptances(view),
        counterfactuals=tuple(curve for one in evals if (curve := counterfactual(one.scored)) is not None),
        fleet=fleet_times(view),
    )


def _target(view: RunView, target: TargetConfig) -> TargetRow:
    engine = engine_of(view.config, target)
    starts = used_engines(view, target.name)
    first = starts[0] if starts else None
    units = {key: unit for key, unit in view.units.items() if unit.target == target.name}
    results = [view.done[key] for key in units if key in view.done]
    nodes = tuple(dict.fromkeys(done.node for done in results))
    facts = [view.nodes[name] for name in nodes if name in view.nodes]
    samples = [s.key for unit in units.values() if isinstance(unit, EvalUnit) for s in unit.samples]
    return TargetRow(
        name=target.name,
        accelerator=target.accelerator,
        num_nodes=target.nodes,
        gpus_per_node=target.gpus_per_node,
        price_per_gpu_hour=target.price_per_gpu_hour,
        engine=engine.kind,
        simulated=target.name in simulated_targets(view),
        time_scale=first.time_scale if first else (engine.simulated.time_scale if engine.simulated else 1.0),
        engine_versions=_distinct(f.version for f in starts),
        model_revisions=_distinct(f.model_revision for f in starts),
        interpreters=_distinct(f.interpreter for f in starts),
        nodes_used=nodes,
        num_hosts=len({f.host for f in facts}),
        num_starts=len({done.start for done in results if isinstance(done.unit, Timed)}),
        gpus=_distinct(_gpus(f.gpus) for f in facts),
        drivers=_distinct(f.driver_version for f in facts),
        cpus=_distinct(f"{f.cpu_model or 'unknown CPU'}, {f.num_cpus} logical" for f in facts),
        args=dict(engine.args),
        env=dict(first.env if first else {}),
        resolved_args=_resolved(first),
        memory=first.memory if first else None,
        token_capacity=first.max_total_tokens if first else None,
        context_tokens=first.context_tokens if first else None,
        num_units=len(units),
        num_units_done=len(results),
        num_samples=len(samples),
        num_samples_done=sum(key in view.samples for key in samples),
        failures=_failures(view, target.name),
    )


def _resolved(facts: EngineFacts | None) -> dict[str, JsonValue]:
    """Only what changes speed or numerics: all of it is in the ledger."""
    found: dict[str, JsonValue] = {}
    for name in KERNEL_ARGS:
        value = None if facts is None else facts.resolved_args.get(name)
        if isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def _failures(view: RunView, target: str) -> tuple[FailureRow, ...]:
    rows: list[FailureRow] = []
    for failed in view.failed:
        unit = view.units.get(failed.key)
        if unit is None or unit.target != target:
            continue
        done = view.done.get(failed.key)
        rows.append(
            FailureRow(
                what=_words(unit), attempt=failed.attempt, node=failed.node, cause=failed.failure.cause,
                message=failed.failure.message.strip().splitlines()[0][:300] if failed.failure.message.strip() else "",
                redone=done is not None,
            )
        )  # fmt: skip
    return tuple(rows)


def _words(unit: PerfUnit | LoadUnit | EvalUnit) -> str:
    if isinstance(unit, LoadUnit):
        return f"{unit.sweep} {point_words(unit.load)}, repeat {unit.repeat + 1}, launch {unit.launch + 1}"
    if isinstance(unit, PerfUnit):
        return f"{unit.sweep} batch {unit.load.batch_size}, repeat {unit.repeat + 1}, launch {unit.launch + 1}"
    return f"{unit.eval} block {unit.block + 1}"


def _gpus(gpus: tuple[GpuFacts, ...]) -> str | None:
    names = [gpu.name for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or None


def _startup(facts: EngineFacts) -> StartUpRow:
    return StartUpRow(
        target=facts.target, node=facts.start.rsplit(".", 1)[0], start=facts.start, launch=facts.launch,
        version=facts.version, phases=facts.startup,
    )  # fmt: skip


def _provenance(view: RunView) -> Provenance:
    config = view.config
    sessions = tuple(
        Session(
            number=body.session, command=body.command, raybench_version=body.raybench_version,
            ray_version=body.ray_version, python_version=body.python_version, cluster=body.cluster,
        )
        for body in view.sessions
    )  # fmt: skip
    ends = [decision.reason for decision in view.decisions if decision.what in ("end", "interrupted")]
    samples = sum(len(unit.samples) for unit in view.units.values() if isinstance(unit, EvalUnit))
    return Provenance(
        name=config.name, run_id=view.run.run_id, model=config.model.path, model_revision=config.model.revision,
        seed=config.seed, config_digest=view.sessions[-1].config_digest,
        plan_digest=view.plan.digest if view.plan else None, sessions=sessions,
        first_unix_s=view.first_t, last_unix_s=view.last_t, num_units=len(view.units),
        num_units_missing=_num_missing(view), num_samples=samples, num_samples_missing=len(view.missing_samples()),
        num_units_dropped=len(view.dropped), num_samples_dropped=_num_samples_dropped(view),
        end=ends[-1] if ends else None,
    )  # fmt: skip


def _num_samples_dropped(view: RunView) -> int:
    units = [unit for key, unit in view.units.items() if key in view.dropped and isinstance(unit, EvalUnit)]
    return sum(sample.key not in view.samples for unit in units for sample in unit.samples)


def _num_missing(view: RunView) -> int:
    """Missing units; a run that ended before it had a plan misses at least one."""
    return len(view.missing_units()) + len(view.open_searches) if view.plan is not None else 1


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))

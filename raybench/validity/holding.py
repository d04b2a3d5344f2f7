"""What the score of an eval is held against: by the report, and by the looks of a plan in stages. Pure."""

from collections.abc import Sequence

from raybench.config.evals import EvalConfig
from raybench.config.schema import RunConfig, engine_of
from raybench.records import EvalUnit, Plan, SampleSpec
from raybench.stats.gate import ONE_SIDED, Holding
from raybench.stats.looks import pocock_level
from raybench.validity.references import differences, prompts_digest


def holding_of(
    settings: EvalConfig, specs: Sequence[SampleSpec], *, simulated: bool
) -> tuple[Holding, tuple[str, ...]]:
    """What gates an eval on a target, and what makes its measured reference another measurement, in words.

    `specs` = all planned samples; `simulated` = the target makes its answers up. A plan in stages looks several times,
    each time with the same higher confidence.
    """
    reference = settings.measured_reference
    others: tuple[str, ...] = ()
    if reference is not None:
        others = differences(
            reference, prompts_sha256=prompts_digest(specs), sampling=settings.sampling,
            route=settings.route, num_questions=len({spec.question for spec in specs}), simulated=simulated,
        )  # fmt: skip
    plan = settings.adaptive
    confidence = ONE_SIDED if plan is None else 1 - pocock_level(plan.stages, plan.alpha)
    held = Holding(
        settings.baseline, None if others else reference, settings.gated_by, settings.margin, confidence
    )  # fmt: skip
    return held, others


def looks(config: RunConfig, plan: Plan) -> dict[tuple[str, str], Holding]:
    """What the stages of every adaptive eval are held against, by (target, eval)."""
    specs: dict[tuple[str, str], list[SampleSpec]] = {}
    for unit in plan.units:
        if isinstance(unit, EvalUnit):
            specs.setdefault((unit.target, unit.eval), []).extend(unit.samples)
    staged = {settings.name: settings for settings in config.evals if settings.adaptive is not None}
    simulated = {target.name for target in config.targets if engine_of(config, target).kind == "simulated"}
    return {
        (target, name): holding_of(staged[name], asked, simulated=target in simulated)[0]
        for (target, name), asked in specs.items()
        if name in staged
    }

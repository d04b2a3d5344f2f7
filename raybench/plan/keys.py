"""Keys: hashes of what is measured.

A key holds the model and its revision, engine arguments, environment variables and version, the load or the rendered
prompt with its sampling and seed, repeat and launch. It never holds a node, a price, a baseline, a margin or a sink, so
those may change between a run and its `--resume`.
"""

from typing import cast

from pydantic import JsonValue

from raybench.config.schema import Managed, RunConfig, TargetConfig, engine_of
from raybench.records import CheckUnit, EvalUnit, OneBatchLoad, PerfUnit, Plan, SampleSpec, WarmUp, content_hash


def target_identity(config: RunConfig, target: TargetConfig) -> dict[str, JsonValue]:
    """What makes a measurement of this target its own: a JSON mapping that every key of the target includes."""
    engine = engine_of(config, target)
    environment = engine.environment
    return {
        "target": target.name,
        "accelerator": target.accelerator,
        "gpus": target.gpus_per_node,
        "model": config.model.path,
        "revision": config.model.revision,
        "engine": engine.kind,
        "version": environment.managed.version if isinstance(environment, Managed) else None,
        "args": cast("JsonValue", engine.args),
        "env": cast("JsonValue", engine.env),
        "url": engine.url,
        "simulated": None if engine.simulated is None else engine.simulated.model_dump(mode="json"),
    }


def prompt_seed(seed: int, sweep: str, load: OneBatchLoad, repeat: int, launch: int) -> int:
    """Seed of a point's prompts: its own for every point, repeat and launch; the same on every target."""
    return _number([seed, sweep, load.model_dump(mode="json"), repeat, launch])


def perf_key(
    identity: dict[str, JsonValue], load: OneBatchLoad, seed: int, place: tuple[int, int], warm_up: WarmUp
) -> str:
    """Key of a perf unit; `place` = (repeat, launch)."""
    content: JsonValue = [identity, load.model_dump(mode="json"), seed, list(place), warm_up.model_dump(mode="json")]
    return content_hash(["perf", content])


def eval_key(target: str, samples: tuple[SampleSpec, ...]) -> str:
    """Key of a block of samples."""
    return content_hash(["eval", target, [sample.key for sample in samples]])


def check_key(identity: dict[str, JsonValue], unit: CheckUnit, place: int) -> str:
    """Key of a preflight check; `place` = which of the target's nodes, never the node."""
    return content_hash(["check", identity, unit.model_dump(mode="json", exclude={"key", "place", "stops"}), place])


def order_seed(seed: int, sweep: str, repeat: int, launch: int) -> int:
    """Seed of the order in which the points of one (sweep, repeat, launch) are measured; the same on every target."""
    return _number([seed, "order", sweep, repeat, launch])


def plan_digest(plan: Plan) -> str:
    """Hash over the keys of all units and over the rules: two plans with one digest do the same work.

    Checks are no work, so a run may be finished with other ones, or without any.
    """
    work = [unit for unit in plan.units if not isinstance(unit, CheckUnit)]
    units: list[JsonValue] = [[unit.key, unit.target, _place(unit)] for unit in work]
    rules: list[JsonValue] = [rule.model_dump(mode="json") for rule in plan.rules]
    return content_hash([units, rules])


def _place(unit: PerfUnit | EvalUnit) -> JsonValue:
    match unit:
        case PerfUnit():
            return [unit.sweep, unit.repeat, unit.launch]
        case EvalUnit():
            return [unit.eval, unit.block]


def _number(content: JsonValue) -> int:
    return int(content_hash(content, 12), 16)

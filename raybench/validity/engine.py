"""Checks of what ran: engines that died, versions that differ, simulated numbers, settings that confound."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import JsonValue

from raybench.config.schema import TargetConfig, engine_of
from raybench.ledger.view import RunView
from raybench.load.words import point_numbers
from raybench.records import EngineFacts, Finding, LoadUnit, PerfUnit

KERNEL_ARGS = (
    "attention_backend", "prefill_attention_backend", "decode_attention_backend", "moe_runner_backend",
    "moe_a2a_backend", "fp8_gemm_runner_backend", "fp4_gemm_runner_backend", "sampling_backend", "dtype",
    "quantization", "kv_cache_dtype",
    "tp_size", "ep_size", "pp_size", "dp_size", "page_size", "chunked_prefill_size", "max_prefill_tokens",
    "max_running_requests", "schedule_policy", "disable_radix_cache", "disable_overlap_schedule", "disable_cuda_graph",
    "cuda_graph_max_bs", "cuda_graph_max_bs_decode", "cuda_graph_max_bs_prefill", "enable_mixed_chunk",
    "enable_deterministic_inference", "bf16_gemm_backend", "enable_torch_compile", "speculative_algorithm",
    "stream_interval", "num_continuous_decode_steps",
)  # fmt: skip
"""Resolved arguments that change speed or numerics. An engine picks many by the GPU that it finds, so that two targets
with the same flags may run different kernels."""


@dataclass(frozen=True, slots=True)
class ArgDifference:
    """One resolved argument that is not the same on all targets."""

    name: str
    values: tuple[tuple[str, JsonValue], ...]
    """(target, value) in plan order; None where the engine does not say."""
    asked: bool
    """True: the configuration sets it for a target, so it is what is compared; False: the engines chose it."""


def engine_findings(view: RunView) -> list[Finding]:
    """All findings about engines: deaths, versions, simulation, settings."""
    return [
        *_deaths(view), *_versions(view), *_mixed_kernels(view), *_simulated(view), *_arguments(view),
        *_strangers(view),
    ]  # fmt: skip


def used_engines(view: RunView, target: str) -> list[EngineFacts]:
    """Engine starts of a target that results came from, in order of their start; all its starts where none did."""
    mine = [facts for facts in view.engines.values() if facts.target == target]
    # A block that was resumed ends on its last start, and has samples of earlier ones.
    starts = {done.start for done in view.done.values()} | set(view.sample_starts.values())
    return [facts for facts in mine if facts.start in starts] or mine


def simulated_targets(view: RunView) -> list[str]:
    """Targets whose numbers a timing model makes up, in plan order: by their facts, else by the configuration."""
    names: list[str] = []
    for target in view.config.targets:
        facts = [f.simulated for f in view.engines.values() if f.target == target.name]
        planned = engine_of(view.config, target).kind == "simulated"
        if any(facts) or (planned and not facts):
            names.append(target.name)
    return names


def argument_differences(view: RunView) -> list[ArgDifference]:
    """Arguments of `KERNEL_ARGS` whose resolved values differ between targets, in that order."""
    resolved: list[tuple[str, dict[str, JsonValue]]] = []
    for target in view.config.targets:
        engines = used_engines(view, target.name)
        if engines and engines[0].resolved_args:
            resolved.append((target.name, engines[0].resolved_args))
    found: list[ArgDifference] = []
    for name in KERNEL_ARGS:
        values = tuple((target, args.get(name)) for target, args in resolved)
        if any(value != values[0][1] for _, value in values):
            found.append(ArgDifference(name, values, _is_asked(view.config.targets, name)))
    return found


def _is_asked(targets: Iterable[TargetConfig], name: str) -> bool:
    flag = name.replace("_", "-")
    return any(flag in target.engine.args for target in targets)


def _deaths(view: RunView) -> list[Finding]:
    units = view.units
    dead: dict[str, int] = {}
    for failed in view.failed:
        if failed.failure.cause == "engine_died" and failed.key in units:
            dead[failed.key] = dead.get(failed.key, 0) + 1
    found: list[Finding] = []
    for key in (key for key in units if key in dead):
        redone = key in view.done
        unit = units[key]
        place: dict[str, float] = (
            {"batch_size": unit.load.batch_size, "repeat": unit.repeat, "launch": unit.launch}
            if isinstance(unit, PerfUnit)
            else point_numbers(unit.load) | {"repeat": unit.repeat, "launch": unit.launch}
            if isinstance(unit, LoadUnit)
            else {"block": unit.block}
        )
        advice = (
            "The unit was redone on a fresh start and that result counts. Look at the server's log for the cause."
            if redone
            else "Its result is missing. Look at the server's log for the cause, then finish the run with --resume."
        )
        found.append(
            Finding(
                code="engine_died_during_unit", severity="warn" if redone else "red", scope="unit",
                target=unit.target, key=key, rule="no engine may end while a unit runs on it",
                evidence=place | {"num_deaths": float(dead[key]), "redone": float(redone)}, advice=advice,
            )
        )  # fmt: skip
    return found


def _versions(view: RunView) -> list[Finding]:
    found: list[Finding] = []
    by_target: list[tuple[str, str]] = []
    for target in view.config.targets:
        engines = used_engines(view, target.name)
        for what, seen in (
            ("engine version", _distinct(f.version for f in engines)),
            ("model revision", _distinct(f.model_revision for f in engines)),
        ):
            if len(seen) > 1:
                found.append(
                    Finding(
                        code="mixed_versions", severity="red", scope="target", target=target.name,
                        rule=f"one {what} in a target; seen: {', '.join(seen)}",
                        evidence={"num_versions": float(len(seen)), "num_engines": float(len(engines))},
                        advice="Its results are of different things. Make the nodes alike and start a new run.",
                    )
                )  # fmt: skip
        kinds = _distinct(f"{f.engine} {f.version}" for f in engines if f.version is not None and not f.simulated)
        if len(kinds) == 1:
            by_target.append((target.name, kinds[0]))
    if len({version for _, version in by_target}) > 1:
        named = "; ".join(f"{target}: {version}" for target, version in by_target)
        found.append(
            Finding(
                code="mixed_versions_between_targets", severity="warn", scope="run",
                rule=f"targets that are compared should run one engine version; seen: {named}",
                evidence={"num_versions": float(len({version for _, version in by_target}))},
                advice="The comparison shows hardware and version together. Use one version on all targets if you can.",
            )
        )  # fmt: skip
    return found


def _mixed_kernels(view: RunView) -> list[Finding]:
    found: list[Finding] = []
    for target in view.config.targets:
        engines = used_engines(view, target.name)
        differing: list[str] = []
        for name in KERNEL_ARGS:
            # Another version may not know the name: that is told as mixed versions.
            seen = _distinct(_word(f.resolved_args[name]) for f in engines if name in f.resolved_args)
            if len(seen) > 1:
                differing.append(f"{name}: {', '.join(seen)}")
        if differing:
            found.append(
                Finding(
                    code="mixed_kernels", severity="warn", scope="target", target=target.name,
                    rule=f"all starts of a target resolve their arguments alike; seen: {'; '.join(differing)}",
                    evidence={"num_differences": float(len(differing)), "num_engines": float(len(engines))},
                    advice=(
                        "Its results are of different settings, put together. Set these in engine.args, or make the "
                        "nodes alike, and start a new run."
                    ),
                )
            )  # fmt: skip
    return found


def _simulated(view: RunView) -> list[Finding]:
    simulated = simulated_targets(view)
    if not simulated:
        return []
    evidence = {"num_simulated": float(len(simulated)), "num_targets": float(len(view.config.targets))}
    found = [
        Finding(
            code="simulated", severity="info", scope="run",
            rule=f"numbers of these targets are made up by a timing model: {', '.join(simulated)}",
            evidence=evidence, advice="Use them to plan and to learn the tool, never as measurements.",
        )
    ]  # fmt: skip
    if len(simulated) < len(view.config.targets):
        found.append(
            Finding(
                code="simulated_beside_real", severity="red", scope="run",
                rule="simulated and real engines may not stand in one report",
                evidence=evidence, advice="Split the configuration: one run for the real targets, one for the others.",
            )
        )  # fmt: skip
    return found


def _arguments(view: RunView) -> list[Finding]:
    chosen = [difference for difference in argument_differences(view) if not difference.asked]
    if not chosen:
        return []
    named = "; ".join(f"{d.name}: {', '.join(f'{t}={_word(v)}' for t, v in d.values)}" for d in chosen)
    return [
        Finding(
            code="resolved_args_differ", severity="warn", scope="run",
            rule=f"what the engines chose by themselves should be the same on all targets; it differs in {named}",
            evidence={"num_differences": float(len(chosen))},
            advice=(
                "The comparison shows hardware together with these settings. That may be what you want (each at its "
                "own defaults); to compare hardware alone, set them in engine.args."
            ),
        )
    ]  # fmt: skip


def _strangers(view: RunView) -> list[Finding]:
    """Nodes that others used, where results came from them."""
    used = {done.node for done in view.done.values()} | set(view.sample_nodes.values())
    found: list[Finding] = []
    for name, facts in view.nodes.items():
        if facts.strangers and name in used:
            named = "; ".join(stranger.words for stranger in facts.strangers)
            found.append(
                Finding(
                    code="foreign_processes", severity="warn", scope="run",
                    rule=f"a node should have its machine for itself; on {name} were when it joined: {named}",
                    evidence={
                        "num_processes": float(len(facts.strangers)),
                        "num_of_other_runs": float(sum(s.run is not None for s in facts.strangers)),
                    },
                    advice=(
                        "They take time and memory of what was measured there. If they are left over from a run that "
                        "was killed, end them (kill -9), else wait for them, and measure again."
                    ),
                )
            )  # fmt: skip
    return found


def _word(value: JsonValue) -> str:
    return "not said" if value is None else str(value)


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))

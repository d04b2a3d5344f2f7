"""Every finding about engines, made to happen."""

from collections.abc import Callable

import pytest
from ledger_builder import LedgerBuilder, config, sample_record, simulated_targets, whole_ledger

from raybench.records import EngineFacts, EvalMeasurement, EvalUnit, Failure, PerfUnit, Stranger
from raybench.report.words import TITLES
from raybench.validity.engine import argument_differences, engine_findings
from raybench.validity.engine import simulated_targets as simulated_names

KEY = "alpha-static-b4-r1-l0"
DIED = Failure(cause="engine_died", message="server ended with signal 9")


def _codes(builder: LedgerBuilder) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in engine_findings(builder.view())]


def test_sound_run_has_no_finding() -> None:
    assert _codes(whole_ledger()) == []


def _with_strangers(*strangers: Stranger, node: str = "n0") -> LedgerBuilder:
    builder = whole_ledger()
    for number, record in enumerate(builder.records):
        if record.kind == "node" and record.node == node:
            body = record.body | {"strangers": [stranger.model_dump(mode="json") for stranger in strangers]}
            builder.records[number] = record.model_copy(update={"body": body})
    return builder


def test_what_else_was_on_a_machine_is_named() -> None:
    old = Stranger(pid=7, name="sglang::schedul", run="study-0ld", gpus=(0, 1), gpu_memory_mib=131072)
    other = Stranger(pid=8, name="python")
    builder = _with_strangers(old, other)
    assert _codes(builder) == [("foreign_processes", "warn")]
    finding = engine_findings(builder.view())[0]
    assert finding.rule.endswith(
        "on n0 were when it joined: sglang::schedul (pid 7) of run study-0ld on GPU 0, 1 with 131,072 MiB; "
        "python (pid 8)"
    )
    assert finding.evidence == {"num_processes": 2, "num_of_other_runs": 1}


def test_a_machine_that_gave_no_result_may_hold_whoever_it_likes() -> None:
    builder = _with_strangers(Stranger(pid=8, name="python"))
    kept = [r for r in builder.records if r.node != "n0" or r.kind == "node"]
    builder.records[:] = [record.model_copy(update={"seq": seq}) for seq, record in enumerate(kept)]
    assert _codes(builder) == []


def test_engine_death_is_red_until_the_unit_is_redone() -> None:
    builder = whole_ledger(skip=lambda key: key == KEY)
    builder.failed(KEY, DIED)
    assert _codes(builder) == [("engine_died_during_unit", "red")]
    unit = next(u for u in builder.plan.units if u.key == KEY)
    assert isinstance(unit, PerfUnit)
    builder.perf_done(unit, "n0.0", attempt=2)
    assert _codes(builder) == [("engine_died_during_unit", "warn")]
    assert engine_findings(builder.view())[0].key == KEY


@pytest.mark.parametrize(
    ("key", "place"),
    [(KEY, {"batch_size": 4, "repeat": 1, "launch": 0}), ("alpha-sums-1", {"block": 1})],
)
def test_engine_death_names_its_unit(key: str, place: dict[str, float]) -> None:
    builder = whole_ledger(skip=lambda other: other == key)
    builder.failed(key, DIED)
    (finding,) = engine_findings(builder.view())
    assert finding.evidence == place | {"num_deaths": 1, "redone": 0}


def test_other_failures_are_no_engine_death() -> None:
    builder = whole_ledger()
    builder.failed(KEY, Failure(cause="node_lost", message="gone"))
    assert _codes(builder) == []


def _second_engine(**changes: object) -> LedgerBuilder:
    """alpha's results come from two starts that differ."""
    builder = whole_ledger()
    builder.engine("alpha", "n0.1", lambda facts: facts.model_copy(update=changes))
    unit = builder.plan.units[0]
    assert isinstance(unit, PerfUnit)
    builder.perf_done(unit, "n0.1", attempt=2)
    return builder


@pytest.mark.parametrize(
    ("changes", "seen"), [({"version": "0.5.22"}, "0.5.21, 0.5.22"), ({"model_revision": "def456"}, "abc123, def456")]
)
def test_mixed_versions_inside_a_target_are_red(changes: dict[str, object], seen: str) -> None:
    finding = engine_findings(_second_engine(**changes).view())[0]
    assert (finding.code, finding.severity, finding.target) == ("mixed_versions", "red", "alpha")
    assert seen in finding.rule


def test_a_second_start_of_the_same_version_is_fine() -> None:
    assert _codes(_second_engine()) == []


def _resumed_block(**changes: object) -> LedgerBuilder:
    """All of alpha's results but one block are of n0.0; that block keeps 10 samples of n0.1 and ended on n0.0."""
    builder = whole_ledger(skip=lambda key: key == "alpha-sums-1")
    builder.engine("alpha", "n0.1", lambda facts: facts.model_copy(update=changes))
    block = next(unit for unit in builder.plan.units if unit.key == "alpha-sums-1")
    assert isinstance(block, EvalUnit)
    for number, spec in enumerate(block.samples):
        place = "n0.1" if number < 10 else "n0.0"
        builder.add("sample", sample_record(block, spec), key=spec.key, node="n0", launch=place)
    done = EvalMeasurement(num_samples=10, duration_s=12.0)
    builder.add("unit_done", done, key=block.key, attempt=2, node="n0", launch="n0.0")
    return builder


def test_samples_of_a_resumed_block_tell_the_version_that_answered_them() -> None:
    assert _codes(_resumed_block()) == []
    finding = engine_findings(_resumed_block(version="0.5.20").view())[0]
    assert (finding.code, finding.severity, finding.target) == ("mixed_versions", "red", "alpha")
    assert finding.evidence == {"num_versions": 2, "num_engines": 2}


@pytest.mark.parametrize("make", [_second_engine, _resumed_block])
def test_kernels_that_differ_between_starts_of_one_target_are_named(make: Callable[..., LedgerBuilder]) -> None:
    resolved = {"attention_backend": "triton", "dtype": "bfloat16", "chunked_prefill_size": None, "port": 30001}
    [finding] = engine_findings(make(resolved_args=resolved).view())
    assert (finding.code, finding.severity, finding.target) == ("mixed_kernels", "warn", "alpha")
    assert finding.rule.endswith("attention_backend: fa3, triton; chunked_prefill_size: 8192, not said")
    assert finding.evidence == {"num_differences": 2, "num_engines": 2}
    assert TITLES[finding.code]


@pytest.mark.parametrize("resolved", [{}, {"attention_backend": "fa3"}, {"attention_backend": "fa3", "port": 30001}])
def test_what_a_start_does_not_tell_is_no_difference_of_kernels(resolved: dict[str, object]) -> None:
    assert _codes(_second_engine(resolved_args=resolved)) == []


def test_a_start_that_gave_no_result_may_have_other_kernels() -> None:
    builder = whole_ledger()
    other = {"resolved_args": {"attention_backend": "triton"}, "version": "0.5.20"}
    builder.engine("alpha", "n0.1", lambda facts: facts.model_copy(update=other))
    assert _codes(builder) == []


def test_versions_between_targets_are_named() -> None:
    def newer(facts: EngineFacts) -> EngineFacts:
        return facts.model_copy(update={"version": "0.5.22"}) if facts.target == "beta" else facts

    finding = engine_findings(whole_ledger(engine=newer).view())[0]
    assert (finding.code, finding.severity) == ("mixed_versions_between_targets", "warn")
    assert "alpha: sglang 0.5.21; beta: sglang 0.5.22" in finding.rule


def test_simulated_is_said_and_is_red_beside_real() -> None:
    both = config(targets=simulated_targets(), engine={})
    assert _codes(whole_ledger(both)) == [("simulated", "info")]
    one = config(targets=[simulated_targets()[0], {"name": "beta", "accelerator": "B200"}], engine={})
    assert _codes(whole_ledger(one)) == [("simulated", "info"), ("simulated_beside_real", "red")]


def test_simulated_is_known_before_any_engine_started_and_from_what_an_endpoint_says() -> None:
    builder = LedgerBuilder(config(targets=simulated_targets(), engine={}))
    builder.session()
    builder.planned()
    assert simulated_names(builder.view()) == ["alpha", "beta"]
    told = whole_ledger(engine=lambda facts: facts.model_copy(update={"simulated": True}))
    assert simulated_names(told.view()) == ["alpha", "beta"]


def _beta_differs(**resolved: object) -> LedgerBuilder:
    def change(facts: EngineFacts) -> EngineFacts:
        return (
            facts.model_copy(update={"resolved_args": facts.resolved_args | resolved})
            if facts.target == "beta"
            else facts
        )

    return whole_ledger(engine=change)


def test_kernels_that_engines_chose_differently_are_named() -> None:
    builder = _beta_differs(attention_backend="trtllm_mha", chunked_prefill_size=16384)
    finding = engine_findings(builder.view())[0]
    assert (finding.code, finding.severity) == ("resolved_args_differ", "warn")
    assert "attention_backend: alpha=fa3, beta=trtllm_mha" in finding.rule
    assert "chunked_prefill_size: alpha=8192, beta=16384" in finding.rule
    assert finding.evidence == {"num_differences": 2}


def test_arguments_that_do_not_matter_are_left_out() -> None:
    assert _codes(_beta_differs(port=30001)) == []


def test_a_difference_that_was_asked_for_is_what_is_compared() -> None:
    targets = [
        {"name": "alpha", "accelerator": "CPU", "engine": {"args": {"dtype": "bfloat16"}}},
        {"name": "beta", "accelerator": "CPU", "engine": {"args": {"dtype": "float32"}}},
    ]

    def change(facts: EngineFacts) -> EngineFacts:
        args = facts.resolved_args | {"dtype": "bfloat16" if facts.target == "alpha" else "float32"}
        return facts.model_copy(update={"resolved_args": args})

    builder = whole_ledger(config(targets=targets), engine=change)
    assert _codes(builder) == []
    assert [(d.name, d.asked) for d in argument_differences(builder.view())] == [("dtype", True)]

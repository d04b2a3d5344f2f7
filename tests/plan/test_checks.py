"""Which checks a configuration plans: the same ones for every place, in the format of the evals that follow."""

from pydantic import JsonValue

from raybench.config.schema import RunConfig
from raybench.evals.rows import rows_of
from raybench.plan.expand import expand
from raybench.plan.keys import plan_digest
from raybench.records import CheckUnit, EvalUnit, Plan

SUMS: dict[str, JsonValue] = {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}}
AIME: dict[str, JsonValue] = {"name": "aime25", "rows": "synthetic", "sampling": {"temperature": 0, "max_tokens": 999}}


def planned(*evals: dict[str, JsonValue], nodes: int = 1, **changes: JsonValue) -> Plan:
    content: dict[str, JsonValue] = {
        "name": "x", "model": {"path": "m"}, "evals": list(evals),
        "targets": [{"name": "t", "accelerator": "CPU", "nodes": nodes}],
        "perf": [{"batch_sizes": [1], "input_tokens": 8, "output_tokens": 8}],
    }  # fmt: skip
    config = RunConfig.model_validate(content | changes)
    return expand(config, rows_of(config.evals))


def checks(plan: Plan) -> list[CheckUnit]:
    return [unit for unit in plan.units if isinstance(unit, CheckUnit)]


def test_every_place_has_every_check_under_a_key_of_its_own() -> None:
    found = checks(planned(SUMS, nodes=2))
    names = ["grader", "limits", "prompt", "canary", "agreement", "numerics", "decode"]
    assert [(unit.place, unit.check) for unit in found] == [(place, name) for place in (0, 1) for name in names]
    assert len({unit.key for unit in found}) == 14
    # A minute and a half at one second a request, which is slow.
    assert sum(len(unit.samples) for unit in found) / 2 <= 60


def test_decode_is_checked_at_the_largest_timed_batch() -> None:
    def batch(*sizes: int) -> int:
        perf: list[JsonValue] = [{"batch_sizes": list(sizes), "input_tokens": 8, "output_tokens": 8}] if sizes else []
        return next(unit.batch_size for unit in checks(planned(SUMS, perf=perf)) if unit.check == "decode")

    assert [batch(1, 32, 4), batch(256), batch()] == [32, 64, 8]


def test_canaries_have_the_format_of_the_evals() -> None:
    by_name = {unit.check: unit for unit in checks(planned(SUMS))}
    assert set(by_name["canary"].graders) == {"sums"}
    by_name = {unit.check: unit for unit in checks(planned(AIME))}
    assert set(by_name["canary"].graders) == {"canary"}
    assert (len(by_name["canary"].samples), len(by_name["agreement"].samples), len(by_name["prompt"].samples)) == (
        40,
        16,
        4,
    )
    forms = {sample.letter_order is None for sample in by_name["prompt"].samples}
    assert forms == {True, False}, "both forms of question are proved"


def test_limits_ask_the_longest_prompt_of_every_eval() -> None:
    plan = planned(SUMS, AIME)
    limits = next(unit for unit in checks(plan) if unit.check == "limits")
    assert [(b.eval, b.max_tokens, b.needed_tokens) for b in limits.budgets] == [
        ("sums", 64, 16),
        ("aime25", 999, None),
    ]
    for budget, sample in zip(limits.budgets, limits.samples, strict=True):
        texts = [
            len(spec.messages[0].content)
            for unit in plan.units
            if isinstance(unit, EvalUnit) and unit.eval == budget.eval
            for spec in unit.samples
        ]
        assert len(sample.messages[0].content) == max(texts)


def test_a_run_without_evals_or_with_preflight_off_has_no_checks() -> None:
    assert checks(planned()) == []
    assert checks(planned(SUMS, preflight={"enabled": False})) == []


def test_a_preflight_that_may_not_stop_says_so_to_every_check() -> None:
    assert {unit.stops for unit in checks(planned(SUMS))} == {True}
    assert {unit.stops for unit in checks(planned(SUMS, preflight={"stop": False}))} == {False}


def test_checks_change_no_plan() -> None:
    assert plan_digest(planned(SUMS)) == plan_digest(planned(SUMS, preflight={"enabled": False}))


def test_each_route_has_its_own_prompt_and_canaries() -> None:
    found = checks(planned(SUMS, AIME | {"route": "completions"}))
    assert [(unit.check, unit.route) for unit in found if unit.check in ("prompt", "canary")] == [
        ("prompt", "chat"), ("canary", "chat"), ("prompt", "completions"), ("canary", "completions"),
    ]  # fmt: skip


def test_the_route_stands_in_a_samples_key_only_where_it_is_not_the_default() -> None:
    def keys(**changes: JsonValue) -> set[str]:
        plan = planned(SUMS | changes)
        return {spec.key for unit in plan.units if isinstance(unit, EvalUnit) for spec in unit.samples}

    assert keys() == keys(route="chat")
    assert not keys() & keys(route="completions")

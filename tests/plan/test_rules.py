"""Rules that end an eval early: pure, over started samples, the same again after a resume."""

from collections.abc import Callable, Mapping

import pytest
from ledger_builder import LedgerBuilder, config, sample_record
from pydantic import JsonValue

from raybench.config.schema import RunConfig
from raybench.errors import PlanError
from raybench.evals import eval_named
from raybench.evals.rows import read_rows
from raybench.ledger.bodies import STOP_EVAL, STOP_REPEATS, Decision
from raybench.ledger.view import RunView, fold
from raybench.plan.expand import expand
from raybench.plan.rules import RULES, Returned, rule_named
from raybench.plan.watch import Watch
from raybench.records import EvalUnit, Plan, RuleSpec, SampleRecord, Sign
from raybench.stats.rates import SIGNS, rate
from raybench.validity.holding import looks

Answer = Callable[[SampleRecord], dict[str, object]]


def _spec(kind: str, **parameters: float) -> RuleSpec:
    return RuleSpec(kind=kind, target="alpha", eval="sums", parameters={"limit": 0.1, "min_samples": 30} | parameters)


def _returned(sign: Sign, num: int, num_ended: int, num_started: int) -> Returned:
    rates = {name: rate(num if name == sign else 0, num_ended, num_started) for name in SIGNS}
    return Returned(rates, {}, {})


@pytest.mark.parametrize("sign", ["truncated", "unparsed", "errored"])
def test_an_eval_ends_when_the_lower_bound_is_beyond_the_limit(sign: Sign) -> None:
    rule = RULES[f"stop_{sign}"]
    found = rule(_spec(f"stop_{sign}"), _returned(sign, 8, 30, 30))
    assert found is not None
    assert (found.what, found.first_dropped_stage) == (STOP_EVAL, 0)
    assert "8 of 30 started samples" in found.reason and "at least 16% (95% lower bound)" in found.reason
    assert found.numbers["lower_bound_fraction"] > 0.1
    assert rule(_spec(f"stop_{sign}"), _returned(sign, 5, 30, 30)) is None, "5 of 30 may be 10%"
    assert rule(_spec(f"stop_{sign}"), _returned(sign, 20, 29, 40)) is None, "too few have ended"
    assert rule(_spec(f"stop_{sign}"), _returned(sign, 8, 30, 90)) is None, "60 are in flight and may all be sound"


def test_what_a_reference_shows_at_the_same_limit_is_expected() -> None:
    seen = _returned("truncated", 30, 100, 100)
    assert rule_named("stop_truncated")(_spec("stop_truncated"), seen) is not None
    assert rule_named("stop_truncated")(_spec("stop_truncated", expected=0.25), seen) is None


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(PlanError, match="does not know; known: "):
        rule_named("stop_everything")
    with pytest.raises(PlanError, match="stop_everything"):
        watch_of(config(), Plan(units=(), rules=(RuleSpec(kind="stop_everything", target="a", eval="sums"),)))


# --------------------------------------------------------------------------------------------------------------- watch


def watch_of(run: RunConfig, plan: Plan, view: RunView | None = None) -> Watch:
    """As the driver makes it."""
    return Watch(run, plan, looks(run, plan), view)


def _plan(**changes: JsonValue) -> tuple[LedgerBuilder, Plan]:
    """The `sums` of one target in a real plan, at temperature 0.7."""
    settings: dict[str, JsonValue] = {
        "name": "sums", "sampling": {"temperature": 0.7, "max_tokens": 64}, "block_size": 8, "concurrency": 4
    }  # fmt: skip
    targets: JsonValue = [{"name": "alpha", "accelerator": "H200"}]
    run = config(evals=[settings | changes], perf=[], targets=targets)
    plan = expand(run, {"sums": read_rows(eval_named("sums"), "synthetic")})
    builder = LedgerBuilder(run)
    builder.plan = plan
    return builder, plan


def _blocks(plan: Plan) -> list[EvalUnit]:
    return [unit for unit in plan.units if isinstance(unit, EvalUnit)]


def _answer(unit: EvalUnit, number: int, **changes: object) -> SampleRecord:
    spec = unit.samples[number]
    named = spec.model_copy(update={"question": "q001"})
    record = sample_record(unit, named).model_copy(update={"question": spec.question, "reply": f"Answer: {spec.gold}"})
    return record.model_copy(update=changes)


def _run(watch: Watch, plan: Plan, changes: Mapping[str, object]) -> tuple[list[Decision], int]:
    """Answer block after block until something is decided; (decisions, samples asked)."""
    asked = 0
    for unit in _blocks(plan):
        watch.started(unit)
        for number in range(len(unit.samples)):
            asked += 1
            if decided := watch.sample(_answer(unit, number, **changes)):
                return decided, asked
        watch.ended(unit.key)
    return [], asked


def test_every_question_is_asked_once_before_any_is_asked_again() -> None:
    _, plan = _plan(repeats=3)
    repeats = [spec.repeat for unit in _blocks(plan) for spec in unit.samples]
    assert repeats[:64] == [0] * 64 and repeats[64:] == [1, 2] * 64
    assert all(len({spec.repeat > 0 for spec in unit.samples}) == 1 for unit in _blocks(plan))


def test_a_sound_eval_runs_to_its_end() -> None:
    builder, plan = _plan(repeats=2)
    assert _run(watch_of(builder.settings, plan), plan, {}) == ([], 128)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"finish_reason": "length"}, "stop_truncated"),
        ({"reply": "I do not know."}, "stop_unparsed"),
        ({"status": "timeout", "reply": None}, "stop_errored"),
    ],
)
def test_a_sick_eval_ends_after_thirty_samples_and_drops_its_units(changes: dict[str, object], rule: str) -> None:
    builder, plan = _plan(repeats=2)
    watch = watch_of(builder.settings, plan)
    [decision], asked = _run(watch, plan, changes)
    assert asked == 30
    assert (decision.what, decision.rule, decision.target, decision.eval) == (STOP_EVAL, rule, "alpha", "sums")
    assert decision.dropped == tuple(unit.key for unit in _blocks(plan))
    assert watch.sample(_answer(_blocks(plan)[3], 6, **changes)) == [], "an eval is ruled upon once"


def test_a_switched_off_rule_never_ends_an_eval() -> None:
    builder, plan = _plan(repeats=1, stop_rules={"truncated": None})
    assert [rule.kind for rule in plan.rules] == ["stop_unparsed", "stop_errored"]
    assert _run(watch_of(builder.settings, plan), plan, {"finish_reason": "length"}) == ([], 64)


def test_only_what_the_client_has_sent_is_in_flight() -> None:
    """Seven of 30 cut is enough, unless others are in flight; of a block of 8 the client keeps 4 requests open."""
    builder, plan = _plan(repeats=1, stop_rules={"unparsed": None, "errored": None})
    blocks = _blocks(plan)

    def watch_after(num_blocks_in_flight: int) -> list[Decision]:
        watch = watch_of(builder.settings, plan)
        for unit in blocks[4 : 4 + num_blocks_in_flight]:
            watch.started(unit)
        decided: list[Decision] = []
        for i in range(30):
            cut = {"finish_reason": "length"} if i < 7 else {}
            decided += watch.sample(_answer(blocks[i // 8], i % 8, **cut))
        return decided

    assert len(watch_after(0)) == 1
    assert watch_after(3) == []
    lost = watch_of(builder.settings, plan)
    lost.started(blocks[5])
    lost.ended(blocks[5].key)
    assert [d for i in range(30) for d in lost.sample(_answer(blocks[i // 8], i % 8, finish_reason="length"))]


STAGED: dict[str, JsonValue] = {
    "repeats": 4,
    "adaptive": {"stages": [2, 4]},
    "baseline": 0.9,
    "gate": "published",
    "block_size": 30,
}


def test_stages_are_blocks_of_their_own_and_the_plan_holds_the_level() -> None:
    builder, plan = _plan(**STAGED)
    stages = {spec.repeat: unit.stage for unit in _blocks(plan) for spec in unit.samples}
    assert stages == {0: 0, 1: 0, 2: 1, 3: 1}
    assert all(len({stages[spec.repeat] for spec in unit.samples}) == 1 for unit in _blocks(plan))
    [rule] = [rule for rule in plan.rules if rule.kind == "adaptive"]
    assert rule.parameters == {"against": 0.9, "margin": 0.05, "alpha": 0.05, "repeats_0": 2, "repeats_1": 4}
    [holding] = looks(builder.settings, plan).values()
    assert 0.95 < holding.confidence < 0.975


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "PASS"), (10, None), (24, "FAIL")])
def test_a_clear_verdict_after_a_stage_drops_the_later_ones(wrong: int, verdict: str | None) -> None:
    builder, plan = _plan(**STAGED, margin=0.08)
    watch = watch_of(builder.settings, plan)
    decided: list[Decision] = []
    for unit in [unit for unit in _blocks(plan) if unit.stage == 0]:
        for number in range(len(unit.samples)):
            sick = int(unit.samples[number].question[5:]) <= wrong
            decided += watch.sample(_answer(unit, number, **({"reply": "Answer: -1"} if sick else {})))
    if verdict is None:
        assert decided == []
        return
    [decision] = decided
    assert decision.what == STOP_REPEATS and decision.reason.startswith(f"{verdict} after 2 repeats")
    assert decision.numbers["num_repeats"] == 2 and decision.numbers["num_samples"] == 128
    assert set(decision.dropped) == {unit.key for unit in _blocks(plan) if unit.stage == 1}


def test_a_look_waits_for_the_whole_stage() -> None:
    builder, plan = _plan(**STAGED)
    watch = watch_of(builder.settings, plan)
    first = [unit for unit in _blocks(plan) if unit.stage == 0]
    samples = [(unit, number) for unit in first for number in range(len(unit.samples))]
    assert [d for unit, number in samples[:-1] for d in watch.sample(_answer(unit, number))] == []
    # Quick replies of the next stage come before the slow ones of this: they do not count.
    assert watch.sample(_answer(next(u for u in _blocks(plan) if u.stage == 1), 0, reply="Answer: -1")) == []
    assert len(watch.sample(_answer(*samples[-1]))) == 1


def test_a_resumed_run_takes_rulings_from_the_ledger_and_makes_those_that_were_due() -> None:
    builder, plan = _plan(repeats=2)
    builder.session()
    builder.planned()
    blocks = _blocks(plan)
    for i in range(30):
        sample = _answer(blocks[i // 8], i % 8, finish_reason="length")
        builder.add("sample", sample, key=sample.key, node="n0", launch="n0.0")
    # Killed between the sample and the ruling that it led to.
    view = fold(builder.records)
    [due] = watch_of(builder.settings, plan, view).due()
    assert due.rule == "stop_truncated"
    assert len(view.missing_samples()) == 98
    builder.add("decision", due)
    view = fold(builder.records)
    assert watch_of(builder.settings, plan, view).due() == []
    assert view.ruling("alpha", "sums") == due
    assert (view.missing_units(), view.missing_samples()) == ((), ())
    assert set(view.dropped) == {unit.key for unit in _blocks(plan)}


def test_a_run_without_samples_has_nothing_due() -> None:
    builder, plan = _plan()
    assert watch_of(builder.settings, plan).due() == []


def test_hard_questions_that_are_asked_again_first_stop_nothing_until_the_whole_exam_is_past_help() -> None:
    """Every fourth question is cut each time. Its repeats come first; no more than the first answers are judged by."""
    builder, plan = _plan(repeats=8, stop_rules={"truncated": 0.3, "unparsed": None, "errored": None})
    blocks = _blocks(plan)
    watch = watch_of(builder.settings, plan)
    first = [(u, i) for u in blocks for i, spec in enumerate(u.samples) if spec.repeat == 0]
    again = [(u, i) for u in blocks for i, spec in enumerate(u.samples) if spec.repeat > 0]
    numbers = {spec.question: n for n, spec in enumerate(u.samples[i] for u, i in first)}

    def answer(unit: EvalUnit, i: int, cut: bool) -> list[Decision]:
        return watch.sample(_answer(unit, i, **({"finish_reason": "length"} if cut else {})))

    hard = [(u, i) for u, i in again if numbers[u.samples[i].question] % 4 == 0]
    assert [answer(u, i, numbers[u.samples[i].question] % 4 == 0) for u, i in first] == [[]] * 64
    assert [answer(u, i, True) for u, i in hard] == [[]] * 112, "128 of 512 are a quarter, as in the first answers"
    others = [(u, i) for u, i in again if numbers[u.samples[i].question] % 4 > 0]
    decided = [decision for u, i in others[:60] for decision in answer(u, i, True)]
    assert len(decided) == 1 and "planned samples were cut" in decided[0].reason

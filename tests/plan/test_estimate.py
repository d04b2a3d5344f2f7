"""What is predicted of a run, by hand-made ledgers and against what the simulated engine's timing asks for."""

import dataclasses

import pytest
from ledger_builder import config, plan, simulated_targets, whole_ledger

from raybench.config.schema import RunConfig
from raybench.plan.estimate import Known, estimate, expected_lengths, expected_tokens, known_from
from raybench.plan.forecast import Speed
from raybench.records import EvalUnit, StartUpPhase

SLOTS = [("alpha",), ("beta",)]


def simulated(**changes: object) -> RunConfig:
    return config(targets=simulated_targets(), engine={}, **changes)  # type: ignore[arg-type]


def test_a_speed_runs_straight_between_its_points_and_on_beyond_them() -> None:
    speed = Speed({1: 0.010, 5: 0.018, 9: 0.030})
    assert [speed.per_token_s(n) for n in (0, 1, 3, 5, 9, 13)] == pytest.approx(
        [0.010, 0.010, 0.014, 0.018, 0.030, 0.042]
    )
    assert Speed({4: 0.02}).per_token_s(100) == 0.02
    assert Speed({1: 0.01, 2: 0.01}).capacity_tok_per_s(2) == pytest.approx(200)


def test_nothing_is_guessed_about_a_target_of_unknown_speed() -> None:
    settings = config()
    found = estimate(settings, plan(settings).units, SLOTS, Known())
    assert (found.makespan_s, found.targets, found.unknown) == (None, (), ("alpha", "beta"))


def test_a_simulated_target_is_predicted_from_its_timing() -> None:
    settings = simulated(perf=[])
    found = estimate(settings, plan(settings, 8).units, SLOTS, Known())
    # 8 answers of 64 tokens side by side at 10 ms, 50 simulated seconds in one, and one second for the start.
    assert found.makespan_s == pytest.approx((1 + 64 * 0.010) / 50)
    assert [one.target for one in found.targets] == ["alpha", "beta"]
    assert found.unknown == ()


def test_a_server_that_was_taken_over_says_nothing_of_how_long_a_start_takes() -> None:
    view = whole_ledger().view()
    engines = {
        start: facts.model_copy(update={"adopted_from": "n9.0", "startup": (StartUpPhase(name="total", duration_s=1),)})
        for start, facts in view.engines.items()
    }
    assert known_from([view]).startup_s != {}
    assert known_from([dataclasses.replace(view, engines=engines)]).startup_s == {}


def test_an_earlier_ledger_gives_speeds_durations_and_prices() -> None:
    settings = config()
    view = whole_ledger(settings).view()
    known = known_from([view])
    assert set(known.token_s["alpha"]) == {1, 4, 16}
    found = estimate(settings, plan(settings).units, SLOTS, known)
    alpha, beta = found.targets
    perf_s = sum(
        done.measurement.duration_s
        for done in view.done.values()
        if done.unit.target == "alpha" and done.unit.kind == "perf"
    )
    start_s = known.startup_s.get("alpha", 0.0)
    assert alpha.makespan_s > perf_s + start_s
    assert alpha.gpu_hours == pytest.approx(8 * alpha.makespan_s / 3600)
    assert (alpha.cost, beta.cost) == (pytest.approx(2 * alpha.gpu_hours), pytest.approx(4 * beta.gpu_hours))
    assert found.makespan_s == max(alpha.makespan_s, beta.makespan_s)


def test_more_nodes_of_a_target_make_it_shorter() -> None:
    settings = simulated(perf=[])
    units = plan(settings, 400).units
    one = estimate(settings, units, SLOTS, Known()).targets[0]
    four = estimate(settings, units, [("alpha",)] * 4 + [("beta",)], Known()).targets[0]
    assert four.makespan_s < one.makespan_s / 2


def test_lengths_come_from_the_question_then_the_eval_then_the_table_and_stay_under_the_limit() -> None:
    settings = config(evals=[{"name": "sums", "sampling": {"temperature": 0, "max_tokens": 50}, "block_size": 2}])
    units = [unit for unit in plan(settings, 2).units if isinstance(unit, EvalUnit) and unit.target == "alpha"]
    keys = [sample.key for unit in units for sample in unit.samples]
    assert list(expected_tokens(settings, units, Known()).values()) == [50.0, 50.0]
    by_eval = expected_tokens(settings, units, Known(eval_tokens={"sums": 30.0}))
    assert by_eval == dict.fromkeys(keys, 30.0)
    known = Known(question_tokens={("sums", "q001"): 7.0}, eval_tokens={"sums": 30.0})
    assert expected_tokens(settings, units, known) == {keys[0]: 30.0, keys[1]: 7.0}
    assert expected_lengths(settings, units, known) == {units[0].key: 30.0}

"""The search: finds the threshold of any server, counts only probes that count, and goes on where a run was cut off."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_builder import LedgerBuilder, config, simulated_targets
from load_runs import played

from raybench.config.schema import RunConfig
from raybench.ledger.bodies import SEARCH_END, SEARCH_PROBE, Decision
from raybench.load.schedules import schedule_of
from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import (
    Action,
    EngineReady,
    EngineStopped,
    NodeJoined,
    RunUnit,
    StopEngine,
    UnitDone,
    UnitsAdded,
)
from raybench.plan.expand import expand
from raybench.plan.keys import plan_digest
from raybench.plan.search import Answer, Step, Tried, judge, next_step
from raybench.plan.searches import Searches, value_of
from raybench.records import LoadMeasurement, LoadUnit, Plan
from raybench.records.client import ClientProcess
from raybench.records.loads import OpenLoad, Slo
from raybench.records.serving import ClientSide, Goodput, LoadFigures, Percentiles, QueueTrend, SteadyWindow
from raybench.stats.latency import figures_of

NUMBERS = {
    "start": 4.0, "min": 0.5, "max": 512.0, "tolerance_fraction": 0.05, "max_probes": 40.0, "max_duration_s": 600.0,
    "min_requests": 100.0, "whole": 0.0,
}  # fmt: skip


def searched(numbers: dict[str, float], holds: Callable[[Step], bool]) -> tuple[Answer, list[Tried]]:
    tried: list[Tried] = []
    for _ in range(100):
        step = next_step(numbers, tried)
        if isinstance(step, Answer):
            return step, tried
        tried.append(Tried(step.value, step.role, step.doublings, "held" if holds(step) else "broke", ""))
    raise AssertionError("the search does not end")


@settings(max_examples=300, deadline=None)
@given(st.floats(0.5, 512), st.floats(0.5, 512), st.floats(0.01, 0.3))
def test_the_threshold_is_found_within_the_tolerance(threshold: float, start: float, tolerance: float) -> None:
    numbers = NUMBERS | {"start": start, "tolerance_fraction": tolerance}
    answer, tried = searched(numbers, lambda step: step.value <= threshold)
    assert answer.value is not None
    assert answer.value <= threshold
    if answer.broke_at is None:
        assert answer.value == 512
    else:
        assert threshold < answer.broke_at <= answer.value * (1 + tolerance) * 1.00001
    assert [one.value for one in tried if one.role == "confirm"] == [answer.value]
    assert len({(one.value, one.role) for one in tried}) == len(tried)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 512), st.integers(1, 512))
def test_whole_numbers_are_found_exactly(threshold: int, start: int) -> None:
    numbers = NUMBERS | {"start": float(start), "min": 1.0, "whole": 1.0, "tolerance_fraction": 0.0001}
    answer, tried = searched(numbers, lambda step: step.value <= threshold)
    assert answer.value == threshold
    assert all(one.value == int(one.value) for one in tried)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), min_size=60, max_size=60), st.floats(0.5, 512))
def test_it_ends_whatever_the_probes_say(luck: list[bool], start: float) -> None:
    coins = iter(luck)
    answer, tried = searched(NUMBERS | {"start": start, "max_probes": 20.0}, lambda step: next(coins))
    assert len(tried) <= 20
    if answer.value is not None:
        # An answer was confirmed, and nothing at or below it broke.
        assert any(t.value == answer.value and t.role == "confirm" and t.result == "held" for t in tried)
        assert all(t.value > answer.value for t in tried if t.result == "broke")


def test_a_lucky_winner_is_not_confirmed_and_the_search_goes_on_below() -> None:
    answer, tried = searched(NUMBERS, lambda step: step.value <= (100 if step.role != "confirm" else 80))
    assert answer.value is not None
    assert answer.value <= 80
    assert next(t.result for t in tried if t.role == "confirm") == "broke"
    assert answer.broke_at is not None


def test_the_lowest_value_may_break_and_the_highest_may_hold() -> None:
    answer, _ = searched(NUMBERS, lambda step: False)
    assert (answer.value, answer.broke_at) == (None, 0.5)
    assert "broken at the lowest value" in answer.reason
    answer, _ = searched(NUMBERS, lambda step: True)
    assert (answer.value, answer.broke_at) == (512, None)
    assert "kept at the highest value" in answer.reason


def test_short_probes_are_made_longer_then_once_more_then_the_search_ends() -> None:
    short = Tried(4, "bracket", 0, "short", "8 requests")
    assert next_step(NUMBERS, [short]) == Step(4, "bracket", 1)
    tried = [Tried(4, "bracket", doublings, "short", "8 requests") for doublings in range(5)]
    assert next_step(NUMBERS, tried) == Step(4, "bracket", 4, again=True)
    end = next_step(NUMBERS, [*tried, Tried(4, "bracket", 4, "short", "9 requests", again=True)])
    assert isinstance(end, Answer)
    assert "stayed too short twice: 9 requests" in end.reason


def test_a_probe_that_says_nothing_is_made_once_more_with_other_arrivals() -> None:
    held, void = Tried(4, "bracket", 0, "held", ""), Tried(8, "bracket", 0, "void", "the client was busy")
    assert next_step(NUMBERS, [held, void]) == Step(8, "bracket", 0, again=True)
    # The second one counts, as if the first had not been made; one that is too short is made longer.
    again = Tried(8, "bracket", 0, "broke", "", again=True)
    assert next_step(NUMBERS, [held, void, again]) == next_step(NUMBERS, [held, Tried(8, "bracket", 0, "broke", "")])
    short = Tried(8, "bracket", 0, "short", "", again=True)
    assert next_step(NUMBERS, [held, void, short]) == Step(8, "bracket", 1, again=True)
    # Another probe that says nothing, later, gets its second try too.
    later = Tried(5.65685, "bisect", 0, "void", "")
    assert next_step(NUMBERS, [held, void, again, later]) == Step(5.65685, "bisect", 0, again=True)
    end = next_step(NUMBERS, [held, void, Tried(8, "bracket", 0, "void", "the client was late", again=True)])
    assert isinstance(end, Answer)
    assert end.value is None
    assert "the probe at 8 says nothing twice: the client was late" in end.reason
    # The second try is a probe: it counts against their number.
    end = next_step(NUMBERS | {"max_probes": 2.0}, [held, void])
    assert isinstance(end, Answer)
    assert "no answer after 2 probes" in end.reason


# -------------------------------------------------------------------------------------------------------------- judging

SLO = Slo(ttft_ms=500, share=0.9)


def level(value: float) -> Percentiles:
    return Percentiles(num=500, mean=value, p50=value, p90=value, p95=value, p99=value, p999=None, max=value)


GROWING = QueueTrend(mean=20, growth=9, growth_low=4)
CPU_BOUND = ClientSide(max_cpu_fraction=0.95)
"""A client that was the limit."""


def late(tail_s: float) -> ClientSide:
    """A client whose second process sends its last hundredth so late."""
    return ClientSide(
        max_cpu_fraction=0.5,
        processes=tuple(
            ClientProcess(process=place, num_sent=9, num_reads=9, lateness_p99_s=tail, started_unix_s=0, duration_s=70)
            for place, tail in enumerate((0.001, tail_s))
        ),
    )


LATE_TAIL = level(0.0001).model_copy(update={"p95": 0.05, "p99": 0.05})
"""A client that is late now and then."""


def measured(good: int = 190, sent: int = 200, **changes: object) -> LoadMeasurement:
    """A probe in which `good` of `sent` requests kept the SLO."""
    figures = LoadFigures(
        window=SteadyWindow(start_s=10, end_s=60, num_sent=sent, num_ended=sent), num_requests=250, num_sent=250,
        statuses={"ok": 250}, num_wrong_length=0, num_silent=0, e2e_s=level(3.0), ttft_s=level(0.1),
        lateness_s=level(0.0001), queue=QueueTrend(mean=20, growth=1, growth_low=-3),
        goodput=Goodput(slo=SLO, num_sent=sent, num_good=good, num_ttft=good, num_tpot=sent, num_gap=sent,
                        num_e2e=sent, request_per_s=3),
    )  # fmt: skip
    inside = {name: value for name, value in changes.items() if name in LoadFigures.model_fields}
    outside = {name: value for name, value in changes.items() if name not in inside}
    content: dict[str, object] = {"figures": figures.model_copy(update=inside), "started_unix_s": 0, "duration_s": 70}
    return LoadMeasurement(**(content | outside))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "result", "words"),
    [
        (measured(), "held", "190 of 200 requests were good"),
        (measured(good=170), "broke", "170 of 200"),
        (measured(drained=True), "held", "190"),
        (measured(drained=False), "void", "not idle"),
        (measured(drained=False, flush_status=400), "void", "not idle"),
        (measured(drained=False, flush_status=503), "void", "not idle"),
        # A server without the route cannot be asked: void, its search would end without an answer.
        (measured(drained=False, flush_status=404), "held", "190"),
        (measured(drained=False, flush_status=404, good=170), "broke", "170 of 200"),
        (measured(queue=GROWING), "broke", "queue grew"),
        (measured(queue=GROWING, client=ClientSide(max_cpu_fraction=0.5)), "broke", "queue grew"),
        (measured(client=CPU_BOUND), "void", "busy for 95%"),
        (measured(client=late(0.101)), "void", "101 ms late"),
        (measured(client=late(0.099)), "held", "190"),
        (measured(lateness_s=level(0.02)), "void", "20.0 ms late"),
        (measured(good=170, lateness_s=LATE_TAIL), "void", "50.0 ms late in the tail"),
        (measured(lateness_s=LATE_TAIL), "held", "190"),
        (measured(sent=60, good=60), "short", "60 requests"),
        (measured(e2e_s=level(8.0)), "short", "burn-in of 10.0 s"),
        (measured(window=None, goodput=None), "short", "no steady part"),
        (measured(window=None, goodput=None, statuses={"timeout": 250}), "broke", "no request ended well"),
        (measured(stopped_early="the queue only grew"), "broke", "only grew"),
        # A client that is the limit makes queues grow, and is late for what the server then breaks.
        (measured(queue=GROWING, client=CPU_BOUND), "void", "busy for 95%"),
        (measured(queue=GROWING, client=late(0.2)), "void", "200 ms late"),
        (measured(queue=GROWING, lateness_s=level(0.02)), "void", "20.0 ms late"),
        (measured(stopped_early="the queue only grew", client=CPU_BOUND), "void", "busy for 95%"),
        (measured(stopped_early="the queue only grew", client=late(0.2)), "void", "200 ms late"),
        # While a load starts, its queue grows on any server.
        (measured(queue=GROWING, e2e_s=level(8.0)), "short", "queue grew by 9.0 requests over the window, which began"),
        (measured(queue=GROWING, e2e_s=level(8.0), good=170), "broke", "queue grew"),
        (measured(queue=GROWING, e2e_s=level(8.0), goodput=None), "broke", "queue grew"),
        (measured(stopped_early="the queue only grew", e2e_s=level(8.0)), "broke", "only grew"),
    ],
)
def test_only_probes_that_count_count(found: LoadMeasurement, result: str, words: str) -> None:
    said, why = judge(found, NUMBERS)
    assert said == result
    assert words in why


def test_a_queue_that_still_grows_in_the_longest_probe_breaks_the_slo() -> None:
    found = measured(queue=GROWING, e2e_s=level(8.0))
    assert judge(found, NUMBERS, is_longest=True) == ("broke", "the queue grew by 9.0 requests over the window")
    assert judge(measured(e2e_s=level(8.0)), NUMBERS, is_longest=True)[0] == "short"


# ----------------------------------------------------------------------------------------------------------- whole runs


def study(**changes: object) -> RunConfig:
    sweep = {
        "name": "fast", "load": "slo_search", "over": "rate", "start": 4, "min": 1, "max": 64, "duration_s": 60,
        "input_tokens": 100, "output_tokens": 20, "slo": {"ttft_ms": 500, "share": 0.9},
    }  # fmt: skip
    return config(targets=simulated_targets(), engine={}, evals=[], perf=[sweep | changes])


def answer_of(searches: Searches, plan: Plan, threshold: dict[str, float]) -> tuple[list[Decision], list[LoadUnit]]:
    """Play all searches to their ends."""
    decisions: list[Decision] = []
    waiting = [unit for unit in plan.units if isinstance(unit, LoadUnit)]
    played: list[LoadUnit] = []
    while waiting:
        unit = waiting.pop(0)
        played.append(unit)
        held = value_of(unit) <= threshold[unit.target]
        for decision in searches.done(unit.key, measured(good=200 if held else 0)):
            decisions.append(decision)
            waiting += decision.added
    return decisions, played


def test_searches_of_a_run_share_arrivals_and_no_prompts_or_keys() -> None:
    plan = expand(study(), {})
    assert [u.kind for u in plan.units] == ["load", "load"]
    decisions, played = answer_of(Searches(plan), plan, {"alpha": 11, "beta": 11})
    ends = [d for d in decisions if d.what == SEARCH_END]
    assert [(d.target, d.sweep) for d in ends] == [("alpha", "fast"), ("beta", "fast")]
    assert all(10.4 < d.numbers["found"] <= 11 for d in ends)
    by_target = [[u for u in played if u.target == name] for name in ("alpha", "beta")]
    # Both targets meet the same arrivals and prompts, probe by probe, under keys of their own.
    assert [(u.load, u.arrival_seed, u.prompt_seed) for u in by_target[0]] == [
        (u.load, u.arrival_seed, u.prompt_seed) for u in by_target[1]
    ]
    assert len({u.key for u in played}) == len(played)
    assert len({u.prompt_seed for u in by_target[0]}) == len(by_target[0])
    common = {u.arrival_seed for u in by_target[0] if u.probe and u.probe.role != "confirm"}
    fresh = {u.arrival_seed for u in by_target[0] if u.probe and u.probe.role == "confirm"}
    assert len(common) == 1
    assert common.isdisjoint(fresh)


def test_a_longer_probe_is_the_same_one_for_longer() -> None:
    plan = expand(study(max_duration_s=200), {})
    first = plan.units[0]
    assert isinstance(first, LoadUnit)
    searches = Searches(plan)
    key, lengths = first.key, []
    for _ in range(4):
        (decision,) = searches.done(key, measured(sent=5))
        if decision.what == SEARCH_END:
            break
        (unit,) = decision.added
        lengths.append((unit.load.kind, getattr(unit.load, "duration_s", None), value_of(unit)))
        key = unit.key
    # The last one is as long, with other arrivals.
    assert lengths == [("open", 120, 4), ("open", 200, 4), ("open", 200, 4)]
    assert decision.what == SEARCH_END
    assert "stayed too short twice" in decision.reason


def slow_answer(servers: int | None, max_duration_s: float) -> tuple[Decision, list[tuple[float, float]]]:
    """The end of a search on a server whose requests take 40 s each, and the rate and length of its probes. `servers`:
    requests that it runs at once; None = all."""
    slo = {"ttft_ms": 500, "share": 0.9}
    plan = expand(study(start=8, max=8, output_tokens=80, slo=slo, max_duration_s=max_duration_s), {})
    searches, unit = Searches(plan), plan.units[0]
    lengths: list[tuple[float, float]] = []
    while True:
        assert isinstance(unit, LoadUnit)
        assert isinstance(unit.load, OpenLoad)
        lengths.append((unit.load.rate_per_s, unit.load.duration_s))
        run = played(schedule_of(unit.load, unit.arrival_seed, unit.prompt_seed), 100, 500, servers)
        found = LoadMeasurement(figures=figures_of(run, unit.slo), drained=True, started_unix_s=0, duration_s=9)
        (decision,) = searches.done(unit.key, found)
        if decision.what == SEARCH_END:
            return decision, lengths
        (unit,) = decision.added


def test_a_server_that_is_slow_at_any_rate_gets_longer_probes_and_keeps_its_slo() -> None:
    end, lengths = slow_answer(None, 600)
    assert end.numbers["found"] == 8
    assert lengths[:3] == [(8, 60), (8, 120), (8, 240)]


def test_a_server_that_is_slow_and_overloaded_is_broken() -> None:
    # 160 at once are 4 a second.
    end, lengths = slow_answer(160, 600)
    assert lengths[:2] == [(8, 60), (4, 60)]
    assert 3 < end.numbers["found"] < end.numbers["broke_at"] <= 4


BUSY = measured(client=CPU_BOUND)
"""A probe in which the client was the limit."""


def _ledger(threshold: float, num_done: int, num_decided: int, void: frozenset[int] = frozenset()) -> LedgerBuilder:
    """A ledger that breaks off after so many probes and so many decisions about them (alpha only). `void`: numbers of
    probes that say nothing."""
    builder = LedgerBuilder(study())
    builder.settings = builder.settings.model_copy(update={"targets": builder.settings.targets[:1]})
    builder.plan = expand(builder.settings, {})
    builder.session()
    builder.planned()
    builder.node("alpha", 0)
    builder.engine("alpha", "n0.0")
    searches = Searches(builder.plan)
    (unit,) = builder.plan.units
    for number in range(num_done):
        assert isinstance(unit, LoadUnit)
        found = BUSY if number in void else measured(good=200 if value_of(unit) <= threshold else 0)
        builder.add("unit_done", found, key=unit.key, attempt=1, node="n0", launch="n0.0")
        (decision,) = searches.done(unit.key, found)
        if number < num_decided:
            builder.add("decision", decision)
        if decision.what == SEARCH_END:
            break
        (unit,) = decision.added
    return builder


@pytest.mark.parametrize("void", [frozenset[int](), frozenset([0, 4]), frozenset([2, 3])])
def test_a_resumed_search_goes_on_as_if_nothing_had_happened(void: frozenset[int]) -> None:
    whole = _ledger(11, 99, 99, void).view()
    assert whole.open_searches == ()
    assert whole.missing_units() == ()
    keys = list(whole.units)
    assert len(keys) > 6 or 2 in void
    for cut in range(1, len(keys)):
        # Killed after the probe was written and before what follows from it.
        view = _ledger(11, cut, cut - 1, void).view()
        assert len(view.open_searches) == 1
        searches = Searches(view.plan.plan if view.plan else Plan(units=()), view)
        assert searches.is_due
        (decision,) = searches.due()
        assert decision.what == SEARCH_PROBE
        assert [u.key for u in decision.added] == [keys[cut]]
        # Killed while the next probe ran.
        view = _ledger(11, cut, cut, void).view()
        searches = Searches(view.plan.plan if view.plan else Plan(units=()), view)
        assert not searches.is_due
        assert view.missing_units() == (keys[cut],)
    assert not Searches(whole.plan.plan if whole.plan else Plan(units=()), whole).is_due


def test_a_second_try_has_arrivals_and_prompts_of_its_own_and_the_next_probe_the_common_ones() -> None:
    view = _ledger(11, 99, 99, frozenset([1])).view()
    probes = [unit for unit in view.units.values() if isinstance(unit, LoadUnit) and unit.probe is not None]
    assert [unit.probe.again for unit in probes if unit.probe][:4] == [False, False, True, False]
    assert value_of(probes[1]) == value_of(probes[2])
    seeds = [unit.arrival_seed for unit in probes]
    assert seeds[0] == seeds[1] == seeds[3] != seeds[2]
    assert len({unit.prompt_seed for unit in probes}) == len({unit.key for unit in probes}) == len(probes)
    end = next(d for d in view.decisions if d.what == SEARCH_END)
    assert 10.4 < end.numbers["found"] <= 11
    assert "again with other arrivals" in view.decisions[1].reason


def test_two_tries_that_say_nothing_end_the_search_with_the_reason() -> None:
    view = _ledger(11, 99, 99, frozenset([2, 3])).view()
    end = next(d for d in view.decisions if d.what == SEARCH_END)
    assert "found" not in end.numbers
    assert "says nothing twice: the client was busy for 95% of the time" in end.reason
    assert len(view.done) == 4


def test_the_plan_covers_what_a_search_is_judged_by() -> None:
    base = plan_digest(expand(study(), {}))
    assert plan_digest(expand(study(slo={"ttft_ms": 400, "share": 0.9}), {})) != base
    assert plan_digest(expand(study(tolerance_fraction=0.1), {})) != base


def test_the_engine_stays_up_between_two_probes() -> None:
    plan = expand(study(), {})
    plan = Plan(units=plan.units[:1], rules=plan.rules[:1])
    searches = Searches(plan)
    dispatcher = Dispatcher(plan.units, {0: ("alpha",)})
    actions = dispatcher.handle(NodeJoined("n0", 0, frozenset(["h"])))
    actions = dispatcher.handle(EngineReady("n0"))
    for _ in range(30):
        (run,) = actions
        if isinstance(run, StopEngine):
            break
        assert isinstance(run, RunUnit)
        assert isinstance(run.unit, LoadUnit)
        held = value_of(run.unit) <= 9
        more: list[Action] = []
        for decision in searches.done(run.unit.key, measured(good=200 if held else 0)):
            more += dispatcher.handle(UnitsAdded(decision.added))
        actions = more + dispatcher.handle(UnitDone("n0", run.unit.key, run.attempt))
    dispatcher.handle(EngineStopped("n0"))
    assert dispatcher.finished
    assert dispatcher.counts()["done"] > 5

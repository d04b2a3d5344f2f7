"""Schedules: seeded, exact, distinct, with the shape that the load says; held against scipy's distributions."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raybench.load.draws import drawn_lengths, uniforms, unit_gaps
from raybench.load.schedule import Schedule, ScheduledRequest
from raybench.load.schedules import schedule_of
from raybench.load.tokens import prompt_ids
from raybench.records.loads import (
    ClosedLoad,
    EmpiricalLength,
    Lengths,
    LogNormalLength,
    NormalLength,
    OpenLoad,
    RampLoad,
    ServingLoad,
    SessionsLoad,
    SharedPrefix,
    TraceLoad,
    UniformLength,
)

VOCAB = 5000
PINNED = [
    (0.007172, 14), (0.092356, 46), (0.834621, 19), (0.835632, 45), (1.339993, 39), (1.658267, 46), (1.665612, 16),
    (1.666031, 49), (1.914919, 45),
]  # fmt: skip
PINNED_IDS = [2352, 3869, 4779, 1582, 3800]

lengths = st.one_of(
    st.integers(1, 300),
    st.tuples(st.integers(1, 50), st.integers(0, 200)).map(
        lambda p: UniformLength(distribution="uniform", min=p[0], max=p[0] + p[1])
    ),
    st.tuples(st.floats(1, 200), st.floats(0.1, 100)).map(
        lambda p: NormalLength(distribution="normal", mean=p[0], deviation=p[1], min=2, max=250)
    ),
    st.tuples(st.floats(1, 200), st.floats(0.05, 2)).map(
        lambda p: LogNormalLength(distribution="lognormal", median=p[0], sigma=p[1], max=400)
    ),
    st.lists(st.integers(1, 300), min_size=1, max_size=9).map(
        lambda v: EmpiricalLength(distribution="empirical", values=tuple(v))
    ),
)
prefixes = st.none() | st.builds(SharedPrefix, tokens=st.integers(1, 40), groups=st.integers(1, 4))
closed = st.builds(
    ClosedLoad, concurrency=st.integers(1, 20), input_tokens=lengths, output_tokens=lengths,
    jitter_fraction=st.floats(0, 0.5), turnovers=st.integers(1, 6), prefix=prefixes,
)  # fmt: skip
opened = st.builds(
    OpenLoad, rate_per_s=st.floats(0.1, 30), arrivals=st.sampled_from(["constant", "poisson", "gamma"]),
    burstiness=st.floats(0.1, 5), duration_s=st.floats(0.5, 20), input_tokens=lengths, output_tokens=lengths,
    prefix=prefixes,
)  # fmt: skip
sessions = st.builds(
    SessionsLoad, concurrency=st.integers(1, 6), sessions=st.integers(1, 3), turns=st.integers(1, 5),
    system_tokens=st.integers(0, 30), input_tokens=lengths, output_tokens=lengths, think_s=st.floats(0, 5),
)  # fmt: skip
loads: st.SearchStrategy[ServingLoad] = st.one_of(closed, opened, sessions)


def _allowed(length: Lengths, jitter: float = 0.0) -> tuple[int, int]:
    match length:
        case int():
            return length - int(length * jitter), length + int(length * jitter)
        case EmpiricalLength():
            return min(length.values), max(length.values)
        case _:
            return length.min, length.max


@settings(max_examples=80, deadline=None)
@given(loads, st.integers(0, 2**40), st.integers(0, 2**40))
def test_schedules_are_whole_seeded_and_in_order(load: ServingLoad, arrivals: int, prompts: int) -> None:
    made = schedule_of(load, arrivals, prompts)
    assert made == schedule_of(load, arrivals, prompts)
    assert [r.index for r in made.requests] == list(range(made.num_requests))
    times = [r.at_s for r in made.requests if r.at_s is not None]
    assert times == sorted(times)
    assert made.is_open == isinstance(load, OpenLoad)
    assert all(made.is_open not in (r.at_s is None, r.slot is not None) for r in made.requests)
    for request in made.requests:
        assert request.output_tokens >= 1
        assert request.pause_s >= 0
        assert 0 <= request.shared_tokens <= sum(p.tokens for p in request.prefix) <= request.input_tokens
    # Other prompts do not move arrivals or lengths: that is what targets and repeats have in common.
    other = schedule_of(load, arrivals, prompts + 1)
    assert [(r.at_s, r.input_tokens, r.output_tokens, r.pause_s) for r in other.requests] == [
        (r.at_s, r.input_tokens, r.output_tokens, r.pause_s) for r in made.requests
    ]


@settings(max_examples=50, deadline=None)
@given(closed, st.integers(0, 2**40))
def test_closed_cohort_is_cut_short_and_the_rest_keeps_its_lengths(load: ClosedLoad, seed: int) -> None:
    made = schedule_of(load, seed, 1)
    per_slot: dict[int | None, list[ScheduledRequest]] = defaultdict(list)
    for request in made.requests:
        per_slot[request.slot].append(request)
    assert sorted(per_slot, key=lambda slot: -1 if slot is None else slot) == list(range(load.concurrency))
    low, high = _allowed(load.output_tokens, load.jitter_fraction)
    for chain in per_slot.values():
        assert [r.turn for r in chain] == list(range(load.turnovers + 2))
        assert 1 <= chain[0].output_tokens <= high
        assert all(low <= r.output_tokens <= high for r in chain[1:])


@settings(max_examples=40, deadline=None)
@given(loads, st.integers(0, 2**40))
def test_prompts_are_exact_and_share_only_what_is_meant(load: ServingLoad, seed: int) -> None:
    made = schedule_of(load, seed, seed + 1)
    requests = made.requests[:40]
    prompts = [prompt_ids(r, VOCAB) for r in requests]
    assert [len(p) for p in prompts] == [r.input_tokens for r in requests]
    for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        longest = max((_common(prompt, earlier) for earlier in prompts[:index]), default=0)
        # A stream may begin like another by chance: once in a vocabulary.
        assert request.shared_tokens <= longest or request.shared_tokens == 0
        if not request.prefix:
            assert longest == 0
        else:
            assert longest <= request.shared_tokens + 3


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_prompts_of_repeats_and_of_other_points_are_others() -> None:
    load = ClosedLoad(concurrency=4, input_tokens=64, output_tokens=8)
    first = {tuple(prompt_ids(r, VOCAB)) for r in schedule_of(load, 1, 10).requests}
    again = {tuple(prompt_ids(r, VOCAB)) for r in schedule_of(load, 1, 11).requests}
    assert first.isdisjoint(again)


def test_first_tokens_are_distinct_up_to_the_vocabulary() -> None:
    load = OpenLoad(rate_per_s=100, duration_s=45, input_tokens=2, output_tokens=2, arrivals="constant")
    firsts = [prompt_ids(r, VOCAB)[0] for r in schedule_of(load, 1, 2).requests]
    assert len(firsts) == 4500 <= VOCAB - 100
    assert len(set(firsts)) == 4500


def test_schedules_of_a_seed_never_change() -> None:
    # Taken once: a ledger's keys stand for these very requests.
    load = OpenLoad(rate_per_s=2, duration_s=2, input_tokens=100, output_tokens=UniformLength(
        distribution="uniform", min=5, max=50), arrivals="gamma", burstiness=0.5)  # fmt: skip
    made = schedule_of(load, 42, 43)
    assert [(round(r.at_s or 0, 6), r.output_tokens) for r in made.requests] == PINNED
    assert prompt_ids(made.requests[0], VOCAB)[:5] == PINNED_IDS


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
def test_gaps_have_the_distribution_that_they_are_named_after(shape: float, seed: int) -> None:
    gaps = unit_gaps(seed, "poisson" if shape == 1 else "gamma", shape, 4000)
    assert stats.kstest(gaps, stats.gamma(shape, scale=1 / shape).cdf).pvalue > 0.001
    assert gaps.mean() == pytest.approx(1, abs=5 / np.sqrt(4000 * shape))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lengths_have_the_distribution_that_they_are_named_after(seed: int) -> None:
    uniform = uniforms(seed, "x", 4000)
    normal = drawn_lengths(NormalLength(distribution="normal", mean=900, deviation=300, min=500, max=1600), uniform)
    frozen = stats.truncnorm((499.5 - 900) / 300, (1600.5 - 900) / 300, loc=900, scale=300)
    assert stats.kstest(normal, frozen.cdf).pvalue > 0.001
    tail = drawn_lengths(LogNormalLength(distribution="lognormal", median=1000, sigma=0.8), uniform)
    assert stats.kstest(tail, stats.lognorm(0.8, scale=1000).cdf).pvalue > 0.001
    even = drawn_lengths(UniformLength(distribution="uniform", min=11, max=20), uniform)
    assert stats.chisquare(np.bincount(even)[11:]).pvalue > 0.001
    values = EmpiricalLength(distribution="empirical", values=(5, 5, 5, 9))
    assert np.bincount(drawn_lengths(values, uniform))[[5, 9]] == pytest.approx([3000, 1000], rel=0.1)


def test_fixed_lengths_are_jittered_by_a_fifth_and_keep_their_mean() -> None:
    made = schedule_of(ClosedLoad(concurrency=50, input_tokens=1000, output_tokens=100), 3, 4)
    later = [r for r in made.requests if r.turn > 0]
    outputs, inputs = [r.output_tokens for r in later], [r.input_tokens for r in later]
    assert (min(outputs), max(outputs)) == (80, 120)
    assert 800 <= min(inputs) < 820
    assert 1180 < max(inputs) <= 1200
    assert np.mean(outputs) == pytest.approx(100, rel=0.03)


def test_the_cohort_is_what_is_left_of_requests_that_are_met_in_progress() -> None:
    # The mean residual of a renewal process is E[L^2] / 2 E[L], which is more than half of the mean.
    spread = LogNormalLength(distribution="lognormal", median=400, sigma=0.8, max=20_000)
    made = schedule_of(ClosedLoad(concurrency=4000, input_tokens=1, output_tokens=spread, turnovers=1), 5, 6)
    drawn = np.array([r.output_tokens for r in made.requests if r.turn > 0], dtype=float)
    cohort = np.array([r.output_tokens for r in made.requests if r.turn == 0], dtype=float)
    assert cohort.mean() == pytest.approx((drawn**2).mean() / (2 * drawn.mean()), rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 20), st.floats(1.5, 8), st.integers(0, 2**40))
def test_rates_scale_one_pattern(rate: float, factor: float, seed: int) -> None:
    slow, fast = (
        OpenLoad(rate_per_s=r, duration_s=30 / r, input_tokens=8, output_tokens=8) for r in (rate, rate * factor)
    )
    times = [np.array([r.at_s for r in schedule_of(load, seed, 1).requests], dtype=float) for load in (slow, fast)]
    num = min(map(len, times))
    assert abs(len(times[0]) - len(times[1])) <= 1
    assert times[1][:num] * factor == pytest.approx(times[0][:num])


@pytest.mark.parametrize(("start", "end"), [(0.0, 40.0), (40.0, 0.0), (20.0, 20.0), (5.0, 35.0)])
def test_ramps_arrive_as_their_rate_says(start: float, end: float) -> None:
    load = RampLoad(start_rate_per_s=start, end_rate_per_s=end, duration_s=100, input_tokens=8, output_tokens=8)
    times = np.array([r.at_s for r in schedule_of(load, 9, 1).requests], dtype=float)
    expected = (start + end) / 2 * 100
    assert len(times) == pytest.approx(expected, abs=4 * expected**0.5)
    assert times.min() >= 0
    assert times.max() < 100
    rate = (start * times + (end - start) * times**2 / 200) / expected
    assert stats.kstest(rate, "uniform").pvalue > 0.001


def test_sessions_grow_and_share_their_history() -> None:
    load = SessionsLoad(concurrency=2, sessions=2, turns=3, system_tokens=50, input_tokens=20, output_tokens=10)
    made: Schedule = schedule_of(load, 1, 2)
    talk = [r for r in made.requests if r.session == 2]
    assert [r.input_tokens for r in talk] == [70, 100, 130]
    assert [r.shared_tokens for r in talk] == [50, 70, 100]
    assert [r.turn for r in talk] == [0, 1, 2]
    prompts = [prompt_ids(r, VOCAB) for r in talk]
    assert prompts[2][:100] == prompts[1]
    assert {r.slot for r in talk} == {0}
    assert made.requests[0].shared_tokens == 0


def test_a_first_conversation_is_met_in_its_middle_with_all_that_was_said() -> None:
    load = SessionsLoad(concurrency=20, sessions=1, turns=8, system_tokens=50, input_tokens=20, output_tokens=10)
    made = schedule_of(load, 1, 2)
    prompts = {r.index: prompt_ids(r, VOCAB) for r in made.requests}
    firsts: set[int] = set()
    for user in range(20):
        talk = [r for r in made.requests if r.slot == user]
        assert [r.turn for r in talk] == list(range(8 - len(talk), 8))
        assert [r.input_tokens for r in talk] == [50 + 20 + 30 * r.turn for r in talk]
        # Nobody has sent the history before the first one that is left: the cache may serve the system prompt only.
        assert talk[0].shared_tokens == (0 if talk[0].index == 0 else 50)
        for earlier, later in pairwise(talk):
            assert later.shared_tokens == earlier.input_tokens
            assert prompts[later.index][: earlier.input_tokens] == prompts[earlier.index]
        firsts.add(talk[0].turn)
    assert len(firsts) > 4


@pytest.mark.parametrize("turns", [8, UniformLength(distribution="uniform", min=2, max=12)], ids=str)
def test_users_are_met_with_as_long_prompts_as_they_have_later(turns: Lengths) -> None:
    load = SessionsLoad(concurrency=100, sessions=4, turns=turns, input_tokens=100, output_tokens=50)
    starts: list[int] = []
    later: list[int] = []
    for seed in range(10):
        made = schedule_of(load, seed, 1)
        starts += [r.input_tokens for r in made.requests[: load.concurrency]]
        later += [r.input_tokens for r in made.requests if (r.session or 0) >= load.concurrency]
    assert float(np.mean(starts)) == pytest.approx(float(np.mean(later)), rel=0.05)


def test_traces_are_replayed_with_their_blocks_and_faster() -> None:
    trace = TraceLoad(
        name="t", speed=2, at_s=(0, 1, 3), input_tokens=(20, 25, 12), output_tokens=(5, 6, 7), block_tokens=10,
        blocks=((1, 2), (1, 2, 3), (4, 2)),
    )  # fmt: skip
    made = schedule_of(trace, 0, 7)
    assert [r.at_s for r in made.requests] == [0, 0.5, 1.5]
    assert [r.shared_tokens for r in made.requests] == [0, 20, 0]
    prompts = [prompt_ids(r, VOCAB) for r in made.requests]
    assert [len(p) for p in prompts] == [20, 25, 12]
    assert prompts[0] == prompts[1][:20]
    assert prompts[0][10:12] == prompts[2][10:]

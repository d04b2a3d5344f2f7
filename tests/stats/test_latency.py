"""Figures of serving runs: on paper, against numpy, and their rules for what counts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from load_runs import MS, failing, played

from raybench.load.schedules import schedule_of
from raybench.records.loads import ClosedLoad, OpenLoad, Slo, UniformLength
from raybench.stats.columns import NEVER, UNSENT, ReadColumns, RequestColumns
from raybench.stats.gaps import GapCounts, Gaps, gaps_of, longest_gaps_ns, percentiles_of
from raybench.stats.latency import figures_of, latencies
from raybench.stats.steady import coherence, mean_between, queue_trend, under_way

CLOSED = ClosedLoad(concurrency=8, input_tokens=100, output_tokens=41, turnovers=5)
OPEN = OpenLoad(rate_per_s=20, duration_s=60, input_tokens=100, output_tokens=41)


def test_a_closed_loop_on_paper() -> None:
    found = figures_of(played(schedule_of(CLOSED, 1, 2)))
    assert found.ttft_s is not None
    assert (found.ttft_s.p50, found.ttft_s.max) == (pytest.approx(0.05), pytest.approx(0.05))
    assert found.tpot_s is not None
    assert found.tpot_s.mean == pytest.approx(0.01)
    assert found.itl_s is not None
    assert found.itl_s.p50 == pytest.approx(0.01, rel=0.003)
    assert found.itl_s.mean == pytest.approx(0.01)
    assert found.tok_per_s_per_user == pytest.approx(100)
    assert found.mean_concurrency == pytest.approx(8)
    assert found.max_concurrency == 8
    # A user makes n tokens in 0.05 + (n - 1) * 0.01 s; 41 on the average.
    assert found.output_tok_per_s == pytest.approx(8 * 41 / 0.45, rel=0.03)
    assert found.request_per_s == pytest.approx(8 / 0.45, rel=0.05)
    assert found.input_tok_per_s == pytest.approx(100 * 8 / 0.45, rel=0.08)
    assert found.min_turnovers is not None
    assert found.min_turnovers >= 5
    assert found.window is not None
    assert found.window.num_sent >= 40
    assert (found.num_requests, found.num_sent, found.statuses) == (56, 56, {"ok": 56})


def test_the_window_leaves_the_cohort_and_the_ends_out() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    found = figures_of(run)
    columns = run.columns
    cohort, last = columns.index < 8, columns.index >= 48
    assert found.window is not None
    assert found.window.start_s == pytest.approx(columns.end_ns[cohort].max() * 1e-9)
    assert found.window.end_s == pytest.approx(columns.end_ns[last].min() * 1e-9)


def test_an_open_loop_counts_from_the_schedule() -> None:
    run = played(schedule_of(OPEN, 1, 2))
    # The client sends everything half a second late: that is latency, for nobody else pays for it.
    columns = run.columns
    late = 500 * MS
    shifted = replace(
        columns, sent_ns=columns.sent_ns + late, first_ns=columns.first_ns + late, end_ns=columns.end_ns + late
    )
    found = figures_of(replace(run, columns=shifted))
    assert found.ttft_s is not None
    assert found.ttft_s.p50 == pytest.approx(0.55)
    assert found.lateness_s is not None
    assert found.lateness_s.p99 == pytest.approx(0.5)
    assert found.e2e_s is not None
    assert found.e2e_s.p50 == pytest.approx(0.95)
    assert found.window is not None
    assert found.window.start_s == pytest.approx(columns.scheduled_ns.min() * 1e-9 * 0 + 3 * 0.95, abs=0.02)


def test_a_stall_shows_from_the_schedule_and_hides_in_a_closed_loop() -> None:
    def stalled(run_columns: RequestColumns, times: tuple[int, int]) -> RequestColumns:
        """Nothing is answered between two times; what would have been is answered at the end of it."""
        first = run_columns.first_ns.copy()
        inside = (first >= times[0]) & (first < times[1])
        first[inside] = times[1]
        moved = first - run_columns.first_ns
        return replace(run_columns, first_ns=first, end_ns=run_columns.end_ns + moved)

    run = played(schedule_of(OPEN, 1, 2))
    start = int(run.columns.scheduled_ns.max() // 2)
    opened = figures_of(replace(run, columns=stalled(run.columns, (start, start + 2_000 * MS))))
    assert opened.ttft_s is not None
    assert opened.ttft_s.p99 is not None
    assert opened.ttft_s.p99 > 1.0
    # 8 users send nothing while they wait: 8 slow requests among hundreds.
    loop = played(schedule_of(CLOSED.model_copy(update={"turnovers": 150}), 1, 2))
    middle = int(loop.columns.end_ns.max() // 2)
    hit = (loop.columns.sent_ns < middle) & (loop.columns.end_ns > middle)
    assert hit.sum() == 8
    first = np.where(hit, loop.columns.first_ns + 2_000 * MS, loop.columns.first_ns)
    closed = figures_of(replace(loop, columns=replace(loop.columns, first_ns=first)))
    assert closed.ttft_s is not None
    assert closed.ttft_s.p99 == pytest.approx(0.05)


def test_several_tokens_in_a_chunk_are_several_tokens() -> None:
    reads = ReadColumns(
        np.array([0, 3, 5]), np.array([100, 400, 1000, 50, 250]) * MS, np.array([2, 3, 6, 1, 4])
    )  # gaps 300/3, 600/6 and 200/4  # fmt: skip
    gaps = gaps_of(reads)
    tokens, chunks = gaps.by_token.percentiles(1e-9), gaps.by_chunk.percentiles(1e-9)
    assert tokens is not None
    assert chunks is not None
    assert (tokens.num, chunks.num) == (13, 3)
    assert tokens.mean == pytest.approx((9 * 0.1 + 4 * 0.05) / 13)
    assert chunks.mean == pytest.approx(1.1 / 3)
    assert longest_gaps_ns(reads).tolist() == [600 * MS, 200 * MS]


def test_a_first_chunk_of_several_tokens_does_not_make_the_others_quick() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    tokens = run.columns.asked_output_tokens
    bulky = replace(run.columns, first_tokens=np.minimum(10, tokens))
    # The ten tokens came with the first read, the others took what they took.
    seen = latencies(bulky, is_open=False)
    expected = (run.columns.end_ns - run.columns.first_ns) * 1e-9 / np.maximum(tokens - 10, 1)
    valid = tokens > 10
    assert seen.tpot_s[valid] == pytest.approx(expected[valid])
    assert np.isnan(seen.tpot_s[~valid]).all()


def test_silent_and_failed_requests_are_no_latencies() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    silent = run.columns.first_ns.copy()
    silent[20] = NEVER
    run = failing(replace(run, columns=replace(run.columns, first_ns=silent)), [21, 22])
    found = figures_of(run, Slo(ttft_ms=1000, share=1.0))
    assert found.num_silent == 1
    assert found.statuses == {"ok": 54, "http_error": 2}
    assert found.ttft_s is not None
    # None of the three was ever answered: they are above the largest, and not below any level.
    assert (found.ttft_s.num_failed, found.num_failed) == (3, 2)
    assert found.ttft_s.mean == pytest.approx(0.05)
    assert found.ttft_s.max == pytest.approx(0.05)
    assert found.ttft_s.is_failed("max")
    assert found.ttft_s.p50 == pytest.approx(0.05)
    assert found.goodput is not None
    assert found.goodput.num_sent - found.goodput.num_good == 3
    assert not found.goodput.holds


def test_failed_requests_lie_above_every_other() -> None:
    values = np.arange(1.0, 990.0)  # 989 answered, 11 not
    found = percentiles_of(values, 11)
    assert found is not None
    assert (found.num, found.num_failed) == (989, 11)
    assert found.mean == pytest.approx(495)
    # The 989 and eleven infinite ones: numpy's rule on 1,000 numbers, whose 990th is infinite.
    assert found.p50 == pytest.approx(500.5)
    assert found.p95 == pytest.approx(950.05)
    assert (found.p99, found.p999) == (None, None)
    assert [level for level in ("p50", "p95", "p99", "p999", "max") if found.is_failed(level)] == ["p99", "p999", "max"]
    tenth = percentiles_of(values[:90], 10)
    assert tenth is not None
    assert tenth.p90 is None
    assert tenth.p99 is None
    few = percentiles_of(values[:50], 1)
    assert few is not None
    # Fifty-one have no 99th percentile, failed or not.
    assert few.p99 is None
    assert not few.is_failed("p99")
    assert percentiles_of(values[:10], 10) is None
    assert percentiles_of(values[:11], 10) is not None
    assert percentiles_of([], 5) is None
    assert percentiles_of([3.0]) == percentiles_of([3.0], 0)


def test_a_failure_before_the_first_token_has_no_time_per_token() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    first = run.columns.first_ns.copy()
    first[21] = NEVER
    found = figures_of(failing(replace(run, columns=replace(run.columns, first_ns=first)), [21, 22]))
    assert found.ttft_s is not None
    assert found.tpot_s is not None
    assert found.longest_gap_s is not None
    assert (found.ttft_s.num_failed, found.tpot_s.num_failed, found.longest_gap_s.num_failed) == (2, 1, 1)
    good = figures_of(run)
    assert good.ttft_s is not None
    assert good.ttft_s.num_failed == good.num_failed == 0


def test_a_user_without_a_connection_has_failed_and_what_was_never_due_has_not() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    sent = run.columns.sent_ns.copy()
    sent[[21, 22]] = NEVER
    columns = replace(run.columns, sent_ns=sent, first_ns=np.where(sent == NEVER, NEVER, run.columns.first_ns))
    refused = figures_of(failing(replace(run, columns=columns), [21, 22], 3), Slo(ttft_ms=1000))
    unsent = figures_of(failing(replace(run, columns=columns), [21, 22], 4), Slo(ttft_ms=1000))
    assert refused.ttft_s is not None
    assert unsent.ttft_s is not None
    assert (refused.ttft_s.num_failed, unsent.ttft_s.num_failed) == (2, 0)
    assert refused.goodput is not None
    assert refused.goodput.num_sent - refused.goodput.num_good == 2


def test_goodput_counts_the_sent_and_scales_with_the_prompt() -> None:
    lengths = UniformLength(distribution="uniform", min=100, max=4000)
    run = played(schedule_of(OPEN.model_copy(update={"input_tokens": lengths}), 1, 2))
    ttft = (50 * MS + run.columns.asked_input_tokens * 20_000).astype(np.int64)  # 20 us a token
    columns = replace(run.columns, first_ns=run.columns.sent_ns + ttft)
    slow = replace(run, columns=columns)
    flat = figures_of(slow, Slo(ttft_ms=60)).goodput
    scaled = figures_of(slow, Slo(ttft_ms=60, ttft_ms_per_1k_input=20)).goodput
    assert flat is not None
    assert scaled is not None
    assert flat.good_fraction == pytest.approx(400 / 3900, abs=0.05)
    assert scaled.good_fraction == 1
    assert scaled.holds
    assert not flat.holds
    everything = figures_of(run, Slo(tpot_ms=9.9)).goodput
    assert everything is not None
    assert everything.num_good == 0


def test_without_a_window_nothing_is_steady() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    found = figures_of(failing(replace(run, columns=replace(run.columns, end_ns=np.full(56, NEVER))), list(range(56))))
    assert found.window is None
    assert found.ttft_s is None
    assert found.statuses == {"http_error": 56}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=3000), st.integers(1, 50))
def test_percentiles_agree_with_numpy(values: list[float], times: int) -> None:
    array = np.array(values * times)
    exact = percentiles_of(array)
    assert exact is not None
    assert exact.p50 == pytest.approx(np.quantile(array, 0.5) if len(array) > 1 else array[0])
    assert (exact.p99 is None) == (len(array) < 100)
    if exact.p99 is not None:
        assert exact.p99 == pytest.approx(np.quantile(array, 0.99))
    counted = GapCounts.of(array * 1e9, np.ones(len(array))).percentiles(1e-9)
    assert counted is not None
    assert counted.mean == pytest.approx(array.mean())
    assert counted.max == pytest.approx(array.max())
    for share, value in ((0.5, counted.p50), (0.9, counted.p90), (0.99, counted.p99), (0.999, counted.p999)):
        if value is not None and len(array) > 1:
            low = np.quantile(array, share, method="lower")
            # Bins are half a percent wide; ranks of a discrete set may fall on either neighbour.
            below = np.sort(array)[max(0, int(np.ceil(share * len(array))) - 1)]
            assert min(low, below) * 0.997 <= value <= max(low, below) * 1.003


def test_gap_counts_of_parts_add_up() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.lognormal(16, 1, 5000) for _ in range(3)]
    whole = GapCounts.of(np.concatenate(parts), np.ones(15_000))
    summed = GapCounts.none()
    for part in parts:
        summed = summed + GapCounts.of(part, np.ones(5000))
    assert summed.counts.tolist() == whole.counts.tolist()
    assert (summed.sum_ns, summed.max_ns) == (pytest.approx(whole.sum_ns), whole.max_ns)
    assert Gaps.none().by_token.percentiles(1.0) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 400)), min_size=1, max_size=40))
def test_mean_under_way_is_the_area(spans: list[tuple[int, int]]) -> None:
    sent = np.array([a for a, _ in spans])
    run = played(schedule_of(OPEN, 1, 2))
    columns = run.columns.where(np.arange(run.columns.num) < len(spans))
    columns = replace(columns, sent_ns=sent, scheduled_ns=sent, end_ns=sent + np.array([b for _, b in spans]))
    times, numbers = under_way(columns, from_schedule=False)
    assert numbers[-1] == 0
    assert numbers.min() >= 0
    grid = np.linspace(0, 1500, 1501)
    expected = [((sent <= t) & (columns.end_ns > t)).sum() for t in grid[:-1]]
    assert mean_between(times, numbers, grid) == pytest.approx(expected)


def test_a_queue_grows_only_above_capacity() -> None:
    # One server takes 0.45 s a request: 10 of them 22 a second.
    for rate, grows in ((12, False), (18, False), (26, True), (60, True)):
        load = OPEN.model_copy(update={"rate_per_s": rate})
        found = figures_of(played(schedule_of(load, 5, 2), servers=10))
        assert found.queue is not None
        assert found.queue.is_growing is grows, rate


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_queue_is_not_called_growing(seed: int) -> None:
    run = played(schedule_of(OPEN, seed, 2))
    times, numbers = under_way(run.columns, from_schedule=True)
    assert not queue_trend(times, numbers, (5_000 * MS, 60_000 * MS)).is_growing


def test_equal_requests_march_in_lockstep_and_jittered_ones_do_not() -> None:
    load = CLOSED.model_copy(update={"concurrency": 16, "turnovers": 8})
    jittered = figures_of(played(schedule_of(load, 1, 2)))
    assert jittered.coherence is not None
    assert jittered.coherence < 0.4
    equal = schedule_of(load.model_copy(update={"jitter_fraction": 0.0}), 1, 2)
    together = replace(equal, requests=tuple(replace(r, output_tokens=41) for r in equal.requests))
    marching = played(together)
    assert coherence(marching.columns, (450 * MS, 4_000 * MS)) == pytest.approx(1, abs=0.05)


def test_a_slow_start_shows_in_the_first_fifth() -> None:
    run = played(schedule_of(OPEN, 1, 2))
    found = figures_of(run)
    assert found.early_ttft_ratio == pytest.approx(1)
    slow = np.where(run.columns.scheduled_ns < 13_000 * MS, run.columns.first_ns + 100 * MS, run.columns.first_ns)
    found = figures_of(replace(run, columns=replace(run.columns, first_ns=slow)))
    assert found.early_ttft_ratio is not None
    assert found.early_ttft_ratio > 2


def test_requests_that_were_never_due_are_in_no_figure() -> None:
    run = played(schedule_of(OPEN, 1, 2))
    clock = 10**15  # a clock that began long ago, as the process's does
    columns = run.columns
    moved = {
        name: getattr(columns, name) + clock for name in ("scheduled_ns", "sent_ns", "first_ns", "end_ns")
    }  # fmt: skip
    unsent = columns.index >= 800
    for values in moved.values():
        values[unsent] = NEVER
    status = np.where(unsent, UNSENT, columns.status)
    found = figures_of(replace(run, columns=replace(columns, **moved, status=status), reads=None))
    assert found.window is not None
    assert found.window.start_s == pytest.approx(3 * 0.45, abs=0.05)
    assert found.window.end_s == pytest.approx((columns.scheduled_ns[799] - columns.scheduled_ns[0]) * 1e-9)
    assert found.statuses == {"ok": 800, "unsent": columns.num - 800}
    assert found.request_per_s == pytest.approx(20, rel=0.2)


def test_figures_scale_with_simulated_time() -> None:
    run = played(schedule_of(CLOSED, 1, 2))
    real, scaled = figures_of(run), figures_of(replace(run, time_scale=10))
    assert real.ttft_s is not None
    assert scaled.ttft_s is not None
    assert scaled.ttft_s.p50 == pytest.approx(10 * real.ttft_s.p50)
    assert scaled.output_tok_per_s == pytest.approx((real.output_tok_per_s or 0) / 10)
    assert scaled.mean_concurrency == pytest.approx(real.mean_concurrency)


def test_columns_of_several_processes_are_merged_by_the_schedule() -> None:
    run = played(schedule_of(OPEN, 1, 2))
    even = run.columns.index % 2 == 0
    joined = RequestColumns.joined([run.columns.where(~even), run.columns.where(even)])
    assert figures_of(replace(run, columns=joined)) == figures_of(run)


def test_without_reads_the_tokens_of_a_request_are_spread_evenly() -> None:
    run = played(schedule_of(OPEN, 1, 2))
    exact, spread = figures_of(run), figures_of(replace(run, reads=None))
    assert spread.output_tok_per_s == pytest.approx(exact.output_tok_per_s, rel=0.001)
    assert spread.itl_s is None

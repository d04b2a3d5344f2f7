"""The wait between two polls: none for few events, longer for longer requests, never so long as to join two tokens."""

import numpy as np
import pytest

from raybench.client.calibrate import MockShape, closed_loop
from raybench.client.execute import ExecutorSettings
from raybench.client.mock import Mock
from raybench.client.pace import BUSY_EVENTS, BUSY_WINDOW_NS, FIRST_PAUSE_NS, MAX_PAUSE_NS, PAUSE_FRACTION, Pace
from raybench.client.workers import run_load

MS = 1_000_000


def busy(pace: Pace, start_ns: int = 0, num_streams: int = 10_000) -> int:
    """The wait after a window that was just busy."""
    pace.saw(0, num_streams, start_ns + 1)
    pace.saw(BUSY_EVENTS, num_streams, start_ns + 1 + BUSY_WINDOW_NS)
    return pace.pause_ns


def test_few_events_are_not_waited_for() -> None:
    pace = Pace(is_closed=True)
    pace.saw(0, 10_000, 1)
    pace.saw(BUSY_EVENTS - 1, 10_000, 1 + BUSY_WINDOW_NS)
    assert pace.pause_ns == 0
    assert busy(pace, 3 * BUSY_WINDOW_NS) == FIRST_PAUSE_NS
    pace.saw(0, 10_000, 6 * BUSY_WINDOW_NS)
    assert pace.pause_ns == 0, "the burst is over"


def test_polls_that_are_rare_say_nothing_of_the_time_between_reads() -> None:
    pace = Pace(is_closed=True)
    pace.saw(0, 10_000, 1)
    pace.saw(10 * BUSY_EVENTS, 10_000, 1 + 2 * BUSY_WINDOW_NS)
    assert pace.pause_ns == 0


@pytest.mark.parametrize(("num_streams", "pause_ns"), [(1, 125_000), (4, 500_000), (8, FIRST_PAUSE_NS)])
def test_a_wait_is_a_quarter_of_the_time_between_two_reads_of_a_stream(num_streams: int, pause_ns: int) -> None:
    # 100 reads in 50 ms: one stream has one every half millisecond, eight have one every 4 ms each.
    assert busy(Pace(is_closed=True), num_streams=num_streams) == pause_ns


def test_without_users_who_wait_the_wait_is_the_longest() -> None:
    assert busy(Pace(is_closed=False)) == MAX_PAUSE_NS


@pytest.mark.parametrize(
    ("took_ms", "pause_ns"), [((10,), 40_000), ((600, 800), 2_800_000), ((60_000,), MAX_PAUSE_NS), ((0,), 0)]
)
def test_a_wait_is_a_small_part_of_what_requests_take(took_ms: tuple[int, ...], pause_ns: int) -> None:
    pace = Pace(is_closed=True)
    for took in took_ms:
        pace.took(took * MS)
    assert busy(pace) == pause_ns


@pytest.mark.parametrize("itl_s", [0.001, 0.002])
def test_quick_tokens_are_not_joined_by_the_wait(itl_s: float) -> None:
    # Answers of a second and more: without regard to the tokens the wait would be 3 ms.
    shape = MockShape(ttft_s=0.02, itl_s=itl_s, output_tokens=round(1.2 / itl_s))
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s, pattern="steps") as mock:
        columns = run_load(closed_loop(8, 2, shape), ExecutorSettings(mock.url, num_connections=8)).columns
    assert len(columns.read_ns) >= 0.9 * columns.output_tokens.sum()


def test_users_with_short_answers_are_not_held_up() -> None:
    shape = MockShape(ttft_s=0.02, itl_s=0.005, output_tokens=8)
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s) as mock:
        columns = run_load(closed_loop(64, 12, shape), ExecutorSettings(mock.url, num_connections=64)).columns
    late_ns, took_ns = columns.sent_ns - columns.scheduled_ns, columns.end_ns - columns.sent_ns
    assert np.median(late_ns[64:]) <= 4 * PAUSE_FRACTION * np.median(took_ns)

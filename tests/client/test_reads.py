"""Times of reads: from the kernel's stamps and the clocks' offset, and what a step of the wall clock does to them."""

from array import array

import numpy as np

from raybench.client.reads import ReadLog, ReadsByRequest, wall_ns, wall_of

S = 1_000_000_000


def log_of(polls: list[tuple[int, list[tuple[int, int, int]]]]) -> ReadLog:
    """Polls of an offset and reads: place, stamp on `perf_counter_ns`, seen."""
    log = ReadLog()
    for offset_ns, reads in polls:
        log.begin_poll(offset_ns)
        for place, t_ns, seen_ns in reads:
            log.add(place, wall_of(t_ns + offset_ns), seen_ns, t_ns)
    return log


def test_a_stamp_goes_there_and_back() -> None:
    for ns in (0, 1, S - 1, S, 1_700_000_000_123_456_789):
        assert wall_ns(wall_of(ns)) == ns


def test_times_by_request_and_how_late_each_was_seen() -> None:
    offset_ns = 1_700_000_000 * S
    log = log_of(
        [
            (offset_ns, [(2, 1000, 1500), (0, 1100, 1600)]),
            (offset_ns + 7, []),
            # The wall clock was set back by an hour between two polls: each poll has its own offset.
            (offset_ns - 3600 * S, [(2, 2000, 2100), (2, 2050, 2300)]),
        ]
    )
    reads = ReadsByRequest(log, array("q", [900, -1, 950]))
    assert [reads.of(place) for place in range(3)] == [[1100], [], [1000, 2000, 2050]]
    assert reads.lags_ns.tolist() == [500, 500, 100, 250]


def test_a_stamp_from_before_a_step_of_the_clock_gives_way_to_the_process_own_time() -> None:
    log = ReadLog()
    log.begin_poll(10 * S)
    # Stamped before the clock went forward by 5 s, read after: it would have come before it was asked for.
    log.add(0, wall_of(5 * S + 1200), 1300, 1000)
    assert log.newest_ns(1000) == 1300
    # And the other way: 5 s in the future.
    log.add(0, wall_of(15 * S + 1400), 1500, 1000)
    assert log.newest_ns(1000) == 1500
    log.add(0, wall_of(10 * S + 1600), 1700, 1000)
    assert log.newest_ns(1000) == 1600
    assert ReadsByRequest(log, array("q", [1000])).of(0) == [1300, 1500, 1600]


def test_a_read_that_the_kernel_did_not_stamp_came_when_the_process_had_it() -> None:
    log = ReadLog()
    log.begin_poll(10 * S)
    log.add(0, b"", 1300, 1250)
    assert log.newest_ns(1000) == 1300
    reads = ReadsByRequest(log, array("q", [1000]))
    assert reads.of(0) == [1300]


def test_the_lag_of_a_read_without_a_stamp_counts_from_its_poll() -> None:
    log = ReadLog()
    log.begin_poll(10 * S)
    log.add(0, b"", 1300, 1250)
    log.add(0, wall_of(10 * S + 1200), 1310, 1250)
    # The third waited 60 ms for the process to work off the others of its poll.
    log.add(0, b"", 60_001_250, 1250)
    assert ReadsByRequest(log, array("q", [1000])).lags_ns.tolist() == [50, 110, 60_000_000]


def test_no_reads() -> None:
    reads = ReadsByRequest(ReadLog(), array("q", [-1, -1]))
    assert (reads.of(0), reads.of(1), reads.lags_ns.tolist()) == ([], [], [])


def test_many_reads_at_once_say_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(5)
    log, expected = ReadLog(), {place: [] for place in range(7)}
    sent_ns = array("q", rng.integers(0, 1000, 7).tolist())
    for poll in range(50):
        log.begin_poll(int(rng.integers(-(5 * S), 5 * S)) + 1_000_000 * S)
        for _ in range(int(rng.integers(0, 9))):
            place, t_ns = int(rng.integers(7)), int(rng.integers(500, 10_000)) + poll * 100
            log.add(place, wall_of(t_ns + log.offset_ns), t_ns + 40, t_ns)
            expected[place].append(log.newest_ns(sent_ns[place]))
    reads = ReadsByRequest(log, sent_ns)
    assert {place: reads.of(place) for place in expected} == expected

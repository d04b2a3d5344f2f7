"""The executor: what is sent and when, chains, faults of every kind, the ends of a load."""

import json
import os
import time
from collections.abc import Sequence

import numpy as np
import pytest
from canned_server import CUT, HANG, chunked, reply
from load_server import canned_in_thread

from raybench.client.columns import NEVER, STATUSES
from raybench.client.execute import Executor, ExecutorSettings, LoadRun
from raybench.client.mock import Mock
from raybench.client.overload import OverloadRule
from raybench.client.planned import CHAT, GENERATE, PlannedRequest
from raybench.client.workers import cpus_of, run_load
from raybench.errors import ClientError

TOKEN = b'data: {"text": "a", "meta_info": {"finish_reason": null, "prompt_tokens": 3, "completion_tokens": 1}}\n\n'
LAST = (
    b'data: {"text": "ab", "meta_info": {"finish_reason": {"type": "length"}, "prompt_tokens": 3, '
    b'"completion_tokens": 2}}\n\n'
)
GOOD = chunked(TOKEN, LAST, b"data: [DONE]\n\n")
SILENT = chunked(
    b'data: {"text": "", "meta_info": {"finish_reason": {"type": "stop"}, "completion_tokens": 0}}\n\n',
    b"data: [DONE]\n\n",
)


def body(index: int, num_tokens: int = 3) -> bytes:
    return json.dumps({"rid": str(index), "sampling_params": {"max_new_tokens": num_tokens}}).encode()


def chain(num: int, number: int | None = 0, pause_s: float = 0.0) -> list[PlannedRequest]:
    return [PlannedRequest(index, None, number, body(index), GENERATE, pause_s) for index in range(num)]


def against(
    answers: Sequence[bytes], requests: Sequence[PlannedRequest], **settings: object
) -> tuple[LoadRun, list[str]]:
    with canned_in_thread(answers) as server:
        run = run_load(requests, ExecutorSettings(server.url, num_connections=1, **settings))
    return run, [STATUSES[code] for code in run.columns.status]


def test_a_closed_loop_sends_each_chain_in_order_and_hands_over_at_once() -> None:
    users, rounds = 5, 6
    requests = [
        PlannedRequest(index, 0.005 * index if index < users else None, index % users, body(index))
        for index in range(users * rounds)
    ]
    with Mock(ttft_s=0.01, itl_s=0.005) as mock:
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=users))
        truth = mock.truth()
    columns = run.columns
    assert columns.index.tolist() == list(range(users * rounds))
    assert set(columns.status) == {0}
    assert (columns.output_tokens == 3).all()
    assert (np.add.reduceat(columns.read_tokens, columns.starts[:-1]) == 3).all()
    for user in range(users):
        own = columns.index % users == user
        # No gap between two requests of a user: the next is due when the last bytes of the one before came.
        assert (columns.scheduled_ns[own][1:] >= columns.end_ns[own][:-1]).all()
        assert (columns.sent_ns[own] >= columns.scheduled_ns[own]).all()
        assert (np.diff(columns.sent_ns[own]) > 0).all()
    assert (truth.peak_streams, int(columns.in_flight.max())) == (users, users)
    assert run.processes[0].num_opened_late == 0
    assert run.processes[0].kernel_stamps


def test_what_the_client_says_is_what_the_mock_logged() -> None:
    requests = [PlannedRequest(index, 0.002 * index, None, body(index, 4)) for index in range(60)]
    with Mock(ttft_s=0.02, itl_s=0.01) as mock:
        columns = run_load(requests, ExecutorSettings(mock.url, num_connections=60)).columns
        truth = mock.truth()
    by_rid = np.argsort(truth.rids)
    emitted_ns = truth.emitted_ns[truth.starts[:-1]][by_rid]
    # Order of events, on one clock: sent, arrived, emitted, read.
    assert (columns.sent_ns <= truth.arrived_ns[by_rid]).all()
    assert (truth.arrived_ns[by_rid] < emitted_ns).all()
    assert (emitted_ns <= columns.first_ns).all()


@pytest.mark.parametrize("kernel_stamps", [True, False])
def test_both_kinds_of_stamps(kernel_stamps: bool) -> None:
    with Mock(ttft_s=0.01, itl_s=0.002) as mock:
        run = run_load(chain(4), ExecutorSettings(mock.url, num_connections=1, kernel_stamps=kernel_stamps))
    columns = run.columns
    assert run.processes[0].kernel_stamps == kernel_stamps
    assert (run.processes[0].read_lag_p50_s or 0) > 0
    assert set(columns.status) == {0}
    assert (columns.first_ns - columns.sent_ns >= 10_000_000).all()
    assert (columns.end_ns >= columns.first_ns).all()


def test_an_open_load_keeps_its_schedule_whatever_the_server_does() -> None:
    requests = [PlannedRequest(index, 0.01 * index, None, body(index)) for index in range(20)]
    with Mock(ttft_s=0.3, itl_s=0.001) as mock:
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=2))
    columns = run.columns
    assert np.allclose(np.diff(columns.scheduled_ns), 10_000_000, atol=1)
    assert (columns.sent_ns >= columns.scheduled_ns).all()
    # The second is sent long before the first has its answer, over connections that are opened as they are needed.
    assert columns.sent_ns[5] < columns.first_ns[0]
    assert run.processes[0].num_opened_late >= 10
    assert run.processes[0].max_in_flight > 2


def test_pauses_and_times_of_their_own_hold_a_chain_back() -> None:
    requests = [
        PlannedRequest(0, 0.0, 7, body(0)),
        PlannedRequest(1, None, 7, body(1), GENERATE, 0.05),
        PlannedRequest(2, 2.0, 7, body(2)),
    ]
    with Mock(ttft_s=0.001, itl_s=0.001) as mock:
        columns = run_load(requests, ExecutorSettings(mock.url, num_connections=1)).columns
    assert columns.scheduled_ns[1] == columns.end_ns[0] + 50_000_000
    assert columns.scheduled_ns[2] == columns.scheduled_ns[0] + 2_000_000_000
    assert columns.chain.tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("answers", "statuses", "error"),
    [
        ([GOOD], ["ok", "ok"], None),
        ([SILENT, GOOD], ["cut", "ok"], "the stream ended without a token"),
        ([reply({"error": "full"}, 503), GOOD], ["http_error", "ok"], 'HTTP 503: {"error": "full"}'),
        ([CUT, GOOD], ["cut", "ok"], "the connection was cut after 0 bytes"),
        ([chunked(TOKEN, whole=False), GOOD], ["cut", "ok"], "the connection was cut after"),
        ([chunked(TOKEN), GOOD], ["cut", "ok"], "the stream ended without a finish reason"),
        ([chunked(TOKEN, b'data: {"error": {"message": "dead"}}\n\n'), GOOD], ["http_error", "ok"], "dead"),
        ([b"SSH-2.0-hello\r\n\r\n", GOOD], ["cut", "ok"], "the connection was cut after"),
        ([GOOD.replace(b"Content-Type", b"Connection: close\r\nContent-Type"), GOOD], ["ok", "ok"], None),
    ],
    ids=["good", "silent", "503", "no answer", "cut", "no reason", "error event", "no http", "closing"],
)
def test_faults_end_as_rows_and_the_chain_goes_on(answers: list[bytes], statuses: list[str], error: str | None) -> None:
    run, found = against(answers, chain(2))
    assert found == statuses
    if error is None:
        assert run.columns.errors == {}
    else:
        assert error in run.columns.errors[0]
        if statuses[0] == "cut" and "finish" not in error and "after" not in error:
            assert run.columns.first_ns[0] == NEVER, "a first token that never came has no time"


def test_answers_on_disk_say_the_same_as_answers_in_memory() -> None:
    found = []
    for max_kept_bytes in (0, 2000, 2**30):
        requests = [PlannedRequest(index, 0.0, index % 4, body(index, 5), CHAT) for index in range(24)]
        with Mock(ttft_s=0.001, itl_s=0.001) as mock:
            settings = ExecutorSettings(mock.url, num_connections=4, max_kept_bytes=max_kept_bytes)
            columns = run_load(requests, settings).columns
        assert set(columns.status) == {0}
        assert (columns.first_byte_ns <= columns.first_ns).all()
        assert (columns.first_ns <= columns.end_ns).all()
        assert (np.add.reduceat(columns.read_tokens, columns.starts[:-1]) == 5).all()
        found.append(columns)
    assert found[0].output_tokens.tolist() == found[1].output_tokens.tolist() == found[2].output_tokens.tolist()


def test_a_time_limit_ends_a_silent_request() -> None:
    run, found = against([HANG], chain(2), request_timeout_s=0.3)
    assert found == ["timeout", "timeout"]
    assert run.columns.first_byte_ns.tolist() == [NEVER, NEVER]
    assert "timeout: no end of the stream after 0 bytes" in run.columns.errors[0]


def test_a_connection_that_the_server_closed_while_idle_costs_no_request() -> None:
    # The second answer is a close: on a kept connection that is the race with the server's keep-alive limit.
    run, found = against([GOOD, CUT, GOOD], chain(3))
    assert found == ["ok", "ok", "ok"]
    assert run.processes[0].num_resent == 1


def test_nobody_listens() -> None:
    with pytest.raises(ClientError, match=r"cannot connect to 127\.0\.0\.1:1"):
        run_load(chain(1), ExecutorSettings("http://127.0.0.1:1"))


def test_a_server_that_dies_ends_the_load() -> None:
    with canned_in_thread([GOOD]) as server:
        executor = Executor(chain(1000), ExecutorSettings(server.url, num_connections=1))
        executor.open()
    executor.run(time.perf_counter_ns())
    run = executor.result()
    assert "no server" in (run.processes[0].stopped_early or "")
    names = [STATUSES[code] for code in run.columns.status]
    assert names.count("unsent") > 500
    assert names.count("ok") == 0
    assert len(names) == 1000


def test_sending_ends_at_its_time_and_what_is_under_way_may_end() -> None:
    with Mock(ttft_s=0.15, itl_s=0.001) as mock:
        requests = [PlannedRequest(index, 0.01 * index + 60 * (index > 5), None, body(index)) for index in range(30)]
        columns = run_load(requests, ExecutorSettings(mock.url, num_connections=4, sending_s=2)).columns
    assert [STATUSES[code] for code in columns.status] == ["ok"] * 6 + ["unsent"] * 24
    assert (columns.sent_ns[6:] == NEVER).all()


def test_what_is_under_way_at_the_end_of_the_drain_is_a_timeout() -> None:
    with Mock(ttft_s=30, itl_s=0.001) as mock:
        requests = [PlannedRequest(index, 0.0, None, body(index)) for index in range(3)]
        settings = ExecutorSettings(mock.url, num_connections=3, sending_s=2, drain_s=0.2)
        columns = run_load(requests, settings).columns
    assert [STATUSES[code] for code in columns.status] == ["timeout"] * 3


def test_an_overload_that_only_grows_ends_the_load_early() -> None:
    requests = [PlannedRequest(index, 0.005 * index, None, body(index)) for index in range(4000)]
    rule = OverloadRule(slice_s=0.5, num_slices=3, min_backlog=20)
    with Mock(ttft_s=0.1, itl_s=0.01, max_running=4) as mock:
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=50, overload=rule, drain_s=0.1))
    assert (run.processes[0].stopped_early or "").startswith("overload: in 2 s ")
    names = [STATUSES[code] for code in run.columns.status]
    assert names.count("unsent") > 1000
    with Mock(ttft_s=0.02, itl_s=0.001) as mock:
        run = run_load(requests[:800], ExecutorSettings(mock.url, num_connections=50, overload=rule))
    assert run.processes[0].stopped_early is None


def test_a_request_larger_than_the_socket_takes_goes_out_whole() -> None:
    long = json.dumps({"rid": "0", "input_ids": [1] * 4_000_000, "sampling_params": {"max_new_tokens": 2}}).encode()
    with Mock(ttft_s=0.001, itl_s=0.001) as mock:
        run = run_load([PlannedRequest(0, None, None, long)], ExecutorSettings(mock.url, num_connections=1))
    assert [STATUSES[code] for code in run.columns.status] == ["ok"]


def test_connections_at_most() -> None:
    requests = [PlannedRequest(index, 0.0, None, body(index)) for index in range(12)]
    with Mock(ttft_s=0.02, itl_s=0.001) as mock:
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=2, max_connections=3))
        assert mock.truth().peak_streams <= 3
    assert [STATUSES[code] for code in run.columns.status] == ["ok"] * 12
    # Those that waited are late, and say so.
    assert (run.columns.sent_ns - run.columns.scheduled_ns).max() >= 20_000_000


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_several_processes_are_one_load(num_processes: int) -> None:
    requests = [PlannedRequest(index, None, index % 4, body(index), CHAT) for index in range(20)]
    requests += [PlannedRequest(20 + index, 0.01 * index, None, body(20 + index), CHAT) for index in range(9)]
    with Mock(ttft_s=0.01, itl_s=0.001) as mock:
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=8), num_processes)
        truth = mock.truth()
    columns = run.columns
    assert columns.index.tolist() == list(range(29))
    assert set(columns.status) == {0}
    assert sorted(truth.rids.tolist()) == list(range(29))
    assert len(run.processes) == num_processes
    assert set(columns.process) == set(range(num_processes))
    for number in range(4):
        own = columns.chain == number
        assert len(set(columns.process[own])) == 1
        assert (columns.sent_ns[own][1:] >= columns.end_ns[own][:-1]).all()


@pytest.mark.parametrize(
    ("num_cpus", "num_processes", "cpus"),
    [(2, 1, [()]), (4, 1, [(3,)]), (7, 2, [(), ()]), (8, 2, [(7,), (6,)]), (64, 3, [(63,), (62,), (61,)])],
)
def test_a_process_has_a_cpu_of_its_own_only_where_the_server_keeps_enough(
    num_cpus: int, num_processes: int, cpus: list[tuple[int, ...]]
) -> None:
    assert [cpus_of(part, num_processes, range(num_cpus)) for part in range(num_processes)] == cpus


def test_the_client_leaves_the_cpus_of_its_process_as_they_were() -> None:
    before = os.sched_getaffinity(0)
    with Mock(ttft_s=0.001, itl_s=0.001) as mock:
        run = run_load(chain(2), ExecutorSettings(mock.url, num_connections=1))
    assert os.sched_getaffinity(0) == before
    assert set(run.processes[0].cpus) <= before


def test_a_process_that_cannot_connect_names_the_reason() -> None:
    with pytest.raises(ClientError, match=r"client process \d of 2 ended before it was ready: cannot connect"):
        run_load(chain(4), ExecutorSettings("http://127.0.0.1:1"), 2)

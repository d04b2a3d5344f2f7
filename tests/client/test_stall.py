"""A server that stalls: an open loop shows it, because latency counts from the schedule; a closed loop hides it."""

import numpy as np
import pytest

from raybench.client.calibrate import MockShape, closed_loop, mock_body
from raybench.client.execute import ExecutorSettings
from raybench.client.mock import Mock
from raybench.client.planned import PlannedRequest
from raybench.client.workers import run_load

STALL_S, AT_S, LENGTH_S = 2.0, 3.0, 12.0
SHAPE = MockShape(ttft_s=0.01, itl_s=0.002, output_tokens=4, input_tokens=8)


def p99_s(requests: list[PlannedRequest], *, from_schedule: bool) -> float:
    with Mock(ttft_s=SHAPE.ttft_s, itl_s=SHAPE.itl_s, stall_at_s=AT_S, stall_s=STALL_S) as mock:
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=32, sending_s=LENGTH_S))
    columns = run.columns
    sent = columns.sent_ns >= 0
    assert (columns.status[sent] == 0).all()
    begun_ns = columns.scheduled_ns if from_schedule else columns.sent_ns
    return float(np.percentile((columns.end_ns - begun_ns)[sent] * 1e-9, 99))


@pytest.mark.slow
def test_a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() -> None:
    arrivals = [PlannedRequest(i, i / 50, None, mock_body(i, SHAPE), SHAPE.route) for i in range(round(50 * LENGTH_S))]
    open_s = p99_s(arrivals, from_schedule=True)
    closed_s = p99_s(closed_loop(2, 2000, SHAPE), from_schedule=False)
    # A sixth of the arrivals fell into the stall; of the closed loop's hundreds of requests two did: it sent no more.
    assert open_s > 0.5 * STALL_S
    assert closed_s < 0.25 * STALL_S

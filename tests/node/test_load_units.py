"""Serving loads on a node without Ray: the client process, the simulated engine with its queue, rows and metrics."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from calibrations import calibrated_point, calibration
from simulated_engines import running, simulated_launch, timing

from raybench import __version__
from raybench.client.job import AnyJob, AnyLine, CalibrationJob, CalibrationLine, ClientDone
from raybench.config.schema import EngineConfig
from raybench.node.session import NodeSession, NodeSpec, UnitResult
from raybench.records import LoadMeasurement, LoadUnit
from raybench.records.calibration import Calibration
from raybench.records.loads import ClosedLoad, OpenLoad, ServingLoad, SharedPrefix, Slo

CPUS = len(os.sched_getaffinity(0))
SPEC = NodeSpec("run-of-a-test", "n0", "CPU", 0, declared_host="simulated:n0")


def unit(load: ServingLoad, **changes: object) -> LoadUnit:
    content: dict[str, object] = {
        "key": "load-key", "target": "h200", "sweep": "s", "load": load, "repeat": 0, "launch": 0, "order": 0,
        "arrival_seed": 1, "prompt_seed": 2, "slo": Slo(ttft_ms=2000), "timeout_s": 60,
    }  # fmt: skip
    return LoadUnit.model_validate(content | changes)


def measured(tmp_path: Path, *units: LoadUnit, **model: object) -> list[tuple[LoadMeasurement, bytes]]:
    session = NodeSession(SPEC)
    found: list[tuple[LoadMeasurement, bytes]] = []
    try:
        session.start_engine(simulated_launch(tmp_path, timing(**model)), lambda line: None)
        for one in units:
            *_, result = session.run(one, 1, lambda line: None)
            assert isinstance(result, UnitResult)
            assert result.failure is None
            assert isinstance(result.measurement, LoadMeasurement)
            assert result.rows is not None
            found.append((result.measurement, result.rows))
    finally:
        session.close()
    return found


def test_a_closed_loop_with_more_users_than_the_engine_runs(tmp_path: Path) -> None:
    load = ClosedLoad(concurrency=6, input_tokens=40, output_tokens=30, turnovers=20)
    ((found, rows),) = measured(tmp_path, unit(load), itl_ms={1: 10.0}, max_running_requests=4)
    seen = found.figures
    assert (seen.statuses, seen.num_wrong_length, seen.num_silent) == ({"ok": 132}, 0, 0)
    assert found.drained is True
    assert seen.window is not None
    assert seen.mean_concurrency == pytest.approx(6, abs=0.2)
    assert seen.max_concurrency == 6
    assert seen.tpot_s is not None
    assert seen.tpot_s.p50 >= 0.009
    assert seen.goodput is not None
    assert found.client.num_processes == 1
    assert found.client.processes[0].num_sent == 132
    # By the server's own account four run and two wait.
    assert found.server is not None
    assert found.server.max_running == 4
    assert found.server.mean_queued is not None
    assert 0.5 < found.server.mean_queued <= 2
    table = pq.read_table(io.BytesIO(rows))
    assert table.num_rows == 132
    assert min(table["sent_ns"].to_pylist()) >= 0
    assert table["output_tokens"].to_pylist() == table["asked_output_tokens"].to_pylist()
    assert table["input_tokens"].to_pylist() == table["asked_input_tokens"].to_pylist()


def test_an_open_loop_in_compressed_time(tmp_path: Path) -> None:
    load = OpenLoad(rate_per_s=8, duration_s=20, input_tokens=40, output_tokens=20, prefix=SharedPrefix(tokens=16))
    ((found, _),) = measured(tmp_path, unit(load), itl_ms={1: 20.0}, time_scale=4)
    seen = found.figures
    assert seen.statuses.keys() == {"ok"}
    assert found.simulated
    assert seen.window is not None
    # Times are simulated seconds: twenty of them pass in five real ones.
    assert seen.window.end_s == pytest.approx(20, abs=1)
    assert found.duration_s < 20
    assert seen.request_per_s == pytest.approx(8, rel=0.35)
    assert seen.e2e_s is not None
    assert seen.e2e_s.p50 > 0.4
    assert seen.shared_tokens > 0


class Calibrated(NodeSession):
    """Calibrations by hand: the real one takes ten seconds."""

    def _client_lines(self, key: str, job: AnyJob, limit_s: float | None) -> Iterator[AnyLine]:
        if not isinstance(job, CalibrationJob):
            yield from super()._client_lines(key, job, limit_s)
            return
        yield CalibrationLine(result=calibration(calibrated_point(job.streams, 1), version=__version__, cpus=CPUS))
        yield ClientDone()


def test_a_real_engines_loads_are_calibrated_once_for_each_number_of_streams(tmp_path: Path) -> None:
    spec = replace(SPEC, declared_host=None)
    loads = [ClosedLoad(concurrency=users, input_tokens=8, output_tokens=4, turnovers=1) for users in (2, 3, 5)]

    def run(session: NodeSession, url: str) -> tuple[list[Calibration], list[str]]:
        launch = simulated_launch(tmp_path, timing())
        session.start_engine(replace(launch, engine=EngineConfig(kind="external", url=url)), lambda line: None)
        said: list[str] = []
        items = [item for load in loads for item in session.run(unit(load), 1, said.append)]
        assert [isinstance(item, UnitResult) and item.measurement is not None for item in items].count(True) == 3
        return [item for item in items if isinstance(item, Calibration)], said

    with running(tmp_path, timing()) as (server, _):
        first, again = Calibrated(spec), None
        try:
            made, said = run(first, server.url)
            again = Calibrated(replace(spec, calibrations=tuple(made)))
            assert run(again, server.url) == ([], [])
        finally:
            first.close()
            if again is not None:
                again.close()
    assert [one.points[0].streams for one in made] == [4, 16]
    assert {one.host for one in made} == {first.facts().host}
    said = [line for line in said if not line.startswith("waiting:")]  # for another raybench on this machine
    assert len(said) == 4
    assert "own error at 16 streams: TTFT +0.00 ms" in said[3]


def test_an_engine_that_dies_gives_no_figures(tmp_path: Path) -> None:
    from raybench.config.schema import FaultConfig

    session = NodeSession(SPEC)
    try:
        model = timing(FaultConfig(die_after_requests=5))
        session.start_engine(simulated_launch(tmp_path, model), lambda line: None)
        load = ClosedLoad(concurrency=2, input_tokens=40, output_tokens=10, turnovers=3)
        *_, result = session.run(unit(load), 1, lambda line: None)
    finally:
        session.close()
    assert isinstance(result, UnitResult)
    assert result.measurement is None
    assert result.failure is not None
    assert result.failure.cause == "engine_died"

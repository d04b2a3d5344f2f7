"""A node without Ray: against the simulated server, and with engines whose behaviour is made up."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulated_engines import simulated_launch, timing

from raybench.config.schema import FaultConfig, SimulatedConfig
from raybench.engine.base import Launch, Progress
from raybench.engine.simulated import SimulatedEngine
from raybench.errors import EngineStartError
from raybench.node.host import Cancelled
from raybench.node.session import NodeSession, NodeSpec, UnitResult
from raybench.records import (
    EngineFacts,
    EvalMeasurement,
    EvalUnit,
    Message,
    OneBatchLoad,
    PerfMeasurement,
    PerfUnit,
    SampleRecord,
    SampleSpec,
    Sampling,
    WarmUp,
)

SPEC = NodeSpec("run-of-a-test", "n0", "CPU", 0, declared_host="simulated:n0")


def silent(line: str) -> None:
    pass


def perf_unit(output_tokens: int = 8, timeout_s: float = 60, batch_size: int = 2) -> PerfUnit:
    load = OneBatchLoad(batch_size=batch_size, input_tokens=16, output_tokens=output_tokens)
    return PerfUnit(
        key="perf-key", target="h200", sweep="s", load=load, repeat=0, launch=0, order=0, prompt_seed=1,
        warm_up=WarmUp(max_passes=1), timeout_s=timeout_s,
    )  # fmt: skip


def eval_unit(num_samples: int) -> EvalUnit:
    samples = tuple(
        SampleSpec(
            key=f"sample-{i}", question=f"q{i}", repeat=0, messages=(Message(role="user", content=f"1 + {i}"),),
            gold=str(i + 1), seed=i,
        )
        for i in range(num_samples)
    )  # fmt: skip
    return EvalUnit(
        key="eval-key", target="h200", eval="sums", block=0, samples=samples,
        sampling=Sampling(temperature=0, max_tokens=64), concurrency=2, timeout_s=60,
    )  # fmt: skip


SessionMaker = Callable[..., NodeSession]


@pytest.fixture
def session_of(tmp_path: Path) -> Iterator[SessionMaker]:
    """A node whose simulated engine is up; closed at the end."""
    made: list[NodeSession] = []

    def make(model: SimulatedConfig | None = None) -> NodeSession:
        session = NodeSession(SPEC)
        made.append(session)
        session.start_engine(simulated_launch(tmp_path, model or timing()), silent)
        return session

    yield make
    for session in made:
        session.close()


def last(session: NodeSession, unit: PerfUnit | EvalUnit) -> UnitResult:
    *_, result = session.run(unit, 1, silent)
    assert isinstance(result, UnitResult)
    return result


def later(seconds: float, act: Callable[[], object]) -> None:
    threading.Timer(seconds, act).start()


def test_a_perf_unit_comes_back_with_its_measurement_and_its_rows(session_of: SessionMaker) -> None:
    result = last(session_of(), perf_unit())
    assert isinstance(result.measurement, PerfMeasurement)
    assert result.failure is None
    assert (result.measurement.measured.output_tokens, len(result.measurement.warm_up)) == (16, 1)
    assert result.measurement.simulated
    assert result.rows is not None and result.rows.startswith(b"PAR1")


def test_an_eval_unit_streams_its_samples_and_then_one_result(session_of: SessionMaker) -> None:
    items = list(session_of().run(eval_unit(3), 2, silent))
    assert sorted(item.key for item in items[:-1] if isinstance(item, SampleRecord)) == [
        f"sample-{i}" for i in range(3)
    ]
    assert isinstance(items[-1], UnitResult) and isinstance(items[-1].measurement, EvalMeasurement)
    assert (items[-1].measurement.num_samples, items[-1].measurement.engines_on_host) == (3, 2)


def test_a_block_of_which_nothing_is_missing_asks_nothing(session_of: SessionMaker) -> None:
    session = session_of()
    engine = session._engine
    assert engine is not None
    engine.stop()
    result = last(session, eval_unit(0))
    assert isinstance(result.measurement, EvalMeasurement)


def test_without_an_engine_a_unit_fails_as_if_it_had_died() -> None:
    session = NodeSession(SPEC)
    result = last(session, perf_unit())
    session.close()
    assert result.failure is not None and result.failure.cause == "engine_died"


@pytest.mark.parametrize("unit", [perf_unit(), eval_unit(6)], ids=["perf", "eval"])
def test_a_server_that_dies_meanwhile_is_named_and_its_echoes_are_no_results(
    session_of: SessionMaker, unit: PerfUnit | EvalUnit
) -> None:
    session = session_of(timing(FaultConfig(die_after_requests=2)))
    *before, result = session.run(unit, 1, silent)
    assert isinstance(result, UnitResult)
    assert result.failure is not None and result.failure.cause == "engine_died"
    assert "ended with code 1" in result.failure.message
    assert all(isinstance(item, SampleRecord) and item.status == "ok" for item in before)
    again = last(session, unit)
    assert again.failure is not None and again.failure.cause == "withdrawn", "it waited behind the one that failed"
    assert "engine_died" in again.failure.message


def test_a_dead_engine_is_noticed_before_the_start(session_of: SessionMaker) -> None:
    session = session_of(timing())
    _, pid = session.engine_address()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    result = last(session, perf_unit())
    assert result.failure is not None and result.failure.cause == "engine_died"


def test_a_withdrawn_unit_never_begins_and_an_overdue_one_ends_with_what_it_has(session_of: SessionMaker) -> None:
    session = session_of(timing(FaultConfig(stall_s=30)))
    session.withdraw("perf-key")
    refused = last(session, perf_unit())
    assert refused.failure is not None and refused.failure.cause == "withdrawn"
    running = session.run(eval_unit(2), 1, silent)
    ender = threading.Timer(2.0, session.end_unit, ("eval-key", "no sample ended within 2 s"))
    ender.start()
    *_, result = running
    ender.join()
    assert isinstance(result, UnitResult) and result.failure is not None
    assert (result.failure.cause, result.failure.message) == ("timeout", "no sample ended within 2 s")


class SlowToTell(SimulatedEngine):
    """Knows of its server's death late, as a guardian does that first ends what the server had started."""

    died_s: float | None = None

    def death(self) -> str | None:
        death = super().death()
        if death is None:
            return None
        self.died_s = self.died_s or time.monotonic()
        return death if time.monotonic() - self.died_s > 1 else None


class SaysNothing(SimulatedEngine):
    """A server of somebody else's: nobody watches it."""

    def death(self) -> str | None:
        return None

    def pid(self) -> int | None:
        return None


@pytest.mark.parametrize(("kind", "words"), [(SlowToTell, "ended with code 1"), (SaysNothing, "no server answers at")])
def test_cut_requests_are_no_measurement_even_if_the_death_is_told_late_or_never(
    tmp_path: Path, kind: type[SimulatedEngine], words: str
) -> None:
    session = NodeSession(SPEC, kind)
    try:
        session.start_engine(simulated_launch(tmp_path, timing(FaultConfig(die_after_requests=2))), silent)
        result = last(session, perf_unit())
    finally:
        session.close()
    assert result.measurement is None
    assert result.failure is not None and (result.failure.cause, words in result.failure.message) == (
        "engine_died",
        True,
    )


def test_a_unit_past_its_limit_is_a_timeout(session_of: SessionMaker) -> None:
    result = last(session_of(timing(FaultConfig(stall_s=60))), perf_unit(timeout_s=0.5))
    assert result.failure is not None and result.failure.cause == "timeout"


def test_cancel_ends_the_running_unit_and_refuses_the_next(session_of: SessionMaker) -> None:
    session = session_of(timing(FaultConfig(stall_s=3600)))
    later(0.5, session.cancel)
    for unit in (perf_unit(timeout_s=3600), eval_unit(2)):
        result = last(session, unit)
        assert result.failure is not None and result.failure.cause == "stopped"


class Waiting:
    """An engine that is being started until somebody raises in its progress."""

    def __init__(self, launch: Launch) -> None:
        self.stopped = 0

    def start(self, progress: Progress) -> EngineFacts:
        while True:
            progress("still starting")
            time.sleep(0.02)

    url = "http://127.0.0.1:9"
    api_key = None
    served_name = "none"

    def death(self) -> str | None:
        return None

    def pid(self) -> int | None:
        return None

    def stop(self, grace_s: float = 20.0) -> None:
        self.stopped += 1


def test_cancel_ends_a_start_that_has_no_process_yet(tmp_path: Path) -> None:
    engines: list[Waiting] = []

    def make(launch: Launch) -> Waiting:
        engines.append(Waiting(launch))
        return engines[-1]

    session = NodeSession(SPEC, make)
    later(0.2, session.close)
    with pytest.raises(Cancelled, match="stopped by the user"):
        session.start_engine(simulated_launch(tmp_path, timing()), silent)
    assert engines[0].stopped == 1
    with pytest.raises(Cancelled):
        session.start_engine(simulated_launch(tmp_path, timing()), silent)
    assert len(engines) == 1


def test_cancel_ends_a_start_whose_process_is_silent(tmp_path: Path) -> None:
    session = NodeSession(SPEC)
    later(0.5, session.cancel)
    with pytest.raises(Cancelled):
        session.start_engine(simulated_launch(tmp_path, timing(startup_s=3600.0), startup_timeout_s=3600), silent)
    session.close()


def test_an_engine_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    session = NodeSession(SPEC)
    with pytest.raises(EngineStartError, match="refuses to start"):
        session.start_engine(simulated_launch(tmp_path, timing(FaultConfig(refuse_start=True))), silent)
    with pytest.raises(RuntimeError, match="no engine"):
        session.engine_address()
    session.close()
    assert not session._folder.exists()


def test_a_new_start_replaces_the_engine_and_close_ends_it(tmp_path: Path) -> None:
    session = NodeSession(SPEC)
    launch = simulated_launch(tmp_path, timing())
    session.start_engine(launch, silent)
    _, first = session.engine_address()
    facts = session.start_engine(launch, silent)
    url, second = session.engine_address()
    assert (facts.url, first != second) == (url, True)
    assert not Path(f"/proc/{first}").exists()
    session.close()
    session.close()
    assert not Path(f"/proc/{second}").exists()


def test_facts_name_the_declared_host_and_no_gpus(tmp_path: Path) -> None:
    session = NodeSession(SPEC)
    facts = session.facts()
    session.close()
    assert (facts.node, facts.host, facts.gpus, facts.accelerator) == ("n0", "simulated:n0", (), "CPU")

"""What a node does: a plain class, so that it can be tested without Ray.

It starts one engine at a time, runs one unit at a time (or several blocks of samples) through client processes, reads
the GPUs beside it, and stops everything. It decides nothing: which engine and which unit come from the dispatcher.
"""

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from raybench.client.job import (
    AnyJob,
    AnyLine,
    BatchJob,
    ChatJob,
    ClientDone,
    LoadJob,
    LoadLine,
    MeasuredLine,
    SampleLine,
    WarmUpLine,
)
from raybench.client.serve import ROWS, streams_of
from raybench.engine import make_engine
from raybench.engine.base import Engine, Launch, Progress
from raybench.engine.metrics import server_side
from raybench.errors import RaybenchError
from raybench.node.calibration import Calibrations, level, processes_for, words
from raybench.node.clientrun import ClientRun
from raybench.node.facts import node_facts
from raybench.node.host import Cancelled, host_lock
from raybench.node.kept import kept_facts
from raybench.node.preflight import Bench
from raybench.node.rows import parquet_bytes
from raybench.node.serverside import MetricsSampler
from raybench.node.telemetry import GpuSampler
from raybench.node.turns import Turns
from raybench.records import (
    AnyMeasurement,
    AnyUnit,
    Cause,
    CheckUnit,
    EngineFacts,
    EvalMeasurement,
    EvalUnit,
    Failure,
    LoadMeasurement,
    LoadUnit,
    NodeFacts,
    PerfMeasurement,
    PerfUnit,
    SampleRecord,
    Timed,
)
from raybench.records.calibration import Calibration

CLIENT_GRACE_S = 60.0
"""Time that the client has beyond the unit's own limit before it is killed."""

DEATH_PATIENCE_S = 10.0
"""Time for a server whose process or port is gone to be reported as dead, with its log; then it is dead anyway."""

SUSPICION_S = 3.0
"""Time that a server has to die after it has cut requests: a lost scheduler takes its server along within seconds."""

CLOSE_PATIENCE_S = 20.0
"""Time that `close` gives a call that is under way to notice its cancellation."""

DEFAULT_VOCAB_TOKENS = 1000
"""Prompt tokens are drawn below this where the engine does not say how large its vocabulary is."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a node is told when it is made."""

    run_id: str
    node: str
    accelerator: str
    num_gpus: int
    declared_host: str | None
    """Host that a simulated node claims; None = the machine's boot id."""
    ray_node_id: str | None = None
    calibrations: tuple[Calibration, ...] = ()
    """What is known of the load client's own error on machines of this run."""
    lease_s: float | None = None
    """How long the node outlives a driver that asks for no sign of life any more; None: it ends with its driver."""


@dataclass(frozen=True, slots=True)
class UnitResult:
    """Last word of a unit: a measurement with its rows, or why there is none."""

    measurement: AnyMeasurement | None
    rows: bytes | None
    """Parquet bytes of a timed unit's per-request rows."""
    failure: Failure | None


class NodeSession:
    """One node. `start_engine`, `run` and `stop_engine` come one after the other; `cancel` may come at any time."""

    def __init__(self, spec: NodeSpec, engines: Callable[[Launch], Engine] = make_engine) -> None:
        self._spec = spec
        self._engines = engines
        self._folder = Path(tempfile.mkdtemp(prefix=f"raybench-{spec.node}-"))
        self._engine: Engine | None = None
        self._facts: EngineFacts | None = None
        self._launch: Launch | None = None
        self._cancelled = threading.Event()
        self._clients: dict[str, ClientRun] = {}
        """By the key of the unit that is running."""
        self._overdue: dict[str, str] = {}
        """Units that were ended from outside, with the reason."""
        self._withdrawn: set[str] = set()
        self._fault: str | None = None
        """What the engine has done to a unit, so that none that waited behind it is given to it."""
        self._starting = False
        self._calibrations: Calibrations | None = None
        self._turns = Turns()

    def facts(self) -> NodeFacts:
        """What this node is."""
        spec = self._spec
        return node_facts(spec.node, spec.accelerator, spec.declared_host, spec.ray_node_id, spec.run_id)

    def start_engine(self, launch: Launch, progress: Progress) -> EngineFacts:
        """Start the engine of `launch`. Raises EngineStartError, InterpreterError, Cancelled; nothing is left then."""

        def told(line: str) -> None:
            self._check_cancelled()
            progress(line)

        with self._turns.alone():
            self._check_cancelled()
            if self._spec.lease_s is not None and self._fault is None:
                kept = kept_facts(self._engine, self._facts, self._launch, launch)
                if kept is not None:
                    self._facts = kept
                    return kept
            self.stop_engine()
            self._fault = None
            folder = self._folder / launch.start
            folder.mkdir(parents=True, exist_ok=True)
            engine = self._engines(replace(launch, folder=folder, host=self.facts().host))
            self._engine, self._launch = engine, launch
            self._starting = True
            try:
                with self._host(alone=False, progress=told):
                    self._facts = engine.start(told)
            except BaseException as error:
                self.stop_engine()
                if self._cancelled.is_set() and not isinstance(error, Cancelled):
                    raise Cancelled("stopped by the user while the engine started") from error
                raise
            finally:
                self._starting = False
            return self._facts

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("stopped by the user before the engine was up")

    def stop_engine(self) -> None:
        """Stop the engine and everything that it started. Idempotent."""
        engine, self._engine, self._facts = self._engine, None, None
        if engine is not None:
            engine.stop()

    def engine_address(self) -> tuple[str, int | None]:
        """URL and process id of the running engine. Raises RuntimeError without one."""
        if self._engine is None:
            raise RuntimeError("no engine is up")
        return self._engine.url, self._engine.pid()

    def cancel(self) -> None:
        """End the running unit (it comes back as a failure with cause `stopped`) or the engine's start. For good."""
        self._cancelled.set()
        engine = self._engine
        for client in list(self._clients.values()):
            client.kill()
        pid = engine.pid() if engine is not None and self._starting else None
        if pid is not None:
            # `start` sees its server die and cleans up; a call of `stop` from this thread would race with it.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def adopt(self, spec: NodeSpec) -> None:
        """Serve another session of the driver: what runs for the one before is ended, the engine stays."""
        self.cancel()
        if not self._turns.wait(CLOSE_PATIENCE_S):
            self.stop_engine()  # whatever still uses it: it cannot be handed on
        self._cancelled.clear()
        self._withdrawn.clear()
        self._overdue.clear()
        self._spec, self._calibrations = spec, None

    def withdraw(self, key: str) -> None:
        """Refuse this unit when its turn comes; one that has begun goes on."""
        self._withdrawn.add(key)

    def end_unit(self, key: str, reason: str) -> None:
        """End a running unit with what it has: samples that came back are kept, the rest fails with `timeout`."""
        client = self._clients.get(key)
        if client is not None:
            self._overdue[key] = reason
            client.kill()

    def close(self) -> None:
        """End everything and remove the scratch folder. Idempotent."""
        self.cancel()
        self._turns.wait(CLOSE_PATIENCE_S)
        self.stop_engine()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self, unit: AnyUnit, engines_on_host: int, progress: Progress
    ) -> Iterator[SampleRecord | Calibration | UnitResult]:
        """Run a unit: samples and calibrations as they end, then exactly one UnitResult. Never raises for what the
        engine does.

        Blocks of samples run beside each other, everything else alone, in the order in which it was asked for.
        """
        with self._turns.beside() if isinstance(unit, EvalUnit) else self._turns.alone():
            for item in self._answers(unit, engines_on_host, progress):
                failure = item.failure if isinstance(item, UnitResult) else None
                if failure is not None and failure.cause in ("engine_died", "timeout"):
                    self._fault = f"the unit before it failed ({failure.cause})"
                yield item

    def _answers(
        self, unit: AnyUnit, engines_on_host: int, progress: Progress
    ) -> Iterator[SampleRecord | Calibration | UnitResult]:
        engine, facts = self._engine, self._facts
        if unit.key in self._withdrawn or self._fault is not None:
            yield _failed("withdrawn", self._fault or "its node is taken away")
            return
        if engine is None or facts is None:
            yield _failed("engine_died", "no engine is up on this node")
            return
        if death := engine.death():
            yield _failed("engine_died", death)
            return
        try:
            with self._host(alone=isinstance(unit, Timed), progress=progress):
                if isinstance(unit, PerfUnit):
                    yield self._perf(unit, engine, facts, engines_on_host)
                elif isinstance(unit, LoadUnit):
                    yield from self._serving(unit, engine, facts, engines_on_host, progress)
                elif isinstance(unit, CheckUnit):
                    yield self._check(unit, engine, facts)
                else:
                    yield from self._eval(unit, engine, facts, engines_on_host)
        except Cancelled as error:
            yield _failed("stopped", error.message)
        except RaybenchError as error:
            yield _failed("client", error.message)
        except OSError as error:
            yield _failed("client", f"the node cannot run the client: {error}")

    def _perf(self, unit: PerfUnit, engine: Engine, facts: EngineFacts, engines_on_host: int) -> UnitResult:
        job = BatchJob(
            url=engine.url, api_key=engine.api_key, load=unit.load, prompt_seed=unit.prompt_seed,
            vocab_tokens=facts.vocab_tokens or DEFAULT_VOCAB_TOKENS, warm_up=unit.warm_up, timeout_s=unit.timeout_s,
            time_scale=facts.time_scale,
        )  # fmt: skip
        sampler = GpuSampler(self._spec.num_gpus)
        sampler.start()
        started = time.perf_counter()
        warm_up: list[WarmUpLine] = []
        measured: MeasuredLine | None = None
        done: ClientDone | None = None
        try:
            for line in self._client_lines(unit.key, job, unit.timeout_s + CLIENT_GRACE_S):
                match line:
                    case WarmUpLine():
                        warm_up.append(line)
                    case MeasuredLine():
                        measured = line
                    case ClientDone():
                        done = line
                    case _:
                        pass
        finally:
            sampler.stop()
        doubtful = measured is None or any(row.status == "cut" for row in measured.rows)
        failure = self._failure(unit.key, engine, done, SUSPICION_S if doubtful else 0.0)
        if failure is not None or measured is None:
            return failure or _failed("client", "the client ended without a measured pass")
        measurement = PerfMeasurement(
            measured=measured.result,
            warm_up=tuple(line.result for line in warm_up),
            flat=measured.flat,
            started_unix_s=measured.started_unix_s,
            duration_s=time.perf_counter() - started,
            engines_on_host=engines_on_host,
            client_cpu_fraction=measured.cpu_fraction,
            client_cpus=measured.cpus,
            load_average_1m=os.getloadavg()[0],
            gpus=sampler.summary(measured.started_unix_s, measured.ended_unix_s),
            simulated=facts.simulated,
        )
        return UnitResult(measurement, parquet_bytes(measured.rows), None)

    def _serving(
        self, unit: LoadUnit, engine: Engine, facts: EngineFacts, engines_on_host: int, progress: Progress
    ) -> Iterator[Calibration | UnitResult]:
        calibration = None
        # A simulated engine's figures are made up, whatever the client adds to them.
        if not facts.simulated:
            calibration, is_new = self._calibrated(unit, progress)
            if calibration is not None and is_new:
                yield calibration
        yield self._load(unit, engine, facts, engines_on_host, calibration)

    def _calibrated(self, unit: LoadUnit, progress: Progress) -> tuple[Calibration | None, bool]:
        """The client's own error at the streams of a load, and whether it was measured just now."""
        if self._calibrations is None:
            self._calibrations = Calibrations(self.facts().host, self._spec.calibrations)
        streams = streams_of(unit.load)
        if self._calibrations.known(streams, unit.route):
            return self._calibrations.at(streams, unit.route, partial(self._client_lines, unit.key)), False
        progress(f"measuring the load client's own error at {level(streams)} streams")
        found = self._calibrations.at(streams, unit.route, partial(self._client_lines, unit.key))
        progress(f"the client's own error at {level(streams)} streams: {words(found)}")
        return found, not self._cancelled.is_set()

    def _load(
        self, unit: LoadUnit, engine: Engine, facts: EngineFacts, engines_on_host: int, calibration: Calibration | None
    ) -> UnitResult:
        streams = streams_of(unit.load)
        job = LoadJob(
            url=engine.url, api_key=engine.api_key, model=engine.served_name, load=unit.load,
            arrival_seed=unit.arrival_seed, prompt_seed=unit.prompt_seed, route=unit.route, slo=unit.slo,
            vocab_tokens=facts.vocab_tokens or DEFAULT_VOCAB_TOKENS, timeout_s=unit.timeout_s,
            num_processes=processes_for(calibration, streams), time_scale=facts.time_scale,
        )  # fmt: skip
        sampler, metrics = GpuSampler(self._spec.num_gpus), MetricsSampler(engine.url, engine.api_key)
        started = time.perf_counter()
        found: LoadLine | None = None
        done: ClientDone | None = None
        rows = b""
        sampler.start()
        metrics.start()
        try:
            for line in self._client_lines(unit.key, job, unit.timeout_s + CLIENT_GRACE_S):
                if isinstance(line, LoadLine):
                    found, rows = line, self._clients[unit.key].file(ROWS)
                elif isinstance(line, ClientDone):
                    done = line
        finally:
            sampler.stop()
            metrics.stop()
        doubtful = found is None or found.figures.statuses.get("cut", 0) > 0
        failure = self._failure(unit.key, engine, done, SUSPICION_S if doubtful else 0.0)
        if failure is not None or found is None:
            return failure or _failed("client", "the client ended without figures")
        ended_unix_s = found.started_unix_s + found.duration_s
        looks = metrics.samples(found.started_unix_s, ended_unix_s, facts.time_scale)
        measurement = LoadMeasurement(
            figures=found.figures, client=found.client, streams=streams,
            server=server_side(looks, metrics.num_failed, found.figures.window), drained=found.drained,
            flush_status=found.flush_status,
            started_unix_s=found.started_unix_s, duration_s=time.perf_counter() - started,
            engines_on_host=engines_on_host, load_average_1m=os.getloadavg()[0],
            gpus=sampler.summary(found.started_unix_s, ended_unix_s), stopped_early=found.stopped_early,
            error=found.error, simulated=facts.simulated,
        )  # fmt: skip
        return UnitResult(measurement, rows, None)

    def _eval(
        self, unit: EvalUnit, engine: Engine, facts: EngineFacts, engines_on_host: int
    ) -> Iterator[SampleRecord | UnitResult]:
        started = time.perf_counter()
        done: ClientDone | None = None
        if unit.samples:
            job = ChatJob(
                url=engine.url, api_key=engine.api_key, model=engine.served_name, unit=unit.key, target=unit.target,
                eval=unit.eval, samples=unit.samples, sampling=unit.sampling, concurrency=unit.concurrency,
                timeout_s=unit.timeout_s, time_scale=facts.time_scale, route=unit.route,
            )  # fmt: skip
            for line in self._client_lines(unit.key, job, limit_s=None):
                if isinstance(line, SampleLine):
                    if line.result.status != "ok" and (self._cancelled.is_set() or _death(engine, 0.0)):
                        # The engine is gone: what follows are its echoes, not answers. The samples stay missing and
                        # are asked again.
                        break
                    yield line.result
                elif isinstance(line, ClientDone):
                    done = line
            if failure := self._failure(unit.key, engine, done, 0.0 if done and done.error is None else SUSPICION_S):
                yield failure
                return
        measurement = EvalMeasurement(
            num_samples=len(unit.samples), duration_s=time.perf_counter() - started, engines_on_host=engines_on_host,
            simulated=facts.simulated,
        )  # fmt: skip
        yield UnitResult(measurement, None, None)

    def _check(self, unit: CheckUnit, engine: Engine, facts: EngineFacts) -> UnitResult:
        done: ClientDone | None = ClientDone()

        def ask_samples(job: ChatJob) -> list[SampleRecord]:
            nonlocal done
            lines = list(self._client_lines(unit.key, job, limit_s=None))
            done = next((line for line in lines if isinstance(line, ClientDone)), None)
            return [line.result for line in lines if isinstance(line, SampleLine)]

        found = Bench(engine, facts, ask_samples).make(unit)
        # A server that is dying gives bad answers: they say nothing of the next one.
        failure = self._failure(unit.key, engine, done, 0.0 if found.result == "ok" else SUSPICION_S)
        return failure or UnitResult(found, None, None)

    def _client_lines(self, key: str, job: AnyJob, limit_s: float | None) -> Iterator[AnyLine]:
        client = self._clients[key] = ClientRun(job, self._folder, limit_s, self._spec.run_id)
        if self._cancelled.is_set():
            # `cancel` may have looked before there was a client to kill.
            client.kill()
        try:
            yield from client.lines()
        finally:
            del self._clients[key]
            client.close()

    def _failure(self, key: str, engine: Engine, done: ClientDone | None, suspicion_s: float) -> UnitResult | None:
        if self._cancelled.is_set():
            return _failed("stopped", "stopped by the user")
        if overdue := self._overdue.pop(key, None):
            return _failed("timeout", overdue)
        if death := _death(engine, suspicion_s):
            return _failed("engine_died", death)
        if done is None:
            return _failed("client", "the client process died without a word")
        if done.error is not None:
            return _failed("timeout" if done.error.startswith("timeout") else "client", done.error)
        return None

    def _host(self, *, alone: bool, progress: Progress) -> AbstractContextManager[None]:
        if self._spec.declared_host is not None:
            # A simulated engine occupies no host: its clock is made up.
            return nullcontext()
        return host_lock(alone=alone, progress=progress, cancelled=self._cancelled.is_set)


def _failed(cause: Cause, message: str) -> UnitResult:
    return UnitResult(None, None, Failure(cause=cause, message=message))


def _death(engine: Engine, suspicion_s: float) -> str | None:
    """How the engine ended; None if it lives and goes on living for `suspicion_s`.

    A server that was just killed is not known as dead at once: its guardian first ends what it had started. Requests
    that fail meanwhile must not become results.
    """
    suspicion_ends_s = time.monotonic() + suspicion_s
    while True:
        if death := engine.death():
            return death
        if gone := _gone(engine):
            break
        if time.monotonic() >= suspicion_ends_s:
            return None
        time.sleep(0.1)
    patience_ends_s = time.monotonic() + DEATH_PATIENCE_S
    while time.monotonic() < patience_ends_s:
        if engine.pid() is None:
            return gone
        if death := engine.death():
            return death
        time.sleep(0.1)
    return gone


def _gone(engine: Engine) -> str | None:
    """What is missing of the server: its process or its port."""
    pid = engine.pid()
    if pid is not None and not Path(f"/proc/{pid}").exists():
        return f"the server's process {pid} is gone"
    where = urlsplit(engine.url)
    port = where.port or (443 if where.scheme == "https" else 80)
    try:
        socket.create_connection((where.hostname or "", port), timeout=3).close()
    except TimeoutError:
        return None  # busy is not dead
    except OSError as error:
        return f"no server answers at {where.hostname}:{port} any more ({error.strerror or error})"
    return None

"""What a node does: a plain class, so that it can be tested without Ray.

It starts one engine at a time, runs one unit at a time through the client process, reads the GPUs beside it, and stops
everything. It decides nothing: which engine and which unit come from the dispatcher.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from raybench.client.job import BatchJob, ChatJob, ClientDone, MeasuredLine, SampleLine, WarmUpLine
from raybench.engine import make_engine
from raybench.engine.base import Engine, Launch, Progress
from raybench.errors import RaybenchError
from raybench.node.clientrun import ClientRun
from raybench.node.facts import node_facts
from raybench.node.host import host_lock
from raybench.node.rows import parquet_bytes
from raybench.node.telemetry import GpuSampler
from raybench.records import (
    Cause,
    EngineFacts,
    EvalMeasurement,
    EvalUnit,
    Failure,
    NodeFacts,
    PerfMeasurement,
    PerfUnit,
    SampleRecord,
)

CLIENT_GRACE_S = 60.0
"""Time that the client has beyond the unit's own limit before it is killed."""

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


@dataclass(frozen=True, slots=True)
class UnitResult:
    """Last word of a unit: a measurement with its rows, or why there is none."""

    measurement: PerfMeasurement | EvalMeasurement | None
    rows: bytes | None
    """Parquet bytes of a perf unit's per-request rows."""
    failure: Failure | None


class NodeSession:
    """One node. `start_engine`, `run` and `stop_engine` come one after the other; `cancel` may come at any time."""

    def __init__(self, spec: NodeSpec, engines: Callable[[Launch], Engine] = make_engine) -> None:
        self._spec = spec
        self._engines = engines
        self._folder = Path(tempfile.mkdtemp(prefix=f"raybench-{spec.node}-"))
        self._engine: Engine | None = None
        self._facts: EngineFacts | None = None
        self._num_starts = 0
        self._cancelled = threading.Event()
        self._client: ClientRun | None = None

    def facts(self) -> NodeFacts:
        """What this node is."""
        return node_facts(self._spec.node, self._spec.accelerator, self._spec.declared_host, self._spec.ray_node_id)

    def start_engine(self, launch: Launch, progress: Progress) -> EngineFacts:
        """Start the engine of `launch`. Raises EngineStartError, InterpreterError; nothing is left running then."""
        self.stop_engine()
        folder = self._folder / launch.start
        folder.mkdir(parents=True, exist_ok=True)
        engine = self._engines(_at(launch, folder, self.facts().host))
        self._engine = engine
        try:
            with self._host(alone=False, progress=progress):
                self._facts = engine.start(progress)
        except BaseException:
            self.stop_engine()
            raise
        return self._facts

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
        """End the running unit at once; it comes back as a failure with cause `stopped`."""
        self._cancelled.set()
        if self._client is not None:
            self._client.kill()

    def close(self) -> None:
        """End everything and remove the scratch folder. Idempotent."""
        self.cancel()
        self.stop_engine()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self, unit: PerfUnit | EvalUnit, engines_on_host: int, progress: Progress
    ) -> Iterator[SampleRecord | UnitResult]:
        """Run a unit: samples as they end, then exactly one UnitResult. Never raises for what the engine does."""
        engine, facts = self._engine, self._facts
        if engine is None or facts is None:
            yield _failed("engine_died", "no engine is up on this node")
            return
        if death := engine.death():
            yield _failed("engine_died", death)
            return
        try:
            with self._host(alone=isinstance(unit, PerfUnit), progress=progress):
                if isinstance(unit, PerfUnit):
                    yield self._perf(unit, engine, facts, engines_on_host)
                else:
                    yield from self._eval(unit, engine, facts, engines_on_host)
        except RaybenchError as error:
            yield _failed("client", error.message)

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
            for line in self._client_lines(job, unit.timeout_s + CLIENT_GRACE_S):
                match line:
                    case WarmUpLine():
                        warm_up.append(line)
                    case MeasuredLine():
                        measured = line
                    case ClientDone():
                        done = line
                    case SampleLine():
                        pass
        finally:
            sampler.stop()
        failure = self._failure(engine, done)
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

    def _eval(
        self, unit: EvalUnit, engine: Engine, facts: EngineFacts, engines_on_host: int
    ) -> Iterator[SampleRecord | UnitResult]:
        started = time.perf_counter()
        done: ClientDone | None = None
        if unit.samples:
            job = ChatJob(
                url=engine.url, api_key=engine.api_key, model=engine.served_name, unit=unit.key, target=unit.target,
                eval=unit.eval, samples=unit.samples, sampling=unit.sampling, concurrency=unit.concurrency,
                timeout_s=unit.timeout_s, time_scale=facts.time_scale,
            )  # fmt: skip
            for line in self._client_lines(job, limit_s=None):
                if isinstance(line, SampleLine):
                    if line.result.status != "ok" and engine.death():
                        # The engine is gone: what follows are its echoes, not answers. The samples stay missing and
                        # are asked again.
                        break
                    yield line.result
                elif isinstance(line, ClientDone):
                    done = line
            if failure := self._failure(engine, done):
                yield failure
                return
        measurement = EvalMeasurement(
            num_samples=len(unit.samples), duration_s=time.perf_counter() - started, engines_on_host=engines_on_host,
            simulated=facts.simulated,
        )  # fmt: skip
        yield UnitResult(measurement, None, None)

    def _client_lines(
        self, job: BatchJob | ChatJob, limit_s: float | None
    ) -> Iterator[WarmUpLine | MeasuredLine | SampleLine | ClientDone]:
        self._cancelled.clear()
        self._client = ClientRun(job, self._folder, limit_s, self._spec.run_id)
        try:
            yield from self._client.lines()
        finally:
            self._client.kill()
            self._client = None

    def _failure(self, engine: Engine, done: ClientDone | None) -> UnitResult | None:
        if self._cancelled.is_set():
            return _failed("stopped", "stopped by the user")
        if death := engine.death():
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
        return host_lock(alone=alone, progress=progress)


def _failed(cause: Cause, message: str) -> UnitResult:
    return UnitResult(None, None, Failure(cause=cause, message=message))


def _at(launch: Launch, folder: Path, host: str) -> Launch:
    return replace(launch, folder=folder, host=host)

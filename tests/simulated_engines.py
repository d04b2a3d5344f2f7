"""Simulated engines for tests: started for real, stopped at the end."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from raybench.config.schema import EngineConfig, FaultConfig, ModelConfig, SimulatedConfig
from raybench.engine.base import Launch
from raybench.engine.simulated import SimulatedEngine
from raybench.records import EngineFacts


def simulated_launch(
    folder: Path,
    model: SimulatedConfig,
    answer_key: Mapping[str, str] | None = None,
    startup_timeout_s: float = 60,
) -> Launch:
    """A launch of a simulated engine on node `n0`."""
    return Launch(
        run_id="run-of-a-test", target="h200", launch=0, start="n0.0", model=ModelConfig(path="owner/simulated-model"),
        engine=EngineConfig(kind="simulated", simulated=model, startup_timeout_s=startup_timeout_s),
        folder=folder / "engine", host="host-of-a-test", num_gpus=0, answer_key=dict(answer_key or {}),
    )  # fmt: skip


def timing(faults: FaultConfig | None = None, **changes: object) -> SimulatedConfig:
    """A quick timing model: 100 ms of prefill for 4 x 100 tokens, 2 ms a step."""
    fields: dict[str, object] = {
        "prefill_tok_per_s": {1: 4000.0}, "itl_ms": {1: 2.0}, "jitter_fraction": 0.0, "startup_s": 0.0,
        "faults": faults or FaultConfig(),
    }  # fmt: skip
    return SimulatedConfig.model_validate(fields | changes)


@contextmanager
def running(
    folder: Path, model: SimulatedConfig, answer_key: Mapping[str, str] | None = None
) -> Iterator[tuple[SimulatedEngine, EngineFacts]]:
    """A started engine."""
    engine = SimulatedEngine(simulated_launch(folder, model, answer_key))
    try:
        yield engine, engine.start(lambda line: None)
    finally:
        engine.stop()


def request(url: str, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """One plain request; (status, body)."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

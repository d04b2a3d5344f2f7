"""A real SGLang CPU server in a managed environment: it answers, it stops, and nothing outlives its starter."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raybench.config.schema import EngineConfig, FlagValue, Managed, ManagedEnvironment, ModelConfig
from raybench.engine import make_engine
from raybench.engine.base import Engine, Launch
from raybench.engine.http_json import ask
from raybench.engine.leftovers import left_overs, sweep
from raybench.errors import EngineRefused
from raybench.evals.sums_questions import questions
from raybench.process import child_environment

pytestmark = [pytest.mark.sglang, pytest.mark.slow, pytest.mark.timeout(1800)]
CPU = Managed(managed=ManagedEnvironment(version="0.5.21", device="cpu"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[str]:
    name = f"real-sglang-{os.getpid()}-{tmp_path.name}"
    yield name
    sweep(name)


def real_launch(folder: Path, run: str, **args: FlagValue) -> Launch:
    engine = EngineConfig(environment=CPU, args=args, startup_timeout_s=600)
    return Launch(run, "cpu", 0, "n0.0", ModelConfig(path="tiny:trained"), engine, folder, "boot-id", 0, {})


def wait_for(happened: Callable[[], bool], limit_s: float) -> bool:
    limit = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def num_right(engine: Engine) -> int:
    """Sums that the server answers right through the chat route, greedy."""

    def is_right(pair: tuple[str, str]) -> bool:
        question, gold = pair
        answer = ask(
            f"{engine.url}/v1/chat/completions",
            timeout_s=120,
            content={
                "model": engine.served_name,
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                "max_tokens": 64,
            },
        )
        return answer.ok and f"boxed{{{gold}}}" in str(answer.body)

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(is_right, questions()))


def test_it_starts_answers_and_stops(tmp_path: Path, run: str) -> None:
    engine = make_engine(real_launch(tmp_path, run))
    try:
        facts = engine.start(lambda line: sys.stderr.write(line + "\n"))
        assert (facts.version, facts.interpreter) == ("0.5.21", "managed cpu 0.5.21")
        assert (facts.max_total_tokens, facts.context_tokens, facts.vocab_tokens) == (65536, 32768, 4096)
        assert facts.resolved_args["attention_backend"] == "torch_native"
        phases = {phase.name: phase.duration_s for phase in facts.startup}
        assert 0 < phases["weights"] < phases["scheduler"] < phases["total"]
        assert facts.memory is not None
        assert facts.memory.token_capacity == 65536
        # SGLang's children rename themselves, and are found by their mark nonetheless.
        assert {"sglang::schedul", "sglang::detoken"} <= {left.name for left in left_overs(run)}
        assert num_right(engine) >= 60
        assert engine.death() is None
    finally:
        engine.stop()
    assert left_overs(run) == []


def test_sigkill_of_its_starter_leaves_nothing(tmp_path: Path, run: str) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {sys.path!r}
from raybench.config.schema import *
from raybench.engine import make_engine
from raybench.engine.base import Launch
environment = Managed(managed=ManagedEnvironment(version="0.5.21", device="cpu"))
engine = EngineConfig(environment=environment)
model = ModelConfig(path="tiny:trained")
make_engine(Launch({run!r}, "cpu", 0, "n0.0", model, engine, Path({str(tmp_path)!r}), "boot-id", 0, {{}})).start(print)
Path({str(tmp_path / "up")!r}).write_text("yes")
time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", script], env=child_environment({}), stdout=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: (tmp_path / "up").exists() or starter.poll() is not None, 600)
        assert starter.poll() is None
        assert len(left_overs(run)) >= 4
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    assert wait_for(lambda: left_overs(run) == [], 60)


def test_a_flag_that_its_parser_refuses(tmp_path: Path, run: str) -> None:
    engine = make_engine(real_launch(tmp_path, run, **{"cuda-graph-max-bs": 4}))
    with pytest.raises(EngineRefused, match="refuses --cuda-graph-max-bs"):
        engine.start(lambda _: None)
    assert wait_for(lambda: left_overs(run) == [], 10)

"""The simulated engine as a process: its contract, its life, its faults at the start."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulated_engines import request, running, simulated_launch, timing

from raybench.config.schema import FaultConfig
from raybench.engine.simulated import SimulatedEngine, declared_host
from raybench.errors import EngineStartError

GENERATE = {
    "input_ids": [[101, 102, 103], [201, 202, 203]], "stream": True,
    "sampling_params": {"temperature": 0.0, "max_new_tokens": 3, "ignore_eos": True},
}  # fmt: skip


def gone(pid: int, within_s: float = 10) -> bool:
    """True once the process has ended (a zombie has, though its other threads may end a moment later)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("start", "host"), [("n0.0", "simulated:n0"), ("n0.7", "simulated:n0"), ("n12.1", "simulated:n12")]
)
def test_a_node_declares_one_host_over_all_its_starts(start: str, host: str) -> None:
    assert declared_host(start) == host


def test_facts_say_simulated_and_every_route_answers(tmp_path: Path) -> None:
    with running(tmp_path, timing(time_scale=4, token_capacity=5000)) as (engine, facts):
        assert (facts.engine, facts.simulated, facts.version, facts.time_scale) == ("simulated", True, "simulated", 4)
        assert facts.hosts == ("simulated:n0",)
        assert [phase.name for phase in facts.startup] == ["total"]
        assert (facts.max_total_tokens, facts.context_tokens) == (5000, 5000)
        assert (engine.api_key, engine.served_name, facts.url) == (None, "owner/simulated-model", engine.url)
        for path in ("/ready", "/health", "/v1/models", "/model_info", "/metrics"):
            assert request(engine.url, "GET", path)[0] == 200
        info = json.loads(request(engine.url, "GET", "/server_info")[1])
        assert info["version"] == "simulated"
        assert info["internal_states"][0]["memory_usage"]["token_capacity"] == info["max_total_num_tokens"] == 5000
        assert json.loads(request(engine.url, "GET", "/v1/models")[1])["data"][0]["id"] == "owner/simulated-model"


def test_the_stream_has_sglangs_shape(tmp_path: Path) -> None:
    with running(tmp_path, timing()) as (engine, _):
        status, body = request(engine.url, "POST", "/generate", GENERATE)
    *chunks, end = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    assert (status, end) == (200, b"[DONE]")
    parsed = [json.loads(chunk) for chunk in chunks]
    assert [(one["index"], one["meta_info"]["completion_tokens"]) for one in parsed] == [
        (index, tokens) for tokens in (1, 2, 3) for index in (0, 1)
    ]
    assert all(len(one["output_ids"]) == one["meta_info"]["completion_tokens"] for one in parsed)
    assert all(one["meta_info"]["prompt_tokens"] == 3 for one in parsed)
    reasons = [one["meta_info"]["finish_reason"] for one in parsed]
    assert reasons == [None] * 4 + [{"type": "length", "length": 3}] * 2


def test_without_streaming_the_answer_comes_whole(tmp_path: Path) -> None:
    with running(tmp_path, timing()) as (engine, _):
        several = json.loads(request(engine.url, "POST", "/generate", GENERATE | {"stream": False})[1])
        one = json.loads(
            request(engine.url, "POST", "/generate", {"input_ids": [5, 6], "sampling_params": {"max_new_tokens": 2}})[1]
        )
    assert [answer["meta_info"]["completion_tokens"] for answer in several] == [3, 3]
    assert (len(one["output_ids"]), one["meta_info"]["prompt_tokens"]) == (2, 2)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/generate", {"text": "hello"}, "input_ids only"),
        ("/generate", {"input_ids": [[1] * 90], "sampling_params": {"max_new_tokens": 20}}, "110 tokens"),
        ("/v1/chat/completions", {"messages": [], "stream": True}, "does not stream"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "messages"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, path: str, body: object, said: str) -> None:
    with running(tmp_path, timing(token_capacity=100)) as (engine, _):
        status, answer = request(engine.url, "POST", path, body)
    assert status == 400
    assert said in answer.decode()


def test_the_cache_is_not_flushed_while_requests_run(tmp_path: Path) -> None:
    slow = timing(prefill_tok_per_s={1: 6.0})
    with running(tmp_path, slow) as (engine, _):
        child = (
            "import http.client,sys,json; c=http.client.HTTPConnection(sys.argv[1]); "
            "c.request('POST','/generate',sys.argv[2]); c.getresponse().read()"
        )
        asking = subprocess.Popen([sys.executable, "-c", child, engine.url[7:], json.dumps(GENERATE)])
        deadline = time.monotonic() + 20
        while (
            b'num_running_reqs{model_name="owner/simulated-model"} 2' not in request(engine.url, "GET", "/metrics")[1]
        ):
            assert time.monotonic() < deadline
        assert request(engine.url, "POST", "/flush_cache")[0] == 400
        assert asking.wait(30) == 0
        assert request(engine.url, "POST", "/flush_cache")[0] == 200
        metrics = request(engine.url, "GET", "/metrics")[1].decode()
    assert 'sglang:num_requests_total{model_name="owner/simulated-model"} 2' in metrics
    assert 'sglang:prompt_tokens_total{model_name="owner/simulated-model"} 6' in metrics
    assert 'sglang:generation_tokens_total{model_name="owner/simulated-model"} 6' in metrics


def test_it_is_not_ready_before_its_start_up_time(tmp_path: Path) -> None:
    engine = SimulatedEngine(simulated_launch(tmp_path, timing(startup_s=600), startup_timeout_s=1))
    with pytest.raises(EngineStartError, match=r"target h200: .*not ready within 1 s \(engine.startup_timeout_s\)"):
        engine.start(lambda line: None)
    pid = engine.pid()
    assert pid is not None
    assert gone(pid)


def test_a_refused_start_shows_the_log(tmp_path: Path) -> None:
    engine = SimulatedEngine(simulated_launch(tmp_path, timing(FaultConfig(refuse_start=True))))
    with pytest.raises(EngineStartError, match="ended with code 1: simulated fault: this engine refuses to start"):
        engine.start(lambda line: None)


def test_death_is_seen_without_asking_the_server(tmp_path: Path) -> None:
    with running(tmp_path, timing()) as (engine, _):
        pid = engine.pid()
        assert pid is not None
        assert engine.death() is None
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        deadline = time.monotonic() + 10
        while engine.death() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert engine.death() == "the simulated engine ended with code -9: its log is empty"


def test_stop_is_idempotent_and_no_death(tmp_path: Path) -> None:
    with running(tmp_path, timing()) as (engine, _):
        pid = engine.pid()
        engine.stop()
        engine.stop()
        assert pid is not None
        assert gone(pid)
        assert engine.death() is None


def test_stop_before_start(tmp_path: Path) -> None:
    engine = SimulatedEngine(simulated_launch(tmp_path, timing()))
    engine.stop()
    assert engine.pid() is None


def test_it_carries_the_runs_mark_and_not_the_parents_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    with running(tmp_path, timing()) as (engine, _):
        env = Path(f"/proc/{engine.pid()}/environ").read_text().split("\0")
    assert "RAYBENCH_RUN=run-of-a-test" in env
    assert not [one for one in env if one.startswith("WANDB")]


OWNER = """
import sys, time
from pathlib import Path
from raybench.engine.simulated import SimulatedEngine
from simulated_engines import simulated_launch, timing
engine = SimulatedEngine(simulated_launch(Path(sys.argv[1]), timing()))
engine.start(lambda line: None)
sys.stdout.write(str(engine.pid()) + "\\n")
sys.stdout.flush()
time.sleep(600)
"""


def test_it_does_not_outlive_its_owner(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    env = dict(os.environ) | {"PYTHONPATH": f"{root}:{root / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, env=env) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not gone(pid, within_s=0.1)
        owner.kill()
        assert gone(pid)

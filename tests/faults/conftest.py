"""One Ray cluster for all tests of faults, and the configurations that they run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cli_runs import ROOT, descendants, kill

CLUSTER = """
import os, sys
import ray

ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""

TIMING = {
    "prefill_tok_per_s": {1: 4000}, "itl_ms": {1: 5}, "jitter_fraction": 0, "startup_s": 0,
    "accuracy": {"sums": 1.0}, "reply_tokens": {"sums": 40},
}  # fmt: skip

ConfigMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a Ray cluster that lives as long as the tests do: starting one takes longer than most of them."""
    log = tmp_path_factory.mktemp("cluster") / "log"
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    try:
        address = child.stdout.readline().decode().strip()
        assert address, log.read_text()
        yield address
    finally:
        below = descendants(child.pid)
        child.stdin.close()
        child.stdout.close()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pid in below:
            kill(pid)


@pytest.fixture
def config(tmp_path: Path) -> ConfigMaker:
    """Writes a small configuration; keywords replace its top-level keys, `timing` those of the simulated engine."""

    def make(timing: dict[str, object] | None = None, name: str = "small", **changes: object) -> Path:
        content: dict[str, object] = {
            "name": name,
            "model": {"path": "owner/simulated-model"},
            "targets": [{"name": "one", "accelerator": "CPU"}],
            "engine": {"kind": "simulated", "simulated": TIMING | (timing or {})},
            "perf": [{"batch_sizes": [1, 2, 3], "input_tokens": 64, "output_tokens": 32, "repeats": 2}],
            "evals": [
                {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 400}, "limit": 16, "concurrency": 2,
                 "block_size": 16}
            ],
            "publish": {"wandb": {"mode": "disabled"}},
        }  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (content | changes).items() if v is not None}))
        return path

    return make

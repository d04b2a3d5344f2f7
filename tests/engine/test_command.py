import socket
from pathlib import Path

import pytest

from raybench.config.schema import EngineConfig, FlagValue, ModelConfig
from raybench.engine.base import Launch
from raybench.engine.command import argv_of, environment_of, merged_args, settings_of
from raybench.engine.interpreter import Interpreter
from raybench.engine.models import ResolvedModel
from raybench.engine.ports import FIRST_PORT, LAST_PORT, HeldPorts

MODEL = ResolvedModel(Path("/models/m"), "config-1", "m")
FIXED = ["--model-path", "/models/m", "--served-model-name", "m", "--host", "127.0.0.1", "--port", "1"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ["--nccl-port", "2"]),
        ({"nccl-port": 9}, ["--nccl-port", "9"]),
        ({"enable-metrics": True}, ["--nccl-port", "2", "--enable-metrics"]),
        ({"enable-metrics": False, "quantization": None}, ["--nccl-port", "2"]),
        (
            {"tp-size": 8, "mem-fraction-static": 0.85},
            ["--nccl-port", "2", "--tp-size", "8", "--mem-fraction-static", "0.85"],
        ),
        ({"cuda-graph-bs": [1, 2, 4]}, ["--nccl-port", "2", "--cuda-graph-bs", "1", "2", "4"]),
        ({"json-model-override-args": {"a": [1]}}, ["--nccl-port", "2", "--json-model-override-args", '{"a":[1]}']),
        ({"tool-server": "-x"}, ["--nccl-port", "2", "--tool-server=-x"]),
    ],
)
def test_flags(args: dict[str, FlagValue], words: list[str]) -> None:
    assert argv_of(MODEL, args, 1, 2) == FIXED + words


def test_held_ports_are_distinct_taken_and_let_go() -> None:
    held = HeldPorts(3)
    numbers = held.numbers
    assert len(set(numbers)) == 3
    assert all(FIRST_PORT <= number <= LAST_PORT for number in numbers)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", numbers[0]))
    held.let_go()
    for number in numbers:
        with socket.socket() as other:
            other.bind(("127.0.0.1", number))


def test_the_environment_of_a_server() -> None:
    engine = EngineConfig(env={"OMP_NUM_THREADS": "8", "RAYBENCH_RUN": "another", "SGLANG_X": "1"})
    model = ModelConfig(path="m")
    launch = Launch("run-1", "cpu", 0, "n0.0", model, engine, Path("/tmp"), "host", 0, {})
    interpreter = Interpreter(Path("/env/bin/python"), "managed", {"SGLANG_PLATFORM": "raybench_cpu"})
    parent = {"PATH": "/bin", "PYTHONPATH": "/x", "RAY_ADDRESS": "y", "WANDB_API_KEY": "z", "HF_HOME": "/hub"}
    env = environment_of(launch, interpreter, parent)
    assert env["PATH"] == "/env/bin:/bin"
    assert (env["OMP_NUM_THREADS"], env["SGLANG_X"], env["SGLANG_PLATFORM"]) == ("8", "1", "raybench_cpu")
    # By the mark left-overs are found: nothing can change it.
    assert env["RAYBENCH_RUN"] == "run-1"
    assert env["HF_HOME"] == "/hub"
    assert not {"PYTHONPATH", "RAY_ADDRESS", "WANDB_API_KEY"} & set(env)


def test_a_machine_that_has_multicast_off_keeps_it_off_and_the_record_says_so() -> None:
    launch = Launch(
        "r", "h200", 0, "n0.0", ModelConfig(path="m"), EngineConfig(env={"A": "1"}), Path("/tmp"), "h", 8, {}
    )
    off = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}
    env = environment_of(launch, Interpreter(Path("/usr/bin/python3"), "node"), off | {"NCCL_DEBUG": "INFO"})
    assert off.items() <= env.items()
    assert settings_of(launch, off | {"HOME": "/root"}) == off | {"A": "1"}
    assert settings_of(launch, {}) == {"A": "1"}


def test_the_nodes_own_sglang_folder_wins_over_the_configured_path() -> None:
    launch = Launch(
        "r", "h200", 0, "n0.0", ModelConfig(path="m"), EngineConfig(env={"PYTHONPATH": "/b"}), Path("/tmp"), "h", 1, {}
    )
    interpreter = Interpreter(Path("/usr/bin/python3"), "node", {"PYTHONPATH": "/a:/b"})
    assert environment_of(launch, interpreter, {})["PYTHONPATH"] == "/a:/b"


def test_flags_of_the_configuration_win_over_those_of_the_environment() -> None:
    engine = EngineConfig(args={"max-total-tokens": 400000, "dtype": "float32"})
    launch = Launch("r", "cpu", 0, "n0.0", ModelConfig(path="m"), engine, Path("/tmp"), "h", 0, {})
    interpreter = Interpreter(Path("p"), "managed", default_args={"device": "cpu", "max-total-tokens": 65536})
    assert merged_args(launch, interpreter) == {"device": "cpu", "max-total-tokens": 400000, "dtype": "float32"}

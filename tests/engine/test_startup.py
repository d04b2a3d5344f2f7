"""Figures of real servers (H200 and CPU), in the lines and objects that their versions print them in."""

import pytest

from raybench.engine.startup import merged_phases, milestone, phases_of_log, read_start
from raybench.records import StartUpPhase

H200_0_5_12 = """\
[2026-11-23 15:06:24] Load weight begin. avail mem=139.11 GB
[2026-11-23 15:06:25] Load weight end. elapsed=0.71 s, type=Qwen3MoeForCausalLM, quant=fp8, fmt=e4m3, \
avail mem=109.87 GB, mem usage=29.24 GB.
[2026-11-23 15:06:25] KV Cache is allocated. #tokens: 971991, K size: 44.49 GB, V size: 44.49 GB
[2026-11-23 15:06:25] Memory pool end. avail mem=18.80 GB
[2026-11-23 15:06:25] Capture cuda graph begin. This can take up to several minutes. avail mem=18.71 GB
[2026-11-23 15:07:18] Capture cuda graph end. Time elapsed: 52.52 s. mem usage=0.29 GB. avail mem=18.41 GB.
[2026-11-23 15:07:18] Capture piecewise CUDA graph begin. avail mem=18.41 GB
[2026-11-23 15:08:10] Capture piecewise CUDA graph end. Time elapsed: 52.77 s. mem usage=1.27 GB. avail mem=17.14 GB.
[2026-11-23 15:08:11] max_total_num_tokens=971991, chunked_prefill_size=8192, max_prefill_tokens=16384, \
max_running_requests=2048, context_len=262144, available_gpu_mem=17.14 GB
"""
H200_0_5_17 = """\
[2026-11-23 15:37:06] Load weight end. elapsed=0.31 s, type=Qwen3MoeForCausalLM, quant=fp8, fmt=e4m3, \
avail mem=111.11 GB, mem usage=28.00 GB.
[2026-11-23 15:37:06] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 4300435, K size: 45.11 GB, V size: 45.11 GB
[2026-11-23 15:37:06] Capture target decode CUDA graph begin. backend=full, bs=[1, 2, 4], avail mem=16.54 GB
[2026-11-23 15:38:14] Capture target decode CUDA graph end. elapsed=67.84 s, mem usage=0.23 GB, avail mem=16.31 GB.
[2026-11-23 15:38:14] max_total_num_tokens=4300435, chunked_prefill_size=8192, max_prefill_tokens=16384, \
max_running_requests=4096, context_len=262144, available_gpu_mem=16.31 GB
"""
INFO_0_5_12 = {
    "model_path": "models/qwen3-30b-a3b-fp8",
    "port": 30000,
    "api_key": "not to be seen",
    "dtype": "auto",
    "tp_size": 1,
    "ep_size": 1,
    "attention_backend": "triton",
    "chunked_prefill_size": 8192,
    "quantization": None,
    "context_length": None,
    "max_total_num_tokens": 971991,
    "version": "0.5.12.post1",
    "internal_states": [
        {"memory_usage": {"weight": 29.24, "kvcache": 88.99, "token_capacity": 971991, "graph": 0.29}},
    ],
}
INFO_0_5_21_CPU = {
    "attention_backend": "torch_native",
    "max_total_num_tokens": 65536,
    "version": "0.5.21",
    "internal_states": [
        {
            "memory_usage": {
                "weight": 0.012,
                "kvcache": 0.031,
                "startup_available": 19.414,
                "token_capacity": 65536,
                "graph": {"prefill": 0.0, "decode": 0.0},
            },
            "startup_time": {
                "load_weight": 0.0628,
                "kv_cache_allocation": 1.4535,
                "scheduler_e2e": 7.917,
                "cuda_graph": {"prefill": 0.0, "decode": 0.0},
            },
        }
    ],
}


def durations(phases: tuple[StartUpPhase, ...]) -> dict[str, float]:
    return {phase.name: round(phase.duration_s, 4) for phase in phases}


def test_info_and_log_of_an_old_version_fill_each_other() -> None:
    start = read_start(INFO_0_5_12, H200_0_5_12)
    assert start.version == "0.5.12.post1"
    assert durations(start.phases) == {"weights": 0.71, "cuda_graph": 105.29}
    assert start.memory is not None
    assert start.memory.model_dump() == {
        "weights_gib": 29.24,
        "kv_cache_gib": 88.99,
        # The piecewise graphs stand in the log only.
        "cuda_graph_gib": 1.56,
        "available_gib": 17.14,
        "token_capacity": 971991,
    }
    assert (start.max_total_tokens, start.context_tokens) == (971991, 262144)


def test_resolved_arguments_hold_no_paths_keys_ports_and_unset_ones() -> None:
    assert read_start(INFO_0_5_12, "").resolved_args == {
        "dtype": "auto",
        "tp_size": 1,
        "ep_size": 1,
        "attention_backend": "triton",
        "chunked_prefill_size": 8192,
    }


def test_a_new_version_says_it_all_itself() -> None:
    start = read_start(INFO_0_5_21_CPU, "")
    assert start.version == "0.5.21"
    assert durations(start.phases) == {"weights": 0.0628, "kv_cache": 1.4535, "scheduler": 7.917}
    assert start.memory is not None
    assert (start.memory.weights_gib, start.memory.cuda_graph_gib, start.memory.available_gib) == (0.012, 0.0, 19.414)


def test_the_log_alone_is_enough() -> None:
    start = read_start({}, H200_0_5_17)
    assert start.version is None
    assert durations(start.phases) == {"weights": 0.31, "cuda_graph": 67.84}
    assert start.memory is not None
    assert start.memory.weights_gib == 28.00
    assert start.memory.kv_cache_gib == pytest.approx(90.22)
    assert (start.memory.cuda_graph_gib, start.memory.available_gib) == (0.23, 16.31)
    assert start.memory.token_capacity == 4300435


def test_of_several_ranks_the_slowest_gives_the_duration_and_the_first_the_size() -> None:
    log = "\n".join(
        f"[2026-11-23 15:37:06 TP{rank} EP0] Load weight end. elapsed={elapsed} s, avail mem=1 GB, mem usage={used} GB."
        for rank, elapsed, used in ((0, 3.5, 27.8), (1, 9.25, 27.1), (10, 4.0, 26.0))
    )
    start = read_start({}, log)
    assert durations(start.phases) == {"weights": 9.25}
    assert start.memory is not None
    assert start.memory.weights_gib == 27.8


def test_autotuning_is_timed_by_its_stamps() -> None:
    log = (
        "[2026-11-23 15:37:06] Running FlashInfer autotune with cache: some/file\n"
        "[2026-11-23 15:38:16] FlashInfer autotune completed.\n"
    )
    assert durations(phases_of_log(log)) == {"autotune": 70.0}


def test_nothing_said_is_nothing_known() -> None:
    start = read_start({}, "no such line\n[garbage")
    assert start == read_start({"internal_states": []}, "")
    assert (start.memory, start.phases, start.max_total_tokens) == (None, (), None)


def test_an_earlier_source_wins_and_a_zero_is_no_phase() -> None:
    first = (StartUpPhase(name="weights", duration_s=1), StartUpPhase(name="cuda_graph", duration_s=0))
    second = (StartUpPhase(name="weights", duration_s=2), StartUpPhase(name="cuda_graph", duration_s=3))
    assert durations(merged_phases(first, second)) == {"weights": 1, "cuda_graph": 3}


@pytest.mark.parametrize(
    ("num_lines", "reached"),
    [
        (0, None),
        (1, "loading weights"),
        (2, "weights loaded"),
        (5, "capturing CUDA graphs"),
        (7, "capturing CUDA graphs"),
    ],
)
def test_milestones(num_lines: int, reached: str | None) -> None:
    assert milestone("\n".join(H200_0_5_12.splitlines()[:num_lines])) == reached

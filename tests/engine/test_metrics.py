"""The server's metrics page, as real servers printed it, and what looks at it come to."""

from pathlib import Path

import pytest

from raybench.engine.metrics import MAX_KEPT, read_metrics, server_side
from raybench.engine.startup import untuned_kernels
from raybench.records.serving import ServerSample, SteadyWindow

PAGES = Path(__file__).parent.parent / "fixtures" / "metrics"
WINDOW = SteadyWindow(start_s=2, end_s=8, num_sent=1, num_ended=1)


def test_pages_of_real_servers() -> None:
    gpu = read_metrics((PAGES / "sglang-0.5.17-h200.txt").read_text(), 3.5)
    assert (gpu.t_s, gpu.prompt_tokens, gpu.generated_tokens) == (3.5, 972_811, 100_328)
    assert (gpu.running, gpu.queued, gpu.kv_fraction, gpu.retracted, gpu.cached_tokens) == (0, 0, 0, 0, None)
    cpu = read_metrics((PAGES / "sglang-0.5.21-cpu.txt").read_text(), 0)
    assert (cpu.prompt_tokens, cpu.cached_tokens) == (27_159, 8_190)
    # Both pages hold a gauge is_cuda_graph that says 0.
    assert (gpu.decode_steps, gpu.decode_graph_steps) == (6_345, 6_345)
    assert (cpu.decode_steps, cpu.decode_graph_steps) == (145, 0)


def test_ranks_that_say_the_same_count_once_and_others_are_added() -> None:
    page = "\n".join(
        f'sglang:{name}{{dp_rank="{dp}",model_name="m",tp_rank="{tp}"}} {value + dp}'
        for name, value in zip(
            ("num_running_reqs", "num_queue_reqs", "token_usage", "num_retracted_reqs"), (10, 2, 0.25, 0), strict=True
        )
        for dp in (0, 1)
        for tp in (0, 1, 2)
    )  # fmt: skip
    seen = read_metrics(page, 0)
    assert (seen.running, seen.queued, seen.kv_fraction, seen.retracted) == (21, 5, 1.25, 1)


@pytest.mark.parametrize("page", ["", "not found", "sglang:num_running_reqs NaN", "sglang:num_running_reqs{ x"])
def test_what_is_no_metric_says_nothing(page: str) -> None:
    assert read_metrics(page, 1) == ServerSample(t_s=1)
    assert server_side([read_metrics(page, 1)], 0, None) is None


def test_means_are_of_the_window_and_counters_of_the_whole_run() -> None:
    looks = [
        ServerSample(
            t_s=t, running=float(t), queued=float(t > 6), kv_fraction=t / 10, decode_steps=10.0 * t,
            decode_graph_steps=5.0 * t + (t == 9),
            generated_tokens=100.0 * t, retracted=float(t in (3, 4, 9)), cached_tokens=5.0 * t,
        )
        for t in range(11)
    ]  # fmt: skip
    seen = server_side(looks, 2, WINDOW)
    assert seen is not None
    assert (seen.num_samples, seen.num_failed) == (11, 2)
    assert (seen.mean_running, seen.max_running, seen.mean_queued) == (4.5, 7, pytest.approx(1 / 6))
    assert (seen.max_kv_fraction, seen.decode_graph_fraction) == (0.7, 0.5)
    assert (seen.output_tok_per_s, seen.cached_tokens, seen.num_retracted) == (100, 50, 2)
    assert seen.samples == tuple(looks)


def test_long_runs_keep_a_thinned_series_with_both_ends() -> None:
    looks = [ServerSample(t_s=t, running=1.0) for t in range(1000)]
    seen = server_side(looks, 0, None)
    assert seen is not None
    assert len(seen.samples) == MAX_KEPT
    assert (seen.samples[0].t_s, seen.samples[-1].t_s) == (0, 999)


def test_kernels_without_a_configuration_are_named_once() -> None:
    log = (
        "[2026-11-23] Using default MoE kernel config. Performance might be sub-optimal! Config file not found "
        "at site-packages/configs/triton_3_6_0/E=128,N=1536,device_name=NVIDIA_H200,block_shape=[128, 128].json\n"
    )  # fmt: skip
    name = "E=128,N=1536,device_name=NVIDIA_H200,block_shape=[128, 128].json"
    assert untuned_kernels(log * 2) == (name,)
    assert untuned_kernels("The server is fired up and ready to roll!") == ()

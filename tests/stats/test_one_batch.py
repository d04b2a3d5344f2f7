"""From reads to primitives to figures."""

import pytest

from raybench.records import OneBatchLoad, Pass, RequestRow
from raybench.stats.one_batch import TokenRead, by_request, figures, pass_of, request_timing, tokens_at

SEED_TABLE = [
    # target, batch, latency s, input tok/s, output tok/s, ITL ms, TTFT s recomputed from the input throughput
    ("H200", 1, 6.40, 26_385.35, 81.99, 12.20, 0.155),
    ("H200", 2, 7.00, 31_437.49, 151.93, 13.16, 0.261),
    ("H200", 4, 6.93, 32_701.68, 318.48, 12.56, 0.501),
    ("H200", 8, 7.99, 33_116.18, 584.96, 13.68, 0.990),
    ("H200", 16, 9.87, 33_772.27, 1_033.36, 15.48, 1.941),
    ("H200", 64, 19.32, 34_194.00, 2_812.81, 22.75, 7.666),
    ("B200", 1, 4.00, 26_133.71, 133.21, 7.51, 0.157),
    ("B200", 2, 4.76, 15_315.43, 242.15, 8.26, 0.535),
    ("B200", 4, 5.02, 35_009.27, 450.38, 8.88, 0.468),
    ("B200", 8, 5.75, 39_924.55, 830.63, 9.63, 0.821),
    ("B200", 16, 7.23, 40_704.06, 1_458.53, 10.97, 1.610),
    ("B200", 64, 14.15, 41_842.55, 4_157.96, 15.39, 6.265),
]


def seed_pass(batch: int, latency_s: float, last_ttft_s: float) -> Pass:
    return Pass(
        latency_s=latency_s, first_ttft_s=last_ttft_s, median_ttft_s=last_ttft_s, last_ttft_s=last_ttft_s,
        last_token_s=latency_s, tokens_at_last_ttft=batch, first_end_s=latency_s, tokens_at_first_end=512 * batch,
        prompt_tokens=4096 * batch, output_tokens=512 * batch, min_output_tokens=512, max_output_tokens=512,
        cached_tokens=0, num_retractions=0, num_ok=batch, num_requests=batch, longest_gap_s=None,
        finish_reasons={"length": batch},
    )  # fmt: skip


@pytest.mark.parametrize("row", SEED_TABLE, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_seeds_rows(row: tuple[str, int, float, float, float, float, float]) -> None:
    _, batch, latency_s, input_tput, output_tput, itl_ms, ttft_s = row
    load = OneBatchLoad(batch_size=batch, input_tokens=4096, output_tokens=512)
    got = figures(seed_pass(batch, latency_s, batch * 4096 / input_tput), load)
    assert got.last_ttft_s == pytest.approx(ttft_s, abs=0.0006)
    assert got.input_tok_per_s == pytest.approx(input_tput, rel=1e-9)
    # The seed prints latency to 10 ms: that is what the rest can agree to.
    rounding = 0.0051 / (latency_s - ttft_s)
    assert got.output_tok_per_s == pytest.approx(output_tput, rel=rounding)
    assert got.itl_ms == pytest.approx(itl_ms, rel=rounding + 0.005 / itl_ms)
    assert got.itl_ms == pytest.approx(1000 * batch / output_tput, rel=rounding)
    assert got.overall_tok_per_s == pytest.approx(batch * (4096 + 512) / latency_s)
    assert got.steady_itl_ms is not None
    assert got.itl_ms is not None
    assert got.steady_itl_ms == pytest.approx(got.itl_ms * 512 / 511)


def engine_reads(batch: int, tokens: int, ttft_s: float, step_s: float, spread_s: float = 0.0) -> list[TokenRead]:
    """All requests get a token in each step; `spread_s` = from the first to the last read of a step."""
    return [
        TokenRead(ttft_s + step * step_s + spread_s * index / max(batch - 1, 1), index, step + 1)
        for step in range(tokens)
        for index in range(batch)
    ]


def rows(reads: list[TokenRead], batch: int, finish_reason: str | None = "length") -> list[RequestRow]:
    made: list[RequestRow] = []
    for index, own in enumerate(by_request(reads, batch)):
        seen = request_timing(own)
        made.append(
            RequestRow(
                index=index, status="ok", prompt_tokens=10, output_tokens=seen.output_tokens, cached_tokens=1,
                num_retractions=index, ttft_s=seen.ttft_s, first_chunk_tokens=seen.first_chunk_tokens, end_s=seen.end_s,
                longest_gap_s=seen.longest_gap_s, num_chunks=seen.num_chunks, finish_reason=finish_reason,
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize("spread_s", [0.0, 0.001])
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_the_steady_state_is_the_true_step_time_however_a_step_is_read(batch: int, spread_s: float) -> None:
    reads = engine_reads(batch, 50, ttft_s=1.0, step_s=0.01, spread_s=spread_s)
    result = pass_of(rows(reads, batch), reads, latency_s=reads[-1].t_s)
    load = OneBatchLoad(batch_size=batch, input_tokens=10, output_tokens=50)
    got = figures(result, load)
    assert result.tokens_at_last_ttft == batch
    assert result.tokens_at_first_end == 50 * batch
    # The window ends with the first reader of the step and starts with the last: short by one spread in 49 steps.
    tolerance = spread_s / 0.49 + 1e-9
    assert got.steady_itl_ms == pytest.approx(10.0, rel=tolerance)
    # SGLang's own figure counts the first tokens without their time.
    assert got.itl_ms == pytest.approx(10.0 * 49 / 50, rel=0.01)


def test_primitives_of_a_pass() -> None:
    reads = [
        TokenRead(1.0, 0, 1),
        TokenRead(2.0, 1, 4),
        TokenRead(2.5, 0, 3),
        TokenRead(4.0, 0, 5),
        TokenRead(9.0, 1, 5),
    ]
    result = pass_of(rows(reads, 2), reads, latency_s=9.5, error="some fault")
    assert (result.first_ttft_s, result.median_ttft_s, result.last_ttft_s) == (1.0, 1.5, 2.0)
    assert (result.first_end_s, result.last_token_s, result.latency_s) == (4.0, 9.0, 9.5)
    assert (result.tokens_at_last_ttft, result.tokens_at_first_end) == (5, 9)
    assert (result.prompt_tokens, result.output_tokens, result.cached_tokens, result.num_retractions) == (20, 10, 2, 1)
    assert (result.min_output_tokens, result.max_output_tokens) == (5, 5)
    assert result.longest_gap_s == 7.0
    assert result.finish_reasons == {"length": 2}
    assert result.error == "some fault"
    assert [row.first_chunk_tokens for row in rows(reads, 2)] == [1, 4]
    assert result.first_chunk_tokens == 5


def test_a_batch_whose_requests_did_not_all_start_has_no_prefill_figures() -> None:
    reads = [TokenRead(1.0, 0, 1), TokenRead(2.0, 0, 2)]
    result = pass_of(rows(reads, 2, finish_reason=None), reads, latency_s=3.0)
    got = figures(result, OneBatchLoad(batch_size=2, input_tokens=10, output_tokens=2))
    assert (result.first_ttft_s, result.median_ttft_s, result.last_ttft_s) == (1.0, None, None)
    assert result.finish_reasons == {"none": 2}
    assert got.last_ttft_s is None
    assert got.input_tok_per_s is None
    assert got.output_tok_per_s is None
    assert got.itl_ms is None
    assert got.steady_itl_ms is None
    assert result.first_end_s is None


def test_a_silent_stream_gives_no_figure_at_all() -> None:
    result = pass_of(rows([], 2), [], latency_s=0.0)
    got = figures(result, OneBatchLoad(batch_size=2, input_tokens=10, output_tokens=2))
    assert result.longest_gap_s is None
    assert got.overall_tok_per_s is None
    assert got.first_ttft_s is None


def test_all_tokens_in_one_read_have_no_steady_state() -> None:
    reads = [TokenRead(1.0, 0, 2), TokenRead(1.0, 1, 2)]
    got = figures(pass_of(rows(reads, 2), reads, 1.5), OneBatchLoad(batch_size=2, input_tokens=10, output_tokens=2))
    assert got.steady_output_tok_per_s is None
    assert got.output_tok_per_s == pytest.approx(8.0)


def test_short_replies_do_not_raise_the_throughput() -> None:
    reads = engine_reads(2, 25, ttft_s=1.0, step_s=0.01)
    got = figures(pass_of(rows(reads, 2), reads, 1.24), OneBatchLoad(batch_size=2, input_tokens=10, output_tokens=50))
    assert got.output_tok_per_s == pytest.approx(2 * 25 / 0.24)


def test_tokens_at_counts_what_had_been_read() -> None:
    requests = by_request([TokenRead(1.0, 0, 1), TokenRead(2.0, 0, 4), TokenRead(1.5, 1, 2)], 3)
    assert [tokens_at(t_s, requests) for t_s in (0.5, 1.0, 1.7, 2.0, 9.0)] == [0, 1, 3, 6, 6]

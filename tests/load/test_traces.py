"""Traces: both spellings, and a message for every way in which a file can be wrong."""

from pathlib import Path

import pytest

from raybench.errors import ConfigError
from raybench.load.traces import read_trace, trace_of

OURS = [
    '{"at_s": 10.5, "input_tokens": 30, "output_tokens": 4}',
    "",
    '{"at_s": 11, "input_tokens": 7, "output_tokens": 2}',
]
MOONCAKE = [
    '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}',
    '{"timestamp": 27000, "input_length": 600, "output_length": 9, "hash_ids": [46, 5]}',
]


def test_our_spelling_counts_from_the_first_arrival() -> None:
    trace = trace_of(OURS, "ours.jsonl", 100)
    assert (trace.at_s, trace.input_tokens, trace.output_tokens, trace.blocks) == ((0, 0.5), (30, 7), (4, 2), ())


def test_mooncake_is_milliseconds_and_blocks_of_512_in_order_of_time() -> None:
    trace = trace_of(MOONCAKE, "mooncake.jsonl", 100)
    assert trace.at_s == pytest.approx((0, 0.482))
    assert (trace.input_tokens, trace.blocks, trace.block_tokens) == ((600, 6955), ((46, 5), (46, 47)), 512)


def test_only_the_first_requests_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(OURS))
    assert read_trace(file, 1).at_s == (0,)


@pytest.mark.parametrize(
    "line",
    ['{"at_s": 1}', "no json", '{"at_s": 1, "input_tokens": 0, "output_tokens": 3}', "[]",
     '{"timestamp": -1, "input_length": 5, "output_length": 5}'],
)  # fmt: skip
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match=r"trace x\.jsonl, request 2: expected JSON with at_s"):
        trace_of([OURS[0], line], "x.jsonl", 10)


def test_an_empty_or_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no request"):
        trace_of(["", " "], "x.jsonl", 10)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_trace(tmp_path / "none.jsonl", 10)

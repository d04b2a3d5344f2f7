"""The controlled run on one NVIDIA H200: SGLang's own tool and raybench's client send the very same requests.

It removes the cause of the differences that `test_h200_fixtures.py` shows: other prompts, which with random weights
means other experts and another amount of work. A second run, on one NVIDIA H100, also removes the cause of what is left
of the TTFT: the tool starts its clock before it encodes the request and connects.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "h200"
CONTROLLED, CLOCKS = FIXTURES / "controlled.json", FIXTURES / "clocks.json"
BATCH_SIZES = (1, 2, 4, 8, 16, 64)

Row = Mapping[str, float]


def _rows(client: str, batch_size: int) -> list[Row]:
    rows = json.loads(CONTROLLED.read_text())["rows"]
    found = [row for row in rows if (row["client"], row["batch_size"]) == (client, batch_size)]
    assert len(found) == 2
    return found


def _median(client: str, batch_size: int, quantity: str) -> float:
    return median(row[quantity] for row in _rows(client, batch_size))


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("quantity", ["output_tok_per_s", "latency_s"])
def test_on_the_same_requests_decode_agrees_within_one_percent(quantity: str, batch_size: int) -> None:
    # ITL is batch size / output throughput for both, so its ratio is the inverse of the throughput's.
    ratio = _median("ours", batch_size, quantity) / _median("tool", batch_size, quantity)
    assert max(ratio, 1 / ratio) <= 1.01


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_ttft_agrees_once_the_lead_of_the_tools_clock_is_taken_off(batch_size: int) -> None:
    # Without that, batch 64 is 36 ms apart, of which 46 are lead.
    rows = [row for row in json.loads(CLOCKS.read_text())["rows"] if row["batch_size"] == batch_size]
    tool_s = median(row["last_ttft_s"] - row["lead_s"] for row in rows if row["client"] == "tool")
    ours_s = median(row["last_ttft_s"] for row in rows if row["client"] == "ours")
    assert abs(ours_s - tool_s) <= max(0.02 * tool_s, 0.002)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_the_lead_of_the_tools_clock_is_what_the_h200_differed_by(batch_size: int) -> None:
    # The lead was measured on another machine with an H100; that encoding the same bodies took about as long on the
    # H200's is what this shows.
    rows = json.loads(CLOCKS.read_text())["rows"]
    lead_s = median(row["lead_s"] for row in rows if row["client"] == "tool" and row["batch_size"] == batch_size)
    tool_s, ours_s = (_median(client, batch_size, "last_ttft_s") for client in ("tool", "ours"))
    assert 0 <= tool_s - ours_s <= max(0.02 * tool_s, 0.002, lead_s)
    assert abs(ours_s - (tool_s - lead_s)) <= max(0.02 * tool_s, 0.002)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_no_prompt_came_from_the_prefix_cache(batch_size: int) -> None:
    assert {row["cached_tokens"] for client in ("tool", "ours") for row in _rows(client, batch_size)} == {0}

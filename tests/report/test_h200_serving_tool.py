"""`sglang.bench_serving` and raybench's client send the same requests to one live server on an NVIDIA H100."""

import json
from pathlib import Path
from statistics import median

import pytest

ROWS = json.loads((Path(__file__).parents[1] / "fixtures" / "h200" / "serving_tool.json").read_text())["rows"]
AGREED = (1, 8, 32, 64, 128)
QUANTITIES = ("output_tok_per_s", "median_tpot_s")


def _values(client: str, streams: int, quantity: str) -> list[float]:
    return [row[quantity] for row in ROWS if (row["client"], row["concurrency"]) == (client, streams)]


@pytest.mark.parametrize("streams", AGREED)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_both_clients_agree_within_two_percent(quantity: str, streams: int) -> None:
    tool, ours = (_values(client, streams, quantity) for client in ("tool", "ours"))
    assert len(tool) == len(ours) == 2
    assert abs(median(ours) / median(tool) - 1) <= 0.02


def test_no_client_was_saturated_where_they_are_compared() -> None:
    assert not any(row["saturated"] or row["cpu_fraction"] >= 0.9 for row in ROWS)


def test_at_256_streams_the_tools_own_two_runs_are_further_apart_than_it_may_be_from_ours() -> None:
    # Two pairs cannot tell whether both agree within 2% there: TPOT is 2.6% apart, throughput 1.4%.
    tool, ours = (_values(client, 256, "output_tok_per_s") for client in ("tool", "ours"))
    assert max(tool) / min(tool) - 1 > 0.05
    assert max(ours) / min(ours) - 1 < 0.002
    assert abs(median(ours) / median(tool) - 1) <= 0.02
    tool, ours = (_values(client, 256, "median_tpot_s") for client in ("tool", "ours"))
    assert 0.02 < abs(median(ours) / median(tool) - 1) < 0.03

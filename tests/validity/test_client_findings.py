"""Whether the load client could keep up."""

import pytest

from raybench.records.client import ClientProcess
from raybench.validity.client import client_findings

GOOD = ClientProcess(
    process=0, num_sent=1000, num_reads=64_000, cpu_fraction=0.4, read_lag_p50_s=0.0008, read_lag_p99_s=0.002,
    read_lag_max_s=0.02, lateness_p50_s=0.0001, lateness_p99_s=0.0015, lateness_max_s=0.03, started_unix_s=0,
    duration_s=30,
)  # fmt: skip


def codes(*changes: dict[str, float]) -> list[tuple[str, str]]:
    processes = [GOOD.model_copy(update=change) for change in changes]
    return [(finding.code, finding.severity) for finding in client_findings(processes, "t", "k")]


def test_a_client_that_keeps_up_is_silent() -> None:
    assert codes({}, {}) == []
    assert client_findings((), "t", "k") == []
    unknown = {"cpu_fraction": None, "read_lag_p99_s": None, "lateness_p99_s": None}
    assert client_findings([GOOD.model_copy(update=unknown)], "t", "k") == []


@pytest.mark.parametrize("change", [{"cpu_fraction": 0.95}, {"read_lag_p99_s": 0.06}, {"lateness_p99_s": 0.2}])
def test_one_process_at_its_limit_is_enough(change: dict[str, float]) -> None:
    assert codes({}, change) == [("client_saturated", "red")]


def test_a_late_schedule_is_said_once() -> None:
    assert codes({"lateness_p99_s": 0.0021}) == [("schedule_late", "warn")]
    [finding] = client_findings([GOOD.model_copy(update={"lateness_p99_s": 0.0021})], "t", "k")
    assert finding.evidence == {"cpu_fraction": 0.4, "read_lag_p99_s": 0.002, "lateness_p99_s": 0.0021}
    assert (finding.target, finding.key, finding.scope) == ("t", "k", "unit")

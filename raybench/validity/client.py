"""Checks of the load client itself: whether it could keep up, and how exact it is on the machine."""

from collections.abc import Sequence

from raybench.records import Finding
from raybench.records.calibration import MAX_ERROR_FRACTION, MAX_ERROR_S, Calibration
from raybench.records.client import ClientProcess

MAX_CPU_FRACTION = 0.9
MAX_READ_LAG_S = 0.05
MAX_LATENESS_S = 0.1
"""Beyond any of these the client is the limit."""
LATE_S = 0.002
"""A request that is sent later than this is late."""


def client_findings(processes: Sequence[ClientProcess], target: str, key: str) -> list[Finding]:
    """`client_saturated` (red) and `schedule_late` (warn) of one load."""
    busiest = max((process.cpu_fraction or 0.0 for process in processes), default=0.0)
    lag_s = max((process.read_lag_p99_s or 0.0 for process in processes), default=0.0)
    late_s = max((process.lateness_p99_s or 0.0 for process in processes), default=0.0)
    evidence = {"cpu_fraction": busiest, "read_lag_p99_s": lag_s, "lateness_p99_s": late_s}
    if busiest >= MAX_CPU_FRACTION or lag_s > MAX_READ_LAG_S or late_s > MAX_LATENESS_S:
        return [
            Finding(
                code="client_saturated", severity="red", scope="unit", target=target, key=key,
                rule=f"the busiest client process uses {MAX_CPU_FRACTION:.0%} of a CPU or more, or reads "
                f"{MAX_READ_LAG_S * 1e3:.0f} ms late, or sends {MAX_LATENESS_S * 1e3:.0f} ms late (99th percentiles)",
                evidence=evidence,
                advice="these figures are the client's, not the server's: use more client processes, move other work "
                "off the machine, or lower the load",
            )
        ]  # fmt: skip
    if late_s > LATE_S:
        return [
            Finding(
                code="schedule_late", severity="warn", scope="unit", target=target, key=key,
                rule=f"the 99th percentile of lateness is above {LATE_S * 1e3:.0f} ms",
                evidence=evidence,
                advice="latencies count from the schedule, so they hold; arrivals were less even than planned: use "
                "more client processes or move other work off the machine",
            )
        ]  # fmt: skip
    return []


def calibration_findings(calibration: Calibration | None, streams: int, target: str, key: str) -> list[Finding]:
    """`client_error` (warn) if the client's own error at so many streams is too large, `not_calibrated` (info) if
    nobody measured it."""
    points = () if calibration is None else calibration.at(streams)
    if not points:
        most = max((point.streams for point in calibration.points), default=0) if calibration is not None else 0
        return [
            Finding(
                code="not_calibrated", severity="info", scope="unit", target=target, key=key,
                rule="the client's own error was measured on this machine for as many streams",
                evidence={"streams": float(streams), "calibrated_streams": float(most)},
                advice=f"run `raybench calibrate --streams {streams}` there",
            )
        ]  # fmt: skip
    bad = [point for point in points if point.excesses]
    if not bad:
        return []
    worst = max(bad, key=lambda point: abs(point.ttft_p99_s.error))
    return [
        Finding(
            code="client_error", severity="warn", scope="unit", target=target, key=key,
            rule=f"the client's own error is at most {MAX_ERROR_FRACTION:.0%} or {MAX_ERROR_S * 1e3:.0f} ms",
            evidence={
                "streams": float(streams),
                "calibrated_streams": float(worst.streams),
                "num_processes": float(worst.num_processes),
                "ttft_mean_error_s": worst.ttft_mean_s.error,
                "ttft_p99_error_s": worst.ttft_p99_s.error,
                "gap_p99_error_s": worst.gap_p99_s.error,
                "throughput_error_fraction": worst.tok_per_s.error_fraction,
            },
            advice="no number of client processes on this machine is exact enough for so many streams: keep other work "
            "off it, or spread the load over machines",
        )
    ]  # fmt: skip

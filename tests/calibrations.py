"""Calibrations by hand."""

from raybench.records.calibration import CalibratedQuantity, Calibration, CalibrationPoint


def calibrated_point(streams: int, processes: int, error_s: float = 0.0) -> CalibrationPoint:
    """One point; `error_s` is that of the 99th percentile of TTFT."""
    exact = CalibratedQuantity(said=0.01, true=0.01)
    return CalibrationPoint(
        streams=streams, pattern="steps", num_processes=processes, num_requests=100, num_failed=0, peak_streams=streams,
        ttft_mean_s=exact, ttft_p99_s=CalibratedQuantity(said=0.05 + error_s, true=0.05), gap_mean_s=exact,
        gap_p99_s=exact, tok_per_s=CalibratedQuantity(said=100, true=100), worst_ttft_error_s=0.001,
    )  # fmt: skip


def calibration(*points: CalibrationPoint, host: str | None = None, version: str = "0", cpus: int = 2) -> Calibration:
    """A calibration of these points."""
    return Calibration(
        client_version=version, host=host, num_cpus=cpus, ttft_s=0.05, itl_s=0.01, output_tokens=64, route="/generate",
        points=points, started_unix_s=0, duration_s=1,
    )  # fmt: skip

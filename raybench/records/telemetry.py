"""What was seen of a machine while something was measured on it."""

from raybench.records.base import Record


class GpuSummary(Record):
    """Telemetry of one GPU over a measured pass."""

    index: int
    """NVML index."""
    mean_power_w: float | None = None
    """Mean power."""
    energy_j: float | None = None
    """Energy by the GPU's own counter."""
    max_temperature_c: float | None = None
    """Highest temperature."""
    min_sm_clock_mhz: float | None = None
    """Lowest SM clock."""
    max_sm_clock_mhz: float | None = None
    """Highest SM clock."""
    throttle_reasons: tuple[str, ...] = ()
    """Clock-event reasons seen, power cap and idle included by name."""

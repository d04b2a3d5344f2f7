"""Arrival times of open loads and ramps. Pure."""

import numpy as np

from raybench.load.draws import Floats, unit_gaps
from raybench.records.loads import OpenLoad, RampLoad


def open_times_s(load: OpenLoad, seed: int) -> Floats:
    """Arrival times of an open load, ascending, all before its end. Rates scale one and the same pattern."""
    expected = load.rate_per_s * load.duration_s
    return _unit_times(seed, load.arrivals, load.burstiness, expected) / load.rate_per_s


def ramp_times_s(load: RampLoad, seed: int) -> Floats:
    """Arrival times of a ramp, ascending: those of a unit rate, bent by the inverse of the requests expected so far."""
    start, change = load.start_rate_per_s, load.end_rate_per_s - load.start_rate_per_s
    expected = (start + change / 2) * load.duration_s
    unit = _unit_times(seed, load.arrivals, 1.0, expected)
    # Solves start * t + change * t^2 / (2 * duration) = unit, in the form that has no 0/0 for an even rate.
    root = np.sqrt(np.maximum(start * start + 2 * change / load.duration_s * unit, 0.0))
    denominator = start + root
    bent = np.divide(2 * unit, denominator, out=np.zeros_like(unit), where=denominator > 0)
    return np.minimum(bent, np.nextafter(load.duration_s, 0.0))


def _unit_times(seed: int, arrivals: str, burstiness: float, expected: float) -> Floats:
    """Arrival times at one request per second, below `expected`."""
    if arrivals == "constant":
        return np.arange(np.ceil(expected), dtype=np.float64)
    num = int(expected) + 64
    while True:
        times = np.cumsum(unit_gaps(seed, arrivals, burstiness, num))
        if times[-1] >= expected:
            return times[times < expected]
        num *= 2

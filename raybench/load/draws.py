# pyright: basic
"""Random numbers that never change: the raw stream of Philox under a key that is a hash, and inverse distributions.

NumPy promises to keep the raw streams of its bit generators between versions, and not what its `Generator` makes of
them; so everything is drawn by inverting distribution functions. Two draws with other labels are independent, and a
longer draw begins with a shorter one.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy import special

from raybench.records.loads import EmpiricalLength, Lengths, LogNormalLength, NormalLength, UniformLength

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def seed_of(seed: int, *labels: str | int) -> int:
    """A seed of its own for every label."""
    digest = hashlib.sha256("/".join(map(str, (seed, *labels))).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def uniforms(seed: int, label: str, num: int) -> Floats:
    """Numbers in (0, 1), both ends left out."""
    raw = np.random.Philox(key=seed_of(seed, label)).random_raw(num)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def whole_numbers(seed: int, label: str, num: int, bounds: tuple[int, int]) -> Ints:
    """Whole numbers from [low, high), evenly."""
    low, high = bounds
    return low + (uniforms(seed, label, num) * (high - low)).astype(np.int64)


def unit_gaps(seed: int, arrivals: str, burstiness: float, num: int) -> Floats:
    """Gaps between arrivals, of mean 1. The same seed gives the same pattern at every rate."""
    if arrivals == "constant":
        return np.ones(num)
    uniform = uniforms(seed, "gaps", num)
    if arrivals == "poisson":
        return -np.log1p(-uniform)
    return special.gammaincinv(burstiness, uniform) / burstiness


def exponentials(seed: int, label: str, num: int) -> Floats:
    """Exponential numbers of mean 1."""
    return -np.log1p(-uniforms(seed, label, num))


def drawn_lengths(lengths: Lengths, uniform: Floats, jitter_fraction: float = 0.0) -> Ints:
    """One length for each uniform number; only fixed lengths are jittered."""
    match lengths:
        case int():
            half = int(lengths * jitter_fraction)
            return _evenly(lengths - half, lengths + half, uniform)
        case UniformLength():
            return _evenly(lengths.min, lengths.max, uniform)
        case NormalLength():
            scale = (lengths.mean, lengths.deviation)
            return _rounded(_bell(scale, (lengths.min - 0.5, lengths.max + 0.5), uniform), lengths.min, lengths.max)
        case LogNormalLength():
            scale = (np.log(lengths.median), lengths.sigma)
            limits = (float(np.log(lengths.min - 0.5)), float(np.log(lengths.max + 0.5)))
            return _rounded(np.exp(_bell(scale, limits, uniform)), lengths.min, lengths.max)
        case EmpiricalLength():
            values = np.asarray(lengths.values, dtype=np.int64)
            return values[(uniform * len(values)).astype(np.int64)]


def _evenly(low: int, high: int, uniform: Floats) -> Ints:
    return low + (uniform * (high - low + 1)).astype(np.int64)


def _bell(scale: tuple[float, float], limits: tuple[float, float], uniform: Floats) -> Floats:
    """Normal numbers inside of limits, by inverting the part of the distribution function that lies between them."""
    mean, deviation = scale
    low, high = (special.ndtr((limit - mean) / deviation) for limit in limits)
    return mean + deviation * special.ndtri(low + uniform * (high - low))


def _rounded(values: Floats, low: int, high: int) -> Ints:
    # Limits far in a tail leave nothing to invert: the nearer limit is then the only length.
    finite = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return np.clip(np.rint(finite), low, high).astype(np.int64)

"""Times between reads, counted in fine bins: a billion tokens are four thousand numbers. Pure.

Percentiles from the counts are good to a fifth of a percent, whatever the distribution; means and the largest value
are exact. Counts of several processes add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raybench.records.serving import NEEDED, Percentiles
from raybench.stats.columns import Floats, Ints, ReadColumns

SMALLEST_NS = 1024.0
"""Shorter gaps are counted as this long: a microsecond."""
_SHIFT = 44
"""Bits of a double that are dropped. Its exponent and 8 bits of its mantissa stay: 256 bins for every doubling of the
length, at a tenth of what a logarithm costs."""
_FIRST = int(np.float64(SMALLEST_NS).view(np.int64)) >> _SHIFT
NUM_BINS = 30 * 256
"""Up to eighteen minutes."""

LEVELS = (
    (0.5, NEEDED["p50"]), (0.9, NEEDED["p90"]), (0.95, NEEDED["p95"]), (0.99, NEEDED["p99"]), (0.999, NEEDED["p999"]),
)  # fmt: skip
"""Percentiles with the samples that they need."""


@dataclass(frozen=True, slots=True)
class GapCounts:
    """Weights by length of the gap."""

    counts: Floats
    """Weight in every bin."""
    sum_ns: float
    """Weighted sum of all gaps."""
    max_ns: float
    """Longest."""

    @classmethod
    def none(cls) -> "GapCounts":
        """No gap at all."""
        return cls(np.zeros(NUM_BINS), 0.0, 0.0)

    @classmethod
    def of(cls, gaps_ns: Floats, weights: Floats) -> "GapCounts":
        """Counts of gaps."""
        if not len(gaps_ns):
            return cls.none()
        place = (np.maximum(gaps_ns, SMALLEST_NS).view(np.int64) >> _SHIFT) - _FIRST
        counts = np.bincount(np.minimum(place, NUM_BINS - 1), weights=weights, minlength=NUM_BINS)
        return cls(counts.astype(np.float64), float(np.dot(gaps_ns, weights)), float(gaps_ns.max()))

    def __add__(self, other: "GapCounts") -> "GapCounts":
        return GapCounts(self.counts + other.counts, self.sum_ns + other.sum_ns, max(self.max_ns, other.max_ns))

    def percentiles(self, scale: float) -> Percentiles | None:
        """Percentiles in `scale` times nanoseconds; None without any gap."""
        sums = np.cumsum(self.counts)
        total = float(sums[-1])
        if total < 1:
            return None
        num = round(total)
        found = [self._at(sums, share * total) * scale if num >= needed else None for share, needed in LEVELS]
        p50 = found[0] if found[0] is not None else self.sum_ns / total * scale
        return Percentiles(
            num=num, mean=self.sum_ns / total * scale, p50=p50, p90=found[1], p95=found[2], p99=found[3],
            p999=found[4], max=self.max_ns * scale,
        )  # fmt: skip

    def _at(self, sums: Floats, rank: float) -> float:
        place = int(np.searchsorted(sums, rank))
        edges = (np.array([place, place + 1], dtype=np.int64) + _FIRST) << _SHIFT
        return min(float(edges.view(np.float64).mean()), self.max_ns)


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps by read and by token."""

    by_chunk: GapCounts
    """Every gap once."""
    by_token: GapCounts
    """The gap divided by the tokens that ended it, once for each of them: what a reader of tokens waits for one."""

    @classmethod
    def none(cls) -> "Gaps":
        """No gap at all."""
        return cls(GapCounts.none(), GapCounts.none())

    def __add__(self, other: "Gaps") -> "Gaps":
        return Gaps(self.by_chunk + other.by_chunk, self.by_token + other.by_token)


def gaps_of(reads: ReadColumns, inside_ns: tuple[float, float] | None = None) -> Gaps:
    """Gaps between successive reads of the same request; with `inside_ns`, those that end in it."""
    if len(reads.t_ns) < 2:
        return Gaps.none()
    gaps = np.diff(reads.t_ns).astype(np.float64)
    kept = np.ones(len(gaps), dtype=np.bool_)
    # A gap from one request's last read to the next one's first is none.
    first = reads.starts[1:-1]
    kept[first[(first > 0) & (first < len(reads.t_ns))] - 1] = False
    if inside_ns is not None:
        kept &= (reads.t_ns[1:] >= inside_ns[0]) & (reads.t_ns[1:] < inside_ns[1])
    tokens = np.maximum(reads.tokens[1:][kept], 1).astype(np.float64)
    gaps = gaps[kept]
    by_chunk = GapCounts.of(gaps, np.ones(len(gaps)))
    single = not len(tokens) or tokens.max() == 1
    return Gaps(by_chunk, by_chunk if single else GapCounts.of(gaps / tokens, tokens))


def longest_gaps_ns(reads: ReadColumns) -> Ints:
    """Longest gap of every request; -1 with fewer than two reads."""
    num = len(reads.starts) - 1
    longest = np.full(num, -1, dtype=np.int64)
    if len(reads.t_ns) > 1:
        owner = reads.request
        same = owner[1:] == owner[:-1]
        np.maximum.at(longest, owner[1:][same], np.diff(reads.t_ns)[same])
    return longest


def percentiles_of(values: Floats | Sequence[float], num_failed: int = 0) -> Percentiles | None:
    """Exact percentiles of values and of `num_failed` more that are infinite, by numpy's linear rule; None without any
    value, and where the median is infinite."""
    array = np.asarray(values, dtype=np.float64)
    num, total = len(array), len(array) + num_failed
    if not num or (total - 1) / 2 > num - 1:
        return None
    levels = [share for share, needed in LEVELS if total >= needed]
    # Between a number and infinity numpy finds nan; a level that reaches beyond the largest number is none instead.
    padded = np.append(array, np.full(num_failed, array.max()))
    found: list[float | None] = [
        float(value) if share * (total - 1) <= num - 1 + 1e-9 else None
        for share, value in zip(levels, np.quantile(padded, levels), strict=True)
    ]
    found += [None] * (len(LEVELS) - len(found))
    p50 = found[0] if found[0] is not None else float(array[0])
    return Percentiles(
        num=num, num_failed=num_failed, mean=float(array.mean()), p50=p50, p90=found[1], p95=found[2], p99=found[3],
        p999=found[4], max=float(array.max()),
    )  # fmt: skip

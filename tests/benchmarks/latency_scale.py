"""`python tests/benchmarks/latency_scale.py [NUM]`: a million request records with their reads, summarised.

Prints the seconds and the largest memory of the process. Reads are counted in parts of 20,000 requests, as client
processes hand them over; the summary itself is one call. Making the records is not timed.
"""

import resource
import sys
import time

import numpy as np

from raybench.records.loads import Slo
from raybench.stats.columns import NEVER, ReadColumns, RequestColumns
from raybench.stats.gaps import Gaps, gaps_of
from raybench.stats.latency import LoadRun, figures_of

TOKENS = 64
PART = 20_000


def main(num: int) -> None:
    """Make, summarise, print."""
    rng = np.random.default_rng(1)
    scheduled = np.sort(rng.integers(0, int(num / 2000 * 1e9), num))
    first = scheduled + rng.lognormal(np.log(50e6), 0.3, num).astype(np.int64)
    end = first.copy()
    gaps, gap_s = Gaps.none(), 0.0
    for start in range(0, num, PART):
        size = min(PART, num - start)
        steps = rng.lognormal(np.log(10e6), 0.2, (size, TOKENS)).astype(np.int64)
        steps[:, 0] = 0
        times = first[start : start + size, None] + np.cumsum(steps, axis=1)
        end[start : start + size] = times[:, -1]
        part = ReadColumns(np.arange(0, size * TOKENS + 1, TOKENS), times.ravel(), np.ones(size * TOKENS, dtype=int))
        began = time.perf_counter()
        gaps = gaps + gaps_of(part)
        gap_s += time.perf_counter() - began
    zeros, ones = np.zeros(num, dtype=np.int64), np.ones(num, dtype=np.int64)
    columns = RequestColumns(
        index=np.arange(num), slot=-ones, scheduled_ns=scheduled, sent_ns=scheduled + 100_000, first_ns=first,
        end_ns=end, status=zeros, asked_input_tokens=1024 * ones, asked_output_tokens=TOKENS * ones,
        input_tokens=1024 * ones, output_tokens=TOKENS * ones, cached_tokens=zeros, shared_tokens=zeros,
        first_tokens=ones, longest_gap_ns=20_000_000 * ones, queue_ns=NEVER * ones, retractions=zeros,
    )  # fmt: skip
    began = time.perf_counter()
    found = figures_of(LoadRun(columns, is_open=True, gaps=gaps), Slo(ttft_ms=200, tpot_ms=20))
    summary_s = time.perf_counter() - began
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| requests | tokens | gaps (s) | summary (s) | total (s) | largest memory (GiB) |\n|{'---:|' * 6}")
    print(f"| {num:,} | {num * TOKENS:,} | {gap_s:.1f} | {summary_s:.1f} | {gap_s + summary_s:.1f} | {peak_gib:.2f} |")
    assert found.ttft_s is not None
    assert found.itl_s is not None
    print(f"p99 TTFT {1000 * (found.ttft_s.p99 or 0):.1f} ms, p99 ITL {1000 * (found.itl_s.p99 or 0):.2f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

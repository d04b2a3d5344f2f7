"""What a serving load brings back: distributions, rates, what the client and the server say of themselves.

Times are seconds (simulated seconds where scaled). Latencies of a load with arrival times count from the scheduled
time, those of a closed loop from the sending. Percentiles are of the requests *sent* inside the steady window, ended or
not within it, and one that failed counts as never answered; rates are of what was read inside of it.
"""

from typing import Literal

from pydantic import Field

from raybench.records.base import Record
from raybench.records.client import ClientProcess
from raybench.records.loads import Slo
from raybench.records.telemetry import GpuSummary

NEEDED = {"p50": 2, "p90": 10, "p95": 20, "p99": 100, "p999": 1000, "max": 1}
"""Samples that a percentile needs: at least one on the average beyond it."""


class Percentiles(Record):
    """One quantity over requests, tokens or reads. A percentile beyond which not a single sample lies is None, and so
    is one that falls on a request that failed. Where that is the median, there is no record."""

    num: int = Field(ge=1)
    """Samples behind the mean and the largest: those that were measured."""
    num_failed: int = Field(default=0, ge=0)
    """Requests that failed, which lie above all of them; 0 in ledgers from before they were counted."""
    mean: float
    """Mean of those that were measured."""
    p50: float
    """Median."""
    p90: float | None
    """Nine of ten lie below; None with fewer than 10 samples."""
    p95: float | None
    """None with fewer than 20 samples."""
    p99: float | None
    """None with fewer than 100 samples."""
    p999: float | None
    """None with fewer than 1,000 samples."""
    max: float
    """Largest of those that were measured."""

    def is_failed(self, level: str) -> bool:
        """True if there are samples enough for a percentile, and it falls on a request that failed."""
        if level == "max":
            return self.num_failed > 0
        return getattr(self, level) is None and self.num + self.num_failed >= NEEDED[level]


class SteadyWindow(Record):
    """The part of a run that counts, in seconds since its start."""

    start_s: float
    """From here on."""
    end_s: float
    """Until here."""
    num_sent: int
    """Requests that were sent (scheduled, where they have times) inside of it."""
    num_ended: int
    """Requests that ended well inside of it."""

    @property
    def length_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


class Goodput(Record):
    """How many of the requests kept an SLO."""

    slo: Slo
    """What was to be kept."""
    num_sent: int
    """Requests sent inside the window; those that failed are not good."""
    num_good: int
    """Those that kept all of it."""
    num_ttft: int
    """Those that kept the time to first token."""
    num_tpot: int
    """Those that kept the time per output token."""
    num_gap: int
    """Those that kept the longest silence."""
    num_e2e: int
    """Those that kept the end-to-end time."""
    request_per_s: float
    """Good requests per second."""

    @property
    def good_fraction(self) -> float:
        """Share of the requests that were sent."""
        return self.num_good / self.num_sent if self.num_sent else 0.0

    @property
    def holds(self) -> bool:
        """True if enough of them were good."""
        return self.num_sent > 0 and self.good_fraction >= self.slo.share


class QueueTrend(Record):
    """How the number of requests under way changed over the window: a straight line through means of ten parts."""

    mean: float
    """Requests under way on average, waiting ones included."""
    growth: float
    """Change from the start of the window to its end along the line, in requests."""
    growth_low: float
    """Lower end of the one-sided 99% interval of the growth."""

    @property
    def is_growing(self) -> bool:
        """True if the queue surely grows, by at least a tenth of its mean and one request: the load is too much."""
        return self.growth_low > 0 and self.growth > max(1.0, 0.1 * self.mean)


class LoadFigures(Record):
    """The figures of one run of a serving load."""

    window: SteadyWindow | None
    """The steady part; None where there is none, and then nothing else was measured."""
    num_requests: int
    """Requests of the schedule."""
    num_sent: int
    """Requests that were sent in the whole run."""
    statuses: dict[str, int]
    """Sent requests by how they ended."""
    num_wrong_length: int
    """Requests that ended well with another number of tokens than was asked."""
    num_silent: int
    """Requests that ended well without a single token that can be timed."""
    ttft_s: Percentiles | None = None
    """Time to first token."""
    tpot_s: Percentiles | None = None
    """Mean time per output token after the first chunk, request by request."""
    itl_s: Percentiles | None = None
    """Time per token between two reads, each token counted."""
    chunk_gap_s: Percentiles | None = None
    """Time between two reads with tokens, each read counted: more than `itl_s` where a chunk carries several tokens."""
    longest_gap_s: Percentiles | None = None
    """Longest silence between two reads, request by request."""
    e2e_s: Percentiles | None = None
    """Time until the last token."""
    queue_s: Percentiles | None = None
    """Time in the server's queue, where the server says."""
    lateness_s: Percentiles | None = None
    """Time from when a request was to be sent until it was, over the whole run."""
    request_per_s: float | None = None
    """Requests that ended well."""
    input_tok_per_s: float | None = None
    """Prompt tokens of requests whose first token was read inside the window."""
    output_tok_per_s: float | None = None
    """Reply tokens read."""
    mean_concurrency: float | None = None
    """Requests under way on average, by the client."""
    max_concurrency: int | None = None
    """Most of them at once, over the whole run."""
    min_turnovers: float | None = None
    """Closed loops: requests that ended well inside the window, for each user. Others: lengths of the window in median
    end-to-end times."""
    queue: QueueTrend | None = None
    """Whether the number under way grew."""
    coherence: float | None = None
    """Closed loops: 0 = requests start at any time, 1 = all start together, again and again."""
    early_ttft_ratio: float | None = None
    """Median time to first token in the first fifth of the window over that of the rest."""
    input_tokens: int = 0
    """Prompt tokens of all requests that ended well, as the server counted them."""
    asked_input_tokens: int = 0
    """Prompt tokens that were sent with them."""
    output_tokens: int = 0
    """Reply tokens of all requests that ended well."""
    cached_tokens: int = 0
    """Prompt tokens that the server took from its prefix cache."""
    shared_tokens: int = 0
    """Prompt tokens that the schedule meant to be there."""
    num_retractions: int = 0
    """Times that the scheduler took a request back."""
    goodput: Goodput | None = None
    """Requests that kept the SLO; None without one."""

    @property
    def num_failed(self) -> int:
        """Requests of the whole run that failed. One that was never sent did not."""
        return sum(number for status, number in self.statuses.items() if status not in ("ok", "unsent"))

    def is_failed(self, name: str, level: str) -> bool:
        """True if a percentile falls on a request that failed: level `p99` of `ttft_s`."""
        found: Percentiles | None = getattr(self, name)
        if found is not None:
            return found.is_failed(level)
        # Every request is to have these two: where the steady part has none, half of its requests failed.
        return name in ("ttft_s", "e2e_s") and self.window is not None and self.num_failed > 0

    @property
    def tok_per_s_per_user(self) -> float | None:
        """Tokens per second that one user sees: the inverse of the median time per output token."""
        return 1 / self.tpot_s.p50 if self.tpot_s is not None and self.tpot_s.p50 > 0 else None


class ServerSample(Record):
    """One look at the server's own metrics. None = the server does not say."""

    t_s: float
    """Seconds since the start of the run (simulated where scaled)."""
    running: float | None = None
    """Requests in the running batch, over all ranks."""
    queued: float | None = None
    """Requests that wait."""
    kv_fraction: float | None = None
    """Share of the KV cache in use, of the fullest rank."""
    generated_tok_per_s: float | None = None
    """Generation throughput by the server's own gauge, over all ranks."""
    decode_steps: float | None = None
    """Counter: decode steps so far."""
    decode_graph_steps: float | None = None
    """Counter: those of them that ran as a CUDA graph."""
    prompt_tokens: float | None = None
    """Counter: prompt tokens so far."""
    generated_tokens: float | None = None
    """Counter: reply tokens so far."""
    cached_tokens: float | None = None
    """Counter: prompt tokens from the prefix cache so far."""
    retracted: float | None = None
    """Counter (a gauge in some versions): requests taken back."""
    aborted: float | None = None
    """Counter: requests aborted so far."""


class ServerSide(Record):
    """The server's metrics over a run."""

    num_samples: int
    """Looks that were taken."""
    num_failed: int = 0
    """Looks that failed or took too long."""
    mean_running: float | None = None
    """Mean of the running requests inside the window."""
    max_running: float | None = None
    """Most of them."""
    mean_queued: float | None = None
    """Mean of the waiting requests inside the window."""
    max_queued: float | None = None
    """Most of them."""
    max_kv_fraction: float | None = None
    """Fullest KV cache."""
    decode_graph_fraction: float | None = None
    """Share of decode steps inside the window that ran as a CUDA graph."""
    output_tok_per_s: float | None = None
    """Reply tokens per second inside the window, by the server's counter."""
    cached_tokens: float | None = None
    """Prompt tokens from the prefix cache in the whole run, by the server's counter."""
    num_retracted: float | None = None
    """Requests taken back in the whole run."""
    num_aborted: float | None = None
    """Requests aborted in the whole run."""
    samples: tuple[ServerSample, ...] = ()
    """The looks, thinned out evenly to 120 at most."""


class ClientSide(Record):
    """What the load client says of itself."""

    num_processes: int = 1
    """Processes that sent and read."""
    max_cpu_fraction: float | None = None
    """CPU time over wall time of the busiest of them; near 1 means that the client is the limit."""
    lag_p99_s: float | None = None
    """99th percentile of the time from the arrival of bytes until they were read, in the worst of them. Over TLS it
    counts from the poll that announced them, which is a lower bound; see `processes`."""
    cpus: tuple[int, ...] = ()
    """CPUs that they were allowed to run on."""
    processes: tuple[ClientProcess, ...] = ()
    """Each of them, in real seconds."""


class LoadMeasurement(Record):
    """What a load unit brings back: body of its `unit_done`."""

    kind: Literal["load"] = "load"
    """Tag of the union of measurements."""
    figures: LoadFigures
    """The figures."""
    client: ClientSide = ClientSide()
    """The client."""
    server: ServerSide | None = None
    """The server's metrics; None where it shows none."""
    streams: int | None = None
    """Streams that the client was to hold, for a load with times by a guess at their duration."""
    drained: bool | None = None
    """True if the server was seen idle, with an empty prefix cache, before the first request; None = not looked."""
    flush_status: int | None = None
    """HTTP status by which it refused to flush that cache: 400 = requests were running. None = it did not refuse, gave
    no whole answer, or the ledger is older than this field."""
    started_unix_s: float
    """Wall clock of the node at the start of the run."""
    duration_s: float
    """Wall time of the whole unit in real seconds."""
    engines_on_host: int = 1
    """Engines of any target that were up on the host meanwhile."""
    load_average_1m: float | None = None
    """Load average of the machine at the end."""
    gpus: tuple[GpuSummary, ...] = ()
    """Telemetry; empty without GPU."""
    rows_sha256: str | None = None
    """SHA-256 of `requests/KEY.parquet`, set by the driver when it has written the file."""
    stopped_early: str | None = None
    """Why the client ended the run before its schedule did; None = it did not."""
    error: str | None = None
    """First error message of a request, redacted; None if all went well."""
    simulated: bool = False
    """True: the times are simulated seconds."""

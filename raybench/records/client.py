"""What a process of the load client says of itself: whether it could keep up, and where it ran."""

from pydantic import Field

from raybench.records.base import Record


class ClientProcess(Record):
    """One process of the load client over one load. Times in real seconds."""

    process: int = Field(ge=0)
    """Number of the process, from 0."""
    num_sent: int
    """Requests that it sent."""
    num_reads: int
    """Reads from its sockets."""
    cpu_fraction: float | None = None
    """CPU time over wall time while it sent and read; near 1 means that it is the limit."""
    read_lag_p50_s: float | None = None
    """Median time from the arrival of bytes at the kernel until they were read. Up to the pause between two polls
    (1 ms) it is on purpose, and it is in no latency where the kernel stamps arrivals. Where it does not (TLS), the lag
    counts from the poll that announced the bytes: how long they had been there before is not known."""
    read_lag_p99_s: float | None = None
    """Its 99th percentile."""
    read_lag_max_s: float | None = None
    """Its maximum."""
    lateness_p50_s: float | None = None
    """Median time from when a request was due until its bytes went out."""
    lateness_p99_s: float | None = None
    """Its 99th percentile."""
    lateness_max_s: float | None = None
    """Its maximum."""
    max_in_flight: int = 0
    """Most requests under way at once."""
    num_connections: int = 0
    """Connections opened before the clock started."""
    num_opened_late: int = 0
    """Connections opened while the clock ran, because none was free or the server had closed one."""
    num_resent: int = 0
    """Requests sent twice because the server closed the idle connection at that moment."""
    kernel_stamps: bool = False
    """True: arrivals are stamped by the kernel. False (TLS): by the process, right after each read."""
    num_threads: int | None = None
    """Threads of the process."""
    cpus: tuple[int, ...] = ()
    """CPUs that it was allowed to run on."""
    stopped_early: str | None = None
    """Why it stopped sending before its schedule ended; None = it did not."""
    started_unix_s: float
    """Wall clock when the clock of the load started."""
    duration_s: float
    """Time from then until the last answer had ended."""

"""Serving loads as rows of the report: points of sweeps, and searches with their curves."""

from typing import Literal

from raybench.records import Record
from raybench.records.calibration import Calibration
from raybench.records.loads import Slo
from raybench.records.serving import ClientSide, LoadFigures, ServerSide
from raybench.report.spread import Spread
from raybench.stats.compare import Ratio


class LoadRunRow(Record):
    """One run of a point, with all of its figures."""

    key: str
    """Key of the unit; `requests/KEY.parquet` holds its requests."""
    repeat: int
    """Number of the repeat, from 0."""
    launch: int
    """Number of the launch in the plan, from 0."""
    node: str
    """Short name of the node."""
    start: str
    """Id of the physical engine start."""
    attempt: int
    """Attempt that counts, from 1."""
    figures: LoadFigures
    """Distributions with the number of samples behind them, rates, the steady window."""
    client: ClientSide
    """What the client says of itself."""
    server: ServerSide | None
    """The server's own metrics."""
    calibration: Calibration | None = None
    """The client's own error on the machine at as many streams; None where not measured."""
    streams: int | None = None
    """Streams that the client was to hold."""


class LoadRow(Record):
    """One point of a serving sweep on one target. Spreads are over its runs, which stay apart: no percentile is of
    requests of two runs."""

    target: str
    """Name of the target."""
    sweep: str
    """Name of the sweep."""
    kind: str
    """Shape of the load: closed, open, ramp, trace, sessions."""
    point: str
    """What tells the point from others of its sweep, in words."""
    value: float
    """The same as a number: users, requests per second, speed."""
    load: str
    """What all points of the sweep have in common, in words."""
    requests: str = ""
    """Hash of what single requests are like and of their route: points with the same one differ in how many come at
    once. Empty in reports from before it was kept."""
    num_planned: int
    """Runs that the plan holds, repeats times launches."""
    request_per_s: Spread | None
    """Requests that ended well per second."""
    input_tok_per_s: Spread | None
    """Prompt tokens per second."""
    output_tok_per_s: Spread | None
    """Reply tokens per second."""
    total_tok_per_s_per_gpu: float | None
    """Prompt and reply tokens per second over the GPUs of a node, of the medians; None without GPUs."""
    output_tok_per_s_per_gpu: float | None
    """Reply tokens per second over the GPUs of a node, of the median; None without GPUs."""
    output_price_per_million_tokens: float | None
    """Price of the node for the time that a million reply tokens take; None without a price."""
    tok_per_s_per_user: Spread | None
    """Tokens per second that one user sees: one over the median time per output token."""
    ttft_p50_s: Spread | None
    """Median time to first token."""
    ttft_p99_s: Spread | None
    """Its 99th percentile. None of these where one run's falls on a request that failed."""
    tpot_p50_s: Spread | None
    """Median time per output token."""
    tpot_p99_s: Spread | None
    """Its 99th percentile."""
    longest_gap_p99_s: Spread | None
    """99th percentile of the longest silence of a request."""
    e2e_p50_s: Spread | None
    """Median end-to-end time."""
    e2e_p99_s: Spread | None
    """Its 99th percentile."""
    good_fraction: Spread | None
    """Share of the sent requests that kept the SLO; None without one."""
    good_request_per_s: Spread | None
    """Requests per second that kept the SLO."""
    mean_concurrency: Spread | None
    """Requests under way, by the client."""
    mean_running: Spread | None
    """Requests in the running batch, by the server."""
    mean_queued: Spread | None
    """Requests in the server's queue, by the server."""
    num_requests: int
    """Requests in the steady parts of all runs."""
    on_front: bool = False
    """True: no other point of any target has both more tokens per second per GPU and more per user."""
    runs: tuple[LoadRunRow, ...]
    """The runs, by launch and repeat."""
    findings: tuple[str, ...] = ()
    """Codes of the findings about this point, red ones first."""
    red: bool = False
    """True: one of them is red."""


class LoadRatioRow(Record):
    """One point of a serving sweep on two targets: ratios target / baseline over their runs."""

    baseline: str
    """Target that is divided by."""
    target: str
    """Target that is divided."""
    sweep: str
    """Name of the sweep."""
    point: str
    """The point, in words."""
    output_throughput: Ratio | None
    """Reply tokens per second; above 1 is better in a closed loop, and says nothing at a given rate."""
    ttft_p50: Ratio | None
    """Median time to first token; below 1 is better."""
    tpot_p50: Ratio | None
    """Median time per output token; below 1 is better."""
    e2e_p50: Ratio | None
    """Median end-to-end time; below 1 is better."""
    findings: tuple[str, ...] = ()
    """Codes of the findings about either side's point. Where one of them is red there are no ratios."""


class ProbeRow(Record):
    """One probe of a search."""

    number: int
    """Its number, from 0."""
    role: Literal["bracket", "bisect", "confirm"]
    """What it was for."""
    again: bool = False
    """It stands in place of a probe that said nothing."""
    value: float
    """What was tried."""
    result: Literal["held", "broke", "short", "void"]
    """What it says: the SLO was kept or broken; too little was measured; nothing."""
    reason: str
    """Why."""
    run: LoadRunRow
    """Its run."""


class SearchRow(Record):
    """One search on one target."""

    target: str
    """Name of the target."""
    sweep: str
    """Name of the search."""
    over: Literal["rate", "concurrency"]
    """What was searched."""
    load: str
    """The load in words."""
    slo: Slo
    """What was to be kept."""
    found: float | None
    """Highest value that kept it, confirmed with other arrivals and prompts; None = none, or not known."""
    broke_at: float | None
    """Lowest value that broke it; None = none did."""
    ended: bool
    """False: the search was cut off; `--resume` goes on."""
    reason: str
    """How it ended, in words."""
    probes: tuple[ProbeRow, ...]
    """The curve: all probes, in the order in which they were made."""

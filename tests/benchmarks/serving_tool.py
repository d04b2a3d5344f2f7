"""raybench's load client beside `sglang.bench_serving` on a live server: the same requests, the same definitions.

    python tests/benchmarks/serving_tool.py --url URL --engine-python PATH --tokenizer FOLDER
        [--concurrency 1,8,32,128,256] [--input-tokens 1024] [--output-tokens 128] [--range-ratio 0.5] [--rounds 8]
        [--min-requests 32] [--pairs 2] [--out FILE.json]

The tool runs unmodified in the engine's interpreter, on its data set of random ids, which it sends as token ids. It
is listened to at three places: the requests that it made, the start of its clock, and its outputs. raybench's client
then sends the same bodies, dealt out to as many users by length, as the tool's one queue deals them: who is free first
takes the next. Lengths are uniform from half of those given: with fixed ones all users march in step, and the server's
batches follow the order in which a client happens to send. Both sides'
figures are computed here, by one definition, while all users are busy: output throughput, and TPOT = (end - first
token) / (tokens - 1) of each request sent in that time. Runs go tool, ours, ours, tool, all four with the same requests
(a drift of the server favours neither), each on an empty prefix cache; a first, shorter pair warms up, not counted.
Each ratio comes with the 95% interval of its mean over the pairs: where that is wider than the margin, the server's
own noise decides what is printed, not the clients. A client is called saturated from 90% of a CPU on, ours
also by its own rule (`client_saturated`). The tool goes by text: where a token has none (random weights choose ids
that a tokenizer does not know; `raybench models make` gives every id one), it counts the first token late, or not at
all.
"""

import argparse
import asyncio
import heapq
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine_tool import EngineTool

from raybench.client.columns import OK, LoadColumns
from raybench.client.drive import flush_cache
from raybench.client.execute import ExecutorSettings
from raybench.client.planned import PlannedRequest
from raybench.client.serve import num_processes
from raybench.client.stream import Connection, Endpoint
from raybench.client.workers import run_load
from raybench.validity.client import MAX_CPU_FRACTION, client_findings

LIMIT_S = 600.0
MARGIN_FRACTION = 0.02
NAMES = ("tool", "ours")

TOOL = """
import json, sys, time
from sglang.benchmark import serving

folder, seen = sys.argv[1], {}
get_dataset, get_request, calculate_metrics = serving.get_dataset, serving.get_request, serving.calculate_metrics

def heard_dataset(*given, **named):
    seen["requests"] = get_dataset(*given, **named)
    return seen["requests"]

def heard_start(*given, **named):
    seen["start"] = (time.perf_counter(), time.process_time())
    return get_request(*given, **named)

def heard_outputs(*given, **named):
    wall_s, cpu_s = (now - then for now, then in zip((time.perf_counter(), time.process_time()), seen["start"]))
    outputs = named["outputs"]
    content = {
        "cpu_fraction": cpu_s / wall_s,
        "requests": [[row.prompt, row.output_len] for row in seen["requests"]],
        "outputs": [[one.start_time, one.ttft, one.latency, one.output_len] for one in outputs if one.success],
        "num_failed": sum(not one.success for one in outputs),
    }
    with open(folder + "/said.json", "w") as file:
        json.dump(content, file)
    return calculate_metrics(*given, **named)

serving.get_dataset, serving.get_request, serving.calculate_metrics = heard_dataset, heard_start, heard_outputs
print("@ready", flush=True)
for line in sys.stdin:
    sys.argv = ["bench_serving", *json.loads(line)]
    serving.cli_main()
    print("@ready", flush=True)
"""


class Tool:
    """The tool in the engine's own interpreter, imported once."""

    def __init__(self, python: str, url: str, tokenizer: str, range_ratio: float, folder: Path) -> None:
        self._url, self._tokenizer, self._folder, self._range_ratio = url, tokenizer, folder, range_ratio
        self._child = EngineTool(python, TOOL, folder)

    def run(self, load: tuple[int, int, int, int], seed: int) -> dict[str, Any]:
        """One run of (concurrency, requests, prompt tokens, reply tokens): what it sent, and what it saw."""
        concurrency, num, input_tokens, output_tokens = load
        words = [
            "--backend", "sglang", "--base-url", self._url, "--model", self._tokenizer,
            "--tokenizer", self._tokenizer, "--dataset-name", "random-ids", "--tokenize-prompt",
            "--random-input-len", str(input_tokens), "--random-output-len", str(output_tokens),
            "--random-range-ratio", str(self._range_ratio), "--num-prompts", str(num),
            "--max-concurrency", str(concurrency),
            "--warmup-requests", "0", "--disable-tqdm", "--seed", str(seed),
            "--output-file", str(self._folder / "rows.jsonl"),
        ]  # fmt: skip
        self._child.run(words)
        return json.loads((self._folder / "said.json").read_text())

    def close(self) -> None:
        """End it."""
        self._child.close()


def full_window(start: Any, first: Any, last: Any, concurrency: int) -> tuple[float, float]:
    """(from, to), seconds: from the first token of the slowest of the first streams until too few are in flight."""
    times = np.concatenate([start, last])
    order = np.lexsort((np.repeat([1, 0], len(start)), times))
    in_flight = np.cumsum(np.repeat([1, -1], len(start))[order])
    return float(first[np.argsort(start)[:concurrency]].max()), float(times[order][in_flight >= concurrency][-1])


def figures(rows: Sequence[Sequence[float]], concurrency: int) -> dict[str, float]:
    """Figures of requests given as (start, TTFT, latency, tokens), seconds, while all streams are busy."""
    start, ttft, latency, tokens = np.array(rows, dtype=np.float64).T
    first, last = start + ttft, start + latency
    since, until = full_window(start, first, last, concurrency)
    # Tokens of a request come evenly from its first to its last.
    share = (np.clip(until, first, last) - np.clip(since, first, last)) / np.maximum(last - first, 1e-9)
    inside = (start >= since) & (start <= until) & (tokens > 1)
    return {
        "output_tok_per_s": float((tokens * share).sum() / (until - since)),
        "median_tpot_s": float(np.median((latency - ttft)[inside] / (tokens[inside] - 1))),
        "median_ttft_s": float(np.median(ttft[inside])),
        "whole_run_tok_per_s": float(tokens.sum() / (last.max() - start.min())),
        "window_s": until - since,
        "num_inside": float(inside.sum()),
    }


def theirs(said: dict[str, Any], concurrency: int) -> dict[str, float]:
    """Figures of the tool's run."""
    if said["num_failed"]:
        raise SystemExit(f"{said['num_failed']} requests of the tool failed")
    busy = float(said["cpu_fraction"] >= MAX_CPU_FRACTION)
    return figures(said["outputs"], concurrency) | {
        "cpu_fraction": said["cpu_fraction"],
        "saturated": busy,
        "num_processes": 1,
    }


def ours(url: str, concurrency: int, requests: Sequence[tuple[list[int], int]]) -> dict[str, float]:
    """The same bodies through raybench's client, dealt out to as many users."""
    chains = dealt([output_tokens for _, output_tokens in requests], concurrency)
    planned = [
        PlannedRequest(index=number, due_s=None, chain=chain, body=body_of(*request))
        for number, (request, chain) in enumerate(zip(requests, chains, strict=True))
    ]
    parts = num_processes(concurrency, len(os.sched_getaffinity(0)))
    run = run_load(planned, ExecutorSettings(url, num_connections=concurrency, request_timeout_s=LIMIT_S), parts)
    columns = run.columns
    if (columns.status != OK).any():
        raise SystemExit(f"{(columns.status != OK).sum()} of our requests failed: {list(columns.errors.values())[:1]}")
    red = any(finding.severity == "red" for finding in client_findings(run.processes, "", ""))
    busiest = max(one.cpu_fraction or 0.0 for one in run.processes)
    return figures(rows_of(columns), concurrency) | {
        "cpu_fraction": busiest, "saturated": float(red), "num_processes": len(run.processes),
        "cached_tokens": float(np.maximum(columns.cached_tokens, 0).sum()),
    }  # fmt: skip


def dealt(output_tokens: Sequence[int], concurrency: int) -> list[int]:
    """User of each request, taken in order by whoever has the least to generate so far.

    The tool has one queue. Dealt in turn instead, users end at different times, and the time in which all of them are
    busy ends well before the tool's: with 256 users of 5 requests each at three quarters of the run.
    """
    free = [(0, user) for user in range(concurrency)]
    chains: list[int] = []
    for tokens in output_tokens:
        busy, user = heapq.heappop(free)
        heapq.heappush(free, (busy + tokens, user))
        chains.append(user)
    return chains


def body_of(ids: list[int], output_tokens: int) -> bytes:
    """What the tool sends of a request."""
    content = {
        "input_ids": ids, "stream": True, "lora_path": None, "return_logprob": False, "logprob_start_len": -1,
        "sampling_params": {"temperature": 0.0, "max_new_tokens": output_tokens, "ignore_eos": True},
    }  # fmt: skip
    return json.dumps(content).encode()


def rows_of(columns: LoadColumns) -> list[tuple[float, float, float, float]]:
    """Requests as (start, TTFT, latency, tokens), seconds."""
    start = columns.sent_ns * 1e-9
    ttft, latency = columns.first_ns * 1e-9 - start, columns.end_ns * 1e-9 - start
    return list(zip(start.tolist(), ttft.tolist(), latency.tolist(), columns.output_tokens.tolist(), strict=True))


async def emptied(url: str) -> None:
    """Wait until the server is idle and empty its prefix cache."""
    endpoint = Endpoint.of(url, None)
    connection = await Connection.open(endpoint, LIMIT_S)
    try:
        if unflushed := await flush_cache(connection, endpoint, 60):
            raise SystemExit(unflushed.reason)
    finally:
        connection.close()


def spread(values: Sequence[float]) -> float:
    """How far repeats of one client are apart, as a share: below it no difference between two clients is told."""
    return max(values) / min(values) - 1


def interval(pairs: Sequence[tuple[float, float]]) -> str:
    """95% interval of the mean ratio, ours over tool, of pairs (tool, ours), by their logarithms."""
    if len(pairs) < 2:
        return "one pair"
    logs = np.log([ours / tool for tool, ours in pairs])
    half = float(student_t.ppf(0.975, len(logs) - 1)) * float(logs.std(ddof=1)) / len(logs) ** 0.5
    low, high = np.exp(logs.mean() + np.array([-half, half]))
    return f"{low:.3f} to {high:.3f}"


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The table: medians over the pairs, ratios ours over tool, whether both agree where neither is saturated."""
    yield (
        "| streams | requests | tool tok/s | ours tok/s | ratio | 95% | tool TPOT ms | ours TPOT ms | ratio | 95% | "
        "tool TTFT ms | ours TTFT ms | tool CPU | ours CPU | tool repeats | ours repeats | saturated | within 2% |"
    )
    yield "| ---: " * 16 + "| :--- | :--- |"
    for streams in dict.fromkeys(row["concurrency"] for row in rows):
        here = [row for row in rows if row["concurrency"] == streams]

        def both(name: str, here: list[dict[str, Any]] = here) -> list[float]:
            return [median(row[name] for row in here if row["client"] == client) for client in NAMES]

        def paired(name: str, here: list[dict[str, Any]] = here) -> list[tuple[float, float]]:
            values = {(row["pair"], row["client"]): row[name] for row in here}
            return [(values[pair, "tool"], values[pair, "ours"]) for pair in dict.fromkeys(row["pair"] for row in here)]

        (tool_rate, our_rate), (tool_tpot, our_tpot) = both("output_tok_per_s"), both("median_tpot_s")
        (tool_ttft, our_ttft), (tool_cpu, our_cpu) = both("median_ttft_s"), both("cpu_fraction")
        rate, tpot = our_rate / tool_rate, our_tpot / tool_tpot
        tool_spread, our_spread = (spread([r["output_tok_per_s"] for r in here if r["client"] == c]) for c in NAMES)
        busy = [client for client in NAMES if any(row["saturated"] for row in here if row["client"] == client)]
        within = abs(rate - 1) <= MARGIN_FRACTION and abs(tpot - 1) <= MARGIN_FRACTION
        yield (
            f"| {streams} | {here[0]['num_requests']} | {tool_rate:,.1f} | {our_rate:,.1f} | {rate:.4f} | "
            f"{interval(paired('output_tok_per_s'))} | {1e3 * tool_tpot:.3f} | {1e3 * our_tpot:.3f} | {tpot:.4f} | "
            f"{interval(paired('median_tpot_s'))} | {1e3 * tool_ttft:.1f} | "
            f"{1e3 * our_ttft:.1f} | {tool_cpu:.0%} | {our_cpu:.0%} | {tool_spread:.1%} | "
            f"{our_spread:.1%} | {', '.join(busy) or 'neither'} | "
            f"{'yes' if within else 'saturated' if busy else 'NO'} |"
        )


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--concurrency", default="1,8,32,128,256")
    parser.add_argument("--input-tokens", type=int, default=1024)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--range-ratio", type=float, default=0.5, help="lengths are uniform from this share of them")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--min-requests", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    said: dict[str, Any] = {"requests": []}
    our_row: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        tool = Tool(given.engine_python, given.url, given.tokenizer, given.range_ratio, Path(folder))
        try:
            for streams in map(int, given.concurrency.split(",")):
                rounds = max(given.rounds, -(-given.min_requests // streams))
                for pair in range(given.pairs + 1):
                    num = streams * (rounds if pair else 2)
                    load = (streams, num, given.input_tokens, given.output_tokens)
                    # Pairs 1 and 2 send the same requests, and so on: their seed is one.
                    seed = 1000 * streams + (pair + 1) // 2
                    if ours_first := pair > 0 and pair % 2 == 0:
                        asyncio.run(emptied(given.url))
                        our_row = ours(given.url, streams, said["requests"])
                    before = said["requests"]
                    asyncio.run(emptied(given.url))
                    said = tool.run(load, seed)
                    if not ours_first:
                        asyncio.run(emptied(given.url))
                        our_row = ours(given.url, streams, said["requests"])
                    elif said["requests"] != before:
                        raise SystemExit("the tool made other requests of the same seed")
                    found = (theirs(said, streams), our_row)
                    known = {"concurrency": streams, "num_requests": num, "pair": pair}
                    rows += [known | {"client": name} | row for name, row in zip(NAMES, found, strict=True) if pair]
                    print(f"  {streams} streams, pair {pair}: " + " against ".join(
                        f"{name} {row['output_tok_per_s']:,.1f} tok/s, {1e3 * row['median_tpot_s']:.3f} ms"
                        for name, row in zip(NAMES, found, strict=True)
                    ), file=sys.stderr, flush=True)  # fmt: skip
        finally:
            tool.close()
            if given.out:
                given.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    main()

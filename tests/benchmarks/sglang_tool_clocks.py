"""raybench beside SGLang's `bench_one_batch_server` on a live server: same request bodies, both clocks.

    python tests/benchmarks/sglang_tool_clocks.py --url URL --engine-python PATH --tokenizer FOLDER
        [--batch-sizes 1,2,4,8,16,64] [--input-tokens 4096] [--output-tokens 512] [--pairs 3] [--out FILE.json]

The tool starts its clock before it encodes its request and connects; ours starts right before the first byte goes out.
So the tool runs unmodified but for two marks, when `requests.post` is called and when its first byte goes out, and
leaves the body that it sent. raybench's client then sends that body. The table shows the tool's TTFT by either clock.
Runs interleaved, tool first, then ours; a first pair of every batch size warms up and is not counted.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine_tool import EngineTool

from raybench.client.drive import flush_cache, pass_and_rows
from raybench.client.job import BatchJob
from raybench.client.stream import Connection, Endpoint
from raybench.client.transcript import Transcript
from raybench.records import OneBatchLoad, WarmUp
from raybench.stats.one_batch import figures

LIMIT_S = 600.0
MARGIN_S, MARGIN_FRACTION = 0.002, 0.02

TOOL = """
import http.client, json, sys, time
import requests
from sglang.benchmark import one_batch_server

folder, marks = sys.argv[1], {}
post, send = requests.post, http.client.HTTPConnection.send
request = requests.Session.send

def marked_post(url, **given):
    if url.endswith("/generate"):
        marks.clear()
        marks["called"] = time.perf_counter()
    return post(url, **given)

def marked_request(self, prepared, **given):
    if prepared.url.endswith("/generate"):
        marks["body"] = prepared.body
    return request(self, prepared, **given)

def marked_send(self, data):
    if "body" in marks and "first_byte" not in marks:
        marks["first_byte"] = time.perf_counter()
    return send(self, data)

requests.post, requests.Session.send, http.client.HTTPConnection.send = marked_post, marked_request, marked_send
print("@ready", flush=True)
for line in sys.stdin:
    sys.argv = ["one_batch_server", *json.loads(line)]
    one_batch_server.cli_main() if hasattr(one_batch_server, "cli_main") else one_batch_server.main()
    body = marks["body"]
    with open(folder + "/body", "wb") as file:
        file.write(body if isinstance(body, bytes) else body.encode())
    print("@ready", json.dumps({"lead_s": marks["first_byte"] - marks["called"]}), flush=True)
"""


class Tool:
    """The tool in the engine's own interpreter, imported once."""

    def __init__(self, python: str, url: str, tokenizer: str, folder: Path) -> None:
        self._url, self._tokenizer, self._folder = url, tokenizer, folder
        self._child = EngineTool(python, TOOL, folder)

    def run(self, load: OneBatchLoad) -> tuple[dict[str, float], bytes]:
        """One run: its row, with the lead of its clock, and the body that it sent."""
        rows = self._folder / "rows.jsonl"
        rows.unlink(missing_ok=True)
        words = [
            "--model-path", "None", "--base-url", self._url, "--tokenizer-path", self._tokenizer,
            "--batch-size", str(load.batch_size), "--input-len", str(load.input_tokens),
            "--output-len", str(load.output_tokens), "--dataset-name", "random-ids", "--skip-warmup",
            "--result-filename", str(rows), "--no-append-to-github-summary",
        ]  # fmt: skip
        lead = self._child.run(words)
        (row,) = [json.loads(line) for line in rows.read_text().splitlines()]
        found = {
            "latency_s": row["latency"], "last_ttft_s": row["last_ttft"], "output_tok_per_s": row["output_throughput"],
        }  # fmt: skip
        return found | lead, (self._folder / "body").read_bytes()

    def close(self) -> None:
        """End it."""
        self._child.close()


async def ours(url: str, load: OneBatchLoad, body: bytes) -> dict[str, float]:
    """The same body through raybench's client."""
    job = BatchJob(
        url=url, load=load, prompt_seed=0, vocab_tokens=1000, warm_up=WarmUp(max_passes=0), timeout_s=LIMIT_S
    )  # fmt: skip
    endpoint = Endpoint.of(url, None)
    request, transcript = endpoint.post("/generate", body), Transcript()
    connection = await Connection.open(endpoint, LIMIT_S)
    try:
        if unflushed := await flush_cache(connection, endpoint, 30):
            raise SystemExit(unflushed.reason)
        exchange = await connection.exchange(request, transcript.add, LIMIT_S)
    finally:
        connection.close()
    transcript.finish()
    measured, _ = pass_and_rows(job, exchange, transcript)
    if measured.error:
        raise SystemExit(measured.error)
    found = figures(measured, load)
    return {
        "latency_s": found.latency_s, "last_ttft_s": found.last_ttft_s or 0.0,
        "output_tok_per_s": found.output_tok_per_s or 0.0, "cached_tokens": float(measured.cached_tokens),
    }  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The table: medians, differences ours minus tool, and whether the TTFT is within max(2 %, 2 ms)."""
    yield (
        "| batch | output | latency | tool TTFT ms | clock leads by ms | ours ms | by the tool's clock | "
        "by the same clock | within |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | :--- |"
    for size in dict.fromkeys(row["batch_size"] for row in rows):

        def middle(client: str, name: str, size: int = size) -> float:
            return median(row[name] for row in rows if (row["client"], row["batch_size"]) == (client, size))

        tool_s, lead_s, our_s = middle("tool", "last_ttft_s"), middle("tool", "lead_s"), middle("ours", "last_ttft_s")
        output = middle("ours", "output_tok_per_s") / middle("tool", "output_tok_per_s") - 1
        latency = middle("ours", "latency_s") / (middle("tool", "latency_s") - lead_s) - 1
        difference_s = our_s - (tool_s - lead_s)
        within = abs(difference_s) <= max(MARGIN_FRACTION * (tool_s - lead_s), MARGIN_S)
        yield (
            f"| {size} | {output:+.2%} | {latency:+.2%} | {1000 * tool_s:.1f} | {1000 * lead_s:.2f} | "
            f"{1000 * our_s:.1f} | {1000 * (our_s - tool_s):+.2f} ms | {1000 * difference_s:+.2f} ms "
            f"({difference_s / (tool_s - lead_s):+.2%}) | {'yes' if within else 'NO'} |"
        )


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--batch-sizes", default="1,2,4,8,16,64")
    parser.add_argument("--input-tokens", type=int, default=4096)
    parser.add_argument("--output-tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        tool = Tool(given.engine_python, given.url, given.tokenizer, Path(folder))
        try:
            for size in map(int, given.batch_sizes.split(",")):
                load = OneBatchLoad(batch_size=size, input_tokens=given.input_tokens, output_tokens=given.output_tokens)
                for pair in range(given.pairs + 1):
                    theirs, body = tool.run(load)
                    mine = asyncio.run(ours(given.url, load, body))
                    if pair:
                        rows += [
                            {"client": client, "pair": pair, "batch_size": size} | row
                            for client, row in (("tool", theirs), ("ours", mine))
                        ]
        finally:
            tool.close()
            if given.out:
                given.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    main()

"""raybench's load client beside a bare reader and beside other load generators, all against a mock of known truth.

    python tests/benchmarks/load_client.py [--parts accuracy,shapes,open,stall,cost] [--rounds 3] [--peers FOLDER]

Prints one table a part, with the bound and whether it held; ends with 1 if a bound did not. Figures are medians over
rounds, runs interleaved (A B A B). A round in which the mock itself was late (its p99 over 5 ms: something else had the
machine) is repeated, at most `--patience` times. The mock runs beside the client on the same cores.

The cost part runs peers where FOLDER holds them, each in an environment of its own: `aiperf/` (aiperf==0.13.0),
`guidellm/` (guidellm==0.8.1), `sglang/` (aiohttp numpy requests tqdm transformers<5 pillow pybase64 datasets psutil
pyzmq) with SGLang's sources in `sglsrc/`, and a tokenizer in `tok/`. A peer that is missing is left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from raybench.client.calibrate import MockShape, closed_loop, compared, mock_body
from raybench.client.columns import OK
from raybench.client.execute import ExecutorSettings
from raybench.client.mock import Mock
from raybench.client.planned import CHAT, PlannedRequest
from raybench.client.workers import run_load
from raybench.validity.client import client_findings

PARTS = ("accuracy", "shapes", "open", "stall", "cost")
TURNOVERS = 6
LATE_S = 0.005
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Bench:
    """Rows and what did not hold."""

    rounds: int
    patience: int
    broken: list[str] = field(default_factory=list)

    def row(self, what: str, said: str, bound: str, held: bool) -> None:
        print(f"| {what} | {said} | {bound} | {'pass' if held else 'FAIL'} |", flush=True)
        if not held:
            self.broken.append(what)

    def head(self, title: str) -> None:
        print(f"\n{title}\n\n| what | measured | bound | |\n| --- | --- | --- | --- |", flush=True)

    def quiet(self, run: Callable[[], dict[str, float]]) -> dict[str, float]:
        """One undisturbed result, or the least disturbed one."""
        best = run()
        for _ in range(self.patience):
            if best["server_late_p99"] <= LATE_S:
                break
            best = min(best, run(), key=lambda result: result["server_late_p99"])
        return best


def ours(streams: int, pattern: str, shape: MockShape) -> dict[str, float]:
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s, chunk_tokens=shape.chunk_tokens, pattern=pattern) as mock:
        run = run_load(closed_loop(streams, TURNOVERS, shape), ExecutorSettings(mock.url, num_connections=streams))
        point = compared(run, mock.truth(), streams, pattern, shape)
    return {
        "ttft_mean_error": abs(point.ttft_mean_s.error),
        "ttft_p99_error": abs(point.ttft_p99_s.error),
        "ttft_p99": point.ttft_p99_s.said,
        "gap_p99_error": abs(point.gap_p99_s.error),
        "rate_error": abs(point.tok_per_s.error_fraction),
        "peak": point.peak_streams,
        "failed": point.num_failed,
        "server_late_p99": point.server_late_p99_s or 0.0,
    }


def bare(streams: int, pattern: str, shape: MockShape) -> dict[str, float]:
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s, pattern=pattern) as mock, tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out.json"
        subprocess.run(bare_command(mock, streams, shape, out), check=True)
        said, truth = json.loads(out.read_text()), mock.truth()
    steady = truth.rids >= streams
    true_s = (truth.emitted_ns[truth.starts[:-1]] - truth.arrived_ns)[steady] * 1e-9
    return {
        "ttft_mean_error": abs(float(np.mean(said["ttft_s"]) - true_s.mean())),
        "ttft_p99_error": abs(float(np.percentile(said["ttft_s"], 99) - np.percentile(true_s, 99))),
        "ttft_p99": float(np.percentile(said["ttft_s"], 99)),
        "server_late_p99": float(np.percentile(truth.late_ns, 99)) * 1e-9,
    }


def bare_command(mock: Mock, streams: int, shape: MockShape, out: Path) -> list[str]:
    numbers = (mock.port, streams, TURNOVERS, shape.output_tokens, shape.ttft_s, shape.itl_s)
    return [sys.executable, str(Path(__file__).with_name("bare_reader.py")), *map(str, numbers), str(out)]


def medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(result[name] for result in results) for name in results[0]}


def accuracy(bench: Bench) -> None:
    shape = MockShape()
    bench.head(f"Accuracy: TTFT 50 ms, ITL 10 ms, 64 tokens, medians of {bench.rounds} rounds, milliseconds")
    for streams, mean_ms, p99_ms in ((64, 1, 5), (256, 3, 5), (1024, 10, None)):
        for pattern in ("ticks", "steps"):
            mine, floor = [], []
            for _ in range(bench.rounds):
                mine.append(bench.quiet(lambda s=streams, p=pattern: ours(s, p, shape)))
                floor.append(bench.quiet(lambda s=streams, p=pattern: bare(s, p, shape)))
            m, f = medians(mine), medians(floor)
            name = f"{streams} streams, {pattern}"
            beside = f"(bare reader {f['ttft_mean_error'] * 1e3:.2f})"
            bench.row(f"{name}: mean TTFT error", f"{m['ttft_mean_error'] * 1e3:.3f} {beside}", f"{mean_ms}",
                      m["ttft_mean_error"] <= mean_ms * 1e-3)  # fmt: skip
            if p99_ms is not None:
                beside = f"(bare reader {f['ttft_p99_error'] * 1e3:.2f})"
                bench.row(f"{name}: p99 TTFT error", f"{m['ttft_p99_error'] * 1e3:.3f} {beside}", f"{p99_ms}",
                          m["ttft_p99_error"] <= p99_ms * 1e-3)  # fmt: skip
            else:
                beside = f"(bare reader {f['ttft_p99_error'] * 1e3:.1f})"
                bench.row(f"{name}: p99 TTFT error, steady", f"{m['ttft_p99_error'] * 1e3:.2f} {beside}", "30",
                          m["ttft_p99_error"] <= 0.030)  # fmt: skip
            if streams == 256 and pattern == "steps":
                bench.row(f"{name}: p99 gap error", f"{m['gap_p99_error'] * 1e3:.3f}", "1", m["gap_p99_error"] <= 1e-3)
            bench.row(f"{name}: streams seen by the mock, failures", f"{m['peak']:.0f}, {m['failed']:.0f}",
                      f"{streams}, 0", m["peak"] >= streams and m["failed"] == 0)  # fmt: skip
            print(f"  (mock late p99: ours {m['server_late_p99'] * 1e3:.1f}, bare {f['server_late_p99'] * 1e3:.1f} ms)")


def shapes(bench: Bench) -> None:
    bench.head("Other shapes: mean and p99 TTFT error, p99 gap error, milliseconds; throughput error")
    chat = MockShape(route=CHAT)
    for streams, shape in (
        (64, MockShape(ttft_s=0.02, itl_s=0.005, output_tokens=128)),
        (16, MockShape(ttft_s=0.02, itl_s=0.002, output_tokens=600)),
        (256, MockShape(ttft_s=0.2, itl_s=0.02, output_tokens=16)),
        (256, replace(chat, chunk_tokens=4)),
        (64, MockShape(ttft_s=0.5, itl_s=0.03, output_tokens=32, input_tokens=4096)),
        (1, replace(chat, output_tokens=32)),
    ):
        m = medians([bench.quiet(lambda s=streams, h=shape: ours(s, "steps", h)) for _ in range(bench.rounds)])
        mean_ms = 1 if streams <= 64 else 3
        bench.row(
            f"{streams} streams, TTFT {shape.ttft_s * 1e3:g}, ITL {shape.itl_s * 1e3:g}, {shape.input_tokens} in, "
            f"{shape.output_tokens} out by {shape.chunk_tokens}, {shape.route}",
            f"{m['ttft_mean_error'] * 1e3:.3f}, {m['ttft_p99_error'] * 1e3:.3f}, {m['gap_p99_error'] * 1e3:.3f}; "
            f"{m['rate_error']:.2%}",
            f"{mean_ms}, 5, 1; 2%; no error",
            m["ttft_mean_error"] <= mean_ms * 1e-3 and m["ttft_p99_error"] <= 5e-3 and m["gap_p99_error"] <= 1e-3
            and m["rate_error"] <= 0.02 and not m["failed"] and m["peak"] >= streams,
        )  # fmt: skip


def at_rate(rate: float, seconds: float, shape: MockShape) -> list[PlannedRequest]:
    due_s = np.cumsum(np.random.default_rng(7).exponential(1 / rate, round(rate * seconds)))
    return [PlannedRequest(i, float(t), None, mock_body(i, shape), shape.route) for i, t in enumerate(due_s)]


def open_loop(bench: Bench) -> None:
    shape = MockShape(output_tokens=16, input_tokens=32)
    bench.head("Open loop: Poisson arrivals, 16-token replies")
    shares = []
    for _ in range(3):
        with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s) as mock:
            run = run_load(at_rate(2000, 30, shape), ExecutorSettings(mock.url, num_connections=600))
            late_ns = np.asarray(mock.truth().late_ns)
        columns = run.columns
        late_s = (columns.sent_ns - columns.scheduled_ns) * 1e-9
        shares.append(float((late_s <= 0.002).mean()))
        print(
            f"  (2,000/s for 30 s: {shares[-1]:.2%} within 2 ms, p99.9 {np.percentile(late_s, 99.9) * 1e3:.2f} ms, "
            f"{(columns.status != OK).sum()} failed, client CPU {run.processes[0].cpu_fraction:.0%}, "
            f"mock late p99 {np.percentile(late_ns, 99) * 1e-6:.1f} ms)"
        )
    good = sum(share >= 0.99 for share in shares)
    said = ", ".join(f"{share:.2%}" for share in shares)
    bench.row("2,000 requests/s for 30 s: sent within 2 ms of schedule", said, "99% in 2 of 3 runs", good >= 2)
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s) as mock:
        settings = ExecutorSettings(mock.url, num_connections=600, sending_s=5, drain_s=2)
        run = run_load(at_rate(40_000, 5, shape), settings)
    codes = [finding.code for finding in client_findings(run.processes, "mock", "overload")]
    bench.row("40,000 requests/s: overload of the client is marked", ", ".join(codes) or "nothing", "client_saturated",
              "client_saturated" in codes)  # fmt: skip


def stall(bench: Bench) -> None:
    shape = MockShape(output_tokens=16, input_tokens=32)
    bench.head("The server stalls for 2 s in the middle of 60 s: p99 end-to-end latency, seconds")

    def p99_s(requests: list[PlannedRequest], sending_s: float | None, *, scheduled: bool) -> float:
        with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s, stall_at_s=30.0, stall_s=2.0) as mock:
            run = run_load(requests, ExecutorSettings(mock.url, num_connections=64, sending_s=sending_s))
        columns = run.columns
        begin = columns.scheduled_ns if scheduled else columns.sent_ns
        return float(np.percentile((columns.end_ns - begin)[columns.status == OK] * 1e-9, 99))

    open_s = p99_s(at_rate(80, 60, shape), None, scheduled=True)
    closed_s = p99_s(closed_loop(16, 400, shape), 60, scheduled=False)
    bench.row("open loop, 80/s, from schedule", f"{open_s:.2f}", "at least 1", open_s >= 1)
    bench.row("closed loop of 16 users: hides it", f"{closed_s:.2f}", "below 0.5", closed_s < 0.5)


# ------------------------------------------------------------------------------------------------------------ cost


def session_cpu_s(session: int) -> float:
    """CPU seconds of every process of a session, and of those that its members have waited for."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                total += sum(map(int, fields[11:15]))
    return total / TICK


def cost_of(command: Callable[[Mock, Path], list[str]], env: dict[str, str], tokens: int) -> dict[str, float]:
    """Tokens per CPU second of a client, between the mock's first request and its last token."""
    with (
        Mock(ttft_s=0.05, itl_s=0.01) as mock,
        tempfile.TemporaryDirectory() as name,
        (Path(name) / "log").open("wb") as log,
    ):
        samples: list[tuple[float, float]] = []
        ended = threading.Event()
        child = subprocess.Popen(
            command(mock, Path(name)), env=os.environ | env, cwd=name, stdout=log, stderr=log, start_new_session=True
        )

        def sample() -> None:
            while not ended.wait(0.05):
                samples.append((time.perf_counter(), session_cpu_s(child.pid)))

        thread = threading.Thread(target=sample)
        thread.start()
        code = child.wait(400)
        ended.set()
        thread.join()
        truth = mock.truth()
        if code or len(truth.emitted_ns) == 0:
            print("  " + (Path(name) / "log").read_text(errors="replace")[-600:].replace("\n", "\n  "))
            return {"tok_per_cpu_s": 0.0, "peak": 0, "server_late_p99": 0.0}
    first_s, last_s = truth.arrived_ns.min() * 1e-9, truth.emitted_ns.max() * 1e-9
    cpu_s = np.interp([first_s, last_s], *np.array(samples).T)
    return {
        "tok_per_cpu_s": truth.num_tokens / max(cpu_s[1] - cpu_s[0], 1e-3),
        "peak": truth.peak_streams,
        "server_late_p99": float(np.percentile(truth.late_ns, 99)) * 1e-9,
    }


def clients(peers: Path | None, streams: int) -> dict[str, tuple[Callable[[Mock, Path], list[str]], dict[str, str]]]:
    shape = MockShape(route=CHAT)
    num = str(streams * TURNOVERS)

    def raybench(mock: Mock, folder: Path) -> list[str]:
        return [sys.executable, str(Path(__file__)), "--child", mock.url, "--streams", str(streams)]

    def reader(mock: Mock, folder: Path) -> list[str]:
        return bare_command(mock, streams, shape, folder / "out.json")

    def sglang(mock: Mock, folder: Path) -> list[str]:
        return [
            f"{peers}/sglang/bin/python", "-m", "sglang.bench_serving", "--backend", "sglang-oai-chat", "--base-url",
            mock.url, "--model", "mock", "--tokenizer", f"{peers}/tok", "--dataset-name", "random-ids",
            "--random-input-len", "128", "--random-output-len", "64", "--random-range-ratio", "1", "--num-prompts", num,
            "--max-concurrency", str(streams), "--disable-tqdm", "--ready-check-timeout-sec", "0", "--warmup-requests",
            "0", "--output-file", str(folder / "out.jsonl"),
        ]  # fmt: skip

    def aiperf(mock: Mock, folder: Path) -> list[str]:
        return [
            f"{peers}/aiperf/bin/aiperf", "profile", "--model", "mock", "--tokenizer", f"{peers}/tok", "--url",
            mock.url, "--endpoint-type", "chat", "--streaming", "--concurrency", str(streams), "--request-count", num,
            "--isl", "128", "--osl", "64", "--ui-type", "none", "--use-server-token-count", "--no-gpu-telemetry",
            "--no-server-metrics", "--workers-max", "2", "--output-artifact-dir", str(folder),
        ]  # fmt: skip

    def guidellm(mock: Mock, folder: Path) -> list[str]:
        return [
            f"{peers}/guidellm/bin/guidellm", "run", "--backend", f"kind=openai_http,target={mock.url},model=mock",
            "--profile", f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={num}",
            "--tokenizer", f"kind=huggingface_auto,model={peers}/tok", "--data",
            "kind=synthetic_text,prompt_tokens=128,output_tokens=64", "--output", f"kind=json,path={folder}/out.json",
            "--disable-console-interactive",
        ]  # fmt: skip

    offline = {"HF_HUB_OFFLINE": "1"}
    found = {"raybench": (raybench, {}), "bare reader": (reader, {})}
    if peers is not None:
        others = {
            "sglang.bench_serving": (sglang, offline | {"PYTHONPATH": f"{peers}/sglsrc"}, "sglang"),
            "AIPerf": (aiperf, {}, "aiperf"),
            "GuideLLM": (guidellm, offline, "guidellm"),
        }
        found |= {name: (run, env) for name, (run, env, folder) in others.items() if (peers / folder).exists()}
    return found


def cost(bench: Bench, peers: Path | None) -> None:
    streams = 256
    bench.head(f"Output tokens per CPU second at {streams} streams, medians of {bench.rounds} rounds, and of ratios")
    found: dict[str, list[float]] = {}
    for _ in range(bench.rounds):
        for name, (command, env) in clients(peers, streams).items():
            result = cost_of(command, env, 64)
            found.setdefault(name, []).append(result["tok_per_cpu_s"])
            print(f"  ({name}: {result['tok_per_cpu_s']:,.0f}, peak {result['peak']:.0f}, mock late p99 "
                  f"{result['server_late_p99'] * 1e3:.1f} ms)", flush=True)  # fmt: skip
    bounds = {"sglang.bench_serving": 3.0, "AIPerf": 10.0, "GuideLLM": 15.0, "bare reader": 0.6}
    for name, values in found.items():
        if name in bounds:
            ratio = median(a / b if b else 0.0 for a, b in zip(found["raybench"], values, strict=True))
            said = f"{ratio:.2f} ({median(found['raybench']):,.0f} / {median(values):,.0f})"
            bench.row(f"raybench over {name}", said, f"{bounds[name]:g}", ratio >= bounds[name])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--streams", type=int, default=256, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        requests = closed_loop(given.streams, TURNOVERS, MockShape(route=CHAT))
        run_load(requests, ExecutorSettings(given.child, num_connections=given.streams))
        return 0
    bench = Bench(given.rounds, given.patience)
    print(f"{len(os.sched_getaffinity(0))} CPUs shared with the mock, load average {os.getloadavg()[0]:.1f}")
    for part in given.parts.split(","):
        match part:
            case "accuracy":
                accuracy(bench)
            case "shapes":
                shapes(bench)
            case "open":
                open_loop(bench)
            case "stall":
                stall(bench)
            case "cost":
                cost(bench, given.peers)
            case _:
                parser.error(f"--parts: {part!r} is none of {', '.join(PARTS)}")
    print(f"\n{len(bench.broken)} bounds did not hold" + "".join(f"\n  {what}" for what in bench.broken))
    return 1 if bench.broken else 0


if __name__ == "__main__":
    sys.exit(main())

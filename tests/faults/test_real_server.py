"""The real command on a real SGLang CPU server: what it measures, what SGLang's own tool says, and what kills do."""

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cli_runs import (
    CliRun,
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    finished,
    kill,
    num_prompts,
    of_kind,
    records,
    results,
    survivors,
)
from scipy.stats import quantile_test
from simulated_engines import request

from raybench.client.drive import generate_body, pass_and_rows
from raybench.client.job import BatchJob, MeasuredLine, WarmUpLine
from raybench.client.stream import Connection, Endpoint
from raybench.client.transcript import Transcript
from raybench.config.schema import Managed, ManagedEnvironment
from raybench.engine.environment import resolve
from raybench.engine.leftovers import left_overs
from raybench.node.clientrun import ClientRun
from raybench.process import child_environment
from raybench.records import OneBatchLoad, WarmUp
from raybench.stats.one_batch import figures

pytestmark = [pytest.mark.sglang, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

ENVIRONMENT = Managed(managed=ManagedEnvironment(version="0.5.21", device="cpu"))
ARGS = {"max-total-tokens": 65536, "dtype": "bfloat16", "enable-metrics": True}
NUM_PAIRS = 5
MOST_PAIRS = 15
AGREED = (0.9, 1.1)
"""Bounds of the median of the paired ratios."""
NUM_PASSES = 2
"""Passes of each side of a pair, the better of which counts (what disturbs only slows); one before them warms up."""
BATCH_SIZES = (1, 4, 16)
INPUT_TOKENS = 256
OUTPUT_TOKENS = 64

TOOL = """
import json, sys
from sglang.benchmark import one_batch_server

print("@ready", flush=True)
for line in sys.stdin:
    sys.argv = ["one_batch_server", *json.loads(line)]
    one_batch_server.cli_main()
    print("@ready", flush=True)
"""
"""SGLang's tool as its command runs it, imported once: its imports alone take ten seconds."""


NUM_UNITS = 2 * 2 + 64 // 4
"""Load points twice, and the 64 questions of sums in blocks of four."""


def write_config(path: Path, **changes: object) -> Path:
    content = {
        "name": path.stem,
        "model": {"path": "tiny:trained"},
        "targets": [{"name": "bf16", "accelerator": "CPU"}],
        "engine": {"kind": "sglang", "environment": ENVIRONMENT.model_dump(), "args": ARGS, "startup_timeout_s": 600},
        "perf": [{"batch_sizes": [1, 4], "input_tokens": 256, "output_tokens": 64, "repeats": 2}],
        "evals": [
            {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "baseline": 0.95, "gate": "published"}
        ],
        "publish": {"wandb": {"mode": "disabled"}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({k: v for k, v in (content | changes).items() if v is not None}))
    return path


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, cluster: str) -> Iterator[CliRun]:
    """A run that has done its work and holds its server."""
    folder = tmp_path_factory.mktemp("real")
    path = write_config(folder / "real.yaml")
    out = folder / "out"
    with cli_run(out, str(path), "--out", str(out), "--address", cluster, "--hold-servers") as run:
        run.until(lambda: "holding the servers" in run.output())
        yield run


@pytest.fixture(scope="module")
def url(held: CliRun) -> str:
    """URL of the held server."""
    return of_kind(held.records(), "engine")[0]["body"]["url"]


def prompts_served(url: str) -> int:
    """The server's own count."""
    _, text = request(url, "GET", "/metrics")
    lines = [line for line in text.decode().splitlines() if line.startswith("sglang:num_requests_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def test_one_command_measures_a_real_server_through_ray(held: CliRun, url: str) -> None:
    found = held.records()
    assert_each_attempt_ended_once(found)
    done = results(found)
    assert len(done) == NUM_UNITS
    for record in done:
        if record["body"]["kind"] == "perf":
            measured = record["body"]["measured"]
            assert measured["num_ok"] == measured["num_requests"]
            assert (measured["min_output_tokens"], measured["max_output_tokens"]) == (64, 64)
            assert measured["cached_tokens"] == 0
            assert (held.folder / "requests" / f"{record['key']}.parquet").is_file()
    samples = [record["body"] for record in of_kind(found, "sample")]
    assert len(samples) == 64
    assert {sample["status"] for sample in samples} == {"ok"}
    (engine,) = [record["body"] for record in of_kind(found, "engine")]
    assert (engine["engine"], engine["version"], engine["simulated"]) == ("sglang", "0.5.21", False)
    # Each prompt was sent once; SGLang itself sends one while it starts.
    assert prompts_served(url) == num_prompts(found) + 1


def test_our_figures_agree_with_sglangs_own_tool_on_the_same_server(url: str, tmp_path: Path) -> None:
    with SglangTool(url, tmp_path) as tool:
        ours(url, BATCH_SIZES[-1], 0, tmp_path)  # both sides find a warm server
        ratios = {size: paired_ratios(tool, url, size, tmp_path) for size in BATCH_SIZES}
    print("output throughput, ours / SGLang's:", ratios)
    assert {size: found for size, found in ratios.items() if disagree(found)} == {}


def paired_ratios(tool: "SglangTool", url: str, batch_size: int, folder: Path) -> list[float]:
    """Output throughput, ours over SGLang's, of interleaved pairs, of which every one counts.

    Five on a quiet machine, more while five do not settle where the median lies.
    """
    ratios: list[float] = []
    while len(ratios) < NUM_PAIRS or (len(ratios) < MOST_PAIRS and not settled(ratios)):
        theirs = tool.output_tok_per_s(batch_size, len(ratios))
        ratios.append(round(ours(url, batch_size, len(ratios), folder) / theirs, 3))
    return ratios


def settled(ratios: list[float]) -> bool:
    """The median's place is known: inside of both bounds, or outside of one."""
    low, high = AGREED
    return disagree(ratios) or (beyond(ratios, low, "greater") and beyond(ratios, high, "less"))


def disagree(ratios: list[float]) -> bool:
    """The median lies outside of the bounds, and not only by the machine's noise.

    A busy machine's ratios scatter by a factor of two, so that a median of 15 moves by a tenth on its own.
    """
    low, high = AGREED
    return beyond(ratios, low, "less") or beyond(ratios, high, "greater")


def beyond(ratios: list[float], bound: float, side: str) -> bool:
    """The true median lies on that side of a bound, by a sign test at 0.05."""
    return bool(quantile_test(ratios, q=bound, p=0.5, alternative=side).pvalue < 0.05)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.0, 1.02, 0.98, 1.01, 1.05], False),
        ([1.12, 1.13, 1.12, 1.11, 1.14], True),
        ([0.88, 0.87, 0.86, 0.89, 0.85], True),
        ([0.6, 1.3, 1.3, 1.1, 1.1, 0.9, 1.6, 1.2, 1.104, 1.1, 0.9, 1.5, 1.2, 1.0, 1.1], False),
        ([1.2, 1.3, 1.3, 1.15, 1.25, 0.9, 1.6, 1.2, 1.2, 1.15, 0.9, 1.5, 1.2, 1.0, 1.2], True),
    ],
)
def test_what_counts_as_disagreement(ratios: list[float], expected: bool) -> None:
    assert disagree(ratios) is expected


def ours(url: str, batch_size: int, seed: int, folder: Path) -> float:
    """Output throughput by our client, in its own process as a node runs it: the best of its last passes."""
    client = ClientRun(batch_job(url, batch_size, seed), folder, 300, "run-of-a-test")
    try:
        passes = [line.result for line in client.lines() if isinstance(line, WarmUpLine | MeasuredLine)]
    finally:
        client.close()
    assert [one.error for one in passes] == [None] * (NUM_PASSES + 1)
    found = [figures(one, load(batch_size)).output_tok_per_s or 0.0 for one in passes]
    return max(found[-NUM_PASSES:])


def load(batch_size: int) -> OneBatchLoad:
    return OneBatchLoad(batch_size=batch_size, input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)


def batch_job(url: str, batch_size: int, seed: int) -> BatchJob:
    return BatchJob(
        url=url, load=load(batch_size), prompt_seed=seed, vocab_tokens=4096,
        warm_up=WarmUp(max_passes=NUM_PASSES, tolerance_fraction=1e-9), timeout_s=300,
    )  # fmt: skip


class SglangTool:
    """`python -m sglang.benchmark.one_batch_server` of the managed environment, ready to be run again and again."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        _, info = request(url, "GET", "/server_info")
        self._tokenizer = json.loads(info)["tokenizer_path"]
        interpreter = resolve(ENVIRONMENT, lambda line: None)
        env = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | dict(interpreter.extra_env)
        self._log = (folder / "tool.log").open("wb")
        self._child = subprocess.Popen(
            [str(interpreter.python), "-c", TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env=child_environment(env), cwd=folder, text=True,
        )  # fmt: skip

    def __enter__(self) -> "SglangTool":
        self._until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()
        self._log.close()

    def _until_ready(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith("@ready"):
                return
        raise AssertionError((self._folder / "tool.log").read_text()[-4000:])

    def output_tok_per_s(self, batch_size: int, number: int) -> float:
        """Output throughput by one run of the tool: the best of its last passes."""
        file = self._folder / f"tool-{batch_size}-{number}.jsonl"
        words = [
            "--model-path", "None", "--base-url", self._url, "--tokenizer-path", self._tokenizer,
            "--batch-size", *[str(batch_size)] * (NUM_PASSES + 1), "--input-len", str(INPUT_TOKENS), "--output-len",
            str(OUTPUT_TOKENS), "--dataset-name", "random-ids", "--skip-warmup", "--seed", str(number),
            "--result-filename", str(file), "--no-append-to-github-summary",
        ]  # fmt: skip
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(words) + "\n")
        self._child.stdin.flush()
        self._until_ready()
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert [row["batch_size"] for row in rows] == [batch_size] * (NUM_PASSES + 1)
        return max(row["output_throughput"] for row in rows[-NUM_PASSES:])


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_both_formulas_agree_on_one_captured_stream(url: str, batch_size: int) -> None:
    job = batch_job(url, batch_size, seed=99)
    pieces: list[tuple[int, bytes]] = []

    async def capture():
        endpoint = Endpoint.of(url, None)
        connection = await Connection.open(endpoint, 30)
        sent = endpoint.post("/generate", generate_body(job, 0))
        exchange = await connection.exchange(sent, lambda t_ns, piece: pieces.append((t_ns, piece)), 300)
        connection.close()
        return exchange

    exchange = asyncio.run(capture())
    assert exchange.ending == "whole"
    transcript = Transcript()
    for t_ns, piece in pieces:
        transcript.add(t_ns, piece)
    transcript.finish()
    measured, _ = pass_and_rows(job, exchange, transcript)
    mine = figures(measured, job.load)

    # SGLang's: the last of the first tokens, the end of the stream, and all tokens between the two.
    rest, first_s, tokens, end_s = b"", dict[int, float](), dict[int, int](), 0.0
    for t_ns, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line == b"data: [DONE]":
                end_s = (t_ns - exchange.sent_ns) / 1e9
            elif line.startswith(b"data:"):
                chunk = json.loads(line[5:])
                tokens[chunk["index"]] = chunk["meta_info"]["completion_tokens"]
                first_s.setdefault(chunk["index"], (t_ns - exchange.sent_ns) / 1e9)
    assert tokens == dict.fromkeys(range(batch_size), OUTPUT_TOKENS)
    last_ttft_s = max(first_s.values())
    output_tok_per_s = batch_size * OUTPUT_TOKENS / (end_s - last_ttft_s)
    theirs = {
        "latency_s": end_s,
        "last_ttft_s": last_ttft_s,
        "input_tok_per_s": batch_size * INPUT_TOKENS / last_ttft_s,
        "output_tok_per_s": output_tok_per_s,
        "itl_ms": 1000 * batch_size / output_tok_per_s,
        "overall_tok_per_s": batch_size * (INPUT_TOKENS + OUTPUT_TOKENS) / end_s,
    }
    assert {name: getattr(mine, name) for name in theirs} == pytest.approx(theirs, rel=0.001)


def test_a_killed_driver_repeats_nothing_by_the_real_servers_own_count(url: str, tmp_path: Path, cluster: str) -> None:
    out = tmp_path / "out"
    path = write_config(tmp_path / "external.yaml", engine={"kind": "external", "url": url})
    words = [str(path), "--address", cluster]
    with cli_run(out, *words, "--out", str(out)) as run:
        run.until_done(2)
        run.send(signal.SIGKILL)
        run.wait()
        assert_none_survives(run.run_id)
    before = records(out)
    time.sleep(1)  # the server notices that the client of the unit under way is gone, and counts what it had begun
    served = prompts_served(url)
    code, output = finished(out, *words, "--resume", str(out))
    assert code == 0, output
    found = records(out)
    assert prompts_served(url) - served == num_prompts(found[len(before) :])
    assert_each_attempt_ended_once(found)
    assert len({record["key"] for record in results(found)}) == len(results(found)) == NUM_UNITS


@pytest.mark.parametrize("stop", [True, False])
def test_a_reply_limit_of_eight_tokens_is_named_truncation(stop: bool, url: str, tmp_path: Path, cluster: str) -> None:
    """What the report that this project grew from did not see: told by the preflight, and by the replies."""
    out = tmp_path / "out"
    evals = [
        {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 8}, "baseline": 0.95, "gate": "published",
         "concurrency": 8}
    ]  # fmt: skip
    changes: dict[str, object] = {"engine": {"kind": "external", "url": url}, "perf": None, "evals": evals}
    path = write_config(tmp_path / "short.yaml", **changes, preflight={"stop": stop})
    code, output = finished(out, str(path), "--out", str(out), "--address", cluster)
    assert code == 30, output
    report = json.loads((out / "report.json").read_text())
    [found] = report["diagnoses"]
    assert found["cause"] == "max_tokens", found
    assert found["change"] == "rerun with max_tokens 16"
    assert "DIAGNOSIS sums on bf16: max_tokens is too low" in output
    [row] = report["evals"]
    if stop:
        assert of_kind(records(out), "sample") == [], "no GPU time for replies that would be cut"
        return
    assert row["accuracy"]["gate"]["verdict"] == "INVALID"
    assert "truncated" in row["findings"] and "stopped_by_rule" in row["findings"]
    assert "truncated 100%" in found["sentence"]


def test_the_held_server_is_let_go_and_the_report_says_what_it_scored(held: CliRun) -> None:
    held.ctrl_c()
    assert held.wait() == 0, held.output()
    assert not survivors(held.run_id)
    report = json.loads((held.folder / "report.json").read_text())
    assert report["verdict"] == "VALID"
    (row,) = report["evals"]
    assert row["accuracy"]["counts"]["correct"] >= 60
    assert [perf["batch_size"] for perf in report["perf"]] == [1, 4]
    assert "bf16" in (held.folder / "report.md").read_text()


def scheduler_of(run_id: str) -> int:
    return next(left.pid for left in left_overs(run_id) if left.name.startswith("sglang::sched"))


def test_a_real_server_dies_in_parts_with_its_worker_and_while_it_starts(tmp_path: Path, cluster: str) -> None:
    out = tmp_path / "out"
    perf = [{"batch_sizes": [4], "input_tokens": 64, "output_tokens": 256, "repeats": 8}]
    path = write_config(tmp_path / "killed.yaml", perf=perf, evals=None)
    with cli_run(out, str(path), "--out", str(out), "--address", cluster) as run:
        run.until_done(1)
        worker = worker_of(run.run_id)
        # SGLang's main process answers for a moment after its scheduler is gone; the unit must not become a result.
        kill(scheduler_of(run.run_id))
        run.until(lambda: run.output().count("n0 bf16: SGLang is starting on port") == 2)
        failed = of_kind(run.records(), "unit_failed")
        # One was running; the one that waited behind it, if it was there already, is taken back.
        causes = [record["body"]["cause"] for record in failed]
        assert causes.count("engine_died") == 1 and set(causes) <= {"engine_died", "withdrawn"}, failed
        assert not any(record["body"]["given_up"] for record in failed)
        run.until(lambda: bool(guardians(run.run_id)))
        (guardian,) = guardians(run.run_id)
        kill(worker)
        began = time.monotonic()
        run.until(lambda: guardian not in guardians(run.run_id))
        print(f"the server of a killed worker was gone after {time.monotonic() - began:.2f} s")
        run.until(lambda: "n1 bf16: SGLang is starting on port" in run.output())
        run.ctrl_c()
        began = time.monotonic()
        assert run.wait() == 130, run.output()
        print(f"Ctrl-C during a start ended after {time.monotonic() - began:.2f} s")
        assert not survivors(run.run_id)
        output = run.output()
    assert "stopped by the user" in output
    assert "Traceback" not in output
    assert_each_attempt_ended_once(records(out))
    for record in results(records(out)):
        assert record["body"]["measured"]["num_ok"] == 4


def guardians(run_id: str) -> list[int]:
    return [left.pid for left in left_overs(run_id) if "guardian.py" in cmdline(left.pid)]


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def worker_of(run_id: str) -> int:
    """The Ray worker that runs the node: parent of the client."""
    while True:
        for left in left_overs(run_id):
            if "raybench.client" in cmdline(left.pid):
                return int(Path(f"/proc/{left.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"path": "/no/such/model"}}, "/no/such/model"),
        (
            {"engine": {"kind": "sglang", "environment": ENVIRONMENT.model_dump(), "args": {"no-such-flag": 1}}},
            "This SGLang version refuses --no-such-flag",
        ),
    ],
)
def test_what_sglang_refuses_is_named(changes, words, tmp_path: Path, cluster: str) -> None:
    out = tmp_path / "out"
    path = write_config(tmp_path / "refused.yaml", **changes)
    with cli_run(out, str(path), "--out", str(out), "--address", cluster) as run:
        assert run.wait() == 22, run.output()
        assert not survivors(run.run_id)
        output = run.output()
    assert words in output
    assert "Traceback (most recent call last)" not in output
    starts = [record for record in of_kind(records(out), "decision") if record["body"]["what"] == "engine_start_failed"]
    assert len(starts) == 1, "another try would end the same way"

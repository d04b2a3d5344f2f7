"""The process: file in, file out, exit codes, light imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

from simulated_engines import running, timing

from raybench.client.job import LINE, BatchJob, ChatJob, ClientDone, MeasuredLine, SampleLine
from raybench.records import Message, OneBatchLoad, SampleSpec, Sampling, WarmUp


def batch_job(url: str) -> BatchJob:
    return BatchJob(
        url=url, load=OneBatchLoad(batch_size=2, input_tokens=50, output_tokens=5), prompt_seed=1, vocab_tokens=500,
        warm_up=WarmUp(max_passes=1), timeout_s=60,
    )  # fmt: skip


def run_client(folder: Path, job: BatchJob | ChatJob) -> tuple[int, list[str], str]:
    (folder / "job.json").write_text(job.model_dump_json())
    argv = [sys.executable, "-m", "raybench.client", str(folder / "job.json"), str(folder / "out.jsonl")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    return done.returncode, (folder / "out.jsonl").read_text().splitlines(), done.stderr


def test_a_batch_job_ends_with_done(tmp_path: Path) -> None:
    with running(tmp_path, timing()) as (engine, _):
        code, lines, errors = run_client(tmp_path, batch_job(engine.url))
    parsed = [LINE.validate_json(line) for line in lines]
    assert [line.kind for line in parsed] == ["warm_up", "measured", "done"]
    assert isinstance(parsed[1], MeasuredLine)
    assert parsed[1].result.num_ok == 2
    assert parsed[1].flat is False
    assert parsed[-1] == ClientDone()
    assert (code, errors) == (0, "")


def test_a_chat_job_ends_with_done(tmp_path: Path) -> None:
    spec = SampleSpec(
        key="k", question="q", repeat=0, messages=(Message(role="user", content="?"),), gold="C", seed=1
    )  # fmt: skip
    with running(tmp_path, timing()) as (engine, _):
        job = ChatJob(
            url=engine.url, model="m", unit="u", target="t", eval="e", samples=(spec,),
            sampling=Sampling(temperature=0, max_tokens=100), concurrency=1, timeout_s=30,
        )  # fmt: skip
        code, lines, errors = run_client(tmp_path, job)
    parsed = [LINE.validate_json(line) for line in lines]
    assert isinstance(parsed[0], SampleLine)
    # Without an answer key the simulated engine knows nothing.
    assert (parsed[0].result.status, parsed[0].result.finish_reason) == ("ok", "stop")
    assert "I do not know" in (parsed[0].result.reply or "")
    assert parsed[1:] == [ClientDone()]
    assert (code, errors) == (0, "")


def test_a_dead_engine_is_said_in_done(tmp_path: Path) -> None:
    code, lines, errors = run_client(tmp_path, batch_job("http://127.0.0.1:1"))
    assert code == 25
    (done,) = [LINE.validate_json(line) for line in lines]
    assert isinstance(done, ClientDone)
    assert done.error is not None
    assert "cannot connect to 127.0.0.1:1" in done.error
    assert errors == ""


def test_a_batch_client_imports_nothing_heavy() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import raybench.client.__main__, sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    heavy = {"ray", "pandas", "numpy", "wandb", "openai", "datasets", "pyarrow"}
    assert not heavy & set(json.loads(loaded.stdout))

"""A load whose server was asked to be idle first: what is said of it when it was not."""

import asyncio
from pathlib import Path

import pytest
from canned_server import CUT, chunked, reply
from load_server import canned_in_thread

from raybench.client import serve
from raybench.client.job import LoadJob, LoadLine
from raybench.client.serve import run_serving
from raybench.records.loads import ClosedLoad

GOOD = chunked(
    b'data: {"text": "a", "meta_info": {"finish_reason": null, "prompt_tokens": 3, "completion_tokens": 1}}\n\n',
    b'data: {"text": "ab", "meta_info": {"finish_reason": {"type": "length"}, "prompt_tokens": 3, '
    b'"completion_tokens": 2}}\n\n',
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize(
    ("answer", "drained", "status"),
    [
        (reply(b"Cache flushed."), True, None),
        (reply(b"busy", 400), False, 400),
        (reply(b"what?", 404), False, 404),
        (CUT, False, None),
    ],
)
def test_a_load_says_why_its_server_was_not_idle(
    answer: bytes, drained: bool, status: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "DRAIN_LIMIT_S", 0.3)
    lines: list[LoadLine] = []
    with canned_in_thread([GOOD], routes={"/flush_cache": answer}) as server:
        job = LoadJob(
            url=server.url, model="m", load=ClosedLoad(concurrency=2, input_tokens=3, output_tokens=2, turnovers=1),
            arrival_seed=1, prompt_seed=2, vocab_tokens=1000, timeout_s=10,
        )  # fmt: skip
        asyncio.run(run_serving(job, tmp_path, lines.append))
    (line,) = lines
    assert (line.drained, line.flush_status) == (drained, status)
    assert line.figures.statuses == {"ok": line.figures.num_requests}

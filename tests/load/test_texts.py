"""Prompts of real text: read, told apart, sent by every route."""

from pathlib import Path

import pytest

from raybench.client.job import LoadJob
from raybench.client.serve import body_of
from raybench.errors import ConfigError
from raybench.load.schedules import schedule_of
from raybench.load.texts import read_texts
from raybench.records import LoadRoute
from raybench.records.loads import ClosedLoad, OpenLoad

TEXTS = ("Tell me of the sea.", "And of the moon?")


def test_texts_are_lines_or_json(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('A plain line\n\n{"text": "a text"}\n{"prompt": "a prompt"}\n{"other": 1}\n{ no json\n')
    assert read_texts(file) == ("A plain line", "a text", "a prompt", "{ no json")


def test_a_file_without_prompts_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="holds no prompt"):
        read_texts(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_texts(tmp_path / "none")


def test_no_two_requests_begin_alike() -> None:
    load = ClosedLoad(concurrency=8, input_tokens=1, output_tokens=4, turnovers=5, texts=TEXTS)
    texts = [request.text or "" for request in schedule_of(load, 1, 2).requests]
    assert len({text[:8] for text in texts}) == len(texts) == 56
    assert {text[17:] for text in texts} == set(TEXTS)
    assert texts != [request.text for request in schedule_of(load, 1, 3).requests]


@pytest.mark.parametrize(("route", "where"), [("generate", "text"), ("completions", "prompt"), ("chat", "messages")])
def test_texts_go_by_every_route(route: LoadRoute, where: str) -> None:
    load = OpenLoad(rate_per_s=5, duration_s=2, input_tokens=1, output_tokens=4, texts=TEXTS)
    job = LoadJob(
        url="http://localhost:1", model="m", load=load, arrival_seed=1, prompt_seed=2, route=route, vocab_tokens=500,
        timeout_s=9,
    )  # fmt: skip
    (request, *_) = schedule_of(load, 1, 2).requests
    body = body_of(request, job)
    sent = body[where]
    text = sent[0]["content"] if isinstance(sent, list) else sent
    assert text == request.text
    assert "input_ids" not in body

"""Chat jobs: every sample ends as a record; transport is retried and counted, content never."""

import asyncio
import json
from pathlib import Path

import pytest
from canned_server import CUT, HANG, CannedServer, canned, reply
from simulated_engines import running, timing

from raybench.client.chat import run_chat
from raybench.client.job import ChatJob, SampleLine
from raybench.config.schema import FaultConfig
from raybench.records import Message, SampleRecord, SampleSpec, Sampling, prompt_hash

SAMPLING = Sampling(
    temperature=0.7, top_p=0.8, top_k=20, min_p=0.01, presence_penalty=0.1, frequency_penalty=0.2,
    repetition_penalty=1.05, max_tokens=321,
)  # fmt: skip

Asked = tuple[list[SampleRecord], CannedServer]


def spec(number: int, gold: str = "70") -> SampleSpec:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content=f"Question {number}?"))
    return SampleSpec(
        key=f"k{number}", question=f"q{number}", repeat=0, messages=messages, gold=gold, seed=1000 + number,
        letter_order=(3, 1, 0, 2),
    )  # fmt: skip


def job(url: str, num_samples: int = 1, **changes: object) -> ChatJob:
    fields: dict[str, object] = {
        "url": url, "api_key": "sk-secret", "model": "owner/model", "unit": "u1", "target": "h200", "eval": "aime25",
        "samples": tuple(spec(number) for number in range(num_samples)), "sampling": SAMPLING, "concurrency": 4,
        "timeout_s": 20,
    }  # fmt: skip
    return ChatJob.model_validate(fields | changes)


def completion(content: str | None = "70", finish_reason: str = "stop", usage: object = "default") -> bytes:
    if usage == "default":
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 2},
        }
    body: dict[str, object] = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
    }  # fmt: skip
    return reply(body)


def ask(chat_job: ChatJob) -> list[SampleRecord]:
    lines: list[SampleLine] = []
    asyncio.run(run_chat(chat_job, lines.append, first_backoff_s=0.01))
    return [line.result for line in lines]


def ask_canned(
    answers: list[bytes], pause_s: float = 0.0, **changes: object
) -> tuple[list[SampleRecord], CannedServer]:
    async def all_samples() -> tuple[list[SampleRecord], CannedServer]:
        lines: list[SampleLine] = []
        async with canned(answers, pause_s) as server:
            await run_chat(job(server.url, **changes), lines.append, first_backoff_s=0.01)
        return [line.result for line in lines], server

    return asyncio.run(all_samples())


def test_every_sampling_field_is_sent_and_the_proof_is_of_what_was_sent() -> None:
    (record,), server = ask_canned([completion()])
    (body,) = server.bodies()
    head, _ = server.requests[0]
    assert head.startswith("POST /v1/chat/completions ")
    assert "Bearer sk-secret" in head
    assert "x-raybench-eval: aime25" in head.lower()
    assert body.pop("stream", False) is False
    assert body == {
        "model": "owner/model", "messages": [turn.model_dump() for turn in spec(0).messages], "seed": 1000,
        **SAMPLING.model_dump(),
    }  # fmt: skip
    assert record.prompt_sha256 == prompt_hash(spec(0).messages)


def test_a_good_answer() -> None:
    (record,), _ = ask_canned([completion()])
    assert (record.status, record.reply, record.finish_reason, record.error) == ("ok", "70", "stop", None)
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (9, 4, 2)
    assert (record.key, record.unit, record.target, record.eval) == ("k0", "u1", "h200", "aime25")
    assert (record.question, record.gold, record.letter_order, record.seed) == ("q0", "70", (3, 1, 0, 2), 1000)
    assert record.num_transport_retries == 0
    assert record.duration_s > 0


@pytest.mark.parametrize("content", [None, ""])
def test_no_text_and_empty_text_are_kept_apart_and_not_asked_again(content: str | None) -> None:
    (record,), server = ask_canned([completion(content, "length")])
    assert (record.status, record.reply, record.finish_reason) == ("ok", content, "length")
    assert len(server.requests) == 1


def test_an_answer_without_usage() -> None:
    (record,), _ = ask_canned([completion(usage=None)])
    assert (record.status, record.prompt_tokens, record.output_tokens, record.cached_tokens) == ("ok", None, None, None)


@pytest.mark.parametrize(
    "faults",
    [
        [reply({"error": "full"}, 503)],
        [reply({"error": "slow down"}, 429), reply({"error": "broken"}, 500)],
        [CUT, CUT, CUT],
        [CUT, reply({}, 502), reply({}, 504), reply({}, 408)],
    ],
)
def test_transport_faults_are_retried_and_counted(faults: list[bytes]) -> None:
    (record,), server = ask_canned([*faults, completion()])
    assert (record.status, record.reply, record.num_transport_retries) == ("ok", "70", len(faults))
    assert len(server.requests) == len(faults) + 1


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (reply({"error": "full"}, 503), "http_error", "HTTP 503"),
        (CUT, "cut", "connection"),
    ],
)
def test_retries_are_bounded(answer: bytes, status: str, said: str) -> None:
    (record,), server = ask_canned([answer], max_transport_retries=2)
    assert (record.status, record.reply, record.num_transport_retries) == (status, None, 2)
    assert len(server.requests) == 3
    assert record.error is not None
    assert said in record.error


def test_a_request_that_runs_into_its_limit_is_not_drawn_again() -> None:
    (record,), server = ask_canned([HANG, completion()], timeout_s=0.3)
    assert (record.status, record.reply, record.num_transport_retries) == ("timeout", None, 0)
    assert len(server.requests) == 1
    assert record.resent_after_s is None
    assert record.error is not None
    assert "no reply" in record.error


def test_tries_that_were_cut_may_not_spend_more_than_the_limit_of_a_sample_in_all() -> None:
    (record,), server = ask_canned([CUT], pause_s=0.6, timeout_s=1.0, max_transport_retries=20)
    assert record.status == "cut"
    assert record.num_transport_retries == len(server.requests) - 1 == 1


def test_the_longest_try_that_failed_is_kept_whatever_became_of_the_sample() -> None:
    (record,), _ = ask_canned([CUT, completion()], pause_s=0.2)
    assert record.resent_after_s is not None
    assert 0.2 <= record.resent_after_s < 5
    (record,), _ = ask_canned([completion()])
    assert record.resent_after_s is None


@pytest.mark.parametrize("code", [400, 401, 404, 422])
def test_a_refusal_for_good_ends_at_once_and_names_no_key(code: int) -> None:
    (record,), server = ask_canned([reply({"error": {"message": "bad top_k, you are sk-secret"}}, code)])
    assert (record.status, record.num_transport_retries, len(server.requests)) == ("http_error", 0, 1)
    assert record.error is not None
    assert f"HTTP {code}" in record.error
    assert "bad top_k" in record.error
    assert "sk-secret" not in record.error


def test_an_error_that_quotes_the_question_does_not_carry_it_on() -> None:
    (record,), _ = ask_canned([reply({"error": {"message": "input: [{'content': 'Question 0?'}] is too long"}}, 400)])
    assert record.error is not None
    assert "is too long" in record.error and "[the prompt]" in record.error
    assert "Question 0?" not in record.error


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\ud800 half \\boxed{70}", "\ufffd half \\boxed{70}"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\U0001f600 and \0", "\U0001f600 and \0"),
    ],
)
def test_halves_of_characters_do_not_end_a_block(text: str, kept: str) -> None:
    # JSON may say "\\ud800", which no UTF-8 file can hold.
    answers = [completion(text), completion("70")]
    records, _ = ask_canned(answers, num_samples=2, concurrency=1)
    assert [record.reply for record in records] == [kept, "70"]
    assert [record.status for record in records] == ["ok", "ok"]
    assert SampleRecord.model_validate_json(records[0].model_dump_json()) == records[0]


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"<html>proxy</html>"),
        reply({"choices": []}),
        reply({"choices": None}),
        reply({"choices": [None]}),
        reply({"choices": [{"index": 0, "message": None}]}),
        reply({"choices": [{}]}),
        completion("x", "abort"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_not_a_wrong_answer(answer: bytes) -> None:
    (record,), server = ask_canned([answer])
    assert (record.status, len(server.requests)) == ("http_error", 1)


def test_an_answer_with_little_more_than_its_text_is_read() -> None:
    (record,), _ = ask_canned([reply({"choices": [{"message": {"content": "70"}}], "usage": {}})])
    assert (record.status, record.reply, record.finish_reason, record.prompt_tokens) == ("ok", "70", None, None)


def test_concurrency_is_kept_and_every_sample_has_its_line() -> None:
    records, server = ask_canned([completion()], pause_s=0.03, num_samples=9, concurrency=3)
    assert server.most_at_once == 3
    assert sorted(record.key for record in records) == sorted(f"k{number}" for number in range(9))


def test_samples_are_asked_in_their_order() -> None:
    _, server = ask_canned([completion()], num_samples=5, concurrency=1)
    assert [body["seed"] for body in server.bodies()] == [1000, 1001, 1002, 1003, 1004]


def test_a_proxy_of_the_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (record,), _ = ask_canned([completion()])
    assert record.status == "ok"


def answer_key(num_samples: int) -> dict[str, str]:
    return {prompt_hash(spec(number).messages): "70" for number in range(num_samples)}


def right(records: list[SampleRecord]) -> int:
    return sum("\\boxed{70}" in (record.reply or "") for record in records)


@pytest.mark.parametrize(("accuracy", "low", "high"), [(0.0, 0, 0), (1.0, 40, 40), (0.5, 8, 32)])
def test_the_simulated_engine_is_right_as_often_as_it_is_told(
    tmp_path: Path, accuracy: float, low: int, high: int
) -> None:
    model = timing(accuracy={"aime25": accuracy}, time_scale=50)
    with running(tmp_path, model, answer_key(40)) as (engine, _):
        first = ask(job(engine.url, 40, concurrency=16, time_scale=50))
        again = ask(job(engine.url, 40, concurrency=16))
    assert low <= right(first) <= high
    assert {record.status for record in first} == {"ok"}
    assert all(record.output_tokens and record.prompt_tokens for record in first)
    by_key = {record.key: record.reply for record in first}
    assert {record.key: record.reply for record in again} == by_key


def test_simulated_faults_become_statuses_and_counts(tmp_path: Path) -> None:
    faults = FaultConfig(http_error_fraction=0.3, no_usage=True)
    with running(tmp_path, timing(faults, accuracy={"aime25": 1.0}, time_scale=50), answer_key(20)) as (engine, _):
        records = ask(job(engine.url, 20, max_transport_retries=20))
    assert {record.status for record in records} == {"ok"}
    assert sum(record.num_transport_retries for record in records) > 0
    assert {record.output_tokens for record in records} == {None}
    assert right(records) == 20


@pytest.mark.parametrize("faults", [FaultConfig(truncate_fraction=1), FaultConfig(long_reply_factor=100)])
def test_simulated_truncation(tmp_path: Path, faults: FaultConfig) -> None:
    with running(tmp_path, timing(faults, accuracy={"aime25": 1.0}, time_scale=500), answer_key(4)) as (engine, _):
        records = ask(job(engine.url, 4))
    assert [(record.finish_reason, record.output_tokens) for record in records] == [("length", 321)] * 4
    assert right(records) == 0


def test_simulated_death_cuts_what_follows(tmp_path: Path) -> None:
    faults = FaultConfig(die_after_requests=3)
    with running(tmp_path, timing(faults, time_scale=50), answer_key(6)) as (engine, _):
        records = ask(job(engine.url, 6, concurrency=1, max_transport_retries=1))
        assert engine.death() is not None
    assert [record.status for record in records] == ["ok", "ok", "cut", "cut", "cut", "cut"]
    assert json.loads(records[-1].model_dump_json())["num_transport_retries"] == 1


def test_the_completions_route_sends_the_bare_text_and_every_sampling_field() -> None:
    body: dict[str, object] = {
        "id": "c", "object": "text_completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "text": " 70", "finish_reason": "length", "logprobs": None}],
        "usage": {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10},
    }  # fmt: skip
    (record,), server = ask_canned([reply(body)], route="completions")
    assert (record.status, record.reply, record.finish_reason, record.prompt_tokens) == ("ok", " 70", "length", 6)
    [(head, _)] = server.requests
    assert head.startswith("POST /v1/completions ")
    [said] = server.bodies()
    assert said["prompt"] == "Be brief.\n\nQuestion 0?"
    sent = SAMPLING.model_dump()
    assert {name: said[name] for name in sent} == sent
    assert (said["seed"], said["stream"]) == (1000, False)

"""Ask samples through the chat route (or as bare text), with the SDK that users speak.

Content is never retried: an empty, wrong or cut reply is the measurement. Faults of transport are retried, counted and
bounded; a request that the server refuses for good (4xx) ends at once, and so does one that runs into its time limit:
the next draw would be kept if it is short enough. Every sample ends as a record.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import openai
from openai.types import Completion, CompletionChoice
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageParam
from openai.types.chat.chat_completion import Choice

from raybench.client.job import ChatJob, SampleLine
from raybench.records import Message, SampleRecord, SampleSpec, bare_text, prompt_hash

Emit = Callable[[SampleLine], None]
Status = Literal["ok", "http_error", "timeout", "cut"]

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 15.0
RETRIED_STATUSES = (408, 429)
"""Refusals that pass; all of 5xx do as well (SGLang answers 503 when its queue is full)."""
MIN_QUOTE_CHARS = 8
"""Shorter messages tell nothing, and their text may stand in an error by chance."""
EVAL_HEADER = "X-Raybench-Eval"
"""Names the eval of a request: the simulated engine has an accuracy per eval. Real engines ignore it."""


@dataclass(frozen=True, slots=True)
class _Try:
    """One attempt at a sample."""

    status: Status
    reply: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    matched_stop: int | str | None = None
    reasoning_chars: int | None = None
    error: str | None = None
    retry: bool = False


async def run_chat(job: ChatJob, emit: Emit, first_backoff_s: float = FIRST_BACKOFF_S) -> None:
    """Ask all samples of a job, at most `concurrency` at a time, in their order; one line each, as they end."""
    _no_proxy_to(job.url)
    gate = asyncio.Semaphore(job.concurrency)
    async with openai.AsyncOpenAI(
        base_url=f"{job.url.rstrip('/')}/v1", api_key=job.api_key or "none", max_retries=0, timeout=job.timeout_s
    ) as client:

        async def ask(spec: SampleSpec) -> None:
            async with gate:
                emit(SampleLine(result=await _sample(client, job, spec, first_backoff_s)))

        async with asyncio.TaskGroup() as tasks:
            for spec in job.samples:
                tasks.create_task(ask(spec))


async def _sample(client: openai.AsyncOpenAI, job: ChatJob, spec: SampleSpec, first_backoff_s: float) -> SampleRecord:
    jitter = random.Random(spec.seed)
    num_retries, longest_failed_s, first_sent_s = 0, 0.0, time.perf_counter()
    while True:
        sent_unix_s, started_s = time.time(), time.perf_counter()
        attempt = await _attempt(client, job, spec)
        ended_s = time.perf_counter()
        # The watchdog counts on it: the last try begins before the sample's limit is spent, and has one of its own.
        spent = ended_s - first_sent_s >= job.timeout_s
        if not attempt.retry or spent or num_retries >= job.max_transport_retries:
            break
        longest_failed_s = max(longest_failed_s, ended_s - started_s)
        pause_s = min(first_backoff_s * 2**num_retries, MAX_BACKOFF_S)
        await asyncio.sleep(pause_s * (0.5 + jitter.random() / 2))
        num_retries += 1
    return SampleRecord(
        key=spec.key, unit=job.unit, target=job.target, eval=job.eval, question=spec.question, repeat=spec.repeat,
        status=attempt.status, reply=attempt.reply, finish_reason=attempt.finish_reason,
        prompt_tokens=attempt.prompt_tokens, output_tokens=attempt.output_tokens, cached_tokens=attempt.cached_tokens,
        prompt_sha256=prompt_hash(spec.messages), gold=spec.gold, letter_order=spec.letter_order, seed=spec.seed,
        sent_unix_s=sent_unix_s, duration_s=(ended_s - started_s) * job.time_scale,
        num_transport_retries=num_retries, resent_after_s=longest_failed_s if num_retries else None,
        matched_stop=attempt.matched_stop, reasoning_chars=attempt.reasoning_chars,
        error=_redacted(attempt.error, job.api_key, spec.messages),
    )  # fmt: skip


async def _send(client: openai.AsyncOpenAI, job: ChatJob, spec: SampleSpec) -> ChatCompletion | Completion:
    if job.route == "completions":
        return await client.completions.create(prompt=bare_text(spec.messages), stream=False, **_fields(job, spec))
    turns = [{"role": turn.role, "content": turn.content} for turn in spec.messages]
    messages = cast(list[ChatCompletionMessageParam], turns)
    return await client.chat.completions.create(messages=messages, stream=False, **_fields(job, spec))


def _fields(job: ChatJob, spec: SampleSpec) -> dict[str, Any]:
    """What both routes are sent beside the question: every sampling field, so that no server default can leak in."""
    sampling = job.sampling
    return {
        "model": job.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "max_tokens": sampling.max_tokens,
        "seed": spec.seed,
        "extra_headers": {EVAL_HEADER: job.eval},
        "extra_body": {
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
        },
    }


async def _attempt(client: openai.AsyncOpenAI, job: ChatJob, spec: SampleSpec) -> _Try:
    try:
        # The SDK's timeout restarts with every read; this one is the limit of the request.
        async with asyncio.timeout(job.timeout_s):
            return _read(await _send(client, job, spec))
    except (TimeoutError, openai.APITimeoutError):
        return _Try("timeout", error=f"no reply within {job.timeout_s:.0f} s")
    except openai.APIConnectionError as error:
        return _Try("cut", error=f"connection: {error.__cause__ or error}", retry=True)
    except openai.APIStatusError as error:
        code = error.status_code
        return _Try(
            "http_error", error=f"HTTP {code}: {error.message}", retry=code in RETRIED_STATUSES or code >= 500
        )  # fmt: skip
    except (openai.APIError, ValueError) as error:
        # Status 200 with a body that is no JSON.
        return _Try("http_error", error=f"unreadable answer: {error}")


def _read(completion: ChatCompletion | Completion) -> _Try:
    """The SDK checks no types: any field may be missing or null, or the whole answer a text."""
    choices = getattr(completion, "choices", None)
    choice: Choice | CompletionChoice | None = choices[0] if choices else None
    said = choice if isinstance(choice, CompletionChoice) else getattr(choice, "message", None)
    if choice is None or said is None:
        return _Try("http_error", error=f"an answer without choices: {str(completion)[:200]!r}")
    text: str | None = getattr(said, "text" if said is choice else "content", None)
    finish_reason: str | None = getattr(choice, "finish_reason", None)
    usage = getattr(completion, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    return _Try(
        # An aborted request (SGLang's own word) is a fault of the engine, whatever text came with it.
        "http_error" if finish_reason == "abort" else "ok",
        reply=_storable(text),
        finish_reason=finish_reason,
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        output_tokens=getattr(usage, "completion_tokens", None),
        cached_tokens=getattr(details, "cached_tokens", None),
        matched_stop=_matched_stop(choice),
        reasoning_chars=_reasoning_chars(said),
    )


def _storable(text: str | None) -> str | None:
    """The text with U+FFFD for halves of a character (`"\\ud800"` is valid JSON): no record could hold them, and one
    such reply would end the whole block."""
    return None if text is None else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _matched_stop(choice: Choice | CompletionChoice) -> int | str | None:
    """SGLang's own field; other servers have none."""
    found = (choice.model_extra or {}).get("matched_stop")
    if isinstance(found, str):
        return _storable(found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _reasoning_chars(said: ChatCompletionMessage | CompletionChoice) -> int | None:
    """Length of what a reasoning parser took out of the reply; the completions route knows none."""
    found = (said.model_extra or {}).get("reasoning_content")
    return len(found) if isinstance(found, str) and found else None


def _no_proxy_to(url: str) -> None:
    """Keep a loopback engine off the machine's HTTP proxy, which the SDK would otherwise obey."""
    host = urlsplit(url).hostname or ""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))


def _redacted(text: str | None, api_key: str | None, messages: Sequence[Message]) -> str | None:
    """The error without the key and without the question: a server that refuses a request may quote it, errors are
    shown in reports, and questions of gated sets are not."""
    if text is None:
        return None
    for message in messages:
        for quoted in (message.content, json.dumps(message.content)[1:-1], repr(message.content)[1:-1]):
            if len(quoted) >= MIN_QUOTE_CHARS:
                text = text.replace(quoted, "[the prompt]")
    return _storable((text.replace(api_key, "***") if api_key else text)[:1000])

"""`python -m raybench.engine.simulated_server CONFIG.json`: SGLang's HTTP contract over a timing model.

Times are honest: the model says when a step is due, the process sleeps until then and writes, and the client measures
what it reads. A step that is late is written at once, so lateness never adds up. The process ends itself when the pipe
that it inherited closes, so that it cannot outlive whoever started it.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_chunks import ChunkWriter
from raybench.engine.simulated_replies import ChatRequest, reply_to
from raybench.engine.simulated_timing import BatchShape, jitter, prefill_s, share, step_s, steps
from raybench.records import Message as Turn
from raybench.records import Record, prompt_hash

EVAL_HEADER = "x-raybench-eval"
CONTEXT_TOKENS = 262_144
SLEEP_MARGIN_S = 0.0015
"""Event loops wake up to 1 ms late; the rest of a wait is slept by the thread itself, which is good to 0.1 ms."""
REQUEST_PATH_S = 0.0006
"""Real time from the client's clock to this process's and back to the client's read (measured: 0.5 and 0.1 ms). Where
time is compressed it would grow to a tenth of a short prefill, so such steps are written that much earlier."""
_PR_SET_TIMERSLACK = 29
_GOLDEN = 0.6180339887498949


class ServerConfig(Record):
    """What the engine hands to its server process."""

    model: SimulatedConfig
    """Timing model and faults."""
    target: str
    """Target that it serves."""
    served_name: str
    """Model name of the OpenAI routes."""
    answer_key: dict[str, str]
    """Prompt hash -> gold."""
    listen_fd: int
    """Inherited listening socket."""
    lifetime_fd: int
    """Inherited read end of a pipe; at its end the process exits."""


@dataclass(slots=True)
class _Counters:
    """What /metrics shows."""

    http_requests: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    cached_tokens: int = 0
    running: int = 0
    last_emissions_ns: list[int] = field(default_factory=list[int])
    """Arrival and then every write of the latest batch, in perf_counter nanoseconds: the truth that a client's times
    are tested against."""


class SimulatedServer:
    """The application and its state."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._model = config.model
        self._scale = config.model.time_scale
        self._ready_at_s = time.perf_counter() + config.model.startup_s / self._scale
        self._counters = _Counters()
        # Even over any run of neighbours, and an eval's questions are neighbours in the answer key.
        self._places = {sha256: number * _GOLDEN % 1 for number, sha256 in enumerate(config.answer_key)}

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/ready", self._ready),
                Route("/health", self._ready),
                Route("/health_generate", self._ready),
                Route("/v1/models", self._models),
                Route("/server_info", self._server_info),
                Route("/get_server_info", self._server_info),
                Route("/model_info", self._model_info),
                Route("/metrics", self._metrics),
                Route("/emissions", self._emissions),
                Route("/flush_cache", self._flush_cache, methods=["GET", "POST"]),
                Route("/generate", self._generate, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    async def _ready(self, _: Request) -> Response:
        return Response(status_code=200 if time.perf_counter() >= self._ready_at_s else 503)

    async def _models(self, _: Request) -> Response:
        card = {
            "id": self._config.served_name,
            "object": "model",
            "owned_by": "raybench",
            "max_model_len": CONTEXT_TOKENS,
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def _server_info(self, _: Request) -> Response:
        model = self._model
        state: dict[str, JsonValue] = {
            "last_gen_throughput": 0.0,
            "memory_usage": {
                "weight": 0.0, "kvcache": 0.0, "startup_available": 0.0, "token_capacity": model.token_capacity,
                "token_capacity_swa": None, "graph": {"prefill": 0.0, "decode": 0.0},
            },
            "startup_time": {
                "load_weight": 0.0, "kv_cache_allocation": 0.0, "scheduler_e2e": model.startup_s,
                "cuda_graph": {"prefill": 0.0, "decode": 0.0},
            },
            "effective_max_running_requests_per_dp": 4096,
        }  # fmt: skip
        info: dict[str, JsonValue] = {
            "model_path": self._config.served_name, "tokenizer_path": self._config.served_name,
            "served_model_name": self._config.served_name, "context_length": CONTEXT_TOKENS, "tp_size": 1, "dp_size": 1,
            "status": "ready", "max_total_num_tokens": model.token_capacity, "internal_states": [state],
            "version": "simulated", "simulated": True, "time_scale": self._scale,
        }  # fmt: skip
        return JSONResponse(info)

    async def _model_info(self, _: Request) -> Response:
        name = self._config.served_name
        return JSONResponse(
            {"model_path": name, "tokenizer_path": name, "is_generation": True, "preferred_sampling_params": None,
             "weight_version": "default", "model_type": "simulated", "architectures": ["Simulated"]}
        )  # fmt: skip

    async def _metrics(self, _: Request) -> Response:
        counts = self._counters
        label = f'{{model_name="{self._config.served_name}"}}'
        lines = [
            f"sglang:num_requests_total{label} {counts.prompts}",
            f"sglang:prompt_tokens_total{label} {counts.prompt_tokens}",
            f"sglang:generation_tokens_total{label} {counts.generation_tokens}",
            f"sglang:cached_tokens_total{label} {counts.cached_tokens}",
            f"sglang:num_running_reqs{label} {counts.running}",
            f"sglang:num_queue_reqs{label} 0",
        ]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def _emissions(self, _: Request) -> Response:
        return JSONResponse(self._counters.last_emissions_ns)

    async def _flush_cache(self, _: Request) -> Response:
        if self._counters.running:
            return PlainTextResponse("Flush cache failed.\n", status_code=400)
        return PlainTextResponse("Cache flushed.\n")

    def _count_request(self) -> Response | None:
        """Counts a request that wants tokens; the fault that it meets at the door, if any."""
        counts, faults = self._counters, self._model.faults
        counts.http_requests += 1
        if faults.die_after_requests is not None and counts.http_requests >= faults.die_after_requests:
            os._exit(1)
        # Drawn by the request's number and not by its content: a retry of the same content may succeed.
        if share("http_error", self._config.target, counts.http_requests) < faults.http_error_fraction:
            return _error(500, "simulated fault")
        burst = faults.http_error_burst
        if burst is not None and burst[0] <= counts.http_requests <= burst[1]:
            return _error(503, "simulated fault: no room in the queue")
        return None

    async def _generate(self, request: Request) -> Response:
        arrived_s, arrived_ns = time.perf_counter(), time.perf_counter_ns()
        if fault := self._count_request():
            return fault
        body = await request.body()
        asked = json.loads(body)
        given = asked.get("input_ids")
        if not isinstance(given, list) or not given:
            return _error(400, "the simulated engine takes input_ids only")
        prompts: list[list[int]] = given if isinstance(given[0], list) else [given]
        output_tokens = int(asked.get("sampling_params", {}).get("max_new_tokens", 128))
        shape = BatchShape(len(prompts), max(map(len, prompts)), output_tokens)
        capacity = min(self._model.token_capacity, CONTEXT_TOKENS)
        if shape.input_tokens + output_tokens > capacity:
            total = shape.input_tokens + output_tokens
            return _error(
                400, f"Input length plus max_new_tokens ({total} tokens) exceeds the limit ({capacity} tokens)."
            )
        writer = ChunkWriter(self._model, prompts, output_tokens, seed=hashlib.sha256(body).hexdigest())
        stream = self._batch_stream(writer, shape, arrived_s, arrived_ns)
        if asked.get("stream"):
            return StreamingResponse(stream, media_type="text/event-stream")
        async for _ in stream:
            pass
        whole = writer.whole()
        return JSONResponse(whole if isinstance(given[0], list) else whole[0])

    async def _batch_stream(
        self, writer: ChunkWriter, shape: BatchShape, arrived_s: float, arrived_ns: int
    ) -> AsyncIterator[bytes]:
        counts = self._counters
        counts.prompts += shape.size
        counts.prompt_tokens += writer.prompt_tokens
        counts.cached_tokens += writer.cached_tokens
        counts.running += shape.size
        emissions_ns = counts.last_emissions_ns = [arrived_ns]
        factor = jitter(self._model, writer.seed)
        start_s = arrived_s if self._scale == 1 else arrived_s - REQUEST_PATH_S
        try:
            for step in steps(self._model, shape, factor):
                chunks = writer.step(step)
                await _sleep_until(start_s + step.due_s / self._scale)
                emissions_ns.append(time.perf_counter_ns())
                yield chunks
        finally:
            counts.generation_tokens += writer.output_tokens
            counts.running -= shape.size
        yield b"data: [DONE]\n\n"

    async def _chat(self, request: Request) -> Response:
        arrived_s = time.perf_counter()
        if fault := self._count_request():
            return fault
        asked = await request.json()
        if asked.get("stream"):
            return _error(400, "the simulated engine does not stream chat replies")
        try:
            turns = [Turn(role=turn["role"], content=turn["content"]) for turn in asked["messages"]]
        except (KeyError, TypeError, ValueError) as error:
            return _error(400, f"messages: {error}")
        sha256 = prompt_hash(turns)
        chat = ChatRequest(
            prompt_sha256=sha256, eval=request.headers.get(EVAL_HEADER, ""), target=self._config.target,
            seed=int(asked.get("seed") or 0), max_tokens=int(asked.get("max_tokens") or CONTEXT_TOKENS),
            place=self._places.get(sha256, 0.5),
        )  # fmt: skip
        reply = reply_to(chat, self._config.answer_key.get(sha256), self._model)
        prompt_tokens = sum(len(turn.content.split()) + 4 for turn in turns) + self._model.faults.system_prompt_tokens
        counts = self._counters
        counts.prompts += 1
        counts.prompt_tokens += prompt_tokens
        counts.running += 1
        try:
            duration_s = prefill_s(self._model, 1, prompt_tokens) + reply.tokens * step_s(self._model, counts.running)
            duration_s += self._model.faults.stall_s
            await asyncio.sleep(arrived_s + duration_s / self._scale - time.perf_counter())
        finally:
            counts.running -= 1
        counts.generation_tokens += reply.tokens
        return JSONResponse(self._completion(chat, prompt_tokens, reply.text, reply.finish_reason, reply.tokens))

    def _completion(
        self, chat: ChatRequest, prompt_tokens: int, text: str, finish_reason: str, tokens: int
    ) -> dict[str, JsonValue]:
        completion: dict[str, JsonValue] = {
            "id": chat.prompt_sha256[:32], "object": "chat.completion", "created": int(time.time()),
            "model": self._config.served_name,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text, "reasoning_content": None},
                 "logprobs": None, "finish_reason": finish_reason, "matched_stop": None}
            ],
        }  # fmt: skip
        if not self._model.faults.no_usage:
            cached = int(prompt_tokens * self._model.faults.cached_fraction)
            completion["usage"] = {
                "prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens,
                "prompt_tokens_details": {"cached_tokens": cached},
            }  # fmt: skip
        return completion


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "simulated", "code": status}}, status_code=status)


async def _sleep_until(due_s: float) -> None:
    remaining_s = due_s - time.perf_counter()
    if remaining_s > 2 * SLEEP_MARGIN_S:
        await asyncio.sleep(remaining_s - SLEEP_MARGIN_S)
        remaining_s = due_s - time.perf_counter()
    if remaining_s > 0:
        time.sleep(remaining_s)


def _exit_with(lifetime_fd: int) -> None:
    """End this process when the other end of the pipe closes, whatever the process does meanwhile."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(lifetime_fd, 1):
                pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="lifetime").start()


def main(config_file: Path) -> None:
    """Serve until the starter goes away."""
    config = ServerConfig.model_validate_json(config_file.read_bytes())
    _exit_with(config.lifetime_fd)
    if config.model.faults.refuse_start:
        sys.exit("simulated fault: this engine refuses to start")
    # The kernel may wake a sleeper 50 us late by default: a tenth of a decode step at a time scale of 50.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    listener = socket.socket(fileno=config.listen_fd)
    # asyncio's own loop sends within write(); uvloop waits for the end of the iteration.
    serving = uvicorn.Config(
        SimulatedServer(config).app(), loop="asyncio", http="httptools", ws="none", lifespan="off", log_level="warning",
        access_log=False, timeout_keep_alive=60,
    )  # fmt: skip
    asyncio.run(_serve(uvicorn.Server(serving), listener))


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    # Streaming imports an event loop backend at its first use: 50 ms that would look like a slow prefill.
    await StreamingResponse(_nothing())({"type": "http"}, _no_message, _no_reply)
    await server.serve(sockets=[listener])


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _no_message() -> Message:
    return await asyncio.get_running_loop().create_future()


async def _no_reply(_: Message) -> None:
    return


if __name__ == "__main__":
    main(Path(sys.argv[1]))

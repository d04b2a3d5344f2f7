"""The simulated engine under a serving load: continuous batching with a queue, as a real scheduler does it.

One step at a time: prompts that wait are read first, as many as fit into one prefill step, into the running batch and
into the KV cache, while everybody else stands still; otherwise every running request gets one token. Time is the
model's: a step that is late is written at once, so lateness never adds up.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_timing import PREFILL_STEP_TOKENS, interpolated, step_s


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One request in the queue or in the batch."""

    input_tokens: int
    output_tokens: int
    made: int = 0
    """Tokens made so far."""
    gone: bool = False
    """Nobody reads it any more."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def all_tokens(self) -> int:
        """Room that it takes in the KV cache at its end."""
        return self.input_tokens + self.output_tokens


class ContinuousBatch:
    """The scheduler. Made inside the event loop; its task lives as long as there is work."""

    def __init__(self, model: SimulatedConfig) -> None:
        self._model = model
        self._scale = model.time_scale
        self._random = random.Random(0)
        self._waiting: deque[QueuedRequest] = deque()
        self._running: list[QueuedRequest] = []
        self._reading: list[QueuedRequest] = []
        """Requests whose prompts are read in this step."""
        self._now_s = 0.0
        """Simulated time on the process's clock."""
        self._task: asyncio.Task[None] | None = None
        self.rate_tok_per_s = 0.0
        """Tokens per simulated second of the last step."""

    @property
    def num_running(self) -> int:
        """Requests in the batch, those whose prompts are read at the moment among them."""
        return len(self._running) + len(self._reading)

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def num_kept_tokens(self) -> int:
        """Tokens in the KV cache."""
        return sum(request.input_tokens + request.made for request in (*self._running, *self._reading))

    async def tokens(self, request: QueuedRequest) -> AsyncIterator[int]:
        """Tokens of the request so far, whenever they have grown; after a delay, several at once."""
        self._waiting.append(request)
        if self._task is None or self._task.done():
            self._now_s = time.perf_counter() * self._scale
            self._task = asyncio.create_task(self._work())
        told = 0
        try:
            while told < request.output_tokens:
                await request.news.wait()
                request.news.clear()
                if request.made > told:
                    told = request.made
                    yield told
        finally:
            request.gone = True

    async def _work(self) -> None:
        while self._waiting or self._running:
            arrived = self._reading = self._arrivals()
            duration_s = self._prefill_s(arrived) if arrived else step_s(self._model, len(self._running))
            spread = self._model.jitter_fraction * self._random.gauss(0, 1)
            self._now_s += duration_s * max(0.5, 1 + spread)
            await asyncio.sleep(max(0.0, self._now_s / self._scale - time.perf_counter()))
            stepped = arrived or self._running
            self.rate_tok_per_s = len(stepped) / duration_s
            self._running += arrived
            self._reading = []
            for request in stepped:
                request.made += 1
                request.news.set()
            self._running = [one for one in self._running if not one.gone and one.made < one.output_tokens]

    def _arrivals(self) -> list[QueuedRequest]:
        """Waiting requests that start now."""
        found: list[QueuedRequest] = []
        kept = sum(request.all_tokens for request in self._running)
        step_tokens = 0
        while self._waiting and len(self._running) + len(found) < self._model.max_running_requests:
            request = self._waiting[0]
            if request.gone:
                self._waiting.popleft()
                continue
            full = found and step_tokens + request.input_tokens > PREFILL_STEP_TOKENS
            if full or (kept and kept + request.all_tokens > self._model.token_capacity):
                break
            self._waiting.popleft()
            found.append(request)
            step_tokens += request.input_tokens
            kept += request.all_tokens
        return found

    def _prefill_s(self, arrived: list[QueuedRequest]) -> float:
        tokens = sum(request.input_tokens for request in arrived)
        return tokens / interpolated(self._model.prefill_tok_per_s, len(arrived))

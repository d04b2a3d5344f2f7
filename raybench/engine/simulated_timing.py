"""The timing model of the simulated engine: when which requests of a batch get how many tokens. Pure.

Prefill takes batch * input tokens / rate, in groups of prompts that fit one prefill step, as a real engine does; then
every decode step brings one token to every request at the same moment.
"""

import hashlib
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from raybench.config.schema import FaultConfig, SimulatedConfig

PREFILL_STEP_TOKENS = 8192
"""Prompt tokens in one prefill step (SGLang's default `chunked_prefill_size` on an H200)."""


@dataclass(frozen=True, slots=True)
class BatchShape:
    """A batch as it arrives."""

    size: int
    """Requests."""
    input_tokens: int
    """Tokens of the longest prompt."""
    output_tokens: int
    """Tokens asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One emission."""

    due_s: float
    """Simulated seconds since the batch arrived."""
    first: int
    """First request that gets tokens."""
    last: int
    """The one after the last."""
    tokens: int
    """Tokens of each of them so far."""


def interpolated(table: dict[int, float], batch_size: int) -> float:
    """Value of a table by batch size: linear between sizes, held beyond the ends."""
    sizes = sorted(table)
    place = bisect_left(sizes, batch_size)
    if place == 0:
        return table[sizes[0]]
    if place == len(sizes):
        return table[sizes[-1]]
    low, high = sizes[place - 1], sizes[place]
    return table[low] + (table[high] - table[low]) * (batch_size - low) / (high - low)


def prefill_s(model: SimulatedConfig, batch_size: int, input_tokens: int) -> float:
    """Simulated seconds until the last prompt of a batch has been read."""
    seconds = batch_size * input_tokens / interpolated(model.prefill_tok_per_s, batch_size)
    return seconds * model.faults.slow_factor


def step_s(model: SimulatedConfig, batch_size: int) -> float:
    """Simulated seconds of one decode step."""
    return interpolated(model.itl_ms, batch_size) / 1000 * model.faults.slow_factor


def share(*parts: str | int) -> float:
    """A number in [0, 1) that depends on nothing but `parts`: every draw of the simulated engine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def jitter(model: SimulatedConfig, seed: str) -> float:
    """Factor on all times of one pass, from its seed; never below a half."""
    return max(0.5, 1 + model.jitter_fraction * random.Random(seed).gauss(0, 1))


def steps(model: SimulatedConfig, shape: BatchShape, factor: float) -> Iterator[Step]:
    """Emissions of one batch in order of time, all of it stretched by `factor`."""
    faults: FaultConfig = model.faults
    prefill = prefill_s(model, shape.size, shape.input_tokens) * factor
    decode = step_s(model, shape.size) * factor
    stall_after = shape.output_tokens // 2
    per_chunk = min(faults.tokens_per_chunk, shape.output_tokens)
    tokens = per_chunk
    if per_chunk == 1:
        yield from _first_tokens(shape, prefill)
        tokens += 1
    while tokens <= shape.output_tokens:
        stalled = faults.stall_s if tokens > stall_after else 0.0
        yield Step(prefill + (tokens - 1) * decode + stalled, 0, shape.size, tokens)
        if tokens == shape.output_tokens:
            return
        tokens = min(tokens + per_chunk, shape.output_tokens)


def _first_tokens(shape: BatchShape, prefill: float) -> Iterator[Step]:
    group = max(1, PREFILL_STEP_TOKENS // max(shape.input_tokens, 1))
    for first in range(0, shape.size, group):
        last = min(first + group, shape.size)
        yield Step(prefill * last / shape.size, first, last, 1)

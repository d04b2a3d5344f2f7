"""Chunks of a simulated `/generate` stream in the shape of SGLang's: cumulative ids and counts, one a request."""

import json

from pydantic import JsonValue

from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_timing import Step, share

LONG_ID = b"105934,"
"""Ids of a real vocabulary have six digits: the stream is as heavy as a real one."""
SHORT_ID = b"7,"
"""Where time is compressed, so that bytes per real second stay near those of a real engine."""


class ChunkWriter:
    """Makes the chunks of one batch, step by step."""

    def __init__(self, model: SimulatedConfig, prompts: list[list[int]], output_tokens: int, seed: str) -> None:
        self.seed = seed
        """Decides every draw about this batch."""
        self.prompt_tokens = sum(map(len, prompts))
        """Tokens of all prompts."""
        self.output_tokens = 0
        """Tokens written so far."""
        self._faults = model.faults
        self._asked = output_tokens
        self._num_tokens = [0] * len(prompts)
        self._ends = [self._end_of(index) for index in range(len(prompts))]
        self._lengths = [len(prompt) for prompt in prompts]
        self._cached = [int(length * model.faults.cached_fraction) for length in self._lengths]
        self.cached_tokens = sum(self._cached)
        """Prompt tokens that are said to come from the prefix cache."""
        self._id = LONG_ID if model.time_scale == 1 else SHORT_ID
        self._ids = self._id * output_tokens
        self._tails = [self._tail(index) for index in range(len(prompts))]

    def end_of(self, index: int) -> int:
        """Tokens at which the request ends."""
        return self._ends[index]

    def _end_of(self, index: int) -> int:
        early = share("early_stop", self.seed, index) < self._faults.early_stop_fraction
        return max(1, self._asked // 2) if early else self._asked

    def step(self, step: Step) -> bytes:
        """Chunks of one step, joined: an engine hands all requests of a step out together."""
        indices = range(step.first, step.last)
        if all(self._num_tokens[index] < step.tokens < self._ends[index] for index in indices):
            # Nobody finishes: the chunks differ in their tails only. Step times of 0.4 ms leave no time for more.
            self.output_tokens += sum(step.tokens - self._num_tokens[index] for index in indices)
            self._num_tokens[step.first : step.last] = [step.tokens] * len(indices)
            start = self._start("null", step.tokens)
            return start + start.join(self._tails[step.first : step.last])
        return b"".join(self._chunk(index, min(step.tokens, self._ends[index])) for index in indices)

    def _chunk(self, index: int, tokens: int) -> bytes:
        """Chunk of a request that may finish; nothing if it has finished before."""
        if tokens <= self._num_tokens[index]:
            return b""
        self.output_tokens += tokens - self._num_tokens[index]
        self._num_tokens[index] = tokens
        return self._start(self._finish_reason(index, tokens), tokens) + self._tails[index]

    def _start(self, finish_reason: str, tokens: int) -> bytes:
        """A chunk up to where the request matters."""
        ids = self._ids[: len(self._id) * tokens - 1]
        count = "" if self._faults.no_usage else f'"completion_tokens":{tokens},'
        meta = f'],"meta_info":{{"finish_reason":{finish_reason},{count}'
        return b'data: {"text":"","output_ids":[' + ids + meta.encode()

    def _tail(self, index: int) -> bytes:
        """The rest of every chunk of a request."""
        counts = f'"prompt_tokens":{self._lengths[index]},"cached_tokens":{self._cached[index]},'
        return (
            f'{"" if self._faults.no_usage else counts}"id":"{self.seed[:24]}{index:08d}","weight_version":"default",'
            '"num_retractions":0,"reasoning_tokens":0,"cached_tokens_details":null,"dp_rank":null}'
            f',"index":{index}}}\n\n'
        ).encode()

    def _finish_reason(self, index: int, tokens: int) -> str:
        if tokens < self._ends[index]:
            return "null"
        if tokens == self._asked:
            return f'{{"type":"length","length":{tokens}}}'
        return '{"type":"stop","matched":0}'

    def whole(self) -> list[JsonValue]:
        """The finished batch as a request without streaming gets it."""
        chunks = [
            self._start(self._finish_reason(index, tokens), tokens) + self._tails[index]
            for index, tokens in enumerate(self._num_tokens)
        ]
        return [json.loads(chunk.removeprefix(b"data:")) for chunk in chunks]

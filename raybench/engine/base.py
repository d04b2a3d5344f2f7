"""The one Protocol of all engines, and what a start needs to know.

An engine has a lifetime on one node: start, be asked, stop. It never raises for what a request does; it raises
`EngineStartError` from `start` and `InterpreterError` when no interpreter can be had.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raybench.config.schema import EngineConfig, ModelConfig
from raybench.records import EngineFacts, Message, Record


class RenderedPrompt(Record):
    """One conversation as the model folder's own template and tokenizer make it."""

    full: tuple[int, ...] | None
    """Token ids with the generation prompt: what the model was trained to answer to. None without a template."""
    no_generation_prompt: tuple[int, ...] | None
    """Token ids of the template without the generation prompt; None without a template."""
    bare: tuple[int, ...]
    """Token ids of the messages' text alone."""


Progress = Callable[[str], None]
"""Takes one plain line about what is going on (no newline, no secrets)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of an engine."""

    run_id: str
    """Id of the run: goes into RAYBENCH_RUN, by which left-overs are found."""
    target: str
    """Target that the engine serves."""
    launch: int
    """Launch number of the plan, from 0."""
    start: str
    """Id of this physical start, such as `n0.2`."""
    model: ModelConfig
    """What to serve."""
    engine: EngineConfig
    """Resolved settings of the target."""
    folder: Path
    """Scratch folder of this start on the node: log, guardian's files."""
    host: str
    """Boot id of the machine."""
    num_gpus: int
    """GPUs of the node; 0 = CPU."""
    answer_key: dict[str, str]
    """Prompt hash -> gold, given to simulated engines only; empty for all others."""


class Engine(Protocol):
    """Anything that speaks SGLang's HTTP contract."""

    def start(self, progress: Progress) -> EngineFacts:
        """Start it, wait until it answers, and say what came up. Blocks. Raises EngineStartError, InterpreterError."""
        ...

    @property
    def url(self) -> str:
        """Base URL without a slash at the end."""
        ...

    @property
    def api_key(self) -> str | None:
        """Key for the Authorization header; None = none needed."""
        ...

    @property
    def served_name(self) -> str:
        """Model name for the OpenAI routes."""
        ...

    def render(self, conversations: Sequence[Sequence[Message]]) -> tuple[RenderedPrompt, ...] | None:
        """Conversations by the model folder's own template, without asking the server; None where no tokenizer is at
        hand. Blocks for seconds. Never raises.
        """
        ...

    def death(self) -> str | None:
        """None while it lives; else how it ended, with the redacted tail of its log. Never talks to the server."""
        ...

    def pid(self) -> int | None:
        """Process id of the server; None where nothing was started."""
        ...

    def stop(self, grace_s: float = 20.0) -> None:
        """End it and everything it started. Idempotent, never raises."""
        ...

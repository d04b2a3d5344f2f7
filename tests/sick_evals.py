"""What makes an eval of a hand-made ledger sick, for tests of checks and of the diagnosis."""

import random
from collections.abc import Callable

from pydantic import JsonValue

from raybench.records import SampleRecord

Change = Callable[[SampleRecord], SampleRecord]
LOOPING = "Wait, let me check this once more. " * 40
VOCABULARY = "so then we take both of these and add what is left"


def on_alpha(**changes: object) -> Change:
    """Change every answer of alpha."""
    return lambda s: s.model_copy(update=changes) if s.target == "alpha" else s


def repeated(name: str = "sums", repeats: int = 8, **changes: JsonValue) -> list[JsonValue]:
    """The `evals` of a configuration: one, with repeats."""
    settings: dict[str, JsonValue] = {
        "name": name, "rows": "synthetic", "sampling": {"temperature": 0.7, "max_tokens": 64}, "block_size": 20,
        "repeats": repeats,
    }  # fmt: skip
    return [settings | changes]


def words(number: int, seed: object) -> str:
    """Text that is like no other one."""
    return " ".join(random.Random(str(seed)).choices(VOCABULARY.split(), k=number))

"""A configuration to spoil."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from raybench.config.read import load
from raybench.config.schema import RunConfig

GOOD = """\
name: study
model:
  path: tiny:trained
targets:
  - name: h200
    accelerator: H200
    nodes: 1
    gpus_per_node: 8
  - {name: b200-0.5.21, accelerator: B200}
engine:
  args: {tp-size: 8, trust-remote-code: true}
perf:
  - batch_sizes: [1, 2, 4]
    input_tokens: 256
    output_tokens: 64
"""


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., RunConfig]:
    """Write a text as `c.yaml` and read it."""

    def written(text: str | bytes, sets: Sequence[str] = ()) -> RunConfig:
        path = tmp_path / "c.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(path, sets)

    return written

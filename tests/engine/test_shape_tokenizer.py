"""The tokenizer of models of random weights, made and read by the engine's own interpreter."""

import json
import subprocess
from pathlib import Path

import pytest

from raybench.config.schema import Managed, ManagedEnvironment
from raybench.engine.environment import resolve
from raybench.engine.models import make_model
from raybench.engine.shapes import SHAPES

pytestmark = [pytest.mark.sglang, pytest.mark.slow, pytest.mark.timeout(1800)]
CPU = Managed(managed=ManagedEnvironment(version="0.5.21", device="cpu"))
SHAPE = "qwen3-235b-a22b-fp8-tp8-ep2-rank"
WITHOUT_TEXT = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = range(len(tokenizer))
print(json.dumps([len(tokenizer), [i for i in ids if not tokenizer.decode([i], skip_special_tokens=True)]]))
"""


def test_every_id_that_random_weights_may_choose_is_text(tmp_path: Path) -> None:
    python = resolve(CPU, print).python
    folder = make_model(f"dummy:{SHAPE}", tmp_path, python, print)
    said = subprocess.run(
        [str(python), "-c", WITHOUT_TEXT, str(folder)], capture_output=True, text=True, timeout=300, check=True
    )
    num_ids, without_text = json.loads(said.stdout.splitlines()[-1])
    assert num_ids == SHAPES[SHAPE]["vocab_size"]
    assert without_text == [0, 1, 2], "the special ones alone"

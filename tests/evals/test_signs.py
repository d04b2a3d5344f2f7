"""Loops and the other signs, on normal and on hostile texts."""

import random
from pathlib import Path

import pytest

import raybench
from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_replies import LOOP, ChatRequest, reply_to
from raybench.evals import EVALS
from raybench.evals.loops import is_looping, period
from raybench.evals.signs import RUN_ON_CHARS, signs
from raybench.records import SampleRecord

SOURCES = sorted(Path(raybench.__file__).parent.rglob("*.py"))
NORMAL = " ".join(random.Random(4).choices(Path(raybench.__file__).with_name("errors.py").read_text().split(), k=1200))


def test_our_own_texts_do_not_loop() -> None:
    """Code and prose, full of lists and tables: the most regular normal texts at hand."""
    assert len(SOURCES) > 100
    assert [path.name for path in SOURCES if is_looping(path.read_text())] == []


@pytest.mark.parametrize("num_words", [50, 400, 4000])
def test_simulated_work_does_not_loop(num_words: int) -> None:
    model = SimulatedConfig(prefill_tok_per_s={1: 1.0}, itl_ms={1: 1.0}, reply_tokens={"e": num_words})
    for seed in range(10):
        asked = ChatRequest(prompt_sha256="p", eval="e", target="t", seed=seed, max_tokens=10_000)
        assert not is_looping(reply_to(asked, "70", model).text)


@pytest.mark.parametrize("piece", ["a", "no. ", LOOP + " ", "\\frac{1}{2} + ", "x" * 150 + "y", "é中 loop \n"])
@pytest.mark.parametrize("num_chars", [2000, 40_000])
def test_a_repeated_piece_is_a_loop_after_any_beginning(piece: str, num_chars: int) -> None:
    text = NORMAL + piece * (num_chars // len(piece))
    assert is_looping(text)
    assert is_looping(text[:-1]), "cut within a round"


@pytest.mark.parametrize("length", [1, 3, 16, 17, 250, 400])
def test_the_period_is_the_length_of_the_piece(length: int) -> None:
    piece = "".join(random.Random(length).choices("abcdefghijklmnop ", k=length))
    assert period(NORMAL + piece * max(4, 240 // length + 1)) == length
    assert period(NORMAL) is None


def test_four_rounds_of_a_long_piece_are_a_loop_and_three_are_not() -> None:
    piece = NORMAL[:399] + "|"
    assert is_looping(NORMAL[1000:5400] + piece * 4), "compression alone does not show it"
    assert not is_looping(NORMAL[1000:5800] + piece * 3)


@pytest.mark.parametrize("text", ["", "ha" * 100, "-" * 190, "| 1 | 2 |\n" * 10, "\\boxed{70}\n\\boxed{70}"])
def test_short_repetition_is_no_loop(text: str) -> None:
    assert not is_looping(text)


@pytest.mark.parametrize("text", ["\ud800" * 2000, "\x00" * 5000, "9" * 1_000_000])
def test_hostile_texts_are_loops_like_any_other(text: str) -> None:
    assert is_looping(text)


def _sample(reply: str | None, finish_reason: str = "stop", **changes: object) -> SampleRecord:
    fields: dict[str, object] = {
        "key": "k", "unit": "u", "target": "t", "eval": "aime25", "question": "q", "repeat": 0, "status": "ok",
        "reply": reply, "finish_reason": finish_reason, "prompt_tokens": 5, "output_tokens": 9, "prompt_sha256": "p",
        "gold": "70", "seed": 1, "sent_unix_s": 0.0, "duration_s": 1.0,
    }  # fmt: skip
    return SampleRecord.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (_sample("It is \\boxed{70}."), set()),
        (_sample("**Answer:** 70"), set()),
        (_sample("It is \\boxed{71}"), set()),
        (_sample("I do not know."), {"unparsed"}),
        (_sample(""), {"unparsed", "empty"}),
        (_sample(None, status="http_error"), {"errored"}),
        (_sample("so " * 400, "length"), {"truncated", "looping"}),
        (_sample("It is \\boxed{70}" + " and " + NORMAL[: RUN_ON_CHARS + 9]), {"run_on"}),
        (_sample("\\boxed{70}\n\nUser: and what is 3 + 4?"), {"run_on"}),
        (_sample("\\boxed{70}<|im_end|>\n<|im_start|>user"), {"run_on"}),
        (_sample("\\boxed{70}. Here 70 comes from 7 x 10, as shown above."), set()),
    ],
)
def test_signs_of_a_sample(sample: SampleRecord, expected: set[str]) -> None:
    assert signs(sample, EVALS["aime25"]) == expected

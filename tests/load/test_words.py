"""Loads in words: what tells two sweeps apart is said, and what is as it always is is not."""

import pytest

from raybench.load.words import length_words, load_words
from raybench.records.loads import (
    ClosedLoad,
    Lengths,
    LogNormalLength,
    NormalLength,
    OpenLoad,
    ServingLoad,
    SessionsLoad,
    SharedPrefix,
    UniformLength,
)

CLOSED = ClosedLoad(concurrency=4, input_tokens=500, output_tokens=60)
OPEN = OpenLoad(rate_per_s=2, duration_s=60, input_tokens=500, output_tokens=60)
TALK = SessionsLoad(concurrency=4, turns=8, input_tokens=200, output_tokens=100)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (CLOSED, "closed loop, 500 ±20% tokens in, 60 ±20% out"),
        (CLOSED.model_copy(update={"jitter_fraction": 0.0}), "closed loop, 500 tokens in, 60 out"),
        (
            CLOSED.model_copy(update={"prefix": SharedPrefix(tokens=8192)}),
            "closed loop, 500 ±20% tokens in + 8,192 shared, 60 ±20% out",
        ),
        (
            OPEN.model_copy(update={"prefix": SharedPrefix(tokens=8192, groups=4)}),
            "poisson arrivals, 500 tokens in + 8,192 shared in 4 groups, 60 out",
        ),
        (OPEN.model_copy(update={"texts": ("a", "b c")}), "poisson arrivals, 2 texts in, 60 out"),
        (TALK, "conversations of 8 turns, each adds 200 tokens, 100 out"),
        (
            TALK.model_copy(update={"system_tokens": 3000, "think_s": 2.5}),
            "conversations of 8 turns, 3,000 tokens of system prompt, each adds 200 tokens, 100 out, 2.5 s to think",
        ),
    ],
)
def test_loads_are_told_apart(load: ServingLoad, words: str) -> None:
    assert load_words(load) == words


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (1024, "1,024"),
        (UniformLength(distribution="uniform", min=512, max=2048), "512 to 2,048"),
        (NormalLength(distribution="normal", mean=900, deviation=100), "about 900 (normal, deviation 100)"),
        (
            NormalLength(distribution="normal", mean=900, deviation=100, min=20, max=4096),
            "about 900 (normal, deviation 100, at least 20, at most 4,096)",
        ),
        (
            LogNormalLength(distribution="lognormal", median=900, sigma=0.8, max=8000),
            "about 900 (log-normal, sigma 0.8, at most 8,000)",
        ),
    ],
)
def test_lengths_are_told_apart(length: Lengths, words: str) -> None:
    assert length_words(length) == words

"""Prompts of exact length, as token ids: no tokenizer, no text, nothing that a prefix cache could share.

Invariant: the same (load, seed, vocabulary) gives the same prompts on every machine and Python version, and the first
tokens of a batch are all distinct. Only `random.Random.random()` is drawn from: it is the one method whose sequence
Python promises to keep between versions.
"""

import hashlib
import random

from raybench.records import OneBatchLoad

NUM_RESERVED = 100
"""Ids below this are left out: vocabularies keep special tokens there."""


def token_bounds(vocab_tokens: int) -> tuple[int, int]:
    """Range [low, high) of token ids to draw from; a vocabulary too small to spare 100 ids spares an eighth."""
    if vocab_tokens < 1:
        raise ValueError(f"a vocabulary of {vocab_tokens} tokens has nothing to draw from")
    return min(NUM_RESERVED, vocab_tokens // 8), vocab_tokens


def one_batch_prompts(load: OneBatchLoad, seed: int, vocab_tokens: int) -> list[list[int]]:
    """`batch_size` prompts of exactly `input_tokens` ids each, uniform, with distinct first ids.

    Raises ValueError if the vocabulary has fewer ids than the batch has prompts.
    """
    low, high = token_bounds(vocab_tokens)
    span = high - low
    if span < load.batch_size:
        raise ValueError(f"{load.batch_size} prompts need distinct first tokens, the vocabulary offers {span}")
    draw = random.Random(seed).random
    first_ids: dict[int, None] = {}
    while len(first_ids) < load.batch_size:
        first_ids[low + int(draw() * span)] = None
    num_rest = load.input_tokens - 1
    return [[first, *(low + int(draw() * span) for _ in range(num_rest))] for first in first_ids]


def pass_seed(prompt_seed: int, pass_index: int) -> int:
    """Seed of one pass of a load point: pass 0 is the measured one and keeps `prompt_seed`, 1.. are the warm-ups."""
    if pass_index == 0:
        return prompt_seed
    digest = hashlib.sha256(f"{prompt_seed}/{pass_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big")

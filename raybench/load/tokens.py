"""The tokens of a scheduled request's prompt: exact in number, and shared with others only where that is meant.

Invariant: the same request and vocabulary give the same ids on every machine. The first own token is another one for
every request of a schedule, as long as the vocabulary has enough of them, so that a prefix cache has nothing to serve
but the intended prefixes.
"""

from math import gcd

from raybench.load.draws import seed_of, whole_numbers
from raybench.load.prompts import token_bounds
from raybench.load.schedule import ScheduledRequest


def prompt_ids(request: ScheduledRequest, vocab_tokens: int) -> list[int]:
    """Token ids of a request's prompt."""
    bounds = token_bounds(vocab_tokens)
    ids: list[int] = []
    for prefix in request.prefix:
        ids += _stream(prefix.seed, prefix.tokens, bounds)
    own = request.input_tokens - len(ids)
    if own > 0:
        ids.append(_first_id(request.prompt_seed, request.index, bounds))
        ids += _stream(seed_of(request.prompt_seed, "prompt", request.index), own - 1, bounds)
    return ids


def _stream(seed: int, num_tokens: int, bounds: tuple[int, int]) -> list[int]:
    return whole_numbers(seed, "tokens", num_tokens, bounds).tolist()


def _first_id(seed: int, index: int, bounds: tuple[int, int]) -> int:
    """A permutation of the vocabulary, walked in steps: no id comes again before all have come."""
    low, high = bounds
    span = high - low
    start, step = seed_of(seed, "first") % span, seed_of(seed, "step") % span
    while gcd(step, span) != 1:
        step += 1
    return low + (start + index * step) % span

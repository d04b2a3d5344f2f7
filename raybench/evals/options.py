"""Questions with lettered options: the letters, the order in which the options are shown, and the text. Pure.

The order comes from a hash of (question id, repeat, run seed) and is kept with every sample: an order drawn once for
all repeats, or again when re-scoring, has falsified published results.
"""

from collections.abc import Sequence
from math import factorial

from raybench.records import content_hash

LETTERS = "ABCDEFGHIJ"
"""Letters of up to ten options."""
FOUR_LETTERS = LETTERS[:4]
"""Letters of four options."""

REQUEST = (
    "Please reason step by step, and show your choice in the `answer` field "
    'with only the choice letter, e.g., `"answer": "C"`.'
)
"""What the Qwen3 model cards recommend for multiple choice."""


def letter_order(question: str, repeat: int, run_seed: int, num_options: int = 4) -> tuple[int, ...]:
    """Place in the source of each shown option, 0 being the right one. The same in every version of raybench."""
    drawn = int(content_hash(["letter_order", question, repeat, run_seed]), 16)
    return _permutation(num_options, drawn % factorial(num_options))


def _permutation(num_places: int, number: int) -> tuple[int, ...]:
    """Permutation `number` of the places 0, 1 ... in lexicographic order."""
    left = list(range(num_places))
    order: list[int] = []
    for remaining in range(num_places, 0, -1):
        place, number = divmod(number, factorial(remaining - 1))
        order.append(left.pop(place))
    return tuple(order)


def shown(options: Sequence[str], order: Sequence[int]) -> str:
    """The options as lines `A) ...` in this order."""
    return "\n".join(f"{letter}) {options[place].strip()}" for letter, place in zip(LETTERS, order, strict=False))

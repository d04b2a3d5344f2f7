"""The 64 questions of the `sums` eval, which are also what the tiny trained model was taught. Pure, seeded."""

import random

NUM_QUESTIONS = 64


def questions() -> list[tuple[str, str]]:
    """64 distinct (question, answer) pairs of two-digit sums, the same on every machine and Python."""
    draw = random.Random(0)
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < NUM_QUESTIONS:
        # random() keeps its sequence for a seed over Python versions; randint does not promise to.
        pairs[10 + int(draw.random() * 90), 10 + int(draw.random() * 90)] = None
    return [(f"What is {a} + {b}? Put the final answer in \\boxed{{}}.", str(a + b)) for a, b in pairs]

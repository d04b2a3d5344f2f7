"""What is wrong with a sample, sign by sign: what rates in flight and the diagnosis count. Pure."""

import re

from raybench.evals.base import Eval
from raybench.evals.grade import outcome
from raybench.evals.loops import is_looping
from raybench.records import Outcome, SampleRecord, Sign

RUN_ON_CHARS = 500
"""A reply that goes on for longer than this after its last answer did not stop where it should."""

_NEXT_TURN = re.compile(
    r"<\|im_(?:start|end)\|>|<\|(?:eot_id|end_of_text|endoftext|user)\|>|</s>|\n\s*(?:User|Human|Question|Q)\s*:"
)
"""The start of another turn, or a token that should have ended this one."""


def signs(sample: SampleRecord, evaluation: Eval, graded: Outcome | None = None) -> frozenset[Sign]:
    """Signs that a sample bears. `graded` = its outcome where that is known already.

    An errored sample bears no other sign: whatever text came with it is not the model's.
    """
    result = outcome(sample, evaluation) if graded is None else graded
    if result == "errored":
        return frozenset(["errored"])
    found: set[Sign] = set()
    if result in ("truncated", "unparsed"):
        found.add(result)
    reply = sample.reply or ""
    if not reply.strip():
        found.add("empty")
    elif is_looping(reply):
        found.add("looping")
    if _runs_on(sample, evaluation):
        found.add("run_on")
    return frozenset(found)


def _runs_on(sample: SampleRecord, evaluation: Eval) -> bool:
    reply = sample.reply or ""
    span = evaluation.extract(reply, sample.finish_reason).span
    if span is None:
        return False
    rest = reply[span[1] :]
    return len(rest.strip()) > RUN_ON_CHARS or _NEXT_TURN.search(rest) is not None

"""Chat replies of the simulated engine: right as often as the configuration says, in a form that graders read. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_timing import share
from raybench.evals import EVALS
from raybench.evals.options import LETTERS

DEFAULT_ACCURACY = 0.5
DEFAULT_REPLY_TOKENS = 64
CANARY = "canary"
CANARY_TOKENS = 12
_DEFAULT_LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What decides a reply."""

    prompt_sha256: str
    """Hash of the messages."""
    eval: str
    """Name of the eval, from the request's header; may be empty."""
    target: str
    """Target of the engine: two targets do not err on the same questions."""
    seed: int
    """Request seed."""
    max_tokens: int
    """Limit of the reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; one word of the text counts as one token."""

    text: str
    """Text."""
    finish_reason: str
    """`stop` or `length`."""
    tokens: int
    """Length in tokens."""


def reply_to(request: ChatRequest, gold: str | None, model: SimulatedConfig) -> Reply:
    """The reply to a request, the same each time. Without a gold answer it says that it does not know."""
    if request.eval == CANARY:
        return _canary(request, gold, model)
    draw = (request.target, request.prompt_sha256, request.seed)
    tokens = _num_tokens(request, model, share("length", *draw))
    cut = share("cut", *draw) < model.faults.truncate_fraction
    if cut or tokens > request.max_tokens:
        # Cut in the middle of its work: the answer never comes.
        return Reply(_work(request.max_tokens), "length", request.max_tokens)
    accuracy = by_name(model.accuracy, request.eval, DEFAULT_ACCURACY)
    if gold is None:
        answer = "I do not know."
    elif share("right", *draw) < accuracy:
        answer = _in_form(gold)
    else:
        evaluation = EVALS.get(request.eval.replace("-", "_"))
        letters = evaluation.letters if evaluation is not None and evaluation.letters else _DEFAULT_LETTERS
        answer = _in_form(_wrong(gold, share("wrong", *draw), letters))
    return Reply(f"{_work(tokens - len(answer.split()))}\n{answer}", "stop", tokens)


def _canary(request: ChatRequest, gold: str | None, model: SimulatedConfig) -> Reply:
    """A canary is a short task: the faults of long replies leave it alone, and it is right unless told otherwise."""
    right = share("right", request.target, request.prompt_sha256) < by_name(model.accuracy, CANARY, 1.0)
    answer = "I do not know." if gold is None else _in_form(gold if right else _wrong(gold, 0.5, _DEFAULT_LETTERS))
    text = f"{_work(CANARY_TOKENS - len(answer.split()))}\n{answer}"
    if request.max_tokens < CANARY_TOKENS:
        return Reply(_work(request.max_tokens), "length", request.max_tokens)
    return Reply(text, "stop", CANARY_TOKENS)


def by_name(table: Mapping[str, float], name: str, default: float) -> float:
    """Entry of a table by eval name, dashes and underscores alike."""
    wanted = name.replace("-", "_")
    return next((value for key, value in table.items() if key.replace("-", "_") == wanted), default)


def _num_tokens(request: ChatRequest, model: SimulatedConfig, place: float) -> int:
    mean = by_name(model.reply_tokens, request.eval, DEFAULT_REPLY_TOKENS) * model.faults.long_reply_factor
    return max(5, round(mean * (0.5 + place)))


def _work(num_words: int) -> str:
    return " ".join(["step"] * max(num_words, 1))


def _in_form(gold: str) -> str:
    return f"Answer: {gold}" if _is_letter(gold) else f"\\boxed{{{gold}}}"


def _is_letter(gold: str) -> bool:
    return len(gold) == 1 and gold in LETTERS


def _wrong(gold: str, place: float, letters: str) -> str:
    if _is_letter(gold):
        others = [letter for letter in letters if letter != gold]
        return others[int(place * len(others))]
    if re.fullmatch(r"-?\d+", gold):
        return str(int(gold) + 1 + int(place * 9))
    return "none"

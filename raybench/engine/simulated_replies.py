"""Chat replies of the simulated engine: right as often as the configuration says, in a form that graders read. Pure."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from raybench.config.schema import SimulatedConfig
from raybench.engine.simulated_timing import share
from raybench.evals import EVALS
from raybench.evals.options import LETTERS

DEFAULT_ACCURACY = 0.5
DEFAULT_REPLY_TOKENS = 64
LOOP = "Wait, let me check this once more, to be sure that the step above is right."
WORK = (
    "so then we take the first of these and add it to both sides which leaves a smaller sum that must hold for every "
    "case because no other number divides them evenly now check what remains if two are equal or one vanishes hence "
    "only few values stay possible count each once more by hand using symmetry about its middle until nothing changes"
)
_WORDS = WORK.split()
_DEFAULT_LETTERS = "ABCD"
CANARY = "canary"
CANARY_TOKENS = 12


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
    place: float = 0.5
    """How hard the question is beside the others, from 0 (hardest) to 1."""


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
    faults = model.faults
    draw = (request.target, request.prompt_sha256, 0 if faults.ignore_seed else request.seed)
    if share("loop", *draw) < faults.loop_fraction:
        words = LOOP.split() * (request.max_tokens // len(LOOP.split()) + 1)
        return Reply(" ".join(words[: request.max_tokens]), "length", request.max_tokens)
    tokens = _num_tokens(request, model, share("length", *draw))
    cut = share("cut", *draw) < faults.truncate_fraction
    seed = "/".join(map(str, draw))
    if cut or tokens > request.max_tokens:
        # Cut in the middle of its work: the answer never comes.
        return Reply(_work(request.max_tokens, seed), "length", request.max_tokens)
    accuracy = by_name(model.accuracy, request.eval, DEFAULT_ACCURACY)
    if gold is None:
        answer = "I do not know."
    elif _is_right(model, accuracy, request, draw):
        answer = _in_form(gold, faults.answer_form)
    else:
        evaluation = EVALS.get(request.eval.replace("-", "_"))
        letters = evaluation.letters if evaluation is not None and evaluation.letters else _DEFAULT_LETTERS
        answer = _in_form(_wrong(gold, share("wrong", *draw), letters), faults.answer_form)
    return Reply(f"{_work(tokens - len(answer.split()), seed)}\n{answer}", "stop", tokens)


def _is_right(model: SimulatedConfig, accuracy: float, request: ChatRequest, draw: tuple[str | int, ...]) -> bool:
    """Hard questions are always missed and easy ones always answered, in such numbers that the mean is the accuracy."""
    settled = model.settled_fraction
    if share("spoilt", *draw) < model.faults.wrong_fraction or request.place < settled * (1 - accuracy):
        return False
    return request.place >= 1 - settled * accuracy or share("right", *draw) < accuracy


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


def _work(num_words: int, seed: str = "") -> str:
    """Words that compress as language does: one word over and over would be taken for a loop."""
    return " ".join(random.Random(seed).choices(_WORDS, k=max(num_words, 1)))


def _in_form(gold: str, form: str = "plain") -> str:
    if form == "bold":
        return f"**Answer:** {gold}"
    if form == "prose":
        return f"which makes it {gold} in the end"
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

"""The preflight checks of a target: for every place of a node the same ones, in the same order."""

from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from raybench.config.evals import EvalConfig
from raybench.config.schema import RunConfig, TargetConfig
from raybench.evals import eval_of
from raybench.evals.base import Question
from raybench.evals.canary import canary_questions
from raybench.plan.keys import check_key
from raybench.records import Check, CheckUnit, EvalUnit, ReplyBudget, Route, SampleSpec, content_hash

NUM_PROMPTS = 4
"""Prompts whose tokens are compared with the template's: one would do, unless a template treats some alike."""
NUM_AGREEMENT = 16
"""Questions whose greedy replies are compared between nodes."""
UNTIMED_BATCH = 8
LARGEST_BATCH = 64
"""Of the check of decode: some seconds on a slow engine."""
TIMEOUT_S = 60.0
"""Limit of one request of a check: the longest answers with 512 tokens."""


def check_units(
    config: RunConfig, target: TargetConfig, identity: dict[str, JsonValue], blocks: Sequence[EvalUnit]
) -> tuple[CheckUnit, ...]:
    """All checks of one target; none without evals, and none where they are switched off."""
    if not config.evals or not config.preflight.enabled:
        return ()
    return tuple(
        unit.model_copy(update={"key": check_key(identity, unit, place), "place": place})
        for place in range(target.nodes)
        for unit in _once(config, target, blocks)
    )


def _once(config: RunConfig, target: TargetConfig, blocks: Sequence[EvalUnit]) -> Iterator[CheckUnit]:
    """The checks of one place; their keys and places are still to be set."""

    def unit(check: Check, route: Route = "chat") -> CheckUnit:
        return CheckUnit(
            key="", target=target.name, check=check, place=0, route=route, stops=config.preflight.stop,
            timeout_s=TIMEOUT_S,
        )  # fmt: skip

    yield unit("grader")
    longest = tuple(_longest(blocks, settings.name) for settings in config.evals)
    budgets = tuple(_budget(settings) for settings in config.evals)
    first = config.evals[0].route
    yield unit("limits", first).model_copy(update={"samples": longest, "budgets": budgets})
    routes: dict[Route, None] = dict.fromkeys(settings.route for settings in config.evals)
    for route in routes:
        evals = [eval_of(settings) for settings in config.evals if settings.route == route]
        asked = canary_questions(evals, config.seed)
        samples = tuple(_sample(question, config.seed) for _, question in asked)
        graders = tuple(grader for grader, _ in asked)
        yield unit("prompt", route).model_copy(update={"samples": _spread(samples, NUM_PROMPTS)})
        yield unit("canary", route).model_copy(update={"samples": samples, "graders": graders})
        yield unit("agreement", route).model_copy(update={"samples": _spread(samples, NUM_AGREEMENT)})
    yield unit("numerics")
    yield unit("decode").model_copy(update={"batch_size": _timed_batch(config)})


def _timed_batch(config: RunConfig) -> int:
    """The largest batch that is timed, for its kernels are the ones that users get; a small one without any."""
    timed = [size for sweep in config.perf for size in sweep.batch_sizes]
    return min(max(timed, default=UNTIMED_BATCH), LARGEST_BATCH)


def _budget(settings: EvalConfig) -> ReplyBudget:
    needed = None if settings.rows == "synthetic" else eval_of(settings).min_max_tokens
    return ReplyBudget(eval=settings.name, max_tokens=settings.sampling.max_tokens, needed_tokens=needed)


def _longest(blocks: Sequence[EvalUnit], name: str) -> SampleSpec:
    """The sample with the most text: its prompt is the one that leaves the least room for a reply."""
    samples = [sample for block in blocks if block.eval == name for sample in block.samples]
    return max(samples, key=lambda sample: sum(len(message.content) for message in sample.messages))


def _sample(question: Question, run_seed: int) -> SampleSpec:
    seed = int(content_hash(["canary", question.question, run_seed], 8), 16) & 0x7FFF_FFFF
    return SampleSpec(
        key=f"canary-{question.question}", question=question.question, repeat=0, messages=question.messages,
        gold=question.gold, seed=seed, letter_order=question.letter_order,
    )  # fmt: skip


def _spread(samples: tuple[SampleSpec, ...], number: int) -> tuple[SampleSpec, ...]:
    """That many of them, evenly from first to last, so that every form of question is among them."""
    if len(samples) <= number:
        return samples
    return tuple(samples[i * len(samples) // number] for i in range(number))

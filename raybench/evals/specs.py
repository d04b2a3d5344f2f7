"""Turns an eval's rows into the samples of a plan. Pure: the same arguments give the same samples on every machine."""

from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from raybench.config.evals import EvalConfig
from raybench.errors import RowsError
from raybench.evals.base import Eval, Question, Rows
from raybench.records import SampleSpec, content_hash, prompt_hash


def sample_specs(
    evaluation: Eval, rows: Rows, config: EvalConfig, run_seed: int, identity: Mapping[str, JsonValue]
) -> tuple[SampleSpec, ...]:
    """All samples of one eval on one target: question by question, each with its repeats.

    `identity` is everything else that decides what is measured (target, model revision, engine version, args and env);
    it goes into every sample's key with prompt, sampling, seed and repeat. Raises RowsError when two rows share an id.
    """
    specs: list[SampleSpec] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows.rows[: config.limit], start=1):
        for repeat in range(config.repeats):
            question = evaluation.ask(row, repeat, run_seed)
            if repeat == 0 and question.question in seen:
                first = seen[question.question]
                raise RowsError(f"{rows.source}: rows {first} and {number} have the same id {question.question!r}")
            seen.setdefault(question.question, number)
            seed = request_seed(evaluation, question.question, repeat, run_seed)
            measured = dict(identity) | {"eval": evaluation.name, "sampling": config.sampling.model_dump()}
            if config.route != "chat":
                # Left out where it is the default, so that keys of older ledgers stay what they are.
                measured["route"] = config.route
            specs.append(_spec(question, repeat, seed, measured))
    return tuple(specs)


def _spec(question: Question, repeat: int, seed: int, measured: dict[str, JsonValue]) -> SampleSpec:
    content = measured | {
        "question": question.question,
        "prompt": prompt_hash(question.messages),
        "seed": seed,
        "repeat": repeat,
    }
    return SampleSpec(
        key=content_hash(content),
        question=question.question,
        repeat=repeat,
        messages=question.messages,
        gold=question.gold,
        seed=seed,
        letter_order=question.letter_order,
    )


def request_seed(evaluation: Eval, question: str, repeat: int, run_seed: int) -> int:
    """Seed of one request, in [0, 2**31): distinct per repeat, for an engine in deterministic mode gives all requests
    without a seed the same one, and all repeats of a question then the same text."""
    return int(content_hash(["request_seed", evaluation.name, question, repeat, run_seed], 8), 16) & 0x7FFF_FFFF


def answer_key(samples: Iterable[SampleSpec]) -> dict[str, str]:
    """Right answers by `prompt_hash` of the messages. For simulated engines only."""
    return {prompt_hash(sample.messages): sample.gold for sample in samples}

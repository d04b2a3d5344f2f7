"""Is a measured reference comparable with what was run: the same questions, prompts, sampling, route, graders? Pure.

A result belongs to its prompt: a system prompt alone has moved AIME scores by seven points. A reference with another
prompt, other questions, other sampling, by another route or read by other graders is shown as what it is, and gates
nothing. One that does not say its route or its graders gates, and the report says so.
"""

from collections.abc import Iterable

from pydantic import JsonValue

from raybench.config.reference import MeasuredReference
from raybench.evals.grade import GRADER_VERSION
from raybench.records import Route, SampleSpec, Sampling, content_hash


def prompts_digest(samples: Iterable[SampleSpec]) -> str:
    """Hash over ids, prompts and answers of the planned questions, whatever the order, the repeats and the seed.

    The options of a four-choice question are shown in another order at every repeat and seed, so that the words of a
    prompt are hashed in the order of the alphabet, and its letter is left out.
    """
    questions: dict[str, str] = {}
    for sample in samples:
        if sample.question not in questions:
            words: list[JsonValue] = [[message.role, *sorted(message.content.split())] for message in sample.messages]
            gold = sample.gold if sample.letter_order is None else None
            questions[sample.question] = content_hash([words, gold], 64)
    return content_hash([[question, questions[question]] for question in sorted(questions)], 64)


def differences(
    reference: MeasuredReference,
    *,
    prompts_sha256: str,
    sampling: Sampling,
    route: Route,
    num_questions: int,
    simulated: bool,
) -> tuple[str, ...]:
    """What makes a reference another measurement, in words; empty where it is comparable.

    The number of repeats may differ: it decides how exact each side is, not what is measured.
    """
    found: list[str] = []
    if reference.num_questions != num_questions:
        found.append(f"{reference.num_questions} questions there, {num_questions} here")
    elif reference.prompts_sha256 != prompts_sha256:
        found.append("other questions or another prompt")
    here, there = sampling.model_dump(), reference.sampling.model_dump()
    found += [f"{name} {there[name]:g} there, {here[name]:g} here" for name in here if here[name] != there[name]]
    if reference.route not in (None, route):
        found.append(f"route {reference.route} there, {route} here")
    if reference.grader not in (None, GRADER_VERSION):
        # The replies of its run are still there, and saving reads them anew.
        found.append(f"grader {reference.grader} there, {GRADER_VERSION} here (save it again from its own run)")
    if reference.simulated != simulated:
        found.append("simulated there, real here" if reference.simulated else "real there, simulated here")
    return tuple(found)


def unsaid(reference: MeasuredReference) -> tuple[str, ...]:
    """What a file of an older version does not say, so that it may differ unseen."""
    known = {"its route": reference.route, "the version of its graders": reference.grader}
    return tuple(what for what, value in known.items() if value is None)

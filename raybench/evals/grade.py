"""What a stored sample comes to. Derived whenever a ledger is read, so that a better grader re-scores old runs."""

from collections.abc import Iterable

from raybench.evals.base import NO_ANSWER, Eval, Extraction
from raybench.records import Outcome, SampleRecord

# The server ended the reply itself; a fault of the service is never a wrong answer of the model.
_ERRORED_FINISH = frozenset({"abort", "error", "content_filter"})


GRADER_VERSION = 2
"""Version of the graders, stored with every grade. It grows whenever one of them reads a reply otherwise."""


def answer_of(sample: SampleRecord, evaluation: Eval) -> Extraction:
    """The answer that a sample's reply gives; none where no whole reply came."""
    if sample.status != "ok" or sample.finish_reason in _ERRORED_FINISH:
        return NO_ANSWER
    return evaluation.extract(sample.reply or "", sample.finish_reason)


def outcome(sample: SampleRecord, evaluation: Eval) -> Outcome:
    """Outcome of one sample.

    errored: no whole reply came (any status but ok, or the server aborted it). truncated: the reply ended at
    `max_tokens`, whatever stands in it: a box in a cut reply may be an intermediate result, and a model that gives its
    answer and runs on to the limit shows a fault that must be seen. unparsed: a whole reply without a readable answer,
    an empty one included, or with one that cannot be compared without algebra. Else correct or incorrect.
    """
    if sample.status != "ok" or sample.finish_reason in _ERRORED_FINISH:
        return "errored"
    if sample.finish_reason == "length":
        return "truncated"
    value = evaluation.extract(sample.reply or "", sample.finish_reason).value
    if value is None:
        return "unparsed"
    same = evaluation.agree(value, sample.gold)
    if same is None:
        return "unparsed"
    return "correct" if same else "incorrect"


def outcomes(samples: Iterable[SampleRecord], evaluation: Eval) -> dict[tuple[str, int], Outcome]:
    """Outcomes by (question, repeat), of the samples of one target and one eval."""
    return {(sample.question, sample.repeat): outcome(sample, evaluation) for sample in samples}

"""Whether the configuration that answered an eval is the one that was timed."""

from collections.abc import Callable

import pytest
from ledger_builder import LedgerBuilder, config, whole_ledger

from raybench.ledger.view import RunView
from raybench.records import EngineFacts, EvalUnit, PerfUnit
from raybench.report.accuracy_words import timed_text
from raybench.report.summary import make_report
from raybench.validity.timed import timed_configuration

Change = Callable[[EngineFacts], EngineFacts]


def _two_starts(change: Change) -> RunView:
    """alpha is timed on one start and answers on the next, which is changed."""
    builder = LedgerBuilder(config(targets=[{"name": "alpha", "accelerator": "H200"}]))
    builder.session()
    builder.planned()
    builder.node("alpha", 0)
    builder.engine("alpha", "n0.0")
    builder.engine("alpha", "n0.1", change)
    for unit in builder.plan.units:
        if isinstance(unit, PerfUnit):
            builder.perf_done(unit, "n0.0")
        elif isinstance(unit, EvalUnit):
            builder.eval_done(unit, "n0.1")
    return builder.view()


def test_one_start_for_both_is_the_configuration_that_was_timed() -> None:
    found = timed_configuration(whole_ledger().view(), "alpha", "sums")
    assert found is not None
    assert (found.status, found.differences) == ("timed", ())
    assert "the configuration that was timed (" in timed_text(make_report(whole_ledger().view()).evals[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts,
        lambda facts: facts.model_copy(update={"argv": ("--tp-size", "8", "--port", "31999", "--nccl-port", "7")}),
        lambda facts: facts.model_copy(update={"url": "http://127.0.0.1:2", "max_total_tokens": 1}),
        lambda facts: facts.model_copy(update={"resolved_args": facts.resolved_args | {"random_seed": 5}}),
    ],
)
def test_another_start_of_the_same_settings_is_too(change: Change) -> None:
    found = timed_configuration(_two_starts(change), "alpha", "sums")
    assert found is not None
    assert found.status == "timed"


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"version": "0.5.22"}, "version: 0.5.21 timed, 0.5.22 here"),
        ({"model_revision": None}, "model revision: abc123 timed, not said here"),
        ({"env": {"SGLANG_X": "1"}}, "env: none timed, SGLANG_X=1 here"),
        ({"argv": ("--tp-size", "4")}, "flags: --tp-size 8 timed, --tp-size 4 here"),
        ({"resolved_args": {"attention_backend": "triton", "dtype": "bfloat16", "chunked_prefill_size": 8192}},
         "attention_backend: fa3 timed, triton here"),
    ],
)  # fmt: skip
def test_another_configuration_is_named(update: dict[str, object], words: str) -> None:
    view = _two_starts(lambda facts: facts.model_copy(update=update))
    found = timed_configuration(view, "alpha", "sums")
    assert found is not None
    assert (found.status, found.differences) == ("another", (words,))
    assert timed_text(make_report(view).evals[0]) == f"another configuration than was timed: {words}"


def test_a_run_of_evals_only_timed_nothing() -> None:
    view = whole_ledger(config(perf=[])).view()
    found = timed_configuration(view, "alpha", "sums")
    assert found is not None
    assert found.status == "nothing_timed"
    assert timed_text(make_report(view).evals[0]) == "nothing was timed in this run"


def test_what_never_answered_has_no_configuration() -> None:
    view = whole_ledger(skip=lambda key: "sums" in key).view()
    assert timed_configuration(view, "alpha", "sums") is None
    assert timed_text(make_report(view).evals[0]) == "nothing answered"

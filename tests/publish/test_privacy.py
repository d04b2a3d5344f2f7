"""What may leave: of samples, of the configuration, of every text. Each field of the configuration is decided upon."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from ledger_builder import LedgerBuilder, check_units, config, whole_ledger
from pydantic import BaseModel, JsonValue

from raybench.config.schema import RunConfig
from raybench.publish.comparison import compare
from raybench.publish.content import Attachment, Table
from raybench.publish.privacy import clean, clean_value
from raybench.publish.projection import attachments
from raybench.publish.samples import sharing
from raybench.publish.shared_config import KEPT, SENT, shared_config
from raybench.publish.tables import tables
from raybench.publish.targets import Source
from raybench.records import CheckMeasurement, PerfMeasurement, PerfUnit, SampleRecord
from raybench.report.summary import make_report

SECRET = "planted-secret"
TEXT = "What would GPQA have asked here?"
"""Stands for a question's text that must not leave."""


def _source(builder: LedgerBuilder) -> Source:
    view = builder.view()
    return Source(tuple(builder.records), view, make_report(view), True)


def _everything(builder: LedgerBuilder, share: Any) -> str:
    """All tables and files that a publication would send."""
    source = _source(builder)
    found: list[Table | Attachment] = list(attachments(source, share))
    for target in source.report.targets:
        found += tables(source.report, target, source.scored, share)
    compared = compare([source], share, "2026-01-01")
    return repr([*found, compared.speed, compared.accuracy, *compared.questions])


def _quoting(sample: SampleRecord) -> SampleRecord:
    """A model that repeats what it was asked."""
    return sample.model_copy(update={"reply": f"{TEXT} {sample.reply}"})


EVAL: dict[str, JsonValue] = {"sampling": {"temperature": 0, "max_tokens": 64}, "block_size": 20}
CUSTOM: JsonValue = {"columns": {"question": "Question", "answer": "Correct Answer"}, "grader": "integer"}


@pytest.mark.parametrize(
    "settings",
    [
        EVAL | {"name": "science", "rows": "science.jsonl", "custom": CUSTOM},
        EVAL | {"name": "science", "rows": "Idavidrein/gpqa", "custom": CUSTOM},
        EVAL | {"name": "gpqa-diamond", "rows": "synthetic"},
        EVAL | {"name": "sums", "rows": "copies/gpqa_diamond.csv"},
    ],
    ids=["custom", "custom-hub", "gpqa", "another-name"],
)
def test_questions_that_may_not_be_shown_never_leave(settings: dict[str, JsonValue]) -> None:
    builder = whole_ledger(config(evals=[settings]), sample=_quoting)
    assert TEXT not in _everything(builder, "full")


def test_an_open_exam_is_shared_as_the_configuration_says() -> None:
    builder = whole_ledger(sample=_quoting)
    assert TEXT in _everything(builder, "full")
    for share in ("hashed", "none"):
        assert TEXT not in _everything(builder, share)
    assert "response_hash" in _everything(builder, "hashed")
    assert "response_hash" not in _everything(builder, "none")


def test_less_is_shared_where_less_is_asked_for() -> None:
    gpqa = config(evals=[EVAL | {"name": "gpqa_diamond"}]).evals[0]
    assert (sharing(gpqa, "none"), sharing(gpqa, "hashed"), sharing(None, "full")) == ("none", "hashed", "hashed")


def _paths(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Dotted paths of all fields below a model that are no models themselves."""
    for name, field in model.model_fields.items():
        inner = list(_models(field.annotation))
        if inner:
            for each in inner:
                yield from _paths(each, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def _is_below(path: str, known: frozenset[str]) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in known)


def test_it_is_decided_for_every_field_of_the_configuration_whether_it_is_sent() -> None:
    """A new field fails here until it stands in one of the lists of `raybench.publish.shared_config`."""
    paths = {path.replace(".managed.managed", ".managed") for path in _paths(RunConfig)}
    assert sorted(path for path in paths if not _is_below(path, SENT | KEPT)) == []
    assert sorted(path for path in paths if _is_below(path, SENT) and _is_below(path, KEPT)) == []
    dead = [each for each in SENT | KEPT if not any(_is_below(path, frozenset({each})) for path in paths)]
    assert dead == []


def test_secrets_in_every_corner_of_the_configuration_stay_at_home() -> None:
    settings = config(
        model={"path": f"/data/{SECRET}/a-model", "served_name": SECRET},
        engine={
            "environment": {"python": f"/opt/{SECRET}/bin/python"},
            "args": {"chat-template": f"/home/{SECRET}/t.jinja", "api-key": SECRET, "hf-token": SECRET,
                     "dist-init-addr": "10.1.2.3:5000", "lora-paths": [f"/home/{SECRET}/lora"],
                     "json-model-override-args": {"some_key": SECRET, "rope": f"/x/{SECRET}/y"}},
            "env": {"SOME_TOKEN": SECRET, "PLAIN": SECRET},
        },
        evals=[EVAL | {"name": "own", "rows": f"/data/{SECRET}/rows.jsonl",
                       "custom": {"columns": {"question": SECRET, "answer": SECRET}, "grader": "exact",
                                  "request": f"Think of {SECRET}."}}],
        publish={"history": f"/shared/{SECRET}", "wandb": {"entity": SECRET, "base_url": f"http://{SECRET}:8080"},
                 "mlflow": {"tracking_uri": f"http://{SECRET}:5000"}, "trackio": {"folder": f"/x/{SECRET}"}},
    )  # fmt: skip
    sent = shared_config(settings)
    assert SECRET not in json.dumps(sent)
    assert "10.1.2.3" not in json.dumps(sent)
    assert sent["model"] == {"path": "a-model"}
    assert sent["engine"]["args"]["chat-template"] == "t.jinja"  # type: ignore[index,call-overload]
    assert sent["left_out"] == [
        "engine.env", "engine.environment.python", "evals.custom.columns", "evals.custom.request", "model.served_name",
        "publish.history", "publish.mlflow", "publish.trackio", "publish.wandb",
    ]  # fmt: skip


def test_words_of_checks_are_cleaned() -> None:
    def quoting(found: CheckMeasurement) -> CheckMeasurement:
        return found.model_copy(update={"words": f"could not read /home/{SECRET}/tokenizer.json"})

    builder = whole_ledger()
    for unit in check_units("alpha"):
        builder.checked(unit, "n0.0", quoting)
    everything = _everything(builder, "full")
    assert "could not read tokenizer.json" in everything
    assert SECRET not in everything


def test_what_a_server_said_is_cleaned() -> None:
    """The first error of a pass stands in the advice of a finding."""

    def broken(_: PerfUnit, measured: PerfMeasurement) -> PerfMeasurement:
        error = (
            f"Cannot connect to host {SECRET}:30000; http://{SECRET}:30000/generate of /srv/{SECRET}/app.py at 10.0.0.7"
        )
        return measured.model_copy(
            update={"measured": measured.measured.model_copy(update={"num_ok": 0, "error": error})}
        )

    everything = _everything(whole_ledger(perf=broken), "full")
    assert "The first error was: Cannot connect to host ***" in everything
    assert SECRET not in everything
    assert "10.0.0.7" not in everything


def test_a_text_loses_paths_and_addresses_and_keeps_hub_ids() -> None:
    assert clean("see /home/me/x/run.log at 10.0.0.7:8000") == "see run.log at ***"
    assert clean("Qwen/Qwen3-235B at https://example.org/a/b") == "Qwen/Qwen3-235B at https://example.org/a/b"
    assert clean("Cannot connect to host node-7:30000: see http://node-7:30000/v1/models") == (
        "Cannot connect to host ***: see http://***"
    )
    assert clean("http://user:word@example.org/x and http://node-7/x") == "http://*** and http://***"
    assert clean_value({"api_key": "x", "max_total_tokens": 5, "host": "h"}) == {"max_total_tokens": 5}

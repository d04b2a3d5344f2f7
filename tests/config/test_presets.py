"""Presets of the model maker, laid under a configuration before it is checked."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from raybench.config.evals import EvalConfig
from raybench.config.read import digest, json_schema, load
from raybench.config.schema import RunConfig
from raybench.errors import ConfigError
from raybench.evals import EVALS, presets_of
from raybench.evals.rows import rows_of
from raybench.plan.expand import expand
from raybench.records import EvalUnit


@pytest.fixture
def study(tmp_path: Path, good: str):
    """A configuration with one eval of these lines."""

    def made(*lines: str, sets: tuple[str, ...] = ()) -> RunConfig:
        path = tmp_path / "c.yaml"
        path.write_text(good + "evals:\n  - rows: synthetic\n" + "".join(f"    {line}\n" for line in lines))
        return load(path, sets, presets_of)

    return made


@pytest.mark.parametrize(
    ("name", "preset", "max_tokens", "penalty", "repeats"),
    [
        ("aime25", "card", 16_384, 0.0, 32), ("aime25", "report", 38_912, 1.5, 32),
        ("gpqa-diamond", "card", 16_384, 0, 12),
        ("gpqa_diamond", "report", 32_768, 1.5, 12), ("math500", "card", 16_384, 0, 4), ("gsm8k", "card", 16_384, 0, 1),
        ("mmlu_pro", "report", 32_768, 1.5, 1), ("sums", "card", 16_384, 0, 1),
    ],
)  # fmt: skip
def test_a_preset_stands_for_all_sampling_fields_and_the_repeats(
    study, name: str, preset: str, max_tokens: int, penalty: float, repeats: int
) -> None:
    (settings,) = study(f"name: {name}", f"preset: {preset}").evals
    sampling = settings.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.7, 0.8, 20, 0.0)
    assert (sampling.max_tokens, sampling.presence_penalty, settings.repeats) == (max_tokens, penalty, repeats)
    assert settings.preset == preset


def test_what_the_file_says_lies_over_the_preset(study) -> None:
    lines = ("name: aime25", "preset: report", "sampling: {temperature: 1, top_k: -1}", "repeats: 2")
    (settings,) = study(*lines).evals
    assert (settings.sampling.temperature, settings.sampling.top_k, settings.repeats) == (1.0, -1, 2)
    assert (settings.sampling.max_tokens, settings.sampling.presence_penalty) == (38_912, 1.5)
    (settings,) = study(*lines, sets=("evals.aime25.sampling.max_tokens=99", "evals.aime25.preset=card")).evals
    assert (settings.sampling.max_tokens, settings.sampling.presence_penalty) == (99, 0.0)


def test_the_plan_is_that_of_the_same_settings_written_out(study) -> None:
    short = study("name: sums", "preset: card")
    (settings,) = short.evals
    long = study("name: sums", f"sampling: {settings.sampling.model_dump_json()}", "repeats: 1")
    assert expand(short, rows_of(short.evals)) == expand(long, rows_of(long.evals))
    assert digest(short) != digest(long), "which preset it was is part of the record"
    again = RunConfig.model_validate_json(short.model_dump_json())
    assert again == short
    assert all(
        u.sampling == settings.sampling for u in expand(short, rows_of(short.evals)).units if isinstance(u, EvalUnit)
    )


@pytest.mark.parametrize("name", list(EVALS))
def test_an_unknown_preset_ends_with_10_and_the_valid_names(study, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study(f"name: {name}", "preset: cart")
    assert caught.value.exit_code == 10
    assert f"evals.0.preset: expected a preset of {name}, found 'cart'; valid: card, report" in caught.value.message
    assert "c.yaml:" in caught.value.message


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("name: aime", "preset: card"), "there is no eval named 'aime'; did you mean 'aime25'?"),
        (("name: sums", "preset: 3"), "preset: expected text"),
        (("name: sums", "preset: card", "sampling: 3"), "sampling: expected"),
        (("name: sums", "preset: card", "sampling: {temprature: 1}"), "did you mean 'temperature'"),
        (("preset: card",), "name: this key is missing"),
        (("name: sums",), "sampling: this key is missing"),
    ],
)
def test_what_is_wrong_beside_a_preset_is_named(study, lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study(*lines)
    assert words in caught.value.message


def test_a_reader_that_knows_no_presets_refuses_them(tmp_path: Path, good: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(good + "evals:\n  - {name: sums, preset: card}\n")
    with pytest.raises(ConfigError, match="expected a preset of sums, found 'card'"):
        load(path)


def test_greedy_repeats_are_refused_unless_asked_for_by_name(study) -> None:
    greedy = ("name: aime25", "preset: card", "sampling: {temperature: 0}")
    assert study(*greedy).evals[0].repeats == 1
    assert study(*greedy, "greedy_repeats: true").evals[0].repeats == 32
    with pytest.raises(ConfigError, match="greedy_repeats: true"):
        study(*greedy, "repeats: 4")
    assert study(*greedy, "repeats: 4", "greedy_repeats: true").evals[0].repeats == 4


def test_a_resolved_configuration_needs_its_sampling() -> None:
    with pytest.raises(ValidationError, match="sampling"):
        EvalConfig.model_validate({"name": "sums", "preset": "card"})


def test_the_schema_for_editors_asks_for_a_name_only() -> None:
    definitions = json_schema()["$defs"]
    assert isinstance(definitions, dict)
    assert definitions["EvalConfig"]["required"] == ["name"]
    assert "required" not in definitions["Sampling"]

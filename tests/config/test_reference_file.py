"""Reference files: written, reviewed as a diff, read into a configuration, and refused when they are something else."""

from pathlib import Path

import pytest

from raybench.config.evals import EvalConfig
from raybench.config.preflight import PreflightConfig
from raybench.config.read import load
from raybench.config.reference import MeasuredReference, NumericsReference
from raybench.config.reference_file import read_numerics, read_reference, save_references
from raybench.errors import ConfigError, StorageError
from raybench.records import Sampling, TeacherForced

CONFIG = """\
name: study
model: {path: org/model}
targets: [{name: h200, accelerator: H200}]
evals:
  - name: gpqa-diamond
    sampling: {temperature: 0.7, max_tokens: 16384}
    repeats: 8
    reference: references/accepted.yaml
"""


def entry(name: str = "gpqa_diamond", score: float = 0.75) -> MeasuredReference:
    return MeasuredReference(
        eval=name, target="h200", model="org/model", engine="sglang", accelerator="H200", prompts_sha256="ab" * 32,
        sampling=Sampling(temperature=0.7, max_tokens=16384), repeats=8, num_questions=2, num_scored=16, score=score,
        standard_error=0.01, questions={"recA": (8, 8), "recB": (4, 8)}, date="2026-01-02", run_id="r-1",
        raybench_version="0.1.0",
    )  # fmt: skip


def test_what_is_written_is_read_and_a_question_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "references" / "accepted.yaml"
    save_references(path, [entry()])
    assert read_reference(path, "gpqa-diamond") == entry()
    assert "    recB: [4, 8]\n" in path.read_text()
    first = path.read_bytes()
    save_references(path, [entry()])
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == ["accepted.yaml"]


def test_saving_again_replaces_the_eval_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "accepted.yaml"
    save_references(path, [entry(), entry("aime25", 0.7)])
    save_references(path, [entry("gpqa-diamond", 0.5)])
    assert read_reference(path, "gpqa_diamond").score == 0.5
    assert read_reference(path, "aime25").score == 0.7
    assert path.read_text().count("- eval:") == 2


def test_the_configuration_holds_the_entry_itself(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(CONFIG)
    save_references(tmp_path / "references" / "accepted.yaml", [entry()])
    settings = load(tmp_path / "study.yaml").evals[0]
    assert settings.measured_reference == entry()
    assert settings.gated_by == "reference"
    (tmp_path / "other.yaml").write_bytes((tmp_path / "references" / "accepted.yaml").read_bytes())
    set_ = load(tmp_path / "study.yaml", ["evals.0.reference=other.yaml", "evals.0.gate=none"]).evals[0]
    assert (set_.measured_reference, set_.gated_by) == (entry(), "none")
    assert load(tmp_path / "study.yaml", ["evals.0.reference=null"]).evals[0].gated_by == "none"


def numerics(date: str = "2026-01-02") -> NumericsReference:
    return NumericsReference(
        target="h200", model="org/model", engine="sglang", accelerator="H200", date=date, run_id="r-1",
        raybench_version="0.1.0",
        texts=(TeacherForced(tokens_sha256="5ha", logprobs=(-1.25, -0.00001), top_ids=(3, 4)),),
    )  # fmt: skip


def test_numerics_are_kept_until_others_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "accepted.yaml"
    save_references(path, [entry()], numerics())
    save_references(path, [entry("aime25")])
    assert read_numerics(path) == numerics()
    save_references(path, [entry()], numerics("2026-02-03"))
    assert read_numerics(path) == numerics("2026-02-03")
    assert read_reference(path, "aime25") == entry("aime25")


def test_the_configuration_holds_the_numerics_themselves(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(CONFIG + "preflight: {reference: references/accepted.yaml}\n")
    save_references(tmp_path / "references" / "accepted.yaml", [entry()], numerics())
    assert load(tmp_path / "study.yaml").preflight.numerics == numerics()
    assert load(tmp_path / "study.yaml", ["preflight.reference=null"]).preflight.numerics is None


def test_a_file_without_numerics_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(CONFIG + "preflight: {reference: references/accepted.yaml}\n")
    save_references(tmp_path / "references" / "accepted.yaml", [entry()])
    with pytest.raises(ConfigError, match=r"study\.yaml:9: preflight\.reference: .* holds no log-probabilities"):
        load(tmp_path / "study.yaml")


def test_numerics_of_a_file_that_was_never_read_are_none() -> None:
    with pytest.raises(ValueError, match="was not read"):
        _ = PreflightConfig(reference="x.yaml").numerics


def test_a_missing_file_names_the_line_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match=r"study\.yaml:8: evals\.0\.reference: there is no reference file .*--save"):
        load(tmp_path / "study.yaml")


def test_a_file_without_the_eval_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(CONFIG)
    save_references(tmp_path / "references" / "accepted.yaml", [entry("aime25")])
    with pytest.raises(ConfigError, match=r"no entry for the eval 'gpqa-diamond'; it holds aime25"):
        load(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    "text", ["", "name: study\n", "- 1\n", "raybench_reference: 2\nreferences: []\n", "a: [\n", "a: 1\na: 2\n"]
)
def test_another_file_is_refused_and_never_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        read_reference(path, "sums")
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        save_references(path, [entry()])
    assert path.read_text() == text


def test_binary_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "b", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_reference(path, "sums")


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the reference file"):
        save_references(tmp_path / "file" / "x.yaml", [entry()])


SAMPLING = {"temperature": 0.7, "max_tokens": 64}


def test_what_gates_by_default() -> None:
    assert EvalConfig.model_validate({"name": "sums", "sampling": SAMPLING}).gated_by == "none"
    assert EvalConfig.model_validate({"name": "sums", "sampling": SAMPLING, "baseline": 0.7}).gated_by == "none"
    by_name = {"name": "sums", "sampling": SAMPLING, "baseline": 0.7, "gate": "published"}
    assert EvalConfig.model_validate(by_name).gated_by == "published"


@pytest.mark.parametrize(("gate", "words"), [("published", "needs the published score"), ("reference", "needs a ref")])
def test_a_gate_without_its_number_is_refused(gate: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EvalConfig.model_validate({"name": "sums", "sampling": SAMPLING, "gate": gate})


def test_a_file_that_was_never_read_is_no_reference() -> None:
    settings = EvalConfig.model_validate({"name": "sums", "sampling": SAMPLING, "reference": "x.yaml"})
    with pytest.raises(ValueError, match="was not read"):
        _ = settings.measured_reference

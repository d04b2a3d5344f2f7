"""A job takes its configuration along and the files that this names, and nothing else."""

from pathlib import Path

import pytest

from raybench.config.read import digest, load
from raybench.config.reference import MeasuredReference, NumericsReference
from raybench.config.reference_file import save_references
from raybench.driver.shipment import ship
from raybench.errors import ConfigError
from raybench.evals.rows import rows_of
from raybench.load.texts import texts_of
from raybench.load.traces import traces_of
from raybench.records import Sampling, TeacherForced

CONFIG = """\
name: study
model: {path: org/model}
targets: [{name: h200, accelerator: H200}]
evals:
  - name: mine
    rows: data/mine.jsonl
    custom: {columns: {question: q, answer: a}, grader: integer}
    sampling: {temperature: 0.7, max_tokens: 16384}
    repeats: 8
    reference: references/accepted.yaml
  - {name: aime25, rows: owner/dataset, sampling: {temperature: 0.7, max_tokens: 16384}}
  - {name: sums, sampling: {temperature: 0, max_tokens: 64}}
"""


def accepted() -> MeasuredReference:
    return MeasuredReference(
        eval="mine", target="h200", model="org/model", engine="sglang", accelerator="H200", prompts_sha256="ab" * 32,
        sampling=Sampling(temperature=0.7, max_tokens=16384), repeats=8, num_questions=1, num_scored=8, score=0.5,
        standard_error=0.01, questions={"recA": (4, 8)}, date="2026-01-02", run_id="r-1", raybench_version="0.1.0",
    )  # fmt: skip


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration, in a folder below the current one."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "mine.jsonl").write_text('{"q": "1 + 1", "a": "2"}\n')
    (home / "runs").mkdir()
    (home / "runs" / "ledger.jsonl").write_text("large")
    (home / "configs").mkdir()
    (home / "configs" / "study.yaml").write_text(CONFIG)
    save_references(home / "configs" / "references" / "accepted.yaml", [accepted()])
    monkeypatch.chdir(home)
    return Path("configs/study.yaml")


def test_the_job_finds_the_same_configuration_by_the_same_words(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(study)
    there = tmp_path / "there"
    copied = ship(study, settings, (), there)
    assert sorted(map(str, copied)) == ["data/mine.jsonl", "references/accepted.yaml", "study.yaml"]
    assert sorted(str(p.relative_to(there)) for p in there.rglob("*") if p.is_file()) == sorted(map(str, copied))
    monkeypatch.chdir(there)
    again = load(Path("study.yaml"))
    assert digest(again) == digest(settings)
    assert [row["question"] for row in rows_of(again.evals[:1])["mine"].rows] == ["1 + 1"]


SERVING = """\
name: study
model: {path: org/model}
targets: [{name: h200, accelerator: H200}]
perf:
  - {load: trace, path: traces/mooncake.jsonl}
  - {name: again, load: trace, path: traces/mooncake.jsonl, speeds: [2]}
  - {load: closed, concurrency: [2], input_tokens: 9, output_tokens: 9, texts: data/closed.txt}
  - {load: open, rates: [2], input_tokens: 9, output_tokens: 9, texts: data/open.txt}
  - {name: theirs, load: open, rates: [2], input_tokens: 9, output_tokens: 9, texts: /on/the/cluster.txt}
preflight: {reference: references/numerics.yaml}
"""


def test_traces_texts_and_the_numerics_reference_go_along(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / "traces").mkdir()
    Path("traces/mooncake.jsonl").write_text('{"timestamp": 0, "input_length": 9, "output_length": 3}\n')
    Path("data/closed.txt").write_text("Say one.\n")
    Path("data/open.txt").write_text("Say two.\n")
    study.write_text(SERVING)
    numerics = NumericsReference(
        target="h200", model="org/model", engine="sglang", accelerator="H200", date="2026-01-02", run_id="r-1",
        raybench_version="0.1.0", texts=(TeacherForced(tokens_sha256="5ha", logprobs=(-1.0,), top_ids=(3,)),),
    )  # fmt: skip
    save_references(study.parent / "references" / "numerics.yaml", [], numerics)
    settings = load(study)
    there = tmp_path / "there"
    assert sorted(map(str, ship(study, settings, (), there))) == [
        "data/closed.txt", "data/open.txt", "references/numerics.yaml", "study.yaml", "traces/mooncake.jsonl",
    ]  # fmt: skip
    monkeypatch.chdir(there)
    again = load(Path("study.yaml"))
    assert digest(again) == digest(settings)
    assert traces_of(again.trace_sweeps)["again"].input_tokens == (9,)
    assert texts_of(again.perf[2:4]) == {"closed": ("Say one.",), "open": ("Say two.",)}


def test_what_set_names_goes_along_in_place_of_what_the_file_names(study: Path, tmp_path: Path) -> None:
    sets = ["evals.mine.rows=/data/on/the/cluster.jsonl", "evals.mine.reference=null"]
    assert ship(study, load(study, sets), sets, tmp_path / "there") == (Path("study.yaml"),)


def test_a_file_that_the_folder_cannot_hold_is_refused_with_what_to_do(study: Path, tmp_path: Path) -> None:
    for assignment, words in (
        ("evals.mine.rows=../mine.jsonl", r"rows: \.\./mine.jsonl lies outside"),
        ("evals.mine.rows=missing.csv", "missing.csv cannot be copied for the job: No such file"),
        ('perf=[{"load": "trace", "path": "../trace.jsonl"}]', r"trace: \.\./trace.jsonl lies outside"),
    ):
        with pytest.raises(ConfigError, match=words):
            ship(study, load(study, [assignment]), [assignment], tmp_path / "there")

"""Rows from files, from the hub, and made by code."""

import csv
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pyarrow
import pyarrow.parquet
import pytest

from raybench.config.evals import EvalConfig
from raybench.errors import RowsError
from raybench.evals import EVALS
from raybench.evals.rows import read_rows, rows_of

AIME, GPQA, SUMS = EVALS["aime25"], EVALS["gpqa_diamond"], EVALS["sums"]

PROBLEMS: list[dict[str, object]] = [
    {"id": "p1", "problem": "What is 1 + 1?", "answer": "002"},
    {"id": "p2", "problem": 'Lines\u2028and "quotes",\nand more', "answer": "70"},
]


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "JSONL"])
def test_the_same_rows_come_from_every_format(tmp_path: Path, ending: str) -> None:
    path = _write(tmp_path / f"own.{ending.lower()}", PROBLEMS)
    path = path.rename(tmp_path / f"own.{ending}")
    rows = read_rows(AIME, str(path))
    assert rows.rows == tuple(PROBLEMS)
    assert rows.source == f"own.{ending}"
    assert rows.sha256 == read_rows(AIME, str(_write(tmp_path / "other.jsonl", PROBLEMS))).sha256
    assert len(rows.sha256) == 64


def test_numbers_become_text_and_unknown_columns_go(tmp_path: Path) -> None:
    for ending in ("jsonl", "parquet"):
        path = _write(tmp_path / f"own.{ending}", [{"problem_idx": 1, "Problem": "x", "ANSWER": 70, "solution": "y"}])
        assert read_rows(AIME, str(path)).rows == ({"id": "1", "problem": "x", "answer": "70"},)


@pytest.mark.parametrize(("answer", "text"), [(True, "true"), ([70], "[70]"), ({"a": 1}, '{"a": 1}'), (7.5, "7.5")])
def test_a_value_of_another_type_cannot_pass_for_an_answer(tmp_path: Path, answer: object, text: str) -> None:
    rows = read_rows(AIME, str(_write(tmp_path / "own.jsonl", [{"problem": "x", "answer": answer}])))
    assert rows.rows[0]["answer"] == text
    with pytest.raises(RowsError, match="not an integer"):
        AIME.ask(rows.rows[0], 0, 0)


def test_a_byte_order_mark_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('\ufeff{"question": "x", "answer": 1}\n\n', encoding="utf-8")
    assert read_rows(AIME, str(path)).rows == ({"problem": "x", "answer": "1"},)


def test_the_columns_of_the_published_file_are_known(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "Question": "Which?", "Correct Answer": "a", "Incorrect Answer 1": "b", "Incorrect Answer 2": "c",
        "Incorrect Answer 3": "d", "Record ID": "rec1", "Subdomain": "z",
    }  # fmt: skip
    rows = read_rows(GPQA, str(_write(tmp_path / "own.csv", [row] * 198)))
    assert rows.rows[0] == {
        "question": "Which?", "correct": "a", "incorrect_1": "b", "incorrect_2": "c", "incorrect_3": "d", "id": "rec1"
    }  # fmt: skip


def test_made_rows() -> None:
    assert read_rows(SUMS, "default").source == "built-in"
    assert len(read_rows(SUMS, "default").rows) == 64
    assert read_rows(GPQA, "synthetic").source == "synthetic"
    assert read_rows(GPQA, "synthetic").sha256 != read_rows(AIME, "synthetic").sha256


def test_rows_of_all_evals_by_their_name() -> None:
    sampling = {"temperature": 0, "max_tokens": 64}
    evals = [
        EvalConfig.model_validate({"name": name, "rows": "synthetic", "sampling": sampling})
        for name in ("sums", "gpqa-diamond")
    ]
    assert {name: len(rows.rows) for name, rows in rows_of(evals).items()} == {"sums": 64, "gpqa-diamond": 198}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("own.jsonl", b"", "holds no rows"),
        ("own.jsonl", b"\n\n", "holds no rows"),
        ("own.csv", b"", "holds no rows"),
        ("own.csv", b"problem,answer\n", "holds no rows"),
        ("own.jsonl", b'{"problem": "x", "answer": 1}\n{"problem"\n', "line 2 is not JSON"),
        ("own.jsonl", b"[1, 2]\n", "line 1 is not a JSON object"),
        ("own.jsonl", b"\x80\x81\n", "is not UTF-8 text"),
        ("own.csv", b"\x80\x81\n", "is not UTF-8 text"),
        ("own.csv", b"problem,answer\nx,1,2\n", "line 2 has more cells than the header"),
        ("own.csv", b'problem,answer\n"x,1\n', "cannot be read"),
        ("own.parquet", b"PAR1 not really", "not a Parquet file"),
        ("own.parquet", b"", "not a Parquet file"),
        (
            "own.jsonl",
            b'{"problm": "x", "answer": 1}\n',
            "has no column 'problem' (nearest: 'problm'); it has: problm, a",
        ),
        ("own.jsonl", b'{"text": "x"}\n', "has no column 'problem', 'answer'; it has: text"),
        ("own.jsonl", b'{"problem": "x", "answer": null}\n', "row 1 has nothing in column 'answer'"),
        ("own.jsonl", b'{"problem": "x", "answer": 1}\n{"problem": "y"}\n', "row 2 has nothing in column 'answer'"),
        ("own.csv", b"problem,answer\nx,\n", "row 1 has nothing in column 'answer'"),
        ("own.txt", b"x", "has the ending '.txt'; known: .jsonl, .csv, .parquet"),
        ("own", b"x", "has the ending 'none'"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RowsError) as caught:
        read_rows(AIME, str(path))
    assert words in caught.value.message
    assert f"aime25: rows file {path}" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 12


def test_the_missing_columns_of_a_gated_file_have_their_published_names(tmp_path: Path) -> None:
    path = _write(tmp_path / "own.csv", [{"Question": "secret text", "Correct Answr": "a"}])
    with pytest.raises(
        RowsError, match=r"'Correct Answer' \(nearest: 'Correct Answr'\), 'Incorrect Answer 1'"
    ) as caught:
        read_rows(GPQA, str(path))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("name", ["no.jsonl", "sub/no.csv", "./no", "a/b/c", "nothing"])
def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RowsError, match=r"does not exist; give a JSONL, CSV or Parquet file, a hub id"):
        read_rows(AIME, name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "own.jsonl"
    folder.mkdir()
    with pytest.raises(RowsError, match="is a folder"):
        read_rows(AIME, str(folder))


class FakeHub(ModuleType):
    """Stands in for the `datasets` package: answers with rows, or with an error, and remembers what was asked."""

    def __init__(self, rows: list[dict[str, object]] | None = None, error: Exception | None = None) -> None:
        super().__init__("datasets")
        self.rows = rows or []
        self.error = error
        self.asked: list[tuple[str, str | None, str]] = []

    def load_dataset(self, repo: str, config: str | None, split: str) -> list[dict[str, object]]:
        self.asked.append((repo, config, split))
        if self.error is not None:
            raise self.error
        return self.rows


class GatedError(Exception):
    """As the library raises it: neither an OSError nor a ValueError."""


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        ("default", ("math-ai/aime25", None, "test")),
        ("math-ai/aime25", ("math-ai/aime25", None, "test")),
        ("someone/problems", ("someone/problems", None, "test")),
    ],
)
def test_a_hub_id_is_loaded(monkeypatch: pytest.MonkeyPatch, rows: str, asked: tuple[str, str | None, str]) -> None:
    hub = FakeHub([{"id": 1, "problem": "x", "answer": 70}])
    monkeypatch.setitem(sys.modules, "datasets", hub)
    found = read_rows(AIME, rows)
    assert hub.asked == [asked]
    assert found.source == f"hub:{asked[0]}"
    assert found.rows == ({"id": "1", "problem": "x", "answer": "70"},)


def test_a_gated_hub_id_that_is_refused_says_how_to_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(error=GatedError("Dataset is gated.\nsecond line"))
    monkeypatch.setitem(sys.modules, "datasets", hub)
    with pytest.raises(RowsError, match=r"GatedError: Dataset is gated\.; accept its terms .* set HF_TOKEN") as caught:
        read_rows(GPQA, "default")
    assert hub.asked == [("Idavidrein/gpqa", "gpqa_diamond", "train")]
    assert "second line" not in caught.value.message


def test_an_open_hub_id_that_cannot_be_reached_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeHub(error=ConnectionError("offline")))
    with pytest.raises(
        RowsError, match=r"ConnectionError: offline; check the name and the network .*`rows: synthetic`"
    ):
        read_rows(AIME, "default")


def test_reading_a_text_file_does_not_import_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(read_rows(AIME, str(_write(tmp_path / "own.jsonl", PROBLEMS))).rows) == 2
    assert len(read_rows(AIME, str(_write(tmp_path / "own.csv", PROBLEMS))).rows) == 2


def _gpqa_rows(number: int) -> list[dict[str, object]]:
    return [
        {
            "Question": f"PLANTED text {n}?", "Correct Answer": "PLANTED a", "Incorrect Answer 1": "b",
            "Incorrect Answer 2": "c", "Incorrect Answer 3": "d", "Record ID": f"rec{n}",
        }
        for n in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize("number", [197, 199, 448])
def test_a_gpqa_file_of_another_size_is_refused(tmp_path: Path, number: int) -> None:
    path = _write(tmp_path / "own.csv", _gpqa_rows(number))
    with pytest.raises(RowsError, match=f"holds {number} rows, and gpqa_diamond has 198: .* set `limit`") as caught:
        read_rows(GPQA, str(path))
    assert "PLANTED" not in caught.value.message


def test_an_unknown_gpqa_file_earns_a_note_with_its_hash_and_a_known_one_none(tmp_path: Path) -> None:
    path = _write(tmp_path / "own.csv", _gpqa_rows(198))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (note,) = read_rows(GPQA, str(path)).notes
    assert f"gpqa_diamond: own.csv has the SHA-256 {sha256}" in note
    assert "PLANTED" not in note
    known = dataclasses.replace(GPQA, known_files=frozenset({sha256}))
    assert read_rows(known, str(path)).notes == ()
    assert read_rows(GPQA, "synthetic").notes == read_rows(AIME, str(_write(tmp_path / "b.csv", PROBLEMS))).notes == ()


def test_the_file_of_simple_evals_is_the_known_one() -> None:
    assert GPQA.known_files == {"41d1213cd7a4998605a26c2798500652572007161b3a92817ba46b35befcd305"}


def test_options_of_a_list_survive_every_format(tmp_path: Path) -> None:
    mmlu = EVALS["mmlu_pro"]
    rows: list[dict[str, object]] = [{"question_id": 7, "question": "Which?", "options": ["a", "b"], "answer": "B"}]
    for name in ("own.jsonl", "own.parquet"):
        (row,) = read_rows(mmlu, str(_write(tmp_path / name, rows))).rows
        assert mmlu.ask(row, 0, 0).gold in ("A", "B")

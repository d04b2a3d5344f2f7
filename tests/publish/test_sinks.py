"""The sinks beside W&B: Parquet and what reads it, trackio, MLflow; and what a missing package is told."""

import importlib.util
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from ledger_builder import whole_ledger
from publishers import builder_of, command, publish, state
from simulated_study import simulated_study
from typer.testing import CliRunner

import raybench
from raybench.cli import app
from raybench.errors import PublishError
from raybench.publish.sink import EXTRAS, missing, sink_named

trackio_is_there = pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="trackio is not installed: pip install 'raybench[trackio]'"
)
mlflow_is_there = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="mlflow is not installed: pip install 'raybench[mlflow]'",
)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The simulated study and the made-up one, both with their Parquet history."""
    root = tmp_path_factory.mktemp("runs")
    folders = (simulated_study().write(root / "a"), whole_ledger().write(root / "b"))
    for folder in folders:
        told = publish(folder, {}, sink="parquet")
        assert told.ok, told.text
        assert told.lines == [f"Parquet: 2 runs with {12 if folder.name == 'a' else 6} rows: {folder / 'history'}"]
    return folders


def test_parquet_holds_points_and_scores(two_runs: tuple[Path, Path]) -> None:
    points = pd.read_parquet(two_runs[0] / "history" / "points")
    evals = pd.read_parquet(two_runs[0] / "history" / "evals")
    assert list(points["batch_size"]) == [1, 2, 4, 8, 16, 64] * 2
    h200 = points[(points["target"] == "h200") & (points["batch_size"] == 1)].iloc[0]
    assert h200["itl_ms"] == pytest.approx(12.20)
    assert (h200["hardware"], bool(h200["simulated"]), h200["input_len"]) == ("H200", True, 4096)
    assert sorted(evals["eval"]) == ["aime25", "aime25", "gpqa_diamond", "gpqa_diamond"]
    assert set(evals["score"].round(3)) == {0.7}
    assert state(two_runs[0], "parquet").last.rows == 12


def test_parquet_is_replaced_and_not_appended(tmp_path: Path) -> None:
    folder = builder_of(history=str(tmp_path / "shared")).write(tmp_path / "run")
    for _ in range(2):
        assert publish(folder, {}, sink="parquet").ok
    assert len(pd.read_parquet(tmp_path / "shared" / "points")) == 6
    assert not (folder / "history").exists()


def test_compare_lays_runs_side_by_side(two_runs: tuple[Path, Path]) -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", *map(str, two_runs)])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    sweep = state(two_runs[0], "parquet").last.runs[0].split("-")[1]
    (head,) = [line for line in lines if f"h200@{sweep}" in line and "batch" in line]
    assert head.index("h200@") < head.index("b200@") < head.index("alpha@") < head.index("beta@")
    # 1 / 12.20 ms against 1 / 7.51 ms.
    (row,) = [line.split("│") for line in lines if [c.strip() for c in line.split("│")[1:4]] == ["4096", "512", "1"]]
    assert row[4].strip() == "82.0"
    assert row[5].strip() == "133.2 (1.625)"
    assert row[6].strip() == "-", "no such point in the other run"
    assert sum("gpqa_diamond" in line for line in lines) == 2
    assert [line for line in lines if "not gated" in line]


def test_compare_says_what_it_cannot_find(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    for words, expected in (
        ([str(tmp_path)], f"raybench publish {tmp_path} --sink parquet"),
        ([str(two_runs[0]), "--metric", "speed"], "no such column. It has:"),
        ([str(two_runs[0]), "--baseline", "x@y"], "no such run. It has:"),
    ):
        shown = CliRunner().invoke(app, ["compare", *words])
        assert isinstance(shown.exception, PublishError)
        assert expected in shown.exception.message


def test_a_missing_package_is_told_with_its_command() -> None:
    error = missing(ModuleNotFoundError("No module named 'trackio'", name="trackio"))
    assert "pip install 'raybench[trackio]'" in error.message
    extras = tomllib.loads((Path(raybench.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= extras["optional-dependencies"].keys(), "what a message asks for exists"


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_mlflow_that_is_missing_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    folder = builder_of(sinks=["mlflow"], mlflow={"tracking_uri": "http://127.0.0.1:9"}).write(tmp_path / "run")
    code, output = command(folder)
    assert code == PublishError.exit_code
    assert "pip install 'raybench[mlflow]'" in output
    assert "Traceback" not in output


@trackio_is_there
def test_trackio_holds_every_row_once(tmp_path: Path) -> None:
    folder = builder_of().write(tmp_path / "run")
    for _ in range(2):
        told = publish(folder, {}, sink="trackio")
        assert told.ok, told.text
    last = state(folder, "trackio").last
    assert (len(last.runs), last.rows) == (3, 6)
    assert f"TRACKIO_DIR={folder / 'trackio'} trackio show" in told.text
    assert list((folder / "trackio").glob("raybench*.db"))


@mlflow_is_there
@pytest.mark.filterwarnings("ignore")  # its own database layer warns about itself
def test_mlflow_holds_every_row_once(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folder = builder_of(mlflow={"tracking_uri": uri}).write(tmp_path / "run")
    for _ in range(2):
        told = publish(folder, {}, sink="mlflow")
        assert told.ok, told.text
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("raybench")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3
    run = next(run for run in runs if run.data.tags["raybench.id"].endswith("-alpha"))
    sizes = client.get_metric_history(run.info.run_id, "perf/batch_size")
    assert [each.value for each in sorted(sizes, key=lambda m: m.step)] == [1, 4, 16]
    assert run.data.metrics["eval/sums/score"] == pytest.approx(0.9)
    assert run.data.params["hardware"] == "H200"


@mlflow_is_there
@pytest.mark.filterwarnings("ignore")
def test_mlflow_without_an_address_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"publish\.mlflow\.tracking_uri"):
        sink_named("mlflow", builder_of().settings.publish, tmp_path)

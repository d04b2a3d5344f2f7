"""What a benchmark sees of its publisher: lines, and never an error."""

from pathlib import Path

import pytest
from publishers import builder_of, state

from raybench.config.publish import PublishConfig
from raybench.publish import launch


def _lines(folder: Path, settings: PublishConfig) -> list[str]:
    publisher = launch.start(folder, follow=False)
    assert isinstance(publisher, launch.Publisher)
    return list(launch.finish(publisher, settings))


@pytest.mark.parametrize("mode", ["shared", "nonsense"])
def test_a_mode_that_cannot_be_is_a_line_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    folder = builder_of(sinks=["parquet"]).write(tmp_path / "run")
    (line,) = _lines(folder, PublishConfig(sinks=("parquet",)))
    assert f"'{mode}' is not supported" in line
    assert f"Retry with: raybench publish {folder}" in line


def test_an_empty_variable_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODE", "PROJECT", "ENTITY", "BASE_URL"):
        monkeypatch.setenv(f"WANDB_{name}", "")
    folder = builder_of(sinks=["parquet"]).write(tmp_path / "run")
    (line,) = _lines(folder, PublishConfig(sinks=("parquet",)))
    assert line == f"Parquet: 2 runs with 6 rows: {folder / 'history'}"
    assert state(folder, "parquet").state == "published"


def test_a_publisher_that_cannot_start_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = launch.start(tmp_path / "file" / "run", follow=False)
    assert isinstance(line, str)
    assert "did not start" in line
    assert "retry with: raybench publish" in line

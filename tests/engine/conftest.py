"""A folder that a plain Python takes for SGLang, and a launch of it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raybench.config.schema import EngineConfig, FlagValue, ModelConfig, PythonEnvironment
from raybench.engine.base import Launch
from raybench.engine.leftovers import sweep

LaunchMaker = Callable[..., Launch]


@pytest.fixture
def fake_sglang(tmp_path: Path) -> Path:
    """A site folder with the stand-in server and the metadata of SGLang 0.5.21."""
    site = tmp_path / "site"
    (site / "sglang").mkdir(parents=True)
    (site / "sglang" / "__init__.py").write_text("")
    shutil.copy(Path(__file__).parent / "fake_launch_server.py", site / "sglang" / "launch_server.py")
    info = site / "sglang-0.5.21.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.5.21\n")
    return site


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "some-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"vocab_size": 4096}')
    return folder


@pytest.fixture
def make_launch(tmp_path: Path, fake_sglang: Path, model_folder: Path) -> Iterator[LaunchMaker]:
    """Launches of the stand-in; everything that is left of them is swept."""
    run = f"engine-test-{os.getpid()}-{tmp_path.name}"

    def make(behave: str = "ready", timeout_s: float = 60, **args: FlagValue) -> Launch:
        flags: dict[str, FlagValue] = {"behave": behave, **{name.replace("_", "-"): arg for name, arg in args.items()}}
        engine = EngineConfig(
            environment=PythonEnvironment(python=sys.executable),
            args=flags,
            env={"PYTHONPATH": str(fake_sglang), "SOME_TOKEN": "hidden-in-env"},
            startup_timeout_s=timeout_s,
        )
        model = ModelConfig(path=str(model_folder))
        return Launch(run, "cpu", 0, "n0.0", model, engine, tmp_path / "start", "boot-id", 0, {})

    yield make
    sweep(run)

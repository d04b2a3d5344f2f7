"""The rules of `conftest.py` themselves: the fence stands, and CI lets no test of real SGLang be skipped."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray

SKIPPED = """\
import pytest

@pytest.mark.sglang
def test_real():
    pytest.skip("no environment")

@pytest.mark.sglang
@pytest.mark.skipif(True, reason="never")
def test_marked():
    pass

def test_other():
    pytest.skip("fine")
"""


def outcome(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    sglang: real\n    ray: ray\n")
    (folder / "test_skipped.py").write_text(SKIPPED)
    clean = {name: value for name, value in os.environ.items() if name not in ("RAYBENCH_CI", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_ci_a_skipped_test_of_real_sglang_is_a_failure(tmp_path: Path) -> None:
    done = outcome(tmp_path, RAYBENCH_CI="1")
    assert done.returncode == 1
    assert "1 failed, 1 skipped, 1 error" in done.stdout  # a mark skips in set-up, which counts as an error


def test_elsewhere_it_may_be_skipped(tmp_path: Path) -> None:
    done = outcome(tmp_path)
    assert done.returncode == 0
    assert "3 skipped" in done.stdout


def test_nothing_but_loopback_can_be_reached() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        outside.connect(("192.0.2.1", 80))
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())


def test_ray_cannot_be_started_by_an_unmarked_test() -> None:
    with pytest.raises(AssertionError, match="not marked ray"):
        ray.init()

"""No process of a real SGLang server outlives the actor that owns it, whatever ends the actor."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import ROOT, descendants, kill

from raybench.engine.leftovers import sweep

pytestmark = [pytest.mark.sglang, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_MODES = 8


def test_nothing_of_a_real_server_survives_any_of_the_eight_ends_of_its_actor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = f"deaths-{os.getpid()}"
    script = Path(__file__).with_name("death_modes.py")
    log = tmp_path / "log"
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), mark], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors,
            stdin=subprocess.DEVNULL, start_new_session=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        output, _ = child.communicate(timeout=1700)
    finally:
        for pid in descendants(child.pid):
            kill(pid)
        child.send_signal(signal.SIGKILL)
        child.wait()
        for number in range(NUM_MODES):
            sweep(f"{mark}-{number}")
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(found) == NUM_MODES, log.read_text()
    with capsys.disabled():
        for one in found:
            print(f"\n{one['mode']}: {one['before']} processes, {one['left']} left, {one['seconds']:.1f} s", end="")
    # The guardian, SGLang's main process, its scheduler and its detokenizer at least.
    assert all(one["before"] >= 4 for one in found)
    assert [one["mode"] for one in found if one["left"]] == []

"""5,000 random fault schedules through the driver's own loop, its fleet, the dispatcher, the watchdog and the ledger,
on fake actors, servers and guardians and a virtual clock: whatever happens, the results are those of the undisturbed
run. See `tests/chaos_world.py` for the faults.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from chaos_world import FAULTS
from cli_runs import ROOT

pytestmark = pytest.mark.slow

NUM_SCHEDULES = 5000


def test_5000_random_fault_schedules_give_what_the_undisturbed_run_gives(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parent.parent / "chaos_schedules.py"
    num_shares = os.cpu_count() or 1
    bounds = [NUM_SCHEDULES * share // num_shares for share in range(num_shares + 1)]
    children = [
        subprocess.Popen(
            [sys.executable, str(script), str(first), str(last)], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for first, last in pairwise(bounds)
    ]  # fmt: skip
    outputs = [child.communicate() for child in children]
    assert all(child.returncode == 0 for child in children), "\n".join(errors for _, errors in outputs)
    shares = [json.loads(output) for output, _ in outputs]
    lost = {kind: [value for share in shares for value in share["lost_s"].get(kind, [])] for kind in FAULTS}
    assert all(lost.values()), "every kind of fault was played alone"
    # What a fault may cost at the most: an engine's limit, a unit's, or a resume with everything to be started again.
    assert max(max(values) for values in lost.values()) < 1500
    with capsys.disabled():
        faults, calm = sum(share["num_faults"] for share in shares), shares[0]["undisturbed_s"]
        print(f"\n{NUM_SCHEDULES:,} schedules, {faults:,} faults; undisturbed {calm:.0f} s; lost by one fault alone:")
        for kind, values in lost.items():
            print(f"  {kind:<12} mean {fmean(values):5.0f} s, worst {max(values):5.0f} s, {len(values):>3} runs")

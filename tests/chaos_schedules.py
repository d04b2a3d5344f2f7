"""Random fault schedules, each held against the undisturbed run: `python tests/chaos_schedules.py FIRST LAST`.

Prints what was lost as JSON. A schedule that gives anything else than the undisturbed run ends it with its number.
"""

import gc
import json
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from chaos_world import ENDS_DRIVER, FAULTS, Fault, World, play

from raybench.config.schema import RunConfig
from raybench.driver.run import Order
from raybench.evals.rows import rows_of
from raybench.ledger.view import RunView
from raybench.plan.expand import expand
from raybench.records import EvalUnit, LedgerRecord
from raybench.report.summary import make_report

REPORTED_EVERY = 50
"""A report takes longer than a schedule, and is a pure function of what is compared for every one."""

CONFIG = RunConfig.model_validate({
    "name": "chaos",
    "model": {"path": "owner/simulated-model"},
    "targets": [{"name": "one", "accelerator": "CPU", "nodes": 2}, {"name": "two", "accelerator": "CPU"}],
    "engine": {
        "kind": "simulated", "startup_timeout_s": 120,
        "simulated": {"prefill_tok_per_s": {1: 4000}, "itl_ms": {1: 5}},
    },
    "perf": [{"batch_sizes": [1], "input_tokens": 64, "output_tokens": 32, "repeats": 2, "timeout_s": 60}],
    "evals": [
        {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 400}, "limit": 4, "concurrency": 4,
         "block_size": 2, "timeout_s": 60, "gate": "published", "baseline": 0.5, "margin": 0.4}
    ],
    "preflight": {"enabled": False},
})  # fmt: skip
PLAN = expand(CONFIG, rows_of(CONFIG.evals))


def order(folder: Path) -> Order:
    return Order(CONFIG, PLAN, folder, "chaos-1", resume=False, address="", hold=False, command=("raybench",))


def schedule(seed: int) -> list[Fault]:
    """One to four faults at random times; those after the driver's end belong to its next session."""
    rng = random.Random(f"chaos {seed}")
    faults: list[Fault] = []
    number = 0
    for kind in rng.choices(FAULTS, k=rng.randint(1, 4)):
        faults.append(Fault(kind, rng.uniform(0, 160), number, rng.random()))
        number += kind in ENDS_DRIVER
    return faults


def content(view: RunView) -> dict[str, Any]:
    """What the run is about: every sample and every measurement, wherever and however often they were tried."""
    timed = {key: done for key, done in view.done.items() if not isinstance(done.unit, EvalUnit)}
    # That a block is done, not how many of its samples its last attempt had to ask for.
    blocks = {key: key for key, done in view.done.items() if isinstance(done.unit, EvalUnit)}
    return view.samples | blocks | {key: done.measurement for key, done in timed.items()}


def judged(view: RunView) -> dict[str, Any]:
    """Scores, gates, speeds and the verdict."""
    report = make_report(view)
    return {
        "verdict": report.verdict,
        "evals": [row.model_dump(exclude={"findings", "nodes"}) for row in report.evals],
        "perf": [row.model_dump(exclude={"repeats", "findings"}) for row in report.perf],
    }


def check(world: World, records: tuple[LedgerRecord, ...]) -> None:
    """Every attempt ends once, every unit and sample is there once, and nothing is left running."""
    ended = [(r.key, r.attempt) for r in records if r.kind in ("unit_done", "unit_failed")]
    assert len(ended) == len(set(ended)), "an attempt ended twice"
    assert {(r.key, r.attempt) for r in records if r.kind == "unit_started"} <= set(ended), "an attempt has no end"
    done = [r.key for r in records if r.kind == "unit_done"]
    assert len(done) == len(set(done)) == len(PLAN.units), "a unit was done twice"
    samples = [r.key for r in records if r.kind == "sample"]
    assert len(samples) == len(set(samples)), "a sample was recorded twice"
    assert not [server for server in world.servers if server.alive], "a server was left running"


def play_all(seeds: range, folder: Path) -> dict[str, Any]:
    """Seconds lost by kind of fault, where it was the only one that was played, and the number of faults."""
    calm, records, view = play(order(folder / "calm"), [], 0)
    check(calm, records)
    expected, verdicts = content(view), judged(view)
    lost: dict[str, list[float]] = defaultdict(list)
    played = 0
    for seed in seeds:
        faults = schedule(seed)
        world, records, view = play(order(folder / "run"), faults, seed)
        shutil.rmtree(folder / "run")
        where = f"schedule {seed}: {faults}"
        check(world, records)
        assert content(view) == expected, where
        if seed % REPORTED_EVERY == 0:
            assert judged(view) == verdicts, where
            gc.collect()
        if len(world.played) == 1:
            lost[world.played[0]].append(world.seconds - calm.seconds)
        played += len(world.played)
    return {"undisturbed_s": calm.seconds, "num_faults": played, "lost_s": lost}


if __name__ == "__main__":
    # Cycles of tasks and their frames by the million: collected now and then, not all the time.
    gc.disable()
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="raybench-chaos-", dir=memory if memory.is_dir() else None))
    try:
        print(json.dumps(play_all(range(int(sys.argv[1]), int(sys.argv[2])), place)))
    finally:
        shutil.rmtree(place, ignore_errors=True)

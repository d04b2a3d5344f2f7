"""Many units through the dispatcher and the ledger, without Ray: `python tests/benchmarks/dispatch_scale.py [UNITS]`.

100,000 units (nine in ten are samples, the others load points) on 128 nodes: at least 10,000 events a second and less
than 2 GiB. Then the same on a disk that takes a second for every sync: a ledger write must not keep dispatch waiting.
An event is what comes back from a node (a sample, the end of a unit, an engine); the one and a half records that each
leaves in the ledger are part of its cost and not counted. Prints its figures as lines of JSON; exit code 1 if a limit
is broken.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from ledger_builder import config  # noqa: E402

from raybench.ledger import journal as journal_module  # noqa: E402
from raybench.ledger.bodies import RunBody  # noqa: E402
from raybench.ledger.journal import Journal  # noqa: E402
from raybench.plan.dispatch import Dispatcher  # noqa: E402
from raybench.plan.events import (  # noqa: E402
    Action,
    EngineReady,
    EngineStopped,
    Event,
    NodeJoined,
    RunUnit,
    SampleDone,
    StartEngine,
    StopEngine,
    UnitDone,
)
from raybench.records import (  # noqa: E402
    AnyUnit,
    EvalMeasurement,
    EvalUnit,
    Message,
    OneBatchLoad,
    PerfUnit,
    SampleRecord,
    SampleSpec,
    Sampling,
    WarmUp,
)

MIN_EVENTS_PER_S, LIMIT_MIB = 10_000, 2048
NUM_NODES = 128
REPLY = "So the answer is 42. " * 20


def units(number: int) -> list[AnyUnit]:
    """Units of one target: every tenth a load point, in groups of ten."""
    found: list[AnyUnit] = []
    for place in range(number // 10):
        load = OneBatchLoad(batch_size=1 + place % 10, input_tokens=4, output_tokens=4)
        found.append(
            PerfUnit(
                key=f"p{place}", target="a", sweep=f"s{place // 100}", load=load, repeat=place // 10 % 10, launch=0,
                order=place % 10, prompt_seed=place, warm_up=WarmUp(), timeout_s=60,
            )
        )  # fmt: skip
    for place in range(number - len(found)):
        spec = SampleSpec(
            key=f"q{place}", question=f"q{place}", repeat=0, messages=(Message(role="user", content="?"),), gold="42",
            seed=place,
        )  # fmt: skip
        found.append(
            EvalUnit(
                key=f"e{place}", target="a", eval="sums", block=place, samples=(spec,),
                sampling=Sampling(temperature=1, max_tokens=64), concurrency=32, timeout_s=60,
            )
        )  # fmt: skip
    return found


class Driver:
    """What the driver does for every event, without Ray and without waiting for anything."""

    def __init__(self, dispatcher: Dispatcher, journal: Journal) -> None:
        self.dispatcher = dispatcher
        self.journal = journal
        self.inbox: deque[Event] = deque()
        self.num_events = self.num_records = 0
        self.longest_s = 0.0

    def run(self) -> None:
        for number in range(NUM_NODES):
            self.inbox.append(NodeJoined(f"n{number}", number, frozenset([f"h{number}"])))
        while self.inbox:
            began_s = time.perf_counter()
            event = self.inbox.popleft()
            self._write(event)
            for action in self.dispatcher.handle(event):
                self._do(action)
            self.num_events += 1
            self.longest_s = max(self.longest_s, time.perf_counter() - began_s)
        assert self.dispatcher.finished

    def _append(self, kind: str, body: object, key: str, node: str) -> None:
        self.journal.append(kind, body, key=key, attempt=1, node=node, launch=f"{node}.0")  # type: ignore[arg-type]
        self.num_records += 1

    def _write(self, event: Event) -> None:
        match event:
            case SampleDone():
                sample = SampleRecord(
                    key=event.key, unit="e" + event.key[1:], target="a", eval="sums", question=event.key, repeat=0,
                    status="ok", reply=REPLY, finish_reason="stop", prompt_tokens=9, output_tokens=99,
                    prompt_sha256="0" * 64, gold="42", seed=1, sent_unix_s=1.0, duration_s=1.0,
                )  # fmt: skip
                self._append("sample", sample, event.key, event.node)
            case UnitDone():
                self._append("unit_done", EvalMeasurement(num_samples=1, duration_s=1.0), event.key, event.node)
            case _:
                pass

    def _do(self, action: Action) -> None:
        match action:
            case StartEngine():
                self.inbox.append(EngineReady(action.node))
            case StopEngine():
                self.inbox.append(EngineStopped(action.node))
            case RunUnit():
                self._append("unit_started", {"target": "a", "kind": action.unit.kind}, action.unit.key, action.node)
                if isinstance(action.unit, EvalUnit):
                    self.inbox.append(SampleDone(action.node, action.unit.samples[0].key))
                self.inbox.append(UnitDone(action.node, action.unit.key, action.attempt))
            case _:
                raise AssertionError(action)


def measure(number: int) -> dict[str, float]:
    """Figures of one run."""
    work = units(number)
    with tempfile.TemporaryDirectory() as root:
        journal = Journal.create(Path(root) / "run")
        settings = config()
        journal.append("run", RunBody(
            run_id="r", session=0, config=settings, config_digest="d", raybench_version="0", ray_version="0",
            python_version="3", cluster="none", command=(),
        ))  # fmt: skip
        driver = Driver(Dispatcher(work, dict.fromkeys(range(NUM_NODES), ("a",))), journal)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        driver.run()
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        journal.close()
        size_mib = (Path(root) / "run" / "ledger.jsonl").stat().st_size / 2**20
    return {
        "units": number, "events": driver.num_events, "records": driver.num_records, "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "events_per_s": round(driver.num_events / wall_s), "records_per_s": round(driver.num_records / wall_s),
        "units_per_s": round(number / wall_s), "longest_step_ms": round(driver.longest_s * 1000, 1),
        "ledger_mib": round(size_mib), "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip


def main(number: int = 100_000) -> int:
    quick = measure(number)
    print(json.dumps({"disk": "as it is"} | quick))
    real_sync = os.fsync

    def slow_sync(descriptor: int) -> None:
        time.sleep(1.0)
        real_sync(descriptor)

    journal_module.os.fsync = slow_sync
    slow = measure(number // 10)
    print(json.dumps({"disk": "1 s for every sync"} | slow))
    held = quick["events_per_s"] >= MIN_EVENTS_PER_S and quick["peak_mib"] < LIMIT_MIB
    return 0 if held and slow["longest_step_ms"] < 1000 else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

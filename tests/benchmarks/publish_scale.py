"""A large study published to W&B's stand-in: `python tests/benchmarks/publish_scale.py [TARGETS POINTS SAMPLES]`.

20 targets with 50 load points and 2,000 samples each must take under 2 minutes and 1 GiB, all processes of the
publisher together. Prints its figures as one line of JSON; exit code 1 if a limit is broken. On a busy machine look at
`cpu_s`: the publisher has most of its work in one thread.
"""

import json
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from ledger_builder import config, plan, whole_ledger  # noqa: E402
from publishers import access, assert_whole, publish, state  # noqa: E402
from wandb_service import serving  # noqa: E402

from raybench.records import SampleRecord  # noqa: E402

LIMIT_S, LIMIT_MIB = 120, 1024
REPLY_CHARS = 1500


def study(folder: Path, num_targets: int, num_points: int, num_samples: int) -> Path:
    """The run folder."""
    import ledger_builder

    settings = config(
        targets=[{"name": f"t{n:02}", "accelerator": "H200", "gpus_per_node": 8} for n in range(num_targets)],
        perf=[{"name": "static", "batch_sizes": list(range(1, num_points + 1)), "input_tokens": 1000,
               "output_tokens": 101, "repeats": 2}],
        evals=[{"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "block_size": 100}],
        publish={"sinks": ["wandb"], "limit_s": 600},
    )  # fmt: skip

    def wordy(sample: SampleRecord) -> SampleRecord:
        return sample.model_copy(update={"reply": "Let me think. " * (REPLY_CHARS // 14) + (sample.reply or "")})

    ledger_builder.plan = lambda each: plan(each, num_samples)
    return whole_ledger(settings, sample=wordy).write(folder)


class Memory(threading.Thread):
    """Largest memory of all processes below this one together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            total = 0
            for child in psutil.Process(os.getpid()).children(recursive=True):
                try:
                    total += child.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.peak_mib = max(self.peak_mib, total / 2**20)


def main(num_targets: int = 20, num_points: int = 50, num_samples: int = 2000) -> int:
    with tempfile.TemporaryDirectory() as root, serving() as service:
        folder = study(Path(root) / "run", num_targets, num_points, num_samples)
        memory = Memory()
        memory.start()
        started = time.monotonic()
        told = publish(folder, access(service))
        wall_s = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        memory.done.set()
        memory.join()
        assert told.ok, told.text
        assert_whole(folder, service)
        last = state(folder).last
        figures = {
            "targets": num_targets, "points": num_points, "samples": num_targets * num_samples,
            "ledger_mib": round((folder / "ledger.jsonl").stat().st_size / 2**20, 1), "runs": len(last.runs),
            "rows": last.rows, "tables": last.tables, "requests": len(service.requests), "unknown": service.unknown,
            "wall_s": round(wall_s, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "peak_mib": round(memory.peak_mib),
        }  # fmt: skip
    print(json.dumps(figures))
    return 0 if wall_s < LIMIT_S and memory.peak_mib < LIMIT_MIB else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

"""Eight ways in which the actor that owns a real SGLang server can end: `python tests/benchmarks/death_modes.py`.

Prints for each, as a line of JSON, how many of the server's processes there were, how many are left and how many
seconds it took; exit code 1 if any is left. Takes five minutes and the managed CPU environment of SGLang; with `--gpu`
the first GPU of this machine and the SGLang of this Python, one server at a time, and says what memory the server held
and what is held afterwards.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from one_gpu import MODEL, Memory, engine
from ray.actor import exit_actor

from raybench.config.schema import EngineConfig, Managed, ManagedEnvironment, ModelConfig
from raybench.engine import make_engine
from raybench.engine.base import Launch
from raybench.engine.leftovers import left_overs, sweep

LIMIT_S = 90.0
AT_ONCE = 4
"""Servers that are up at the same time: eight of them would need 10 GB."""
CPU = EngineConfig(
    environment=Managed(managed=ManagedEnvironment(version="0.5.21", device="cpu")), startup_timeout_s=900
)
GPU = EngineConfig.model_validate(engine())


@ray.remote(num_cpus=0, max_restarts=0)
class Owner:
    """Owns a server as a node's actor does."""

    def __init__(self, folder: str, mark: str, settings: EngineConfig, num_gpus: int) -> None:
        model = ModelConfig(path=MODEL if num_gpus else "tiny:trained")
        launch = Launch(mark, "deaths", 0, "n0.0", model, settings, Path(folder), "boot-id", num_gpus, {})
        self._engine = make_engine(launch, watch_pids=(os.getppid(),))

    def start(self) -> tuple[int, int]:
        """Process ids of this worker and of its raylet, once the server answers."""
        self._engine.start(lambda line: None)
        return os.getpid(), os.getppid()

    def leave(self) -> None:
        exit_actor()

    def vanish(self) -> None:
        os._exit(1)


End = Callable[[list[Any], int, int], None]
"""Ends the actor that alone stands in the list; (worker, raylet)."""

MODES: dict[str, End] = {
    "ray.kill": lambda actors, worker, raylet: ray.kill(actors.pop()),
    "__ray_terminate__": lambda actors, worker, raylet: _call(actors[0].__ray_terminate__),
    "out of scope": lambda actors, worker, raylet: actors.clear(),
    "exit_actor": lambda actors, worker, raylet: _call(actors[0].leave),
    "SIGTERM of the worker": lambda actors, worker, raylet: os.kill(worker, signal.SIGTERM),
    "SIGKILL of the worker": lambda actors, worker, raylet: os.kill(worker, signal.SIGKILL),
    "os._exit": lambda actors, worker, raylet: _call(actors[0].vanish),
    "SIGKILL of the raylet": lambda actors, worker, raylet: os.kill(raylet, signal.SIGKILL),
}


def _call(method: Any) -> None:
    method.remote()


def play(mode: str, actors: list[Any], pids: tuple[int, int], mark: str, memory: Memory | None) -> bool:
    """True if all of the server was there and nothing of it is left."""
    before, held = len(left_overs(mark)), memory and memory.held()
    began = time.monotonic()
    MODES[mode](actors, *pids)
    while left_overs(mark) and time.monotonic() - began < LIMIT_S:
        time.sleep(0.05)
    seconds = time.monotonic() - began
    left = len(sweep(mark))
    line = {"mode": mode, "before": before, "left": left, "seconds": round(seconds, 1)}
    if memory is not None:
        line |= {"held_mib": held, "free_s_later": memory.freed_after_s()}
    print(json.dumps(line), flush=True)
    # The guardian, SGLang's main process, its scheduler and its detokenizer at least.
    return before >= 4 and not left


def main(folder: Path, *, on_gpu: bool) -> int:
    memory = Memory() if on_gpu else None
    settings, at_once, num_gpus = (GPU, 1, 1) if on_gpu else (CPU, AT_ONCE, 0)
    silent = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, num_gpus=num_gpus, **silent)
    names, sound = list(MODES), True
    for first in range(0, len(names), at_once):
        batch = names[first : first + at_once]
        marks = {mode: f"deaths-{os.getpid()}-{names.index(mode)}" for mode in batch}
        owner = Owner.options(num_gpus=num_gpus)
        owned = {mode: [owner.remote(str(folder / marks[mode]), marks[mode], settings, num_gpus)] for mode in batch}
        pids = dict(zip(batch, ray.get([owned[mode][0].start.remote() for mode in batch]), strict=True))
        for mode in batch:
            sound = play(mode, owned[mode], pids[mode], marks[mode], memory) and sound
    return 0 if sound else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    given = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with tempfile.TemporaryDirectory(prefix="deaths-") as name:
        code = main(Path(name), on_gpu=given.gpu)
    os._exit(code)  # the raylet is gone: Ray's own end would wait for it

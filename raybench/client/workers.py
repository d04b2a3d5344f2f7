"""A load spread over several client processes that start at the same moment; their results as one.

One process runs the load itself: it is a child of the node already. Several are children of it, each with a part of the
schedule (chains stay whole), and each on CPUs of its own where there are enough.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from raybench import process
from raybench.client.columns import joined, read_columns, write_columns
from raybench.client.execute import Executor, ExecutorSettings, LoadRun
from raybench.client.planned import PlannedRequest, read_plan, write_plan
from raybench.errors import ClientError
from raybench.records.client import ClientProcess

START_IN_S, START_IN_S_PER_REQUEST = 0.05, 1e-6
"""Time between the word to start and the start itself, so that all processes have heard it and are ready."""
OPEN_LIMIT_S = 120.0
POLL_S = 0.005
CPUS_PER_PROCESS = 4
"""A process gets a CPU of its own only if the machine has as many for each: the server needs the others."""

SETTINGS: TypeAdapter[ExecutorSettings] = TypeAdapter(ExecutorSettings)


def run_load(requests: Sequence[PlannedRequest], settings: ExecutorSettings, num_processes: int = 1) -> LoadRun:
    """Run a load. Raises ClientError when the server cannot be reached or a process dies."""
    if num_processes == 1:
        executor = Executor(requests, settings)
        executor.open()
        with _pinned(cpus_of(0, 1, sorted(os.sched_getaffinity(0)))):
            executor.run(_start_ns(len(requests)))
            return executor.result()
    with tempfile.TemporaryDirectory(prefix="raybench-load-") as name:
        return _Workers(Path(name), requests, settings, num_processes).run()


def cpus_of(part: int, num_processes: int, available: Sequence[int]) -> tuple[int, ...]:
    """CPU of one of several processes: from the end of the machine, as engines take the first; empty = any."""
    if len(available) < CPUS_PER_PROCESS * num_processes:
        return ()
    return (sorted(available)[-1 - part],)


def _start_ns(num_requests: int) -> int:
    return time.perf_counter_ns() + round((START_IN_S + START_IN_S_PER_REQUEST * num_requests) * 1e9)


@contextmanager
def _pinned(cpus: tuple[int, ...]) -> Iterator[None]:
    """Keep this thread on some CPUs; children that it starts later are free again."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Workers:
    def __init__(
        self, folder: Path, requests: Sequence[PlannedRequest], settings: ExecutorSettings, num_processes: int
    ) -> None:
        self._folder = folder
        self._num = num_processes
        self._num_requests = len(requests)
        write_plan(requests, folder / "plan.arrow")
        connections = -(-settings.num_connections // num_processes)
        shared = replace(
            settings, num_connections=connections, max_connections=max(settings.max_connections // num_processes, 1)
        )
        descriptor = os.open(folder / "settings.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            # It holds the server's key.
            file.write(SETTINGS.dump_json(shared))

    def run(self) -> LoadRun:
        children = [self._start(part) for part in range(self._num)]
        try:
            self._wait(children, "ready")
            start = self._folder / "start.new"
            start.write_text(str(_start_ns(self._num_requests)))
            start.rename(self._folder / "start")
            self._wait(children, "done")
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                child.wait()
        places = [self._folder / str(part) for part in range(self._num)]
        processes = [ClientProcess.model_validate_json((place / "done").read_bytes()) for place in places]
        return LoadRun(joined([read_columns(place) for place in places]), tuple(processes))

    def _start(self, part: int) -> process.Child:
        place = self._folder / str(part)
        place.mkdir()
        with (place / "log").open("wb") as log:
            argv = [sys.executable, "-m", "raybench.client.workers", str(self._folder), str(part), str(self._num)]
            return process.start_tied(argv, env=environment(), cwd=place, log=log)

    def _wait(self, children: Sequence[process.Child], mark: str) -> None:
        """Wait until every process has left the mark. Raises ClientError when one ended without."""
        deadline_s = time.monotonic() + OPEN_LIMIT_S if mark == "ready" else None
        while True:
            missing = [part for part in range(self._num) if not (self._folder / str(part) / mark).exists()]
            if not missing:
                return
            for part in missing:
                if children[part].poll() is not None and not (self._folder / str(part) / mark).exists():
                    tail = (self._folder / str(part) / "log").read_text(errors="replace").strip()[-1000:]
                    raise ClientError(f"client process {part} of {self._num} ended before it was {mark}: {tail}")
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise ClientError(f"client processes {missing} were not ready within {OPEN_LIMIT_S:.0f} s")
            time.sleep(POLL_S if mark == "ready" else 10 * POLL_S)


def environment() -> dict[str, str]:
    """Environment of a process of the client: this process's own module path, however it came about."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    extra: Mapping[str, str] = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    run = {"RAYBENCH_RUN": os.environ["RAYBENCH_RUN"]} if "RAYBENCH_RUN" in os.environ else {}
    return process.child_environment({**extra, **run})


def work(folder: Path, part: int, num_parts: int) -> None:
    """What one of several processes does."""
    place = folder / str(part)
    cpus = cpus_of(part, num_parts, sorted(os.sched_getaffinity(0)))
    if cpus:
        os.sched_setaffinity(0, cpus)
    settings = SETTINGS.validate_json((folder / "settings.json").read_bytes())
    executor = Executor(read_plan(folder / "plan.arrow", part, num_parts), settings, part)
    try:
        executor.open()
    except ClientError as error:
        sys.exit(error.message)
    (place / "ready").touch()
    while not (folder / "start").exists():
        time.sleep(POLL_S)
    executor.run(int((folder / "start").read_text()))
    run = executor.result()
    write_columns(run.columns, place)
    done = place / "done.new"
    done.write_text(run.processes[0].model_dump_json())
    done.rename(place / "done")


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

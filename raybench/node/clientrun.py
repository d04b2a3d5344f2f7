"""One run of the client process: job file in, result lines out as they are written."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from raybench import process
from raybench.client.job import LINE, AnyJob, AnyLine, ClientDone

POLL_S = 0.05
"""Pause between two looks at the result file. Long enough not to disturb a measurement on a small machine."""

Lines = Iterator[AnyLine]


class ClientRun:
    """Owns the child process and its files until `kill`. The child dies with the thread that made this."""

    def __init__(self, job: AnyJob, folder: Path, limit_s: float | None, run_id: str) -> None:
        """`limit_s`: wall-clock limit of the whole run in real seconds; None = the job's own limits suffice."""
        self._limit_s = limit_s
        self._folder = Path(tempfile.mkdtemp(prefix="client-", dir=folder))
        self._out = self._folder / "out.jsonl"
        self._out.touch()
        self._log = self._folder / "log"
        job_file = self._folder / "job.json"
        # The job holds the engine's key: nobody but its owner may read it.
        descriptor = os.open(job_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(job.model_dump_json())
        with self._log.open("wb") as log:
            self._child = process.start_tied(
                [sys.executable, "-m", "raybench.client", str(job_file), str(self._out)],
                env=_environment(run_id), cwd=self._folder, log=log,
            )  # fmt: skip

    def lines(self) -> Lines:
        """Result lines until the process has ended; one that dies or runs past its limit ends with an error line."""
        deadline = None if self._limit_s is None else time.monotonic() + self._limit_s
        done = False
        with self._out.open("rb") as file:
            rest = b""
            while True:
                ended = self._child.poll() is not None
                rest += file.read()
                *whole, rest = rest.split(b"\n")
                for text in whole:
                    line = LINE.validate_json(text)
                    done = done or isinstance(line, ClientDone)
                    yield line
                if ended:
                    break
                if deadline is not None and time.monotonic() > deadline:
                    yield ClientDone(error=f"timeout: the client ran past its limit of {self._limit_s:.0f} s")
                    return
                time.sleep(POLL_S)
        if not done:
            tail = self._log.read_text(errors="replace").strip()[-2000:]
            code = self._child.returncode
            yield ClientDone(error=f"the client process ended with code {code}: {tail or 'no output'}")

    def file(self, name: str) -> bytes:
        """Contents of a file that the client has left beside its lines. Raises OSError."""
        return (self._folder / name).read_bytes()

    def kill(self) -> None:
        """End the process if it still runs. Idempotent, and may be called by another thread."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def close(self) -> None:
        """End the process and remove its files: the job holds the engine's key."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _environment(run_id: str) -> dict[str, str]:
    """Environment of the client: this process's own module path, however it came about."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return process.child_environment({"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAYBENCH_RUN": run_id})

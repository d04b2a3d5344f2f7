"""A server under a guardian, as its starter sees it."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raybench import process
from raybench.errors import EngineStartError

GUARDIAN = Path(__file__).parent / "guardian.py"
START_LIMIT_S = 30.0
KILL_LIMIT_S = 65.0
"""A little more than the guardian gives itself for its kills."""


@dataclass(frozen=True, slots=True)
class ServerEnd:
    """How a guarded server ended."""

    reason: str
    """Why it was ended: `server exited`, `stop asked`, `starter is gone`, `watched process N is gone`"""
    exit_status: int | None
    """Exit code of the server, minus a signal's number, or None if nobody saw it."""
    survivors: tuple[int, ...] = ()
    """Processes that withstood SIGKILL (stuck in the kernel)."""


class GuardedServer:
    """Lifetime of one server process, or of a long task, and of everything below it."""

    def __init__(self, folder: Path, log: Path, cwd: Path | None = None, keep_open: Sequence[int] = ()) -> None:
        """`folder`: for the guardian's report; `cwd`: where the server runs (None = there too); `keep_open`: locks'
        descriptors that the guardian holds until nothing below it is left."""
        self._report = folder / "guardian.jsonl"
        self._log = log
        self._cwd = folder if cwd is None else cwd
        self._keep_open = tuple(keep_open)
        self._commands: int | None = None
        self._guardian_pid: int | None = None
        self._server_pid: int | None = None
        self._end: ServerEnd | None = None

    def start(
        self, argv: Sequence[str], env: Mapping[str, str], watch_pids: Sequence[int] = (), grace_s: float = 3.0
    ) -> int:
        """Start the server; returns its process id.

        `watch_pids`: processes whose end is the server's end too; `grace_s`: between SIGTERM and SIGKILL when one of
        them, or this process, has died (a stop names its own).

        Raises EngineStartError if the guardian does not come up.
        """
        self._report.unlink(missing_ok=True)
        reading, writing = os.pipe()
        try:
            child = process.start(
                [sys.executable, "-I", "-S", str(GUARDIAN), str(reading)],
                env={name: env[name] for name in ("PATH", "RAYBENCH_RUN") if name in env},
                pass_fds=(reading, *self._keep_open),
            )
        finally:
            os.close(reading)
        self._commands = writing
        child.wait()
        self._tell({
            "argv": list(argv), "env": dict(env), "cwd": str(self._cwd), "log": str(self._log),
            "report": str(self._report), "watch_pids": list(watch_pids), "grace_s": grace_s,
        })  # fmt: skip
        return self._await_start()

    def _tell(self, message: dict[str, object]) -> None:
        """Write one line into the pipe; a guardian that is gone is noticed elsewhere."""
        line = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):
            while line and self._commands is not None:
                line = line[os.write(self._commands, line) :]

    def _await_start(self) -> int:
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit:
            self._read()
            if self._server_pid is not None:
                return self._server_pid
            if self._end is not None:
                self.stop(0)
                raise EngineStartError(f"The engine's guardian ended before the engine began: {self._end.reason}.")
            time.sleep(0.01)
        self.stop(0)
        raise EngineStartError(f"The engine's guardian process did not come up within {START_LIMIT_S:.0f} s.")

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            # A line that is being written has no newline yet; it is read next time.
            for line in self._report.read_bytes().split(b"\n")[:-1]:
                said = json.loads(line)
                match said["event"]:
                    case "guardian":
                        self._guardian_pid = said["pid"]
                    case "started":
                        self._server_pid = said["pid"]
                    case _:
                        self._end = ServerEnd(said["reason"], said["exit_status"], tuple(said["survivors"]))

    @property
    def pid(self) -> int | None:
        """Process id of the server; None before the start."""
        return self._server_pid

    def end(self) -> ServerEnd | None:
        """None while the server lives; else how it ended."""
        if self._end is None:
            guardian_gone = self._guardian_pid is not None and not _runs(self._guardian_pid)
            self._read()
            if self._end is None and guardian_gone:
                self._end = ServerEnd("the guardian was killed", None)
        return self._end

    def stop(self, grace_s: float = 20.0) -> ServerEnd | None:
        """End the server and everything below it; returns how it ended (None = not known). Idempotent."""
        if self._commands is not None:
            self._tell({"stop_grace_s": grace_s})
            with contextlib.suppress(OSError):
                os.close(self._commands)
            self._commands = None
        if self._server_pid is None:
            return self._end
        limit = time.monotonic() + grace_s + KILL_LIMIT_S
        while self.end() is None and time.monotonic() < limit:
            time.sleep(0.02)
        # It reports the end and then ends itself: nobody is to find it as a left-over.
        while self._guardian_pid is not None and _runs(self._guardian_pid) and time.monotonic() < limit:
            time.sleep(0.01)
        if self._end is not None and self._end.reason == "the guardian was killed":
            # The kernel has killed the server with it; its process group is what could be left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._server_pid, signal.SIGKILL)
        return self._end


def _runs(pid: int) -> bool:
    """Whether `pid` is there and no zombie: where process 1 reaps nobody, zombies stay for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False

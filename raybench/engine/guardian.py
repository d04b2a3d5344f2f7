"""The guardian: a small process that owns a server, so that nothing outlives the process that asked for it.

Runs as a script in its own interpreter (`python -I -S guardian.py READ_FD`) and needs only the standard library. Its
starter (an actor, a test) holds the writing end of a pipe. The first line through the pipe says what to start, later
lines are commands, and the end of the pipe means that the starter is dead, whatever killed it.

Invariant: when the guardian ends, no descendant of it is alive. It leaves its starter's session and process tree (Ray
kills both), adopts orphans (PR_SET_CHILD_SUBREAPER), and kills until it has no child left. If it is itself killed, the
kernel kills the server (PR_SET_PDEATHSIG), and SGLang's own children follow their parent.

What happened goes to the report file, one JSON object a line: `guardian {pid}`, `started {pid}`, `ended {reason,
exit_status, survivors}`. An exit status is a code, or minus a signal's number.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_MS = 1000
KILL_LIMIT_S = 60.0
EXIT_NOT_STARTED = 127


class Guardian:
    """The one server, what is watched for its sake, and its end."""

    def __init__(self, commands: int, spec: dict) -> None:
        self.commands = commands
        self.report_path: str = spec["report"]
        self.grace_s: float = spec["grace_s"]
        self.watched: dict[int, int | None] = {pid: _pidfd(pid) for pid in spec["watch_pids"]}
        self.server = 0
        self.server_fd: int | None = None
        self.exit_status: int | None = None
        self.heard = b""
        self.asked = False

    def report(self, event: str, **facts: object) -> None:
        line = json.dumps({"event": event, "t": time.time(), **facts}) + "\n"
        descriptor = os.open(self.report_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def start(self, spec: dict) -> None:
        parent = os.getpid()
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.server = os.fork()
        if self.server == 0:
            _become_server(spec, log, parent)
        os.close(log)
        self.server_fd = _pidfd(self.server)
        self.report("started", pid=self.server)

    def watch(self) -> str:
        """Block until there is a reason to end everything; returns it."""
        poll = select.poll()
        for descriptor in (self.commands, self.server_fd, *self.watched.values()):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN | select.POLLHUP)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(POLL_MS)}
            self.reap()
            if self.exit_status is not None:
                return "server exited"
            gone = [pid for pid, fd in self.watched.items() if fd in ready or not _alive(pid)]
            if gone:
                return f"watched process {gone[0]} is gone"
            if self.commands in ready and (reason := self.hear()):
                return reason
            if self.asked:
                return "asked by a signal"

    def hear(self) -> str | None:
        read = os.read(self.commands, 65536)
        if not read:
            return "starter is gone"
        self.heard += read
        if b"\n" not in self.heard:
            return None
        line, self.heard = self.heard.split(b"\n", 1)
        self.grace_s = json.loads(line)["stop_grace_s"]
        return "stop asked"

    def reap(self) -> bool:
        """Collect every child that ended; False when there is no child left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.server:
                self.exit_status = os.waitstatus_to_exitcode(status)

    def end(self) -> list[int]:
        """SIGTERM to the server, a bounded grace, then SIGKILL until no descendant is left; returns who resisted."""
        if self.server and self.exit_status is None:
            _kill(self.server, signal.SIGTERM)
        limit = time.monotonic() + self.grace_s
        while self.exit_status is None and time.monotonic() < limit and self.reap():
            time.sleep(0.05)
        limit = time.monotonic() + KILL_LIMIT_S
        while self.reap():
            for pid in descendants(os.getpid()):
                _kill(pid, signal.SIGKILL)
            if time.monotonic() > limit:
                return descendants(os.getpid())
            time.sleep(0.02)
        return []


def descendants(root: int) -> list[int]:
    """Process ids below `root`, by /proc; children before grandchildren."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are wanted, and quickly
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # The name in parentheses may hold anything; the parent is the second word after it.
                    parent = int(file.read().rsplit(b")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(0), [])
        found += below
        pending += below
    return found


def _become_server(spec: dict, log: int, parent: int) -> NoReturn:
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(EXIT_NOT_STARTED)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1024)
        os.chdir(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        os.write(2, f"guardian: cannot start {spec['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(EXIT_NOT_STARTED)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _pidfd(pid: int) -> int | None:
    """Descriptor that is readable when `pid` ends; None where the process is gone or the kernel has none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _read_spec(commands: int) -> dict | None:
    heard = b""
    while not heard.endswith(b"\n"):
        read = os.read(commands, 65536)
        if not read:
            return None
        heard += read
    return json.loads(heard)


def main() -> None:
    """Leave the starter's tree, start the server, watch, end everything."""
    commands = int(sys.argv[1])
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    spec = _read_spec(commands)
    if spec is None:
        return
    guardian = Guardian(commands, spec)
    signal.signal(signal.SIGTERM, lambda *_: setattr(guardian, "asked", True))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guardian.report("guardian", pid=os.getpid())
    reason = "the guardian failed"
    try:
        guardian.start(spec)
        reason = guardian.watch()
    except OSError as error:
        reason = f"the guardian failed: {error}"
    finally:
        survivors = guardian.end()
        guardian.report("ended", reason=reason, exit_status=guardian.exit_status, survivors=survivors)


if __name__ == "__main__":
    main()

"""Machines for `ray up`: each a network, process and mount namespace of its own with an sshd, all on one bridge that
leads nowhere.

Needs root, iproute2, openssh-server and rsync. Process namespaces are essential: `ray stop`, which Ray's launcher runs
on every machine, ends every Ray process that it can see.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import netns
from cli_runs import ROOT, descendants, wait_for
from netns import ip, lay_bridge, plug_in

SUBNET = "198.18.77"
"""Of the range that is set aside for benchmarks (RFC 2544)."""

HERE = Path(__file__).parent


def missing() -> str | None:
    """Why this machine cannot play hosts; None if it can."""
    return netns.missing(("sshd", "openssh-server"), ("ssh", "openssh-client"), ("rsync", "rsync"))


class Host:
    """One machine. `env`: what its container's processes find in their environment."""

    def __init__(self, scratch: Path, name: str, number: int, env: Mapping[str, str]) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self._log = scratch / f"{name}.log"
        (scratch / f"{name}.env").write_text("".join(f"export {key}='{value}'\n" for key, value in env.items()))
        space, bridge = namespace(name), namespace("bridge")
        plug_in(space, number, self.address, f"{SUBNET}.254", within=bridge)
        kept = [sys.prefix, sys.base_prefix, *([str(ROOT)] if name == "launcher" else [])]
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                ["ip", "netns", "exec", space, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
                 "--mount-proc", "--kill-child", "bash", str(HERE / "host.sh"), name, self.address, str(scratch),
                 *kept],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """Its processes, the first one first, by their numbers outside."""
        return descendants(self._child.pid)

    def until_up(self) -> None:
        """Raises AssertionError when it ends instead."""
        wait_for(lambda: self._child.poll() is not None or self._is_up(), self.log)
        assert self._child.poll() is None, self.log()

    def _is_up(self) -> bool:
        last = "sleep" if self.name == "launcher" else "Server listening"
        return last in (self.log() if last != "sleep" else " ".join(map(command, self.pids)))

    def command(self, words: str, env: Mapping[str, str] | None = None) -> list[str]:
        """A shell command for this host, to be run from outside."""
        sets = "".join(f"export {key}='{value}'; " for key, value in (env or {}).items())
        enter = ["nsenter", "--target", str(self.pids[0]), "--mount", "--uts", "--ipc", "--net", "--pid"]
        return [*enter, "bash", "-c", f". /root/.bashrc; cd {ROOT}; export HOME=/root; {sets}{words}"]

    def lose(self) -> None:
        """Power loss: everything on it is gone at once, and nobody says goodbye."""
        for pid in self.pids[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait()

    def close(self) -> None:
        if self._child.poll() is None:
            self.lose()
        ip("netns", "del", namespace(self.name), check=False)


@contextmanager
def hosts(scratch: Path, envs: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, Host]]:
    """Hosts by name, one for each environment; gone at the end, with everything on them."""
    (scratch / "shared").mkdir()
    (scratch / "doubles").mkdir()
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(scratch / name)], check=True)
    bridge = namespace("bridge")
    # The one folder outside of the private ones that a volume of the cluster file is bound to.
    volume = Path("/shared")
    was_there = volume.exists()
    made: dict[str, Host] = {}
    ip("netns", "add", bridge)
    try:
        lay_bridge(within=bridge)
        for number, (name, env) in enumerate(envs.items(), start=1):
            made[name] = Host(scratch, name, number, env)
        for host in made.values():
            host.until_up()
        yield made
    finally:
        for host in made.values():
            host.close()
        ip("netns", "del", bridge, check=False)
        if not was_there and volume.is_dir():
            volume.rmdir()


def namespace(name: str) -> str:
    return f"rb{os.getpid()}-{name}"


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def processes(of: Sequence[Host], words: str) -> list[str]:
    """Command lines on these hosts that hold the words."""
    return [line for host in of for pid in host.pids if words in (line := command(pid))]

"""The one place that starts child processes.

Invariant: every child gets an explicit environment. Nothing of the parent leaks in but a short whitelist, so that a
server measured under Ray, under pytest and under a shell is the same server.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

Child = subprocess.Popen[bytes]
"""A child process as `start` returns it."""

MACHINE_SETTINGS = ("NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS")
"""What a machine says of its GPUs' links. Without them a server would use what its owner has switched off, and
they change how fast GPUs talk: an engine's record names them."""
WHITELIST = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    *MACHINE_SETTINGS, "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "RAYBENCH_CACHE",
    "REQUESTS_CA_BUNDLE",
)  # fmt: skip
"""Variables that a child may inherit. PYTHONPATH, VIRTUAL_ENV, RAY_*, WANDB_* are absent on purpose; hub tokens are
added by name only where a download needs them."""


_TIED = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(1, 9, 0, 0, 0) != 0 or os.getppid() != int(sys.argv[1]):
    sys.exit("its parent is gone, or prctl failed")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks for SIGKILL at the parent's death (1 = PR_SET_PDEATHSIG, which outlives exec), then becomes the real command."""


def child_environment(extra: Mapping[str, str], parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whitelisted part of `parent` (this process's environment by default) with `extra` laid over it."""
    source = os.environ if parent is None else parent
    return {name: source[name] for name in WHITELIST if name in source} | dict(extra)


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    log: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a child whose output goes to `log` (nowhere if None). The caller owns it and must wait for it."""
    out = subprocess.DEVNULL if log is None else log
    return subprocess.Popen(
        list(argv), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        pass_fds=tuple(pass_fds), start_new_session=new_session,
    )  # fmt: skip


def start_tied(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: IO[bytes], pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a child that the kernel kills when the *thread* that calls this ends, whatever ends it.

    `argv[0]` must be a path.
    """
    tied = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *argv]
    return start(tied, env=env, cwd=cwd, log=log, pass_fds=pass_fds)


def run(argv: Sequence[str], *, env: Mapping[str, str], timeout_s: float, cwd: Path | None = None) -> tuple[int, str]:
    """Run a child to its end; returns (exit code, stdout and stderr together). Exit code 124 = ran past the limit."""
    try:
        done = subprocess.run(
            list(argv), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return 124, (error.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")

"""Sockets whose reads carry the time at which the kernel received their last byte.

A user-space time stamp is late by whatever the process did before it: in a burst of 256 tokens the last one is read
milliseconds after it came. With `SO_TIMESTAMPNS` the kernel stamps each packet when it arrives, and a read returns the
stamp of the last byte that it brings. So a busy client reads late, and yet reports when tokens came; how late it reads
is measured besides (`read_lag`). TLS and kernels without the option fall back to a stamp right after the read.
"""

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Callable

from raybench.client.answer import Answer
from raybench.client.reads import WALL
from raybench.client.stream import Endpoint
from raybench.errors import ClientError

SO_TIMESTAMPNS = 35
"""Of asm-generic/socket.h; Python's socket module does not name it. Its message is a `struct timespec`."""
READ_BYTES = 65_536
STAMP_BYTES = socket.CMSG_SPACE(WALL.size)
"""Room for the stamp beside a read."""
SPARE_FILES = 256
"""Files that are left to the rest of the process."""


class Wire:
    """One connection; at most one request at a time."""

    __slots__ = ("answer", "fd", "num_requests", "request", "sock", "stamped_read", "unsent")

    def __init__(self, sock: socket.socket, kernel_stamps: bool) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.answer: Answer | None = None
        self.request = -1
        """Place of the request under way in the executor's lists; -1 = idle."""
        self.unsent = b""
        """Rest of a request that the socket did not take at once."""
        self.num_requests = 0
        self.stamped_read: Callable[[int, int], tuple[bytes, list[tuple[int, int, bytes]], int, object]] | None = (
            sock.recvmsg if kernel_stamps else None
        )
        """Reads `READ_BYTES` with `STAMP_BYTES` beside them; None where the kernel stamps nothing."""

    def send(self, data: bytes) -> None:
        """Send, keeping what the socket does not take in `unsent`. Raises OSError."""
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        self.unsent = data[sent:]

    def read(self) -> tuple[bytes, bytes]:
        """Bytes and the kernel's `WALL` of the last one, empty without its stamp. Raises BlockingIOError, OSError."""
        if self.stamped_read is not None:
            data, said, _, _ = self.stamped_read(READ_BYTES, STAMP_BYTES)
            return data, said[0][2] if said else b""
        try:
            return self.sock.recv(READ_BYTES), b""
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def close(self) -> None:
        """Close it. Idempotent."""
        with contextlib.suppress(OSError):
            self.sock.close()


def clock_offset_ns() -> int:
    """Wall clock minus `perf_counter_ns`, good to a microsecond; taken anew at every poll, as it may step."""
    return time.time_ns() - time.perf_counter_ns()


def connect(endpoint: Endpoint, timeout_s: float, kernel_stamps: bool = True) -> Wire:
    """Open a connection, TLS included. Raises ClientError when nobody listens."""
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kernel = kernel_stamps and not endpoint.tls and _stamped(sock)
        if endpoint.tls:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=endpoint.host)
        sock.setblocking(False)
    except TimeoutError as error:
        raise ClientError(
            f"timeout: no connection to {endpoint.host}:{endpoint.port} within {timeout_s:.1f} s"
        ) from error
    except OSError as error:
        raise ClientError(f"cannot connect to {endpoint.host}:{endpoint.port}: {error}") from error
    return Wire(sock, kernel)


def _stamped(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def allow_files(num: int) -> None:
    """Raise the limit of open files to `num` connections. Raises ClientError with the command that helps."""
    wanted = num + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ClientError(
            f"{num} connections need {wanted} open files, and this process may have {hard}; raise the limit of the "
            f"machine (ulimit -Hn {wanted}) or lower the concurrency"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

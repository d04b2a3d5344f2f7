"""The mock as a process of its own, and what it logged as columns."""

import http.client
import json
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raybench import process
from raybench.client.mock_server import MockSettings
from raybench.client.workers import environment
from raybench.errors import ClientError

Ints = NDArray[np.int64]
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class MockTruth:
    """What the mock did. Times in nanoseconds of `time.perf_counter_ns`."""

    rids: Ints
    """Id of every request, in the order of their arrival."""
    arrived_ns: Ints
    """When the kernel received it."""
    starts: Ints
    """First emission of every request, and at the end the number of all."""
    emitted_ns: Ints
    """When each chunk went out, request after request."""
    late_ns: Ints
    """How late each chunk went out, in the order of the emissions."""
    num_tokens: int
    """Tokens that went out."""
    peak_streams: int
    """Most requests under way at once."""
    cpu_s: float
    """CPU time of the mock since its last reset."""


class Mock:
    """Owns the process from `with` to its end."""

    def __init__(self, **behaviour: object) -> None:
        """`behaviour`: fields of `MockSettings`."""
        self._folder = tempfile.TemporaryDirectory(prefix="raybench-mock-")
        folder = Path(self._folder.name)
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
            self.port: int = listener.getsockname()[1]
            settings = MockSettings.model_validate({"listen_fd": listener.fileno()} | behaviour)
            (folder / "settings.json").write_text(settings.model_dump_json())
            with (folder / "log").open("wb") as log:
                self._child = process.start_tied(
                    [sys.executable, "-m", "raybench.client.mock_server", str(folder / "settings.json")],
                    env=environment(), cwd=folder, log=log, pass_fds=(listener.fileno(),),
                )  # fmt: skip

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def reset(self) -> None:
        """Forget what was logged."""
        self._get("/reset")

    def truth(self) -> MockTruth:
        """What was logged since the last reset. Raises ClientError if the mock has died."""
        line, _, raw = self._get("/truth").partition(b"\n")
        said = json.loads(line)
        numbers = np.frombuffer(raw, np.int64)
        requests, emissions = said["num_requests"], said["num_emissions"]
        rids, arrived_ns, counts, emitted_ns, late_ns = np.split(
            numbers, np.cumsum([requests, requests, requests, len(numbers) - 3 * requests - emissions])
        )
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return MockTruth(
            rids, arrived_ns, starts, emitted_ns, late_ns, said["num_tokens"], said["peak_streams"], said["cpu_s"]
        )

    def __enter__(self) -> Self:
        self._get("/health")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._child.kill()
        self._child.wait()
        self._folder.cleanup()

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            log = (Path(self._folder.name) / "log").read_text(errors="replace").strip()[-1000:]
            raise ClientError(f"the mock server does not answer {path}: {error}; {log or 'no output'}") from error
        finally:
            connection.close()

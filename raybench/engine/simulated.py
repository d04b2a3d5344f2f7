"""The simulated engine: a process of ours that speaks SGLang's HTTP contract over a timing model.

Everything that comes from it says SIMULATED. It occupies no machine: each node declares a host of its own.
"""

import http.client
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import raybench
from raybench import process
from raybench.config.schema import FaultConfig, SimulatedConfig
from raybench.engine.base import Launch, Progress, RenderedPrompt
from raybench.engine.simulated_server import CONTEXT_TOKENS, ServerConfig
from raybench.errors import EngineStartError
from raybench.records import EngineFacts, MemoryUsage, Message, StartUpPhase

POLL_S = 0.02
LOG_TAIL_BYTES = 4000
VOCAB_TOKENS = 151_936
"""Vocabulary that it claims (Qwen3's): prompts drawn for it look like those of the real study."""


def declared_host(start: str) -> str:
    """Host of a simulated engine: the node's part of its start id (`n0` of `n0.2`), so that a restart stays on it."""
    return f"simulated:{start.split('.', maxsplit=1)[0]}"


def faulty_here(model: SimulatedConfig, start: str) -> SimulatedConfig:
    """The model without its faults on a node that is not to play them."""
    nodes = model.faults.on_nodes
    if not nodes or start.split(".", maxsplit=1)[0] in nodes:
        return model
    return model.model_copy(update={"faults": FaultConfig()})


class SimulatedEngine:
    """Owns the server process from `start` to `stop`."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._child: process.Child | None = None
        self._lifetime_fd: int | None = None
        self._port = 0
        self._stopped = False

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_key(self) -> str | None:
        """It needs none."""
        return None

    @property
    def served_name(self) -> str:
        """Model name for the OpenAI routes."""
        model = self._launch.model
        return model.served_name or model.path

    def start(self, progress: Progress) -> EngineFacts:
        """Start the server and wait until it is ready. Raises EngineStartError."""
        model = self._launch.engine.simulated
        if model is None:
            raise EngineStartError(f"target {self._launch.target}: engine.simulated is missing")
        progress(
            f"{self._launch.start}: starting the simulated engine, {model.time_scale:g} simulated seconds a second"
        )
        self._spawn()
        self._wait_until_ready(self._launch.engine.startup_timeout_s)
        return EngineFacts(
            engine="simulated",
            target=self._launch.target,
            launch=self._launch.launch,
            start=self._launch.start,
            version="simulated",
            url=self.url,
            hosts=(declared_host(self._launch.start),),
            argv=("-m", "raybench.engine.simulated_server"),
            env=dict(self._launch.engine.env),
            startup=(StartUpPhase(name="total", duration_s=model.startup_s),),
            memory=MemoryUsage(token_capacity=model.token_capacity),
            max_total_tokens=model.token_capacity,
            context_tokens=min(CONTEXT_TOKENS, model.token_capacity),
            vocab_tokens=VOCAB_TOKENS,
            simulated=True,
            time_scale=model.time_scale,
        )

    def _spawn(self) -> None:
        launch = self._launch
        model = launch.engine.simulated
        assert model is not None
        launch.folder.mkdir(parents=True, exist_ok=True)
        read_fd, write_fd = os.pipe()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1024)
            self._port = listener.getsockname()[1]
            config = ServerConfig(
                model=faulty_here(model, launch.start), target=launch.target, served_name=self.served_name,
                answer_key=launch.answer_key, listen_fd=listener.fileno(), lifetime_fd=read_fd,
            )  # fmt: skip
            config_file = launch.folder / "simulated.json"
            config_file.write_text(config.model_dump_json())
            package_parent = str(Path(raybench.__file__).parents[1])
            env = launch.engine.env | {
                "RAYBENCH_RUN": launch.run_id, "PYTHONPATH": package_parent, "OMP_NUM_THREADS": "1",
            }  # fmt: skip
            try:
                with self._log_file.open("wb") as log:
                    self._child = process.start(
                        [sys.executable, "-m", "raybench.engine.simulated_server", str(config_file)],
                        env=process.child_environment(env), log=log, pass_fds=(listener.fileno(), read_fd),
                    )  # fmt: skip
            finally:
                os.close(read_fd)
                self._lifetime_fd = write_fd

    @property
    def _log_file(self) -> Path:
        return self._launch.folder / "server.log"

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self._is_ready():
            if death := self.death():
                self.stop()
                raise EngineStartError(f"target {self._launch.target}: {death}")
            if time.monotonic() > deadline_s:
                self.stop()
                raise EngineStartError(
                    f"target {self._launch.target}: the simulated engine was not ready within {timeout_s:g} s "
                    "(engine.startup_timeout_s)"
                )
            time.sleep(POLL_S)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=1)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def render(self, conversations: Sequence[Sequence[Message]]) -> tuple[RenderedPrompt, ...] | None:
        """Always None: it has no tokenizer."""
        del conversations
        return None

    def death(self) -> str | None:
        """How the process ended, with the tail of its log; None while it lives or after `stop`."""
        if self._child is None or self._stopped or self._child.poll() is None:
            return None
        tail = self._log_file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return f"the simulated engine ended with code {self._child.returncode}: {tail or 'its log is empty'}"

    def pid(self) -> int | None:
        """Process id of the server."""
        return None if self._child is None else self._child.pid

    def stop(self, grace_s: float = 20.0) -> None:
        """End the process. There is nothing to drain, so it is killed; `grace_s` is not needed."""
        del grace_s
        self._stopped = True
        if self._lifetime_fd is not None:
            os.close(self._lifetime_fd)
            self._lifetime_fd = None
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

"""A real SGLang server: started under a guardian, waited for, asked what it is, and ended with all that it started."""

import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from raybench.engine.base import Launch, Progress, RenderedPrompt
from raybench.engine.command import argv_of, environment_of, merged_args, settings_of
from raybench.engine.environment import resolve
from raybench.engine.failure import cause_of, exit_words, last_error, tail
from raybench.engine.guarded import GuardedServer
from raybench.engine.http_json import FIRST_TOKEN, ask
from raybench.engine.interpreter import Interpreter
from raybench.engine.models import ResolvedModel, resolve_model, vocabulary_tokens
from raybench.engine.ports import HeldPorts
from raybench.engine.redaction import redact, redact_argv, redact_env, secrets_of
from raybench.engine.startup import milestone, read_start
from raybench.engine.templates import Rendering, check_names, render
from raybench.errors import EngineRefused, EngineStartError
from raybench.records import EngineFacts, Message, StartUpPhase

MODULE = ("-m", "sglang.launch_server")
PORT_TRIES = 3
POLL_S = 0.25
REPORT_EVERY_S = 15.0
LOG_BYTES = 4_000_000
"""As much of the log's end as is read; a start's log is about 0.1 MB."""


class SglangEngine:
    """Lifetime of one server on this node. Implements `raybench.engine.base.Engine`."""

    def __init__(self, launch: Launch, watch_pids: Sequence[int] = ()) -> None:
        """`watch_pids`: processes (the raylet) whose end must end the server too."""
        self._launch = launch
        self._watch_pids = tuple(watch_pids)
        self._log = launch.folder / "server.log"
        self._server: GuardedServer | None = None
        self._port = 0
        self._served_name = launch.model.served_name or launch.model.path
        self._ready = False
        self._rendering: Rendering | None = None
        self._secrets = secrets_of(launch.engine.args, launch.engine.env)

    def start(self, progress: Progress) -> EngineFacts:
        """Resolve interpreter and model, start the server, wait until it answers. Blocks.

        Raises EngineRefused (no retry can help), EngineStartError, InterpreterError, StorageError.
        """
        launch = self._launch
        launch.folder.mkdir(parents=True, exist_ok=True)
        interpreter = resolve(launch.engine.environment, progress, launch.engine.env)
        model = resolve_model(launch.model, interpreter, progress)
        self._served_name = model.served_name
        args = merged_args(launch, interpreter)
        env = environment_of(launch, interpreter)
        check_names(interpreter, env, args)
        self._rendering = Rendering(interpreter, env, model.path, args)
        for _ in range(PORT_TRIES):
            began = time.monotonic()
            argv = self._spawn(interpreter, model)
            progress(f"SGLang is starting on port {self._port} ({interpreter.label})")
            try:
                self._await_ready(began, progress)
                return self._facts(interpreter, model, argv, time.monotonic() - began)
            except _PortTaken:
                self.stop(0)
                progress("a port was taken meanwhile; trying others")
            except BaseException:
                self.stop(0)
                raise
        raise self._not_started(f"no port could be had in {PORT_TRIES} tries", None)

    def _spawn(self, interpreter: Interpreter, model: ResolvedModel) -> list[str]:
        # The log holds the API key in clear: SGLang prints its arguments.
        self._log.unlink(missing_ok=True)
        self._log.touch(mode=0o600)
        held = HeldPorts(2)
        self._port, nccl_port = held.numbers
        argv = argv_of(model, merged_args(self._launch, interpreter), self._port, nccl_port)
        self._server = GuardedServer(self._launch.folder, self._log)
        held.let_go()
        self._server.start(
            [str(interpreter.python), *MODULE, *argv],
            environment_of(self._launch, interpreter),
            self._watch_pids,
        )
        return argv

    def _await_ready(self, began: float, progress: Progress) -> None:
        limit_s = self._launch.engine.startup_timeout_s
        reported = began
        reached: str | None = None
        while True:
            end = self._server.end() if self._server is not None else None
            if end is not None:
                if cause_of(end.exit_status, self._log_text()).name == "port":
                    raise _PortTaken
                raise self._not_started(exit_words(end.exit_status), end.exit_status)
            now = time.monotonic()
            if self._answers(limit_s - (now - began)):
                self._ready = True
                return
            if now - began > limit_s:
                raise self._too_slow(limit_s)
            now_at = milestone(self._log_text())
            if now_at != reached or now - reported >= REPORT_EVERY_S:
                reached, reported = now_at, now
                progress(
                    f"SGLang is starting: {reached or 'importing'} ({now - began:.0f} s of {limit_s:.0f} s at most)"
                )
            time.sleep(POLL_S)

    def _answers(self, remaining_s: float) -> bool:
        """`/ready` where the version has it, else a first generation of one token. Never `/health`: it generates."""
        ready = ask(f"{self.url}/ready", timeout_s=5, api_key=self.api_key)
        if ready.status != 404:
            return ready.ok
        # Bounded, so that the death of a server that hangs is noticed between tries.
        limit_s = max(1.0, min(30.0, remaining_s))
        return ask(f"{self.url}/generate", timeout_s=limit_s, api_key=self.api_key, content=FIRST_TOKEN).ok

    def _facts(self, interpreter: Interpreter, model: ResolvedModel, argv: list[str], total_s: float) -> EngineFacts:
        info = ask(f"{self.url}/server_info", timeout_s=30, api_key=self.api_key)
        if info.status == 404:
            info = ask(f"{self.url}/get_server_info", timeout_s=30, api_key=self.api_key)
        start = read_start(info.mapping(), self._log_text())
        shown = [model.served_name if word == str(model.path) else word for word in argv]
        return EngineFacts(
            engine="sglang",
            target=self._launch.target,
            launch=self._launch.launch,
            start=self._launch.start,
            version=start.version,
            url=self.url,
            hosts=(self._launch.host,),
            interpreter=interpreter.label,
            argv=(*MODULE, *redact_argv(shown, self._secrets)),
            env=redact_env(settings_of(self._launch), self._secrets),
            model_revision=model.revision,
            resolved_args=start.resolved_args,
            startup=(*start.phases, StartUpPhase(name="total", duration_s=total_s)),
            memory=start.memory,
            max_total_tokens=start.max_total_tokens,
            context_tokens=start.context_tokens,
            untuned_kernels=start.untuned_kernels,
            vocab_tokens=vocabulary_tokens(model.path),
        )

    @property
    def url(self) -> str:
        """Base URL without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_key(self) -> str | None:
        """The key that the configuration gave the server (`engine.args: {api-key: ...}`); None = none."""
        key = self._launch.engine.args.get("api-key")
        return str(key) if key is not None else None

    @property
    def served_name(self) -> str:
        """Model name for the OpenAI routes."""
        return self._served_name

    @property
    def log(self) -> Path:
        """The server's log, unredacted: readable by its owner only."""
        return self._log

    def render(self, conversations: Sequence[Sequence[Message]]) -> tuple[RenderedPrompt, ...] | None:
        """Conversations by the model folder's own template, in the engine's interpreter; None where that fails."""
        return None if self._rendering is None else render(self._rendering, conversations, self._launch.folder)

    def death(self) -> str | None:
        """None while it lives; else how it ended, with the redacted tail of its log. Never talks to the server."""
        end = self._server.end() if self._server is not None else None
        if end is None:
            return None
        words = exit_words(end.exit_status)
        why = "" if end.reason == "server exited" else f" ({end.reason})"
        log = self._log_text()
        error = last_error(log)
        first = f"SGLang died: {words}{why}" + (f"; {error}" if error else "")
        return redact(f"{first}\nEnd of its log:\n{tail(log)}", self._secrets)

    def pid(self) -> int | None:
        """Process id of the server; None before its start."""
        return self._server.pid if self._server is not None else None

    def stop(self, grace_s: float = 20.0) -> None:
        """End it and everything it started. Idempotent, never raises."""
        server, self._server = self._server, None
        if server is None:
            return
        try:
            if self._ready and server.end() is None:
                # SIGTERM makes SGLang finish all requests first, without a limit.
                content: dict[str, JsonValue] = {"rid": "", "abort_all": True}
                ask(f"{self.url}/abort_request", timeout_s=2, api_key=self.api_key, content=content)
        finally:
            # Nobody else knows the server any more.
            self._ready = False
            server.stop(grace_s)

    def _not_started(self, how: str, exit_status: int | None) -> EngineStartError:
        log = self._log_text()
        cause = cause_of(exit_status, log)
        error = last_error(log)
        named = f"{error}. " if error and cause.name in ("unknown", "memory", "killed") else ""
        text = (
            f"SGLang of target {self._launch.target} did not start: {how}. {named}{cause.advice}\n"
            f"End of its log:\n{tail(log)}"
        )
        kind = EngineStartError if cause.retryable else EngineRefused
        return kind(redact(text, self._secrets))

    def _too_slow(self, limit_s: float) -> EngineStartError:
        log = self._log_text()
        text = (
            f"SGLang of target {self._launch.target} was not ready after {limit_s:.0f} s "
            f"(it had come to: {milestone(log) or 'its imports'}). If it only needs longer (a first start compiles "
            f"kernels, large weights load slowly), raise engine.startup_timeout_s.\nEnd of its log:\n{tail(log)}"
        )
        return EngineStartError(redact(text, self._secrets))

    def _log_text(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - LOG_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


class _PortTaken(Exception):
    """The server could not bind one of its ports; other ports may do."""

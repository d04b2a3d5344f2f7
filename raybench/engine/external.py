"""An endpoint that already runs: nothing is started, nothing is stopped, facts are what it says about itself."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from raybench.engine.base import Launch, Progress, RenderedPrompt
from raybench.engine.http_json import Answer, ask
from raybench.engine.models import folder_revision, vocabulary_tokens
from raybench.engine.redaction import redact_url
from raybench.engine.startup import read_start
from raybench.errors import EngineRefused, EngineStartError
from raybench.records import EngineFacts, Message, StartUpPhase

ASK_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ExternalEngine:
    """A server of somebody else's. Implements `raybench.engine.base.Engine`."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._url = (launch.engine.url or "").rstrip("/").removesuffix("/v1")
        self._served_name = launch.model.served_name or launch.model.path

    def start(self, progress: Progress) -> EngineFacts:
        """Ask the endpoint what it is. Raises EngineStartError (unreachable), EngineRefused (key)."""
        if self._launch.engine.api_key_env and self.api_key is None:
            raise EngineRefused(
                f"engine.api_key_env names {self._launch.engine.api_key_env}, which is not set on this node."
            )
        if urlsplit(self._url).username is not None:
            raise EngineRefused(
                f"engine.url of target {self._launch.target} holds a user or password. Give the bare URL, and a key "
                "through engine.api_key_env."
            )
        began = time.monotonic()
        models = self._must_answer(ask(f"{self._url}/v1/models", timeout_s=ASK_TIMEOUT_S, api_key=self.api_key))
        info = ask(f"{self._url}/server_info", timeout_s=ASK_TIMEOUT_S, api_key=self.api_key)
        if info.status == 404:
            info = ask(f"{self._url}/get_server_info", timeout_s=ASK_TIMEOUT_S, api_key=self.api_key)
        progress(f"{self.shown_url} answers{'' if info.ok else ', but says nothing about itself (/server_info)'}")
        return self._facts(info.mapping(), _first_model(models), time.monotonic() - began)

    def _must_answer(self, answer: Answer) -> Answer:
        if answer.status in (401, 403):
            raise EngineRefused(
                f"{self.shown_url} refuses the key (HTTP {answer.status}). Put it into a variable of the node and name "
                "that with engine.api_key_env."
            )
        if answer.status is None or answer.status >= 500:
            raise EngineStartError(
                f"No engine answers at {self.shown_url} ({answer.error}). Start it, or correct engine.url; it must be "
                "reachable from the node."
            )
        return answer

    def _facts(self, info: dict[str, JsonValue], model: dict[str, JsonValue], total_s: float) -> EngineFacts:
        said = read_start(info, "")
        self._served_name = self._launch.model.served_name or str(
            info.get("served_model_name") or model.get("id") or self._launch.model.path
        )
        longest = model.get("max_model_len")
        folder = self._model_folder(info)
        return EngineFacts(
            engine="external",
            target=self._launch.target,
            launch=self._launch.launch,
            start=self._launch.start,
            version=said.version,
            url=self.shown_url,
            hosts=(self._host(),),
            model_revision=folder_revision(folder) if folder else self._launch.model.revision,
            resolved_args=said.resolved_args,
            startup=(*said.phases, StartUpPhase(name="total", duration_s=total_s)),
            memory=said.memory,
            max_total_tokens=said.max_total_tokens,
            context_tokens=longest if isinstance(longest, int) else said.context_tokens,
            vocab_tokens=vocabulary_tokens(folder) if folder else None,
        )

    def _model_folder(self, info: dict[str, JsonValue]) -> Path | None:
        """Folder of the served model, where the server's path is one on this machine too."""
        for path in (info.get("model_path"), self._launch.model.path):
            if isinstance(path, str) and (Path(path) / "config.json").is_file():
                return Path(path)
        return None

    def _host(self) -> str:
        name = urlsplit(self._url).hostname or self._url
        return self._launch.host if name in _LOOPBACK else name

    @property
    def shown_url(self) -> str:
        """The URL without credentials."""
        return redact_url(self._url)

    @property
    def url(self) -> str:
        """Base URL without a slash at the end."""
        return self._url

    @property
    def api_key(self) -> str | None:
        """Value of the variable that the configuration names; None = none."""
        name = self._launch.engine.api_key_env
        return os.environ.get(name) or None if name else None

    @property
    def served_name(self) -> str:
        """Model name for the OpenAI routes."""
        return self._served_name

    def render(self, conversations: Sequence[Sequence[Message]]) -> tuple[RenderedPrompt, ...] | None:
        """Always None: nobody knows with which interpreter its tokenizer can be loaded."""
        del conversations
        return None

    def death(self) -> str | None:
        """Always None: a server of somebody else's is not watched; its requests end with a status."""
        return None

    def pid(self) -> int | None:
        """Always None: nothing was started."""
        return None

    def stop(self, grace_s: float = 20.0) -> None:
        """Does nothing: it was not started here."""


def _first_model(answer: Answer) -> dict[str, JsonValue]:
    data = answer.mapping().get("data")
    first = data[0] if isinstance(data, list) and data else None
    return first if isinstance(first, dict) else {}

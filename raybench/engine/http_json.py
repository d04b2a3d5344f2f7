"""Small requests to an engine's control routes. Loads and evals go through `raybench.client`, never through here."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import JsonValue

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int | None
    """HTTP status; None if nothing answered."""
    body: JsonValue
    """Decoded JSON; None if there was none."""
    error: str | None = None
    """Why nothing answered."""

    @property
    def ok(self) -> bool:
        return self.status == 200

    def mapping(self) -> dict[str, JsonValue]:
        """The body if it is a JSON object, else an empty one."""
        return self.body if isinstance(self.body, dict) else {}


FIRST_TOKEN: dict[str, JsonValue] = {
    "input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 1, "temperature": 0},
}  # fmt: skip
"""For `/generate`: a server that answers this generates."""


def ask(
    url: str, *, timeout_s: float, api_key: str | None = None, content: dict[str, JsonValue] | None = None
) -> Answer:
    """GET, or POST if there is `content`. Never raises for what the network or the server does."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    data = None
    if content is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(content).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    # A proxy of the machine must not see what is asked of this machine itself.
    proxies = {} if urlsplit(url).hostname in _LOOPBACK else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return Answer(response.status, _decoded(response.read()))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _body_of(error), f"HTTP {error.code}")
    except urllib.error.URLError as error:
        return Answer(None, None, str(error.reason))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(None, None, f"{type(error).__name__}: {error}")


def _body_of(error: urllib.error.HTTPError) -> JsonValue:
    """What came with an error; None where it does not come whole, as from a server that is just going down."""
    try:
        with error:
            return _decoded(error.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _decoded(body: bytes) -> JsonValue:
    try:
        return json.loads(body)
    except ValueError:
        return None

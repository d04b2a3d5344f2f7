"""What must not leave the machine: who and where it is, its paths, its secrets.

Two nets. What is sent is picked field by field (`raybench.publish.projection`), so that a new field stays at home until
somebody decides; and every text that is picked goes through `clean`.
"""

import functools
import getpass
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue

from raybench.engine.redaction import HIDDEN, redact, secrets_of
from raybench.publish.names import last_part

_PATH = re.compile(r"(?<![\w/:.~-])(?:~|\.{1,2})?(?:/[\w.+@%-]+){2,}/?")
"""An absolute or relative path inside a text; a hub id (`owner/name`) and a URL are none."""
_ADDRESS = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\d.])")
_URL = re.compile(r"\b(\w+)://([^\s/'\"<>)]+)[^\s'\"<>)]*")
_SITE = re.compile(r"[\w-]+(\.[\w-]+)+")
"""A host that anybody may know has a domain, and needs neither port nor password."""
_PEER = re.compile(r"\b([Hh]ost) [\w.-]+:\d+")
"""As clients word what they could not reach."""
_MIN_NAME_CHARS = 4
"""A shorter machine's or user's name (`root`, `h1`) is a word of many texts and says nothing."""
_PLAIN_NAMES = frozenset({"root", "user", "ubuntu", "admin", "localhost", "raybench"})
_PRIVATE_KEYS = frozenset({"host", "hosts", "env", "argv", "url", "python", "ray_node_id", "command", "folder"})
"""Names of values that say where something is; flags of engines among them."""
_SECRET_NAME = re.compile(r"(^|[-_])(token|key|keys|secret|password|passwd|credentials?|auth)$", re.IGNORECASE)


@functools.cache
def _own_names() -> tuple[str, ...]:
    """Names of this machine, its user and its folders, longest first."""
    names = {socket.gethostname(), socket.gethostname().split(".")[0], str(Path.home())}
    with suppress(OSError, KeyError):  # a container may have no entry for the user
        names.add(getpass.getuser())
    kept = {
        n for n in names if len(n) >= _MIN_NAME_CHARS and n not in _PLAIN_NAMES and n.strip("/") not in _PLAIN_NAMES
    }
    return tuple(sorted(kept, key=len, reverse=True))


@functools.cache
def _own_secrets() -> tuple[str, ...]:
    """Secret values of this process's environment, which does not change while it publishes."""
    return secrets_of({}, os.environ)


@functools.lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """`text` without paths (their last part stays), addresses and hosts, this machine's names, and secrets of its
    environment."""
    text = redact(text, _own_secrets())
    text = _URL.sub(lambda url: url.group() if _SITE.fullmatch(url.group(2)) else f"{url.group(1)}://{HIDDEN}", text)
    text = _PEER.sub(rf"\1 {HIDDEN}", text)
    text = _PATH.sub(lambda found: last_part(found.group()), text)
    text = _ADDRESS.sub(HIDDEN, text)
    for name in _own_names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
    return text


def is_private(name: str) -> bool:
    """Whether a value of this name says where something is, or is a secret."""
    return name in _PRIVATE_KEYS or bool(_SECRET_NAME.search(name))


def clean_texts(value: JsonValue) -> JsonValue:
    """A tree of values with every text in it cleaned; nothing is left out."""
    match value:
        case str():
            return clean(value)
        case list():
            return [clean_texts(each) for each in value]
        case dict():
            return {name: clean_texts(each) for name, each in value.items()}
        case _:
            return value


def clean_value(value: JsonValue) -> JsonValue:
    """A tree of values, its texts cleaned and its private keys left out."""
    match value:
        case str():
            return clean(last_part(value))
        case list():
            return [clean_value(each) for each in value]
        case dict():
            return {clean(name): clean_value(each) for name, each in value.items() if not is_private(name)}
        case _:
            return value

"""What must not be seen: API keys and tokens, in command lines, logs, URLs and variables. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

from raybench.config.schema import FlagValue

HIDDEN = "***"
_SECRET_FLAG = re.compile(r"(^|-)(api-key|password|secret|auth-token)$")
_SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY|CREDENTIALS)$", re.IGNORECASE)
_SECRET_SHAPES = (
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?<=Bearer )[^\s'\",]+"),
    # SGLang prints its arguments with the key in clear: api_key='...' (a class repr) or 'api_key': '...' (a dict).
    re.compile(r"(?<=api_key=')[^']+"),
    re.compile(r"(?<=api_key': ')[^']+"),
    re.compile(r"(?<=--api-key )\S+"),
    re.compile(r"(?<=-admin-api-key )\S+"),
)
_MIN_SECRET_CHARS = 4
"""A shorter secret is not searched for in free text: it would tear holes into every line."""


def is_secret_flag(name: str) -> bool:
    """Whether the value of the flag (full name, no dashes in front) is a secret."""
    return bool(_SECRET_FLAG.search(name))


def secrets_of(args: Mapping[str, FlagValue], env: Mapping[str, str]) -> tuple[str, ...]:
    """Secret values among flags and environment variables."""
    flags = [str(value) for name, value in args.items() if is_secret_flag(name)]
    variables = [value for name, value in env.items() if _SECRET_VARIABLE.search(name)]
    return tuple(value for value in flags + variables if value)


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without the given secrets, and without what looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            text = text.replace(secret, HIDDEN)
    for shape in _SECRET_SHAPES:
        text = shape.sub(HIDDEN, text)
    return text


def redact_argv(argv: Sequence[str], secrets: Iterable[str]) -> tuple[str, ...]:
    """`argv` with the words after secret flags hidden, however short they are."""
    hidden = [
        HIDDEN if before.startswith("--") and is_secret_flag(before[2:]) else word
        for before, word in zip(["", *argv], argv, strict=False)
    ]
    known = tuple(secrets)
    return tuple(redact(word, known) for word in hidden)


def redact_env(env: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """`env` with the values of secret variables hidden."""
    known = tuple(secrets)
    return {name: HIDDEN if _SECRET_VARIABLE.search(name) else redact(value, known) for name, value in env.items()}


def redact_url(url: str) -> str:
    """`url` without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path.rstrip("/"), "", ""))

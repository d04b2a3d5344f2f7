"""What every record is: frozen, closed, with finite numbers only; and the hash that names contents."""

import hashlib
import json

from pydantic import BaseModel, ConfigDict, JsonValue


class Record(BaseModel):
    """Base of all records: frozen, closed, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def content_hash(content: JsonValue, num_hex: int = 16) -> str:
    """SHA-256 of the canonical JSON of `content`, cut to `num_hex` hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:num_hex]

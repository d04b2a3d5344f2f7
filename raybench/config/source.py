"""YAML text as plain values, with the place of every value.

Invariant: what comes out is a finite tree of JSON values. Tags, reference cycles, merge keys, duplicate keys, dates and
infinite numbers are refused, each with its line, because every one of them has a reading that the user did not mean.
"""

import datetime
import math
from dataclasses import dataclass
from typing import cast

import yaml
from pydantic import JsonValue

from raybench.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys and list indexes from the top of the document to a value."""

MAX_VALUES = 100_000
"""Values in one document. A few lines of nested aliases can stand for billions."""

_LARGEST_INT = 2**63


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document."""

    data: JsonValue
    """Plain values."""
    places: dict[KeyPath, str]
    """Where each value stands, as `file:line` or `--set ...`: the line of its key, or its own within a list."""


def dotted(path: KeyPath) -> str:
    """A key path as the user writes it after --set: `targets.0.nodes`."""
    return ".".join(str(part) for part in path)


def parse(text: str, origin: str, *, numbered: bool = True, under: KeyPath = ()) -> Document:
    """Parse one YAML document. Raises ConfigError, whose message starts with `origin` (and the line, if `numbered`).

    `under` is put in front of every key path: the place that a --set value goes to.
    """
    walk = _Walk(origin, numbered)
    try:
        loader = _PlainLoader(text)
        node = loader.get_single_node()
        data = None if node is None else walk.value(loader, node, under)
    except _Refused as error:
        raise ConfigError(f"{walk.place(error.line)}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{walk.place(None if mark is None else mark.line)}: not valid YAML: {what}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position))
        raise ConfigError(f"{walk.place(line)}: not valid YAML: the character {_shown(error)} is not allowed") from None
    except RecursionError:
        raise ConfigError(f"{origin}: nested too deeply to be a configuration") from None
    except (ValueError, OverflowError, IndexError, yaml.YAMLError) as error:
        # PyYAML lets a few of Python's own errors through, such as chr() of an escape beyond Unicode.
        raise ConfigError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None
    return Document(data, walk.places)


def _shown(error: yaml.reader.ReaderError) -> str:
    character = error.character
    return f"U+{character:04X}" if isinstance(character, int) else repr(character)


class _Refused(Exception):
    """Something that YAML allows and a configuration does not."""

    def __init__(self, node: object, message: str) -> None:
        super().__init__(message)
        mark = getattr(node, "start_mark", None)
        self.line: int | None = None if mark is None else mark.line


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = cast("object", self.peek_event())  # pyright: ignore[reportUnknownMemberType]  (PyYAML has no types)
        tag: object = getattr(event, "tag", None)
        if tag is not None:
            raise _Refused(event, f"expected a plain value, found the YAML tag {tag!r}; tags are not supported")
        return super().compose_node(parent, index)


class _Walk:
    """One pass over the composed nodes."""

    def __init__(self, origin: str, numbered: bool) -> None:
        self.origin = origin
        self.numbered = numbered
        self.places: dict[KeyPath, str] = {}
        self._open: set[int] = set()
        self._count = 0

    def place(self, line: int | None) -> str:
        return f"{self.origin}:{line + 1}" if self.numbered and line is not None else self.origin

    def value(self, loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath) -> JsonValue:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Refused(node, f"expected at most {MAX_VALUES} values; aliases multiply what they point to")
        if id(node) in self._open:
            # The node's own mark is the anchor's; the user has to change the alias.
            place = self.places.get(path, self.place(node.start_mark.line))
            raise ConfigError(f"{place}: {dotted(path)}: expected a tree, found an alias that contains itself")
        self.places.setdefault(path, self.place(node.start_mark.line))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(loader, node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(loader, child, (*path, i)) for i, child in enumerate(node.value)]
            return self._mapping(loader, node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath) -> JsonValue:
        result: dict[str, JsonValue] = {}
        lines: dict[str, int] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused(
                    key_node, f"{dotted(path) or 'top level'}: expected a plain key, found a list or mapping"
                )
            # The text as written: a key `on` is not the boolean that YAML 1.1 makes of it, and 1 is as good as "1".
            key: str = key_node.value
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _Refused(key_node, "expected a plain key, found the merge key '<<'; write the settings out")
            if key in result:
                where = dotted((*path, key))
                raise _Refused(key_node, f"{where}: expected each key once, found it also on line {lines[key] + 1}")
            _check_text(key_node, key, path)
            lines[key] = key_node.start_mark.line
            self.places[(*path, key)] = self.place(key_node.start_mark.line)
            result[key] = self.value(loader, child, (*path, key))
        return result


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode, path: KeyPath) -> JsonValue:
    where = dotted(path) or "top level"
    try:
        value = cast("object", loader.construct_object(node))  # pyright: ignore[reportUnknownMemberType]
    except (ValueError, OverflowError) as error:
        raise _Refused(node, f"{where}: {node.value[:40]!r} cannot be read: {error}; write text in quotes") from None
    match value:
        case bool() | None:
            return value
        case str():
            _check_text(node, value, path)
            return value
        case int() if abs(value) < _LARGEST_INT:
            return value
        case float() if math.isfinite(value):
            return value
        case int() | float():
            raise _Refused(node, f"{where}: expected a finite number below 2**63, found {node.value[:40]}")
        case datetime.date():
            raise _Refused(node, f"{where}: expected text or a number, found the date {node.value}; write it in quotes")
        case _:
            raise _Refused(node, f"{where}: expected text, a number, true, false or null, found {node.value[:40]!r}")


def _check_text(node: yaml.Node, text: str, path: KeyPath) -> None:
    # An escape such as "\ud800" makes half a character, which neither JSON nor a file can hold.
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _Refused(node, f"{dotted(path) or 'top level'}: expected text, found half of a surrogate pair")

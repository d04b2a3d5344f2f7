"""pydantic's errors in the user's words: place, key path, what was expected, what was found, the nearest valid name.

Pure. The JSON schema of the configuration is the one source of what was expected; pydantic's own messages name its
internal types and repeat a union once per member.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from raybench.config.schema import RunConfig
from raybench.config.source import Document, KeyPath, dotted

Schema = Mapping[str, JsonValue]

_OBJECT: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])
_ROOT: Schema = RunConfig.model_json_schema()

_UNIONS = {
    "environment": "auto, {python: PATH} or {managed: {version: X.Y.Z, device: cpu or cuda}}",
    "args": "text, a number, true, false, null, a list of texts and numbers, or a mapping",
}
"""What a union accepts, by the key that holds it or its parent; a list of pydantic's members would help nobody."""

_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong."""

    path: KeyPath
    """Key path that it is about."""
    words: str
    """What was expected and what was found."""
    missing: bool
    """A key that is not there: told last, because a misspelt one explains it."""


def explain(error: ValidationError, document: Document, origin: str) -> str:
    """One message about everything that pydantic refused: the first complaint in full, the places of the others."""
    complaints = _complaints(error.errors(include_url=False), document.data)
    complaints.sort(key=lambda c: (c.missing, _line(_place(document, c.path, origin))))
    first, *rest = complaints
    message = f"{_place(document, first.path, origin)}: {_label(first.path)}{first.words}"
    if not rest:
        return message
    others = [f"  {_place(document, c.path, origin)}: {_label(c.path)}{c.words}" for c in rest[:8]]
    if len(rest) > len(others):
        others.append(f"  ... and {len(rest) - len(others)} beyond these")
    return "\n".join([message, f"and {len(rest)} more:", *others])


def valid_names(path: KeyPath) -> tuple[str, ...]:
    """Keys that the schema knows in the mapping at `path`; empty where any key is allowed or none is."""
    return tuple(dict.fromkeys(name for schema in _schemas_at(path) for name in _mapping(schema, "properties")))


def nearest(word: str, names: Sequence[str]) -> str:
    """`; did you mean 'x'?` with the nearest name, or the list of valid names, or nothing if there are none."""
    if not names:
        return ""
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"


# ----------------------------------------------------------------------------------------------------------- complaints


def _complaints(errors: Sequence[ErrorDetails], data: JsonValue) -> list[Complaint]:
    """One complaint per error, but one per union: its members' errors are a single misunderstanding."""
    result: list[Complaint] = []
    unions: dict[KeyPath, list[ErrorDetails]] = {}
    for error in errors:
        path, member = _split(error["loc"], data)
        if member and member != "[key]":
            unions.setdefault(path, []).append(error)
        else:
            result.extend(_one(error, path, data))
    for path, members in unions.items():
        result.extend(_union(path, members, data))
    return result


def _one(error: ErrorDetails, path: KeyPath, data: JsonValue) -> list[Complaint]:
    found = _at(data, path)
    if error["type"] == "too_short" and isinstance(found, list | dict) and found:
        return []  # pydantic counts only the entries that are right; their own errors say enough
    if error["type"] == "missing":
        meaning = _text(_schemas_at(path), "description")
        return [Complaint(path, f"this key is missing{f' ({meaning})' if meaning else ''}", missing=True)]
    words = _words(error, path, found)
    if not path:
        path, words = _named(words, data)
    return [Complaint(path, words, missing=False)]


def _named(words: str, data: JsonValue) -> tuple[KeyPath, str]:
    """A rule over the whole configuration starts with the key path that it is about (`targets.0.engine: ...`)."""
    head, colon, rest = words.partition(": ")
    path = tuple(int(part) if part.isdigit() else part for part in head.split("."))
    if colon and isinstance(data, dict) and path[0] in data:
        return path, rest
    return (), words


def _union(path: KeyPath, errors: Sequence[ErrorDetails], data: JsonValue) -> list[Complaint]:
    """Errors of the one member that was meant, if its keys fit; else one complaint about the whole."""
    members: dict[str, list[tuple[ErrorDetails, KeyPath]]] = {}
    for error in errors:
        member = str(error["loc"][len(path)])
        rest = error["loc"][len(path) + 1 :]
        members.setdefault(member, []).append((error, (*path, *_split(rest, _at(data, path))[0])))
    # A union with a tag has errors of one member only, the one that the tag names.
    meant = [found for member, found in members.items() if len(members) == 1 and member in _loads()] or [
        found
        for member, found in members.items()
        if not member.startswith(("literal[", "list["))
        and all(len(inner) > len(path) + 1 or e["type"] not in _MISFITS for e, inner in found if inner != path)
        and all(inner != path for _, inner in found)
    ]
    if len(meant) == 1:
        return [complaint for error, inner in meant[0] for complaint in _one(error, inner, data)]
    name = str(path[-1]) if path else ""
    expected = _UNIONS.get(name) or _UNIONS.get(str(path[-2]) if len(path) > 1 else "")
    return [Complaint(path, f"expected {expected or 'another value'}, {_found(_at(data, path))}", missing=False)]


_MISFITS = ("missing", "extra_forbidden")


def _words(error: ErrorDetails, path: KeyPath, found: JsonValue) -> str:
    match error["type"]:
        case "extra_forbidden":
            return f"expected a known key, found {path[-1]!r}{nearest(str(path[-1]), valid_names(path[:-1]))}"
        case "value_error" | "assertion_error":
            return _reason(error)
        case "union_tag_invalid":
            tag = str(error.get("ctx", {}).get("tag", ""))
            return f"load: expected {' or '.join(_loads())}, found {tag!r}{_closest(tag, _loads())}"
        case "literal_error":
            choices = [str(choice) for schema in _schemas_at(path) for choice in _choices(schema)]
            return f"expected {' or '.join(choices)}, {_found(found)}{_closest(found, choices)}"
        case "int_parsing":
            return f"expected whole numbers as keys, found {path[-1]!r}"
        case "string_type" if isinstance(found, int | float):
            return f"expected text, {_found(found)}; write it in quotes"
        case _:
            return f"expected {_expected(path) or error['msg']}, {_found(found)}"


def _loads() -> list[str]:
    """Values of `load`, by which entries under `perf` are told apart."""
    return [str(choice) for schema in _schemas_at(("perf", 0, "load")) for choice in _choices(schema)]


def _closest(found: JsonValue, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(found).lower(), choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _reason(error: ErrorDetails) -> str:
    cause = error.get("ctx", {}).get("error")
    return str(cause) if cause is not None else error["msg"]


def _found(value: JsonValue) -> str:
    match value:
        case None:
            return "found nothing"
        case []:
            return "found an empty list"
        case {} if not value:
            return "found an empty mapping"
        case list() | dict():
            shown = json.dumps(value, ensure_ascii=False)
            kind = "the list" if isinstance(value, list) else "the mapping"
        case str():
            kind, shown = "the text", repr(value)
        case _:
            kind, shown = "", json.dumps(value)
    shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
    return f"found {kind} {shown}".replace("  ", " ")


# --------------------------------------------------------------------------------------------------------------- places


def _split(loc: Sequence[str | int], data: JsonValue) -> tuple[KeyPath, str]:
    """A location as (key path in the data, union member or `[key]` that pydantic put into it, or '')."""
    here: JsonValue = data
    for depth, part in enumerate(loc):
        if isinstance(here, dict) and isinstance(part, str) and part in here:
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif depth == len(loc) - 1 and isinstance(here, dict) and "[" not in str(part) and _is_name(part):
            return tuple(loc), ""  # the key that is missing
        else:
            return tuple(loc[:depth]), str(part)
    return tuple(loc), ""


def _is_name(part: str | int) -> bool:
    """A configuration key, not one of pydantic's type names (`PythonEnvironment`, `str`)."""
    return isinstance(part, str) and part.islower() and part not in ("str", "int", "float", "bool")


def _at(data: JsonValue, path: Sequence[str | int]) -> JsonValue:
    here: JsonValue = data
    for part in path:
        if isinstance(here, dict) and isinstance(part, str):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            return None
    return here


def _place(document: Document, path: KeyPath, origin: str) -> str:
    """Place of the value, or of the nearest mapping or list around it."""
    for length in range(len(path), -1, -1):
        if path[:length] in document.places:
            return document.places[path[:length]]
    return origin


def _line(place: str) -> int:
    number = place.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _label(path: KeyPath) -> str:
    return f"{dotted(path)}: " if path else ""


# --------------------------------------------------------------------------------------------------------------- schema


def _mapping(schema: Schema, key: str) -> dict[str, JsonValue]:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def _schemas_at(path: Sequence[str | int]) -> list[Schema]:
    """Everything that the JSON schema allows at a key path, unions and references resolved."""
    here = _resolved(_ROOT)
    for part in path:
        following: list[Schema] = []
        for schema in here:
            properties = _mapping(schema, "properties")
            if isinstance(part, int):
                following.extend(_resolved(_mapping(schema, "items")))
            elif part in properties:
                following.extend(_resolved(_OBJECT.validate_python(properties[part])))
            else:
                following.extend(_resolved(_mapping(schema, "additionalProperties")))
        here = following
    return here


def _resolved(schema: Schema) -> list[Schema]:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = _mapping(_mapping(_ROOT, "$defs"), reference.rpartition("/")[2])
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return _resolved(target | own)
    union = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(union, list):
        return [schema] if schema else []
    outer = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
    return [found | outer for member in union if isinstance(member, dict) for found in map(dict, _resolved(member))]


def _text(schemas: Sequence[Schema], key: str) -> str:
    texts = [value for schema in schemas if isinstance(value := schema.get(key), str)]
    return texts[0].rstrip(".") if texts else ""


def _choices(schema: Schema) -> list[JsonValue]:
    if "const" in schema:
        return [schema["const"]]
    choices = schema.get("enum")
    return choices if isinstance(choices, list) else []


_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_BOUNDS = {
    "minimum": "of at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "of at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "with at least {} entry",
    "minProperties": "with at least {} entry",
    "minLength": "of at least {} character",
    "pattern": "that matches {}",
}


def _expected(path: KeyPath) -> str:
    """What may stand at a key path, in words: `a whole number of at least 1`."""
    alternatives: list[str] = []
    for schema in _schemas_at(path):
        choices = _choices(schema)
        if choices:
            alternatives.extend(str(choice) for choice in choices)
            continue
        bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
        alternatives.append(" ".join([_TYPES.get(str(schema.get("type")), "a value"), " and ".join(bounds)]).strip())
    return " or ".join(dict.fromkeys(alternatives))

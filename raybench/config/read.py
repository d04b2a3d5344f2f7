"""Read a configuration: YAML, `--set`, digest, JSON schema.

Whatever the file holds, the outcome is a `RunConfig` or one `ConfigError` that names file, line and key path.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue, ValidationError

from raybench.config.evals import Preset, PresetTable
from raybench.config.explain import explain, nearest, valid_names
from raybench.config.reference_file import read_numerics, read_reference
from raybench.config.schema import RunConfig
from raybench.config.source import Document, KeyPath, dotted, parse
from raybench.errors import ConfigError
from raybench.records import content_hash

MAX_BYTES = 10_000_000
"""A configuration is written by hand; anything larger is the wrong file."""


def _no_presets(name: str, custom: bool) -> Mapping[str, Preset]:  # noqa: ARG001 - the shape of a PresetTable
    return {}


def load(path: Path, sets: Sequence[str] = (), presets: PresetTable = _no_presets) -> RunConfig:
    """The configuration in `path` with the `--set` assignments laid over it, in order. Raises ConfigError.

    `presets` knows the settings that `evals[].preset` names (`raybench.evals.presets_of`): they are laid under what the
    file says, so that what is returned leaves nothing to them.
    """
    document = parse(_text(path), str(path))
    if document.data is None:
        raise ConfigError(f"{path}: expected a configuration, found an empty file")
    if not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else f"the single value {str(document.data)[:40]!r}"
        place = document.places[()]
        raise ConfigError(f"{place}: expected a mapping with the keys {', '.join(valid_names(()))}; found {kind}")
    for assignment in sets:
        _apply(document, assignment)
    _read_references(document, path)
    _lay_presets(document, presets)
    try:
        # JSON in strict mode: no text is taken for a number and no true for a 1, yet a list may become a tuple.
        return RunConfig.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        raise ConfigError(explain(error, document, str(path))) from None


def _read_references(document: Document, path: Path) -> None:
    """Put the entries of reference files where the configuration names the files: a ledger must be whole by itself."""
    content = document.data if isinstance(document.data, dict) else {}
    evals, preflight = content.get("evals"), content.get("preflight")
    for number, settings in enumerate(evals if isinstance(evals, list) else ()):
        if not isinstance(settings, dict):
            continue
        named, eval_name = settings.get("reference"), settings.get("name")
        if isinstance(named, str) and isinstance(eval_name, str):
            file = path.parent / Path(named).expanduser()
            with _told_as(document, path, ("evals", number, "reference")):
                settings["reference"] = read_reference(file, eval_name).model_dump(mode="json")
    if isinstance(preflight, dict) and isinstance(named := preflight.get("reference"), str):
        with _told_as(document, path, ("preflight", "reference")):
            file = path.parent / Path(named).expanduser()
            preflight["reference"] = read_numerics(file).model_dump(mode="json")


@contextmanager
def _told_as(document: Document, path: Path, key: KeyPath) -> Generator[None]:
    """An error of a reference file names the place in the configuration that names the file."""
    try:
        yield
    except ConfigError as error:
        place = document.places.get(key, str(path))
        raise ConfigError(f"{place}: {'.'.join(str(part) for part in key)}: {error.message}") from None


def reference_files(path: Path, sets: Sequence[str] = ()) -> tuple[str, ...]:
    """Files that `evals[].reference` and `preflight.reference` name, as written, each once. Raises ConfigError."""
    document = parse(_text(path), str(path))
    for assignment in sets:
        _apply(document, assignment)
    content = document.data if isinstance(document.data, dict) else {}
    evals = content.get("evals")
    holders = [*(evals if isinstance(evals, list) else ()), content.get("preflight")]
    entries = [settings for settings in holders if isinstance(settings, dict)]
    return tuple(dict.fromkeys(name for name in (e.get("reference") for e in entries) if isinstance(name, str)))


def digest(config: RunConfig) -> str:
    """Hash of the resolved configuration: equal for every way of writing the same settings."""
    return content_hash(config.model_dump(mode="json"))


def json_schema() -> dict[str, JsonValue]:
    """JSON schema of the configuration, for editors."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema = RunConfig.model_json_schema()
    # In a file, a preset may stand underneath: then only the fields that differ are given.
    schema["$defs"]["Sampling"].pop("required")
    return dialect | schema


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: expected a YAML file, found a folder")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: expected a configuration, found a file of {path.stat().st_size} bytes")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file{_beside(path)}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    if b"\0" in content:
        raise ConfigError(f"{path}: expected YAML text, found a binary file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: expected UTF-8 text, found the byte 0x{content[error.start]:02x}") from None


def _beside(path: Path) -> str:
    """The nearest file name in the same folder."""
    try:
        names = [found.name for found in path.parent.iterdir() if found.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    return nearest(path.name, sorted(names)[:20])


# -------------------------------------------------------------------------------------------------------------- presets


def _lay_presets(document: Document, presets: PresetTable) -> None:
    """Put the named settings under the evals that ask for them. What has the wrong shape is left for pydantic."""
    evals = document.data.get("evals") if isinstance(document.data, dict) else None
    for number, settings in enumerate(evals if isinstance(evals, list) else ()):
        if not isinstance(settings, dict) or not isinstance(settings.get("preset"), str):
            continue
        place = document.places.get(("evals", number, "preset"), "")
        written = settings.get("sampling")
        if not isinstance(settings.get("name"), str) or not isinstance(written, dict | None):
            continue
        preset = _preset(settings, presets, f"{place}: evals.{number}.preset")
        sampling: dict[str, JsonValue] = preset.sampling.model_dump(mode="json") | (written or {})
        settings["sampling"] = sampling
        if settings.get("repeats") is None:
            once = sampling["temperature"] == 0 and settings.get("greedy_repeats") is not True
            settings["repeats"] = 1 if once else preset.repeats


def _preset(settings: Mapping[str, JsonValue], presets: PresetTable, where: str) -> Preset:
    name, wanted = str(settings["name"]), str(settings["preset"])
    try:
        known = presets(name, settings.get("custom") is not None)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    found = known.get(wanted)
    if found is None:
        raise ConfigError(f"{where}: expected a preset of {name}, found {wanted!r}; valid: {', '.join(known)}")
    return found


# ---------------------------------------------------------------------------------------------------------------- --set


def _apply(document: Document, assignment: str) -> None:
    """Lay one `a.b=c` over the document. Entries of a list are named by index or by their `name`."""
    origin = f"--set {assignment}"
    dotted_path, equals, text = assignment.partition("=")
    parts = dotted_path.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"{origin}: expected KEY.PATH=VALUE, such as engine.args.tp-size=8 or targets.h200.nodes=2")
    here: JsonValue = document.data
    path: KeyPath = ()
    while True:
        step, used = _step(here, parts, path, origin)
        parts = parts[used:]
        if not parts:
            break
        here = _entered(here, step, (*path, step), origin)
        path = (*path, step)
    new = parse(text, origin, numbered=False, under=(*path, step))
    _put(here, step, new.data)
    for old in [place for place in document.places if place[: len(path) + 1] == (*path, step)]:
        del document.places[old]
    document.places.update(new.places or {(*path, step): origin})


def _step(here: JsonValue, parts: Sequence[str], path: KeyPath, origin: str) -> tuple[str | int, int]:
    """The next key or index, and how many dotted parts it uses up (a name in a list may hold dots)."""
    where = dotted(path) or "the top level"
    if isinstance(here, dict):
        return parts[0], 1
    if not isinstance(here, list):
        raise ConfigError(f"{origin}: {where} holds a plain value, so nothing can be set below it")
    if parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 6:
        if int(parts[0]) < len(here):
            return int(parts[0]), 1
        raise ConfigError(f"{origin}: {where} has {len(here)} entries, counted from 0; there is no {parts[0]}")
    names = [str(entry.get("name")) if isinstance(entry, dict) else "" for entry in here]
    for used in range(len(parts), 0, -1):
        name = ".".join(parts[:used])
        if name in names:
            return names.index(name), used
    known = [name for name in names if name]
    raise ConfigError(f"{origin}: {where} has no entry named {parts[0]!r}{nearest(parts[0], known)}")


def _entered(here: JsonValue, step: str | int, path: KeyPath, origin: str) -> JsonValue:
    """The mapping or list at `step`, made if it is not there yet."""
    if isinstance(here, list) and isinstance(step, int):
        return here[step]
    if not isinstance(here, dict) or not isinstance(step, str):
        raise ConfigError(f"{origin}: nothing can be set at {dotted(path)}")
    if here.get(step) is None:
        names = valid_names(path[:-1])
        if names and step not in names:
            raise ConfigError(f"{origin}: {dotted(path)}: expected a known key, found {step!r}{nearest(step, names)}")
        here[step] = {}
    return here[step]


def _put(here: JsonValue, step: str | int, value: JsonValue) -> None:
    if isinstance(here, list) and isinstance(step, int):
        here[step] = value
    elif isinstance(here, dict) and isinstance(step, str):
        here[step] = value

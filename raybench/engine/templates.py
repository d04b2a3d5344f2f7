"""Questions for the engine's own interpreter: what its templates are called, and how a prompt is rendered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from raybench import process
from raybench.config.schema import FlagValue
from raybench.engine.base import RenderedPrompt
from raybench.engine.interpreter import Interpreter
from raybench.errors import EngineRefused
from raybench.records import Message, Record

SCRIPTS = Path(__file__).parent / "scripts"
NAMES_TIMEOUT_S = 30.0
RENDER_TIMEOUT_S = 90.0
"""transformers alone takes 5 to 20 s to import."""
NAMED_FLAGS = ("chat-template", "reasoning-parser", "tool-call-parser")
_NAMES: TypeAdapter[dict[str, list[str]]] = TypeAdapter(dict[str, list[str]])


class _Rendered(Record):
    prompts: tuple[RenderedPrompt, ...]
    """One for each conversation."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What is needed to render prompts beside a running server."""

    interpreter: Interpreter
    env: Mapping[str, str]
    """Environment of the server."""
    model: Path
    """Folder of the model."""
    args: Mapping[str, FlagValue]
    """Flags of the server."""


def check_names(interpreter: Interpreter, env: Mapping[str, str], args: Mapping[str, FlagValue]) -> None:
    """Raises EngineRefused where a template or parser is named that this SGLang does not know: before any GPU is taken.

    SGLang itself finds an unknown template only when its weights are loaded. A template may also be a file.
    """
    named = {flag: str(args[flag]) for flag in NAMED_FLAGS if args.get(flag) not in (None, False, True)}
    if "chat-template" in named and Path(named["chat-template"]).expanduser().is_file():
        del named["chat-template"]
    if not named:
        return
    argv = [str(interpreter.python), str(SCRIPTS / "known_names.py")]
    code, output = process.run(argv, env=env, timeout_s=NAMES_TIMEOUT_S)
    try:
        known = _NAMES.validate_json(output.strip().splitlines()[-1]) if code == 0 else {}
    except (IndexError, ValidationError):
        known = {}
    for flag, name in named.items():
        names = known.get(flag, [])
        # `auto` asks SGLang to choose; an empty list means that this version keeps its names elsewhere.
        if names and name != "auto" and name.lower() not in (known_name.lower() for known_name in names):
            raise EngineRefused(_unknown(flag, name, names))


def _unknown(flag: str, name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"Nearest: {', '.join(near)}. " if near else ""
    what = (
        "neither a built-in chat template of this SGLang nor a file on the node"
        if flag == "chat-template"
        else (f"no {flag.replace('-', ' ')} of this SGLang")
    )
    advice = (
        "Leave the flag out: SGLang then takes the template of the model's own tokenizer."
        if flag == "chat-template"
        else "Correct it, or leave the flag out."
    )
    return f"--{flag}={name}: {name!r} is {what}. {hint}Valid: {', '.join(names)}. {advice}"


def render(
    rendering: Rendering, conversations: Sequence[Sequence[Message]], folder: Path
) -> tuple[RenderedPrompt, ...] | None:
    """Conversations by the model folder's own template; None where its tokenizer cannot be loaded. Never raises."""
    asked = {
        "conversations": [[message.model_dump() for message in messages] for messages in conversations],
        "kwargs": _template_kwargs(rendering.args),
        "trust_remote_code": bool(rendering.args.get("trust-remote-code")),
    }
    source, result = folder / "conversations.json", folder / "rendered.json"
    source.write_text(json.dumps(asked))
    result.unlink(missing_ok=True)
    argv = [str(rendering.interpreter.python), str(SCRIPTS / "render_prompts.py")]
    process.run([*argv, str(rendering.model), str(source), str(result)], env=rendering.env, timeout_s=RENDER_TIMEOUT_S)
    try:
        return _Rendered.model_validate_json(result.read_bytes()).prompts
    except (OSError, ValidationError):
        return None


def _template_kwargs(args: Mapping[str, FlagValue]) -> dict[str, object]:
    """Switches that the server gives its template with every request (`default-chat-template-kwargs`)."""
    given = args.get("default-chat-template-kwargs")
    try:
        content = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return {}
    return dict(content) if isinstance(content, dict) else {}

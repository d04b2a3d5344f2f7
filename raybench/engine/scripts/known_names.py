"""Which chat templates and parsers the installed SGLang knows, read from its source: importing it takes ten seconds.

Runs inside the engine's interpreter, never in raybench's own process. Prints one JSON line:

    {"chat-template": [...], "reasoning-parser": [...], "tool-call-parser": [...]}

A list is empty where this version keeps its names elsewhere.
"""

# ruff: noqa: T201 - its output is read by the process that started it
import ast
import importlib.util
import json
from pathlib import Path

PLACES = {
    "chat-template": ("parser/conversation.py", "conversation.py"),
    "reasoning-parser": ("parser/reasoning_parser.py", "reasoning_parser.py"),
    "tool-call-parser": ("function_call/function_call_parser.py", "function_call_parser.py"),
}
TABLES = ("DetectorMap", "ToolCallParserEnum")


def tree_of(root, names):
    for name in names:
        if (root / "srt" / name).is_file():
            return ast.parse((root / "srt" / name).read_text())
    return ast.Module([], [])


def texts(nodes):
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def templates(tree):
    """The `name` of every Conversation that is registered."""
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Conversation":
            found += texts([word.value for word in call.keywords if word.arg == "name"])
    return found


def parsers(tree):
    """Keys of the table of detectors."""
    found = []
    for node in ast.walk(tree):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        named = [getattr(target, "id", "") for target in targets]
        if any(name in TABLES for name in named) and isinstance(getattr(node, "value", None), ast.Dict):
            found += texts([key for key in node.value.keys if key is not None])
    return found


def main():
    spec = importlib.util.find_spec("sglang")
    root = Path(next(iter(spec.submodule_search_locations)))
    known = {flag: (templates if flag == "chat-template" else parsers)(tree_of(root, p)) for flag, p in PLACES.items()}
    print(json.dumps(known))


if __name__ == "__main__":
    main()

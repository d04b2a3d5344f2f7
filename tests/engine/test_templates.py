"""Templates and parsers that the installed SGLang does not know are refused before it is started."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raybench.config.schema import FlagValue
from raybench.engine import make_engine
from raybench.engine.base import Launch
from raybench.engine.interpreter import Interpreter
from raybench.engine.templates import Rendering, check_names, render
from raybench.errors import EngineRefused
from raybench.process import child_environment
from raybench.records import Message

CONVERSATION = """
register_conv_template(Conversation(name="chatml", sep="x"))
register_conv_template(
    Conversation(
        name="qwen2-vl",
    )
)
"""
REASONING = """
class ReasoningParser:
    DetectorMap: Dict[str, Type] = {"deepseek-r1": A, "qwen3": B, "qwen3-thinking": B}
"""
CALLS = """
class FunctionCallParser:
    ToolCallParserEnum: Dict[str, Type] = {"hermes": A, "qwen25": B}
"""


@pytest.fixture
def sglang_source(fake_sglang: Path) -> Path:
    """The stand-in with the three files that hold names, as 0.5.21 writes them."""
    srt = fake_sglang / "sglang" / "srt"
    for name, text in (
        ("parser/conversation.py", CONVERSATION),
        ("parser/reasoning_parser.py", REASONING),
        ("function_call/function_call_parser.py", CALLS),
    ):
        (srt / name).parent.mkdir(parents=True, exist_ok=True)
        (srt / name).write_text(text)
    return fake_sglang


def asked(site: Path, **args: FlagValue) -> None:
    flags = {name.replace("_", "-"): value for name, value in args.items()}
    check_names(Interpreter(Path(sys.executable), "python"), child_environment({"PYTHONPATH": str(site)}), flags)


@pytest.mark.parametrize(
    "args",
    [
        {}, {"chat_template": "chatml"}, {"reasoning_parser": "qwen3", "tool_call_parser": "qwen25"},
        {"tool_call_parser": "auto"}, {"tp_size": 8},
    ],
)  # fmt: skip
def test_names_that_are_known_pass(sglang_source: Path, args: dict[str, FlagValue]) -> None:
    asked(sglang_source, **args)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            {"chat_template": "qwen"},
            "--chat-template=qwen: 'qwen' is neither a built-in chat template.*Nearest: qwen2-vl",
        ),
        ({"reasoning_parser": "qwen"}, "no reasoning parser of this SGLang. Nearest: qwen3, qwen3-thinking"),
        ({"tool_call_parser": "herms"}, "no tool call parser of this SGLang. Nearest: hermes"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_the_nearest(
    sglang_source: Path, args: dict[str, FlagValue], words: str
) -> None:
    with pytest.raises(EngineRefused, match=words):
        asked(sglang_source, **args)


def test_a_template_may_be_a_file(sglang_source: Path, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages }}")
    asked(sglang_source, chat_template=str(template))
    with pytest.raises(EngineRefused, match="nor a file on the node"):
        asked(sglang_source, chat_template=str(tmp_path / "other.jinja"))


def test_a_version_that_keeps_its_names_elsewhere_is_not_refused(fake_sglang: Path) -> None:
    asked(fake_sglang, chat_template="qwen")


def test_an_engine_with_an_unknown_template_is_refused_before_it_starts(
    sglang_source: Path, make_launch: Callable[..., Launch]
) -> None:
    launch = make_launch(chat_template="qwen")
    engine = make_engine(launch)
    with pytest.raises(EngineRefused, match="SGLang then takes the template of the model's own tokenizer"):
        engine.start(lambda line: None)
    assert not (launch.folder / "server.log").exists()
    assert engine.pid() is None


def test_prompts_that_cannot_be_rendered_are_none(tmp_path: Path) -> None:
    # An interpreter without transformers stands for every reason that keeps a tokenizer from loading.
    rendering = Rendering(Interpreter(Path("/bin/false"), "python"), child_environment({}), tmp_path, {})
    assert render(rendering, [[Message(role="user", content="?")]], tmp_path) is None

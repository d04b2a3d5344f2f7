"""Where models come from, without torch: the making scripts are stand-ins; the real ones run in the SGLang tests."""

import json
import sys
from pathlib import Path

import pytest

from raybench.config.schema import ModelConfig
from raybench.engine import models
from raybench.engine.interpreter import Interpreter
from raybench.engine.models import MADE, folder_revision, make_model, resolve_model, vocabulary_tokens
from raybench.engine.shapes import SHAPES
from raybench.errors import EngineRefused, EngineStartError
from raybench.evals.sums_questions import questions

PYTHON = Interpreter(Path(sys.executable), "python")
WRITES_A_MODEL = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "config.json").write_text(Path(sys.argv[2]).read_text() if len(sys.argv) > 2 else "{}")
"""


def nothing(_: str) -> None:
    """A progress that nobody reads."""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-in scripts, and a cache of our own."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name in ("tiny_model.py", "shape_folder.py"):
        (folder / name).write_text(WRITES_A_MODEL)
    monkeypatch.setattr(models, "_SCRIPTS", folder)
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return folder


def test_the_questions_of_the_trained_model() -> None:
    made = questions()
    assert len({question for question, _ in made}) == 64
    assert made == questions()
    for question, answer in made:
        words = question.split()
        assert int(words[2]) + int(words[4].rstrip("?")) == int(answer)
        assert question.endswith("Put the final answer in \\boxed{}.")


def test_a_made_model_is_made_once_and_again_when_its_recipe_changes(scripts: Path, tmp_path: Path) -> None:
    first = make_model("tiny:trained", tmp_path / "out", PYTHON.python, nothing)
    assert len(json.loads((first / "config.json").read_text())) == 64
    (first / "config.json").write_text('{"left": "alone"}')
    assert make_model("tiny:trained", tmp_path / "out", PYTHON.python, nothing) == first
    assert "left" in (first / "config.json").read_text()
    (scripts / "tiny_model.py").write_text(WRITES_A_MODEL + "# changed\n")
    assert make_model("tiny:trained", tmp_path / "out", PYTHON.python, nothing) != first


def test_an_unfinished_model_is_made_again(scripts: Path, tmp_path: Path) -> None:
    made = make_model("tiny:random", tmp_path / "out", PYTHON.python, nothing)
    (made / models.ORIGIN).unlink()
    (made / "half.safetensors").write_text("half")
    assert make_model("tiny:random", tmp_path / "out", PYTHON.python, nothing) == made
    assert not (made / "half.safetensors").exists()


def test_a_making_that_fails_says_why(scripts: Path, tmp_path: Path) -> None:
    (scripts / "tiny_model.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    with pytest.raises(EngineStartError, match=r"exit code 1[\s\S]*No module named 'torch'"):
        make_model("tiny:random", tmp_path / "out", PYTHON.python, nothing)


def test_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="tiny:trained"):
        make_model("tiny:huge", tmp_path, PYTHON.python, nothing)


@pytest.mark.parametrize("spec", MADE)
def test_every_made_model_resolves(scripts: Path, spec: str) -> None:
    model = resolve_model(ModelConfig(path=spec), PYTHON, nothing)
    # A colon in a served name means an adapter to SGLang.
    assert model.served_name == spec.replace(":", "-")
    assert resolve_model(ModelConfig(path=spec, served_name="mine"), PYTHON, nothing).served_name == "mine"
    if spec.startswith("dummy:"):
        assert json.loads((model.path / "config.json").read_text()) == SHAPES[spec.removeprefix("dummy:")]


def test_revisions_of_models_of_one_shape_differ_by_their_recipe(scripts: Path) -> None:
    revisions = set()
    for spec in ("tiny:trained", "tiny:random"):
        model = resolve_model(ModelConfig(path=spec), PYTHON, nothing)
        (model.path / "config.json").write_text("{}")
        revisions.add(folder_revision(model.path))
    assert len(revisions) == 2


def test_a_folder_is_served_by_its_name_and_revised_by_its_configuration(model_folder: Path) -> None:
    model = resolve_model(ModelConfig(path=str(model_folder)), PYTHON, nothing)
    assert (model.path, model.served_name) == (model_folder, "some-model")
    (model_folder / "config.json").write_text('{"vocab_size": 5}')
    assert folder_revision(model_folder) != model.revision


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ('{"vocab_size": 7}', 7),
        ('{"text_config": {"vocab_size": 8}}', 8),
        ('{"vocab_size": null}', None),
        ("[]", None),
        ("not JSON", None),
    ],
)
def test_the_size_of_the_vocabulary(model_folder: Path, config: str, tokens: int | None) -> None:
    (model_folder / "config.json").write_text(config)
    assert vocabulary_tokens(model_folder) == tokens

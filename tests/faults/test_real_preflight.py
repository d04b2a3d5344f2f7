"""The preflight on real SGLang: quiet on the chat route, and the faults that lost others their scores named by it.

Three servers in all. What separates them is told to nobody but the server: its template, its weights.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger

from raybench.config.reference import NumericsReference
from raybench.config.schema import FlagValue, Managed, ManagedEnvironment, RunConfig
from raybench.engine.base import Launch
from raybench.engine.cache import cache_root
from raybench.engine.environment import resolve
from raybench.engine.leftovers import sweep
from raybench.engine.models import make_model
from raybench.evals.rows import rows_of
from raybench.ledger.view import Checked
from raybench.node.numerics import DECODE_MEAN_DLOGP
from raybench.node.session import NodeSession, NodeSpec, UnitResult
from raybench.plan.expand import expand
from raybench.process import child_environment
from raybench.records import Check, CheckMeasurement, CheckUnit, Finding, Route
from raybench.validity.numerics import difference, drift_findings
from raybench.validity.preflight import preflight_findings

pytestmark = [pytest.mark.sglang, pytest.mark.slow, pytest.mark.timeout(1800)]

ENVIRONMENT = Managed(managed=ManagedEnvironment(version="0.5.21", device="cpu"))
RUN = "real-preflight"
NO_GENERATION_PROMPT = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
)
ANOTHER_TEMPLATE = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}assistant:"
)

Seen = dict[Check, CheckMeasurement]


def silent(line: str) -> None:
    pass


def seen(folder: Path, model: str, routes: tuple[Route, ...], **args: FlagValue) -> dict[Route, Seen]:
    """All checks of one server of its own, by the session that a node runs."""
    flags = {"dtype": "bfloat16"} | {name.replace("_", "-"): value for name, value in args.items()}
    found: dict[Route, Seen] = {}
    session = NodeSession(NodeSpec(RUN, "n0", "CPU", 0, None))
    try:
        for route in routes:
            settings = RunConfig.model_validate({
                "name": "x", "model": {"path": model}, "targets": [{"name": "alpha", "accelerator": "CPU"}],
                "engine": {"environment": ENVIRONMENT.model_dump(), "args": flags, "startup_timeout_s": 600},
                "evals": [{"name": "sums", "route": route, "sampling": {"temperature": 0, "max_tokens": 64}}],
            })  # fmt: skip
            if not found:
                launch = Launch(RUN, "alpha", 0, "n0.0", settings.model, settings.engine, folder, "boot-id", 0, {})
                session.start_engine(launch, silent)
            found[route] = {}
            for unit in expand(settings, rows_of(settings.evals)).units:
                if isinstance(unit, CheckUnit):
                    (result,) = session.run(unit, 1, silent)
                    assert isinstance(result, UnitResult) and isinstance(result.measurement, CheckMeasurement), result
                    found[route][unit.check] = result.measurement
    finally:
        session.close()
        sweep(RUN)
    return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[Route, Seen]:
    """The trained model as it is, asked through both routes."""
    return seen(tmp_path_factory.mktemp("sound"), "tiny:trained", ("chat", "completions"))


@pytest.fixture(scope="module")
def unprompted(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The same weights behind the right template without its generation prompt."""
    folder = tmp_path_factory.mktemp("unprompted")
    (folder / "no_generation_prompt.jinja").write_text(NO_GENERATION_PROMPT)
    return seen(folder, "tiny:trained", ("chat",), chat_template=str(folder / "no_generation_prompt.jinja"))["chat"]


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Weights that are off by 1%, behind another template."""
    folder = tmp_path_factory.mktemp("perturbed")
    python = resolve(ENVIRONMENT, silent).python
    trained = make_model("tiny:trained", cache_root() / "models", python, silent)
    script = Path(__file__).parent / "perturb_weights.py"
    words = [str(python), str(script), str(trained), str(folder / "model"), "0.01"]
    subprocess.run(words, env=child_environment({"OMP_NUM_THREADS": "1"}), check=True)
    (folder / "other.jinja").write_text(ANOTHER_TEMPLATE)
    yield seen(folder, str(folder / "model"), ("chat",), chat_template=str(folder / "other.jinja"))["chat"]


def findings(*nodes: Seen) -> list[Finding]:
    """Findings of a ledger in which each of these is a node of one target."""
    builder = whole_ledger(config())
    for place, checks in enumerate(nodes):
        for name, found in checks.items():
            unit = CheckUnit(key=f"{name}-{place}", target="alpha", check=name, place=place, timeout_s=1)
            builder.checked(unit, f"n{place}.0", lambda _, found=found: found)
    return preflight_findings(builder.view())


def codes(found: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.code, finding.severity) for finding in found}


def test_the_chat_route_of_a_sound_server_passes_quietly(sound: dict[Route, Seen]) -> None:
    checks = sound["chat"]
    assert {name: found.result for name, found in checks.items()} == dict.fromkeys(checks, "ok")
    assert "4 prompts are those of the model's own template, token by token" in checks["prompt"].words
    assert checks["canary"].evidence["num_correct"] >= 15
    assert checks["limits"].evidence["context_tokens"] == 32768
    assert sum(found.duration_s for found in checks.values()) < 120
    assert findings(checks) == []


def test_raw_completions_of_the_same_server_are_a_prompt_format_fault(sound: dict[Route, Seen]) -> None:
    checks = sound["completions"]
    assert (checks["prompt"].result, checks["canary"].result) == ("stop", "stop")
    assert "the bare text: no chat format at all" in checks["prompt"].words
    assert checks["canary"].evidence.get("num_correct", 0) <= 4
    found = findings(checks)
    assert codes(found) == {("prompt_format", "red"), ("canary_failed", "red")}
    assert "prompt-format fault" in found[0].advice


def test_a_template_without_its_generation_prompt_is_named(unprompted: Seen) -> None:
    assert "the server leaves out the generation prompt" in unprompted["prompt"].words
    assert unprompted["canary"].result == "stop"
    assert ("prompt_format", "red") in codes(findings(unprompted))


def test_another_template_is_named(perturbed: Seen) -> None:
    assert perturbed["prompt"].result == "stop"
    assert "another template" in perturbed["prompt"].words
    assert ("prompt_format", "red") in codes(findings(perturbed))


def test_two_servers_of_the_same_weights_agree_in_every_log_probability(
    sound: dict[Route, Seen], unprompted: Seen
) -> None:
    one, other = sound["chat"]["numerics"], unprompted["numerics"]
    gap = difference(one.texts, other.texts)
    assert gap is not None and gap.num_tokens > 1000
    assert (gap.max_dlogp, gap.flipped_fraction) == (0, 0)
    assert findings({"numerics": one}, {"numerics": other}) == []


def test_decode_agrees_with_the_servers_own_prefill(sound: dict[Route, Seen]) -> None:
    found = sound["chat"]["decode"]
    print(found.words)
    assert found.evidence["num_tokens"] == 8 * 64
    assert found.evidence["mean_dlogp"] < DECODE_MEAN_DLOGP / 10


def test_numerics_of_one_run_are_a_reference_for_the_next(sound: dict[Route, Seen], perturbed: Seen) -> None:
    accepted = NumericsReference(
        target="alpha", model="tiny:trained", engine="sglang", accelerator="CPU", texts=sound["chat"]["numerics"].texts,
        date="2026-01-02", run_id="r", raybench_version="0.1.0",
    )  # fmt: skip

    def drift(found: CheckMeasurement) -> list[str]:
        checked = Checked(key="k", attempt=1, node="n0", start="n0.0", measurement=found)
        return [finding.code for finding in drift_findings([checked], accepted)]

    assert drift(sound["completions"]["numerics"]) == []
    assert drift(perturbed["numerics"]) == ["numerics_drift"]


def test_weights_that_are_off_by_one_percent_on_one_node_are_found(sound: dict[Route, Seen], perturbed: Seen) -> None:
    one, other = sound["chat"]["numerics"], perturbed["numerics"]
    print("log-probabilities, weights perturbed by 1%:", difference(one.texts, other.texts))
    (found,) = findings({"numerics": one}, {"numerics": other})
    assert (found.code, found.severity) == ("numerics_differ", "red")


def test_nodes_with_other_templates_are_found_by_their_prompt_lengths_alone(
    sound: dict[Route, Seen], unprompted: Seen
) -> None:
    # As between external engines, where no tokenizer is at hand.
    nodes = [checks["prompt"].model_copy(update={"result": "ok"}) for checks in (sound["chat"], unprompted)]
    (found,) = findings(*({"prompt": checks} for checks in nodes))
    assert (found.code, found.severity) == ("prompt_format", "red")

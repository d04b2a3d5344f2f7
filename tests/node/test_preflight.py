"""The checks of a node, one by one: quiet on a sound server, and each fault named by its own check."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

import pytest
from loopback import http_server
from simulated_engines import simulated_launch, timing

from raybench.client.job import ChatJob
from raybench.config.schema import RunConfig, SimulatedConfig
from raybench.engine.base import Progress, RenderedPrompt
from raybench.evals.rows import rows_of
from raybench.node import preflight
from raybench.node.preflight import Bench
from raybench.node.session import NodeSession, NodeSpec, UnitResult
from raybench.plan.expand import expand
from raybench.records import (
    Check,
    CheckMeasurement,
    CheckUnit,
    EngineFacts,
    Message,
    SampleRecord,
    SampleSpec,
    prompt_hash,
)

RENDERED = RenderedPrompt(full=(1, 7, 8, 9, 2), no_generation_prompt=(1, 7, 8, 9), bare=(7, 8))


@dataclass
class Sound:
    """A server's answers by route, in SGLang's shapes; a test changes one."""

    ids: Sequence[int] | None = RENDERED.full
    prompt_tokens: int | None = 5
    logprob: float = -1.5
    reply: str = "two"
    decode_gap: float = 0.0
    flip: int = 0
    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def answer(self, path: str, said: dict[str, object]) -> tuple[int, object]:
        self.asked.append((path, said))
        match path:
            case "/v1/tokenize" if self.ids is not None:
                return 200, {"tokens": list(self.ids), "count": len(self.ids)}
            case "/v1/chat/completions" | "/v1/completions":
                tokens = {"content": [{"token": "t"}, {"token": "wo"}]} if said.get("logprobs") is True else None
                choice = {"message": {"content": self.reply}, "text": self.reply, "logprobs": tokens}
                usage = {} if self.prompt_tokens is None else {"prompt_tokens": self.prompt_tokens}
                return 200, {"choices": [choice], "usage": usage}
            case "/generate" if isinstance(said.get("text"), list):
                return 200, [self.decoded(prompt) for prompt in cast(list[str], said["text"])]
            case "/generate" if "input_ids" in said:
                return 200, self.read_again(cast(list[int], said["input_ids"]))
            case "/generate":
                top = [None, [[-0.1, 4, None]], [[-0.2, 5, None]]]
                given = [[None, 3, None], [self.logprob, 4, None], [-2, 5, None]]
                return 200, {"meta_info": {"input_token_logprobs": given, "input_top_logprobs": top}}
            case "/server_info":
                return 200, {"sampling_defaults": "model"}
            case _:
                return 404, {"error": "no such route"}

    def decoded(self, prompt: str) -> dict[str, object]:
        """Two tokens after a prompt of three."""
        place = int(prompt.partition(".")[0])
        given = [[None, place, None], [-1, 1, None], [-1, 2, None]]
        return {
            "meta_info": {"input_token_logprobs": given, "output_token_logprobs": [[-0.5, 8, "a"], [-0.25, 9, "b"]]}
        }

    def read_again(self, ids: list[int]) -> dict[str, object]:
        """What the prefill says of these two tokens."""
        logprobs = [-1, -1, -0.5 + self.decode_gap, -0.25 - self.decode_gap]
        given = [[None, ids[0], None], *([p, id_, None] for p, id_ in zip(logprobs, ids[1:], strict=True))]
        top = [None, *([[[-0.1, id_, None]] for id_ in (*ids[1:4], ids[4] + self.flip)])]
        return {"meta_info": {"input_token_logprobs": given, "input_top_logprobs": top}}


def serving(sound: Sound) -> AbstractContextManager[str]:
    def answer(path: str, sent: bytes) -> tuple[int, bytes]:
        status, content = sound.answer(path, json.loads(sent or b"{}"))
        return status, json.dumps(content).encode()

    return http_server(answer)


@dataclass
class StandInEngine:
    """An engine that is there already and renders every prompt alike."""

    url: str
    rendered: RenderedPrompt | None = RENDERED
    api_key: str | None = None
    served_name: str = "model"

    def start(self, progress: Progress) -> EngineFacts:
        raise NotImplementedError

    def render(self, conversations: Sequence[Sequence[Message]]) -> tuple[RenderedPrompt, ...] | None:
        return None if self.rendered is None else (self.rendered,) * len(conversations)

    def death(self) -> str | None:
        return None

    def pid(self) -> int | None:
        return None

    def stop(self, grace_s: float = 20.0) -> None:
        pass


def facts(context_tokens: int | None = 4096) -> EngineFacts:
    return EngineFacts(
        engine="external", target="t", launch=0, start="n0.0", url="http://x", context_tokens=context_tokens,
        max_total_tokens=8192,
    )  # fmt: skip


def sample(job: ChatJob, spec: SampleSpec, reply: str) -> SampleRecord:
    return SampleRecord(
        key=spec.key, unit=job.unit, target=job.target, eval=job.eval, question=spec.question, repeat=0, status="ok",
        reply=reply, finish_reason="stop", prompt_tokens=9, output_tokens=3, gold=spec.gold, seed=spec.seed,
        prompt_sha256=prompt_hash(spec.messages), letter_order=spec.letter_order, sent_unix_s=0.0, duration_s=0.1,
    )  # fmt: skip


def planned(check: Check, **changes: object) -> CheckUnit:
    """A check as a run of this eval plans it."""
    settings: dict[str, object] = {
        "name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "limit": 20
    } | changes  # fmt: skip
    config = RunConfig.model_validate({
        "name": "x", "model": {"path": "m"}, "targets": [{"name": "t", "accelerator": "CPU"}], "evals": [settings],
    })  # fmt: skip
    units = expand(config, rows_of(config.evals)).units
    return next(unit for unit in units if isinstance(unit, CheckUnit) and unit.check == check)


def made(
    unit: CheckUnit, sound: Sound | None = None, *, rendered: RenderedPrompt | None = RENDERED,
    context_tokens: int | None = 4096, reply_to: Callable[[SampleSpec], str] = lambda spec: f"\\boxed{{{spec.gold}}}",
) -> CheckMeasurement:  # fmt: skip
    def ask_samples(job: ChatJob) -> list[SampleRecord]:
        return [sample(job, spec, reply_to(spec)) for spec in job.samples]

    with serving(sound or Sound()) as url:
        return Bench(StandInEngine(url, rendered), facts(context_tokens), ask_samples).make(unit)


@pytest.mark.parametrize("check", get_args(Check))
def test_a_sound_server_passes_every_check(check: Check) -> None:
    found = made(planned(check))
    assert (found.result, found.check, found.target, found.place) == ("ok", check, "t", 0), found.words


# -------------------------------------------------------------------------------------------------------------- limits


def test_a_limit_below_what_the_eval_needs_says_stop() -> None:
    found = made(planned("limits", sampling={"temperature": 0, "max_tokens": 8}))
    assert found.result == "stop"
    assert "sums: max_tokens 8 is below the 16 that its replies need" in found.words
    assert found.evidence["sums_needed_tokens"] == 16


def test_a_limit_on_stand_in_rows_is_nobodys_business() -> None:
    assert made(planned("limits", rows="synthetic", sampling={"temperature": 0, "max_tokens": 8})).result == "ok"


def test_a_reply_that_does_not_fit_into_the_context_says_stop() -> None:
    found = made(planned("limits", sampling={"temperature": 0, "max_tokens": 60}), context_tokens=64)
    assert found.result == "stop"
    assert "longest prompt (5 tokens) and max_tokens (60) do not fit into the engine's 64 tokens" in found.words


def test_the_sampling_defaults_of_the_server_are_written_down() -> None:
    assert "sampling defaults of the server: model" in made(planned("limits")).words


# -------------------------------------------------------------------------------------------------------------- prompt


def test_equal_tokens_are_proved_one_by_one() -> None:
    found = made(planned("prompt"))
    assert "token by token" in found.words
    assert (found.num_requests, found.prompt_tokens) == (4, (5, 5, 5, 5))


def test_a_version_without_the_route_is_proved_by_the_number_of_tokens() -> None:
    found = made(planned("prompt"), Sound(ids=None))
    assert (found.result, "by their number of tokens" in found.words) == ("ok", True)


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (Sound(ids=(1, 7, 8, 9), prompt_tokens=4), "leaves out the generation prompt"),
        (Sound(ids=None, prompt_tokens=4), "without its generation prompt"),
        (Sound(ids=None, prompt_tokens=2), "the bare text: no chat format at all"),
        (Sound(ids=(1, 7, 8, 5), prompt_tokens=4), "1 tokens shorter (4 instead of 5): another template"),
        (Sound(ids=(1, 7, 8, 5, 2)), "of other tokens: another template"),
        (Sound(ids=None, prompt_tokens=12), "7 tokens longer (12 instead of 5)"),
        (Sound(ids=RENDERED.full, prompt_tokens=12), "a system prompt that was slipped in"),
        (Sound(ids=None, prompt_tokens=3), "2 tokens shorter (3 instead of 5): another template"),
    ],
)
def test_another_prompt_says_stop_and_what_it_looks_like(sound: Sound, words: str) -> None:
    found = made(planned("prompt"), sound)
    assert found.result == "stop"
    assert words in found.words
    assert found.evidence["num_differing"] == 4


def test_the_completions_route_of_a_model_with_a_template_says_stop() -> None:
    sound = Sound(prompt_tokens=2)
    found = made(planned("prompt", route="completions"), sound)
    assert (found.result, found.route) == ("stop", "completions")
    assert {path for path, _ in sound.asked} == {"/v1/completions"}


def test_without_a_template_there_is_nothing_to_compare_with() -> None:
    bare = RenderedPrompt(full=None, no_generation_prompt=None, bare=(7, 8))
    assert made(planned("prompt"), rendered=bare).result == "warn"
    assert made(planned("prompt", route="completions"), rendered=bare).result == "ok"


def test_without_a_tokenizer_the_lengths_are_kept_for_a_comparison_between_nodes() -> None:
    found = made(planned("prompt"), Sound(prompt_tokens=21), rendered=None)
    assert (found.result, found.prompt_tokens) == ("ok", (21, 21, 21, 21))


def test_a_server_that_tells_nothing_of_its_prompts_is_a_warning() -> None:
    assert made(planned("prompt"), Sound(ids=None, prompt_tokens=None)).result == "warn"


# ------------------------------------------------------------------------------------------------- canaries, agreement


def test_one_wrong_canary_of_sixteen_is_let_pass_and_two_are_not() -> None:
    def wrong(names: set[str]) -> Callable[[SampleSpec], str]:
        return lambda spec: "\\boxed{0}" if spec.question in names else f"\\boxed{{{spec.gold}}}"

    assert made(planned("canary"), reply_to=wrong({"sums-01"})).result == "ok"
    found = made(planned("canary"), reply_to=wrong({"sums-01", "sums-02"}))
    assert (found.result, found.evidence) == (
        "stop", {"num_canaries": 16, "num_allowed": 1, "num_correct": 14, "num_incorrect": 2}
    )  # fmt: skip
    assert len(found.samples) == 16


def test_two_of_forty_canaries_may_fail_and_three_may_not() -> None:
    def reply(num_wrong: int) -> Callable[[SampleSpec], str]:
        left = [num_wrong]

        def one(spec: SampleSpec) -> str:
            left[0] -= 1
            right = f"\\boxed{{{spec.gold}}}" if spec.letter_order is None else f'{{"answer": "{spec.gold}"}}'
            return "no idea" if left[0] >= 0 else right

        return one

    unit = planned("canary", name="aime25", rows="synthetic")
    assert len(unit.samples) == 40
    assert made(unit, reply_to=reply(2)).result == "ok"
    found = made(unit, reply_to=reply(3))
    assert (found.result, found.evidence["num_unparsed"]) == ("stop", 3)


def test_greedy_replies_are_kept_as_tokens() -> None:
    found = made(planned("agreement"))
    assert found.replies == (("t", "wo"),) * 16
    assert found.prompt_tokens == (5,) * 16


# ------------------------------------------------------------------------------------------------------------ numerics


def test_log_probabilities_of_fixed_texts_are_kept() -> None:
    found = made(planned("numerics"), Sound(logprob=-1.234567))
    assert {(text.logprobs, text.top_ids) for text in found.texts} == {((-1.23457, -2.0), (4, 5))}
    assert (len(found.texts), found.evidence["num_tokens"]) == (16, 32)


def test_a_server_without_log_probabilities_is_not_compared() -> None:
    class Without(Sound):
        def answer(self, path: str, said: dict[str, object]) -> tuple[int, object]:
            return (404, {}) if path == "/generate" else super().answer(path, said)

    found = made(planned("numerics"), Without())
    assert (found.result, found.texts, found.num_requests) == ("ok", (), 0)


# -------------------------------------------------------------------------------------------------------------- decode


def test_decode_that_agrees_with_prefill_is_silent_and_its_batch_goes_out_as_one_request() -> None:
    sound = Sound(decode_gap=0.01)
    found = made(planned("decode").model_copy(update={"batch_size": 24}), sound)
    assert found.result == "ok"
    assert found.evidence == {
        "batch_size": 24, "num_tokens": 32, "mean_dlogp": 0.01, "max_dlogp": 0.01, "flipped_fraction": 0.0,
        "kl_k3": 0.00005,
    }  # fmt: skip
    first, *others = [said for path, said in sound.asked if path == "/generate"]
    texts = cast(list[str], first["text"])
    assert len(set(texts)) == 24
    assert len(others) == 16, "some of a large batch are read again"
    assert {tuple(cast(list[int], said["input_ids"]))[1:] for said in others} == {(1, 2, 8, 9)}
    assert all(said["logprob_start_len"] == 0 for said in (first, *others)), "past the prefix cache"


def test_decode_that_computes_something_else_is_a_warning() -> None:
    found = made(planned("decode"), Sound(decode_gap=0.07))
    assert (found.result, found.evidence["mean_dlogp"], found.evidence["flipped_fraction"]) == ("warn", 0.07, 0)
    found = made(planned("decode"), Sound(flip=1))
    assert (found.result, found.evidence["mean_dlogp"], found.evidence["flipped_fraction"]) == ("warn", 0, 0.5)


@pytest.mark.parametrize("missing", ["all", "reading"])
def test_decode_is_not_compared_where_the_server_gives_no_log_probabilities(missing: str) -> None:
    class Without(Sound):
        def answer(self, path: str, said: dict[str, object]) -> tuple[int, object]:
            gone = path == "/generate" and (missing == "all" or "input_ids" in said)
            return (400, {}) if gone else super().answer(path, said)

    found = made(planned("decode"), Without())
    assert (found.result, found.evidence) == ("ok", {})
    assert "decode is not compared with prefill" in found.words


# -------------------------------------------------------------------------------------------------------------- grader


def test_graders_that_misread_their_battery_say_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "self_test", lambda: ("integer: 'Answer: 70' read as None",))
    found = made(planned("grader"))
    assert (found.result, found.evidence) == ("stop", {"num_misread": 1})
    assert "'Answer: 70' read as None" in found.words


# --------------------------------------------------------------------------------------------------------- the session


def in_session(folder: Path, model: SimulatedConfig, unit: CheckUnit) -> UnitResult:
    """A check on a simulated engine that knows the answers."""
    key = {prompt_hash(spec.messages): spec.gold for spec in unit.samples}
    session = NodeSession(NodeSpec("run-of-a-test", "n0", "CPU", 0, declared_host="simulated:n0"))
    try:
        session.start_engine(simulated_launch(folder, model, key), lambda line: None)
        (result,) = session.run(unit, 1, lambda line: None)
        assert isinstance(result, UnitResult)
        return result
    finally:
        session.close()


@pytest.mark.parametrize("check", get_args(Check))
def test_a_simulated_engine_passes_every_check(tmp_path: Path, check: Check) -> None:
    result = in_session(tmp_path, timing(), planned(check))
    assert isinstance(result.measurement, CheckMeasurement)
    assert (result.measurement.result, result.measurement.simulated) == ("ok", True), result.measurement.words


def test_a_simulated_engine_may_be_told_to_fail_its_canaries(tmp_path: Path) -> None:
    result = in_session(tmp_path, timing(accuracy={"canary": 0.5}), planned("canary"))
    assert isinstance(result.measurement, CheckMeasurement)
    assert result.measurement.result == "stop"


def test_faults_of_long_replies_leave_canaries_alone(tmp_path: Path) -> None:
    model = timing(faults={"truncate_fraction": 1.0, "long_reply_factor": 100.0}, accuracy={"sums": 0.0})
    result = in_session(tmp_path, model, planned("canary"))
    assert isinstance(result.measurement, CheckMeasurement)
    assert result.measurement.result == "ok", result.measurement.words


def test_a_server_that_dies_in_a_check_is_no_finding_of_the_check(tmp_path: Path) -> None:
    result = in_session(tmp_path, timing(faults={"die_after_requests": 5}), planned("canary"))
    assert result.measurement is None
    assert result.failure is not None and result.failure.cause == "engine_died"

"""The preflight checks as a node makes them: a few small requests to the engine that is about to answer samples.

Requests of canaries go through the client, by the very code that asks scored samples. A request that fails ends in a
check that says so, never in an exception.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import assert_never

from pydantic import JsonValue

from raybench.client.job import ChatJob
from raybench.engine.base import Engine, RenderedPrompt
from raybench.engine.http_json import Answer, ask
from raybench.evals import eval_named
from raybench.evals.battery import self_test
from raybench.evals.canary import MAX_TOKENS
from raybench.evals.grade import outcome
from raybench.node.numerics import Generate, decode, numerics
from raybench.node.seen import Result, Seen
from raybench.records import (
    CheckMeasurement,
    CheckUnit,
    EngineFacts,
    SampleRecord,
    SampleSpec,
    Sampling,
    bare_text,
)

CONCURRENCY = 8
AGREEMENT_TOKENS = 64
"""First tokens of a greedy reply that are compared: later ones follow from the first that differs."""
WRONG_CANARIES_FRACTION = 0.05
"""Two of forty (see raybench.evals.canary), and at least one of a shorter set."""


class Bench:
    """One engine under its checks."""

    def __init__(
        self, engine: Engine, facts: EngineFacts, ask_samples: Callable[[ChatJob], Sequence[SampleRecord]]
    ) -> None:
        """`ask_samples` runs a job of the client to its end."""
        self._engine = engine
        self._facts = facts
        self._ask_samples = ask_samples

    def make(self, unit: CheckUnit) -> CheckMeasurement:
        """Make one check."""
        started_s = time.perf_counter()
        match unit.check:
            case "grader":
                seen = _grader()
            case "limits":
                seen = self._limits(unit)
            case "prompt":
                seen = self._prompt(unit)
            case "canary":
                seen = self._canary(unit)
            case "agreement":
                seen = self._agreement(unit)
            case "numerics":
                seen = numerics(self._generate(unit), self._facts.simulated)
            case "decode":
                seen = decode(self._generate(unit), self._facts.simulated, unit.batch_size)
            case _:
                assert_never(unit.check)
        return CheckMeasurement(
            check=unit.check, target=unit.target, place=unit.place, route=unit.route, result=seen.result,
            words=seen.words, evidence=seen.evidence, num_requests=seen.num_requests,
            duration_s=time.perf_counter() - started_s, samples=seen.samples, prompt_tokens=seen.prompt_tokens,
            replies=seen.replies, texts=seen.texts, simulated=self._facts.simulated,
        )  # fmt: skip

    # ---------------------------------------------------------------------------------------------------------- limits

    def _limits(self, unit: CheckUnit) -> Seen:
        """Does every reply have the room that it needs, in the configuration and in the engine?"""
        facts = self._facts
        room = [n for n in (facts.context_tokens, facts.max_total_tokens) if n is not None]
        answers = self._greedy(unit, unit.samples, max_tokens=1)
        prompts = tuple(_prompt_tokens(answer) for answer in answers)
        evidence: dict[str, float] = {"context_tokens": min(room)} if room else {}
        result: Result = "ok"
        said: list[str] = []
        for budget, prompt_tokens in zip(unit.budgets, prompts, strict=True):
            evidence[f"{budget.eval}_max_tokens"] = budget.max_tokens
            if prompt_tokens is not None:
                evidence[f"{budget.eval}_prompt_tokens"] = prompt_tokens
            wanted = (prompt_tokens or 0) + budget.max_tokens
            if room and wanted > min(room):
                result = "stop"
                said.append(
                    f"{budget.eval}: its longest prompt ({prompt_tokens or 0} tokens) and max_tokens "
                    f"({budget.max_tokens}) do not fit into the engine's {min(room)} tokens: replies are cut short"
                )
            elif budget.needed_tokens is not None and budget.max_tokens < budget.needed_tokens:
                result = "stop"
                evidence[f"{budget.eval}_needed_tokens"] = budget.needed_tokens
                said.append(
                    f"{budget.eval}: max_tokens {budget.max_tokens} is below the {budget.needed_tokens} that its "
                    "replies need: they are cut before they answer"
                )
        if result == "ok" and (refused := _first_refusal(answers)):
            result = "warn"
            said.append(f"the engine did not answer the longest prompt ({refused})")
        words = (
            "; ".join(said) or f"every reply fits into the engine's {min(room) if room else 'unknown number of'} tokens"
        )
        return Seen(result, f"{words}{self._sampling_defaults()}", evidence, len(answers), prompt_tokens=prompts)

    def _sampling_defaults(self) -> str:
        """What the engine would take for a field that is not sent; raybench sends all."""
        info = self._get("/server_info").mapping()
        given = info.get("preferred_sampling_params") or info.get("sampling_defaults")
        return f" (sampling defaults of the server: {given}; all fields are sent)" if given else ""

    # ---------------------------------------------------------------------------------------------------------- prompt

    def _prompt(self, unit: CheckUnit) -> Seen:
        """Are the prompts that the server makes those of the model's own template?"""
        answers = self._greedy(unit, unit.samples, max_tokens=1)
        counts = tuple(_prompt_tokens(answer) for answer in answers)
        rendered = self._engine.render([sample.messages for sample in unit.samples])
        num_requests = len(answers)
        if rendered is None:
            words = "no tokenizer at hand to render prompts with; their lengths are compared between nodes"
            return Seen("ok", words, {}, num_requests, prompt_tokens=counts)
        if all(prompt.full is None for prompt in rendered):
            words = "the model folder holds no chat template, so there is nothing to compare with"
            return Seen("ok" if unit.route == "completions" else "warn", words, {}, num_requests, prompt_tokens=counts)
        ids = [self._server_ids(sample) for sample in unit.samples] if unit.route == "chat" else [None] * len(counts)
        faults = [
            fault
            for prompt, server_ids, count in zip(rendered, ids, counts, strict=True)
            if (fault := _prompt_fault(prompt, server_ids, count)) is not None
        ]
        evidence: dict[str, float] = {"num_prompts": len(counts), "num_differing": len(faults)}
        for name, value in (("server_tokens", counts[0]), ("template_tokens", _length(rendered[0].full))):
            if value is not None:
                evidence[name] = value
        if faults:
            words = f"{len(faults)} of {len(counts)} prompts are not those of the model's own template: {faults[0]}"
            return Seen("stop", words, evidence, num_requests, prompt_tokens=counts)
        if all(count is None for count in counts) and not any(ids):
            words = "the server tells neither the tokens of a prompt nor their number: the prompts could not be proved"
            return Seen("warn", words, evidence, num_requests, prompt_tokens=counts)
        how = "token by token" if any(ids) else "by their number of tokens"
        words = f"{len(counts)} prompts are those of the model's own template, {how}"
        return Seen("ok", words, evidence, num_requests, prompt_tokens=counts)

    def _server_ids(self, sample: SampleSpec) -> list[int] | None:
        """Token ids of the chat route's prompt, where the version can tell them without a generation."""
        turns: list[JsonValue] = [{"role": turn.role, "content": turn.content} for turn in sample.messages]
        answer = self._post("/v1/tokenize", {"model": self._engine.served_name, "messages": turns}, 30)
        tokens = answer.mapping().get("tokens")
        if not answer.ok or not isinstance(tokens, list):
            return None
        ids = [token for token in tokens if isinstance(token, int)]
        return ids if ids and len(ids) == len(tokens) else None

    # --------------------------------------------------------------------------------------------- canaries, agreement

    def _canary(self, unit: CheckUnit) -> Seen:
        """Does the server answer what any healthy one answers, in the prompt format of the evals that follow?"""
        job = ChatJob(
            url=self._engine.url, api_key=self._engine.api_key, model=self._engine.served_name, unit=unit.key,
            target=unit.target, eval="canary", samples=unit.samples,
            sampling=Sampling(temperature=0, max_tokens=MAX_TOKENS), concurrency=CONCURRENCY, timeout_s=unit.timeout_s,
            max_transport_retries=2, time_scale=self._facts.time_scale, route=unit.route,
        )  # fmt: skip
        samples = {sample.key: sample for sample in self._ask_samples(job)}
        counts = dict.fromkeys(("correct", "incorrect", "unparsed", "truncated", "errored"), 0)
        for spec, grader in zip(unit.samples, unit.graders, strict=True):
            sample = samples.get(spec.key)
            counts["errored" if sample is None else outcome(sample, eval_named(grader))] += 1
        num, right = len(unit.samples), counts["correct"]
        allowed = max(1, int(num * WRONG_CANARIES_FRACTION))
        evidence: dict[str, float] = {"num_canaries": num, "num_allowed": allowed}
        evidence |= {f"num_{name}": number for name, number in counts.items() if number}
        failed = num - right > allowed
        words = f"{right} of {num} canaries right"
        if failed:
            rest = ", ".join(f"{number} {name}" for name, number in counts.items() if number and name != "correct")
            words += (
                f" ({rest}), and at most {allowed} may fail: the server, its chat template or the reading of answers"
            )
        kept = tuple(samples[spec.key] for spec in unit.samples if spec.key in samples)
        return Seen(
            "stop" if failed else "ok", words, evidence, num, samples=kept,
            prompt_tokens=tuple(sample.prompt_tokens for sample in kept),
        )  # fmt: skip

    def _agreement(self, unit: CheckUnit) -> Seen:
        """Greedy replies, to be held beside those of the target's other nodes when the ledger is read."""
        answers = self._greedy(unit, unit.samples, max_tokens=AGREEMENT_TOKENS, logprobs=True)
        refused = _first_refusal(answers)
        words = f"{len(answers)} greedy replies kept, to be compared between nodes"
        return Seen(
            "warn" if refused else "ok", f"not every question was answered ({refused})" if refused else words, {},
            len(answers), prompt_tokens=tuple(_prompt_tokens(answer) for answer in answers),
            replies=tuple(_reply_tokens(answer) for answer in answers),
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- requests

    def _greedy(
        self, unit: CheckUnit, samples: Sequence[SampleSpec], *, max_tokens: int, logprobs: bool = False
    ) -> list[Answer]:
        """One short greedy reply to each, by the route of the evals."""

        def one(sample: SampleSpec) -> Answer:
            content: dict[str, JsonValue] = {
                "model": self._engine.served_name, "temperature": 0, "top_p": 1, "max_tokens": max_tokens,
                "seed": sample.seed, "stream": False,
            }  # fmt: skip
            if unit.route == "completions":
                content |= {"prompt": bare_text(sample.messages)} | ({"logprobs": 1} if logprobs else {})
                return self._post("/v1/completions", content, unit.timeout_s)
            turns: list[JsonValue] = [{"role": turn.role, "content": turn.content} for turn in sample.messages]
            content |= {"messages": turns} | ({"logprobs": True} if logprobs else {})
            return self._post("/v1/chat/completions", content, unit.timeout_s)

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return list(pool.map(one, samples))

    def _generate(self, unit: CheckUnit) -> Generate:
        return lambda content: self._post("/generate", content, unit.timeout_s)

    def _post(self, path: str, content: dict[str, JsonValue], timeout_s: float) -> Answer:
        return ask(f"{self._engine.url}{path}", timeout_s=timeout_s, api_key=self._engine.api_key, content=content)

    def _get(self, path: str) -> Answer:
        return ask(f"{self._engine.url}{path}", timeout_s=30, api_key=self._engine.api_key)


def _grader() -> Seen:
    """The battery of replies through the graders of this very machine."""
    failures = self_test()
    if failures:
        words = f"the graders misread {len(failures)} replies of their own battery, the first: {failures[0]}"
        return Seen("stop", words, {"num_misread": len(failures)})
    return Seen("ok", "the graders read every reply of their battery")


def _prompt_fault(prompt: RenderedPrompt, server_ids: Sequence[int] | None, count: int | None) -> str | None:
    """How the server's prompt differs from the template's, in words; None if it does not, as far as one can tell."""
    wanted = prompt.full
    if wanted is None:
        return None
    same_ids = server_ids is None or tuple(server_ids) == wanted
    if same_ids and count in (None, len(wanted)):
        return None
    seen = len(server_ids) if count is None and server_ids is not None else count
    if server_ids is not None and tuple(server_ids) == prompt.no_generation_prompt:
        return "the server leaves out the generation prompt, so the model does not know that it is to answer"
    if server_ids is None and seen == _length(prompt.no_generation_prompt):
        return "they are as long as the template without its generation prompt"
    if server_ids is None and seen == len(prompt.bare):
        return "they are as long as the bare text: no chat format at all"
    if seen == len(wanted):
        return "they are as long as the template's, but of other tokens: another template"
    more = (seen or 0) - len(wanted)
    return (
        f"they are {abs(more)} tokens {'longer' if more > 0 else 'shorter'} ({seen} instead of {len(wanted)}): another "
        f"template{', or a system prompt that was slipped in' if more > 0 else ''}"
    )


def _length(ids: Sequence[int] | None) -> int | None:
    return None if ids is None else len(ids)


def _prompt_tokens(answer: Answer) -> int | None:
    usage = answer.mapping().get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _first_refusal(answers: Sequence[Answer]) -> str | None:
    return next((answer.error or f"HTTP {answer.status}" for answer in answers if not answer.ok), None)


def _reply_tokens(answer: Answer) -> tuple[str, ...]:
    """The reply's tokens, or its words where the server does not show tokens."""
    choices = answer.mapping().get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return ()
    logprobs = choice.get("logprobs")
    shown = (logprobs.get("content") or logprobs.get("tokens")) if isinstance(logprobs, dict) else None
    if isinstance(shown, list):
        tokens = [entry.get("token") if isinstance(entry, dict) else entry for entry in shown]
        return tuple(str(token) for token in tokens[:AGREEMENT_TOKENS])
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return tuple(str(text or "").split()[:AGREEMENT_TOKENS])

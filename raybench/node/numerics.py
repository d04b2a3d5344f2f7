"""The two checks of numerics: by teacher forcing, and by decode against the engine's own prefill.

The first reads log-probabilities of fixed texts, which are held beside those of other nodes and of a stored reference
when the ledger is read. The second needs one server only: it decodes a batch of the size that is timed, has the server
read its own replies as prompts, and compares what both say about the same tokens. A decode kernel, a KV cache or
a batch size that computes something else shows here, and nowhere in a prefill.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import JsonValue

from raybench.engine.http_json import Answer
from raybench.evals.canary import fixed_texts
from raybench.node.seen import Seen
from raybench.records import TeacherForced

Generate = Callable[[dict[str, JsonValue]], Answer]
"""Posts to SGLang's /generate."""

DECODED_TOKENS = 64
PROMPT_WORDS = 48
NUM_READ = 16
"""Replies of a batch that are read again: 16 x 64 tokens."""
READERS = 4
DECODE_MEAN_DLOGP = 0.06
"""Mean |difference of log-probabilities| between decode and prefill of the same tokens that a sound engine stays below.

The limit of the comparison between nodes: kernels of decode and prefill differ as other kernels do. A/A with the tiny
model on CPU, bfloat16, batches of 1 to 64: 0.0004 to 0.0008, no token flipped. No GPU has been measured.
"""
DECODE_FLIPPED_FRACTION = 0.05
"""Share of greedy tokens that are not the most probable ones of the prefill: near ties flip."""
_READING: dict[str, JsonValue] = {
    "sampling_params": {"max_new_tokens": 1, "temperature": 0}, "return_logprob": True, "logprob_start_len": 0,
    "top_logprobs_num": 1,
}  # fmt: skip
"""Makes the engine read a prompt from its start, past any cache, and say what it thinks of it."""
_NONE_GIVEN = "the server gives no log-probabilities (/generate)"
_SIMULATED = "a simulated engine has no log-probabilities"


def numerics(generate: Generate, simulated: bool) -> Seen:
    """Log-probabilities of fixed texts, one at a time: what a kernel or a weight changes shows in every token."""
    if simulated:
        return Seen("ok", _SIMULATED)
    texts: list[TeacherForced] = []
    asked = fixed_texts()
    for text in asked:
        found = _teacher_forced(generate({"text": text, **_READING}))
        if found is None:
            return Seen("ok", f"{_NONE_GIVEN}: numerics are not compared")
        texts.append(found)
    num_tokens = sum(len(text.logprobs) for text in texts)
    mean = sum(sum(text.logprobs) for text in texts) / max(1, num_tokens)
    words = f"log-probabilities of {num_tokens} tokens kept, to be compared between nodes and with a reference"
    evidence: dict[str, float] = {"num_tokens": num_tokens, "mean_logprob": round(mean, 5)}
    return Seen("ok", words, evidence, len(texts), texts=tuple(texts))


def decode(generate: Generate, simulated: bool, batch_size: int) -> Seen:
    """Greedy tokens of a whole batch, and what the same server's prefill says about them."""
    if simulated:
        return Seen("ok", _SIMULATED)
    asked: list[JsonValue] = [*_prompts(batch_size)]
    batch = generate({
        "text": asked, "return_logprob": True, "logprob_start_len": 0,
        "sampling_params": {"max_new_tokens": DECODED_TOKENS, "temperature": 0, "ignore_eos": True},
    })  # fmt: skip
    replies = [_decoded(one) for one in batch.body] if batch.ok and isinstance(batch.body, list) else []
    if not replies or any(reply is None for reply in replies):
        return Seen("ok", f"{_NONE_GIVEN}: decode is not compared with prefill")
    chosen = [reply for reply in _spread(replies) if reply is not None]
    with ThreadPoolExecutor(READERS) as pool:
        read = list(pool.map(lambda reply: _read_again(generate, reply), chosen))
    pairs = [(reply, again) for reply, again in zip(chosen, read, strict=True) if again is not None]
    if not pairs:
        return Seen("ok", f"{_NONE_GIVEN} of a prompt: decode is not compared with prefill", {}, len(asked))
    return _compared(pairs, batch_size, len(asked) + len(read))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """A reply's tokens as the decode chose them."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


def _compared(pairs: Sequence[tuple[_Tokens, TeacherForced]], batch_size: int, num_requests: int) -> Seen:
    gaps = [
        b - a for reply, again in pairs for a, b in zip(reply.logprobs, again.logprobs[-len(reply.ids) :], strict=True)
    ]
    tops = [
        pair
        for reply, again in pairs
        if again.top_ids
        for pair in zip(reply.ids, again.top_ids[-len(reply.ids) :], strict=True)
    ]
    mean = sum(abs(gap) for gap in gaps) / len(gaps)
    flipped = sum(token != top for token, top in tops) / len(tops) if tops else 0.0
    evidence: dict[str, float] = {
        "batch_size": batch_size, "num_tokens": len(gaps), "mean_dlogp": round(mean, 5),
        "max_dlogp": round(max(abs(gap) for gap in gaps), 5), "flipped_fraction": round(flipped, 5),
        # Schulman's k3: an estimate of the divergence that is never negative and has little noise.
        "kl_k3": round(sum(math.expm1(gap) - gap for gap in gaps) / len(gaps), 6),
    }  # fmt: skip
    words = (
        f"{len(gaps)} tokens decoded in a batch of {batch_size} differ from the server's own prefill by {mean:.4f} in "
        f"log-probability, {flipped:.1%} are not its most probable ones"
    )
    bad = mean > DECODE_MEAN_DLOGP or flipped > DECODE_FLIPPED_FRACTION
    return Seen("warn" if bad else "ok", words, evidence, num_requests)


def _prompts(number: int) -> list[str]:
    """That many short texts, no two alike: equal prompts would share the prefix cache."""
    texts = fixed_texts()
    return [f"{place}. {' '.join(texts[place % len(texts)].split()[:PROMPT_WORDS])}" for place in range(number)]


def _spread(replies: Sequence[_Tokens | None]) -> list[_Tokens | None]:
    """Some of them, evenly from first to last place of the batch."""
    number = min(NUM_READ, len(replies))
    return [replies[i * len(replies) // number] for i in range(number)]


def _read_again(generate: Generate, reply: _Tokens) -> TeacherForced | None:
    ids: list[JsonValue] = [*reply.prompt_ids, *reply.ids]
    found = _teacher_forced(generate({"input_ids": ids, **_READING}))
    return found if found is not None and len(found.logprobs) == len(ids) - 1 else None


def _decoded(answer: JsonValue) -> _Tokens | None:
    meta = answer.get("meta_info") if isinstance(answer, dict) else None
    if not isinstance(meta, dict):
        return None
    prompt, reply = _entries(meta.get("input_token_logprobs")), _entries(meta.get("output_token_logprobs"))
    if prompt is None or reply is None or any(logprob is None for logprob, _ in reply):
        return None
    return _Tokens(
        tuple(id_ for _, id_ in prompt), tuple(id_ for _, id_ in reply), tuple(logprob or 0.0 for logprob, _ in reply)
    )


def _entries(given: JsonValue) -> list[tuple[float | None, int]] | None:
    """SGLang's [[log-probability or null, id, text], ...]; None where it is something else."""
    if not isinstance(given, list) or not given:
        return None
    found: list[tuple[float | None, int]] = []
    for entry in given:
        if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], int):
            return None
        if entry[0] is not None and not isinstance(entry[0], int | float):
            return None
        found.append((entry[0], entry[1]))
    return found


def _teacher_forced(answer: Answer) -> TeacherForced | None:
    """What a prompt's reading says: the first token has no log-probability, all others have one."""
    meta = answer.mapping().get("meta_info")
    entries = _entries(meta.get("input_token_logprobs")) if isinstance(meta, dict) else None
    if not answer.ok or entries is None or len(entries) < 2:
        return None
    logprobs = [round(float(logprob), 5) for logprob, _ in entries[1:] if logprob is not None]
    if len(logprobs) != len(entries) - 1:
        return None
    top = meta.get("input_top_logprobs") if isinstance(meta, dict) else None
    best = [place[0] for place in top[1:] if isinstance(place, list) and place] if isinstance(top, list) else []
    top_ids = [entry[1] for entry in best if isinstance(entry, list) and isinstance(entry[1], int)]
    return TeacherForced(
        tokens_sha256=hashlib.sha256(json.dumps([id_ for _, id_ in entries]).encode()).hexdigest()[:16],
        logprobs=tuple(logprobs),
        top_ids=tuple(id_ for id_ in top_ids if isinstance(id_, int)) if len(top_ids) == len(logprobs) else (),
    )

"""From a serving load and two seeds to its schedule. Pure.

The *arrival seed* decides when requests come and how long they are, the *prompt seed* of which tokens they consist.
Points that are to be compared have the first in common, and no two points the second.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

import numpy as np

from raybench.load.arrivals import open_times_s, ramp_times_s
from raybench.load.draws import Floats, Ints, drawn_lengths, exponentials, seed_of, uniforms, whole_numbers
from raybench.load.schedule import Prefix, Schedule, ScheduledRequest
from raybench.load.texts import text_for
from raybench.records.loads import (
    ClosedLoad,
    Lengths,
    OpenLoad,
    RampLoad,
    ServingLoad,
    SessionsLoad,
    SharedPrefix,
    TraceLoad,
)


def schedule_of(load: ServingLoad, arrival_seed: int, prompt_seed: int) -> Schedule:
    """The schedule of a load; the same arguments give the same schedule for ever."""
    match load:
        case ClosedLoad():
            return _closed(load, arrival_seed, prompt_seed)
        case OpenLoad():
            times = open_times_s(load, arrival_seed)
            return _timed(
                times, _Shape(load.input_tokens, load.output_tokens, load.prefix), arrival_seed, prompt_seed, load.texts
            )
        case RampLoad():
            times = ramp_times_s(load, arrival_seed)
            return _timed(times, _Shape(load.input_tokens, load.output_tokens, None), arrival_seed, prompt_seed)
        case TraceLoad():
            return _trace(load, prompt_seed)
        case SessionsLoad():
            return _sessions(load, arrival_seed, prompt_seed)
        case _:
            assert_never(load)


class _Shape:
    """Lengths and prefixes of requests that do not depend on each other."""

    def __init__(self, inputs: Lengths, outputs: Lengths, prefix: SharedPrefix | None, jitter: float = 0.0) -> None:
        self._inputs, self._outputs, self._prefix, self._jitter = inputs, outputs, prefix, jitter

    def lengths(self, seed: int, num: int) -> tuple[Ints, Ints]:
        """Own tokens of every prompt, and tokens of every reply."""
        inputs = drawn_lengths(self._inputs, uniforms(seed, "input", num), self._jitter)
        return inputs, drawn_lengths(self._outputs, uniforms(seed, "output", num), self._jitter)

    def residuals(self, seed: int, num: int) -> Ints:
        """What is left of replies that are in progress when one looks: at least one token."""
        pool = drawn_lengths(self._outputs, uniforms(seed, "cohort", max(1024, 16 * num)), self._jitter)
        chosen = _in_progress(pool, uniforms(seed, "cohort-pick", num))
        return _left_of(chosen, uniforms(seed, "cohort-left", num))

    def prefixes(self, prompt_seed: int, num: int) -> list[tuple[Prefix, ...]]:
        """The prefix of every request."""
        prefix = self._prefix
        if prefix is None:
            return [()] * num
        groups = whole_numbers(prompt_seed, "groups", num, (0, prefix.groups)).tolist()
        made = [(Prefix(seed_of(prompt_seed, "group", group), prefix.tokens),) for group in range(prefix.groups)]
        return [made[group] for group in groups]


def _in_progress(pool: Ints, uniform: Floats) -> Ints:
    """Whole lengths of what is in progress when one looks."""
    # In proportion to their lengths: a user is more often met in a long request than in a short one.
    sums = np.cumsum(pool)
    return pool[np.searchsorted(sums, uniform * sums[-1], side="right")]


def _left_of(lengths: Ints, uniform: Floats) -> Ints:
    """What is left of them: at least one."""
    return np.maximum(1, np.ceil(lengths * uniform)).astype(np.int64)


def _timed(
    times_s: Floats, shape: _Shape, arrival_seed: int, prompt_seed: int, texts: tuple[str, ...] = ()
) -> Schedule:
    num = len(times_s)
    inputs, outputs = shape.lengths(arrival_seed, num)
    prefixes = shape.prefixes(prompt_seed, num)
    seen: set[int] = set()
    requests = [
        ScheduledRequest(
            index=index, at_s=float(times_s[index]), slot=None, session=None, turn=0, prompt_seed=prompt_seed,
            prefix=prefixes[index], input_tokens=int(inputs[index]) + _num_tokens(prefixes[index]),
            output_tokens=int(outputs[index]), shared_tokens=_shared(prefixes[index], seen),
            text=text_for(texts, prompt_seed, index),
        )
        for index in range(num)
    ]  # fmt: skip
    return Schedule(tuple(requests), 0)


def _closed(load: ClosedLoad, arrival_seed: int, prompt_seed: int) -> Schedule:
    """Rounds over all users: the cohort that is cut short, those that count, and one that keeps the others company."""
    shape = _Shape(load.input_tokens, load.output_tokens, load.prefix, load.jitter_fraction)
    num_rounds = load.turnovers + 2
    num = load.concurrency * num_rounds
    inputs, outputs = shape.lengths(arrival_seed, num)
    outputs[: load.concurrency] = shape.residuals(arrival_seed, load.concurrency)
    prefixes = shape.prefixes(prompt_seed, num)
    seen: set[int] = set()
    requests = [
        ScheduledRequest(
            index=index, at_s=None, slot=index % load.concurrency, session=None, turn=index // load.concurrency,
            prompt_seed=prompt_seed, prefix=prefixes[index],
            input_tokens=int(inputs[index]) + _num_tokens(prefixes[index]), output_tokens=int(outputs[index]),
            shared_tokens=_shared(prefixes[index], seen), text=text_for(load.texts, prompt_seed, index),
        )
        for index in range(num)
    ]  # fmt: skip
    return Schedule(tuple(requests), load.concurrency)


def _num_tokens(prefix: Iterable[Prefix]) -> int:
    return sum(part.tokens for part in prefix)


def _shared(prefix: tuple[Prefix, ...], seen: set[int]) -> int:
    """Tokens of a group's prefix if the group was there before; notes that it is there now."""
    shared = sum(part.tokens for part in prefix if part.seed in seen)
    seen.update(part.seed for part in prefix)
    return shared


# --------------------------------------------------------------------------------------------------------------- traces


def _trace(load: TraceLoad, prompt_seed: int) -> Schedule:
    known: dict[tuple[int, ...], int] = {}
    requests: list[ScheduledRequest] = []
    for index, (at_s, inputs, outputs) in enumerate(zip(load.at_s, load.input_tokens, load.output_tokens, strict=True)):
        prefix = _blocks(load, index, prompt_seed)
        requests.append(
            ScheduledRequest(
                index=index, at_s=at_s / load.speed, slot=None, session=None, turn=0, prompt_seed=prompt_seed,
                prefix=prefix, input_tokens=inputs, output_tokens=outputs, shared_tokens=_known(prefix, known),
            )
        )  # fmt: skip
    return Schedule(tuple(requests), 0)


def _blocks(load: TraceLoad, index: int, prompt_seed: int) -> tuple[Prefix, ...]:
    """The blocks of a prompt that fit into its length; what is longer than its blocks has tokens of its own."""
    left = load.input_tokens[index]
    parts: list[Prefix] = []
    for block in load.blocks[index] if load.blocks else ():
        if left <= 0:
            break
        parts.append(Prefix(seed_of(prompt_seed, "block", block), min(load.block_tokens, left)))
        left -= parts[-1].tokens
    return tuple(parts)


def _known(prefix: tuple[Prefix, ...], known: dict[tuple[int, ...], int]) -> int:
    """Tokens at the start that an earlier prompt had too; notes this prompt's own."""
    shared, whole = 0, True
    path: tuple[int, ...] = ()
    for part in prefix:
        path = (hash(path), part.seed)
        before = known.get(path, 0)
        if whole:
            shared += min(before, part.tokens)
            whole = before >= part.tokens
        known[path] = max(before, part.tokens)
    return shared


# ------------------------------------------------------------------------------------------------------------- sessions


def _sessions(load: SessionsLoad, arrival_seed: int, prompt_seed: int) -> Schedule:
    """Every user's conversations one after the other. A user's first one is met in its middle: only its last turns are
    left, as the cohort of a closed loop is cut short, and their prompts hold what was said before."""
    users = load.concurrency
    turns = drawn_lengths(load.turns, uniforms(arrival_seed, "turns", users * load.sessions))
    pool = drawn_lengths(load.turns, uniforms(arrival_seed, "first-pool", max(1024, 16 * users)))
    turns[:users] = _in_progress(pool, uniforms(arrival_seed, "first-pick", users))
    left = turns.copy()
    left[:users] = _left_of(turns[:users], uniforms(arrival_seed, "first-turns", users))
    chains = [_chain(load, user, (turns, left), (arrival_seed, prompt_seed)) for user in range(users)]
    requests: list[ScheduledRequest] = []
    system_seen = False
    for place in range(max(map(len, chains))):
        for chain in chains:
            if place < len(chain):
                requests.append(_numbered(chain[place], len(requests), load.system_tokens if system_seen else 0))
                system_seen = True
    return Schedule(tuple(requests), load.concurrency)


def _chain(load: SessionsLoad, user: int, turns: tuple[Ints, Ints], seeds: tuple[int, int]) -> list[ScheduledRequest]:
    """All turns of one user, not numbered yet; `shared_tokens` leaves the system prompt out. `turns`: by conversation,
    how many it has and how many of them are left."""
    arrival_seed, prompt_seed = seeds
    system = (Prefix(seed_of(prompt_seed, "system"), load.system_tokens),) if load.system_tokens else ()
    found: list[ScheduledRequest] = []
    for number in range(load.sessions):
        session = number * load.concurrency + user
        num, left = int(turns[0][session]), int(turns[1][session])
        inputs = drawn_lengths(load.input_tokens, uniforms(arrival_seed, f"input-{session}", num))
        outputs = drawn_lengths(load.output_tokens, uniforms(arrival_seed, f"output-{session}", num))
        pauses = exponentials(arrival_seed, f"think-{session}", num) * load.think_s
        said = before = 0
        for turn in range(num):
            said += int(inputs[turn])
            if turn >= num - left:
                prefix = (*system, Prefix(seed_of(prompt_seed, "session", session), said))
                found.append(
                    ScheduledRequest(
                        index=0, at_s=None, slot=user, session=session, turn=turn, prompt_seed=prompt_seed,
                        prefix=prefix, input_tokens=load.system_tokens + said, output_tokens=int(outputs[turn]),
                        pause_s=float(pauses[turn]), shared_tokens=before,
                    )
                )  # fmt: skip
                before = said
            said += int(outputs[turn])
    return found


def _numbered(request: ScheduledRequest, index: int, system_tokens: int) -> ScheduledRequest:
    return replace(request, index=index, shared_tokens=request.shared_tokens + system_tokens)

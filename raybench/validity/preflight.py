"""Findings of the preflight: what a node's checks saw, and what they say beside those of the target's other nodes.

A node's own result was told when it was made; what takes two nodes is decided here, when the ledger is read.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from raybench.ledger.view import Checked, RunView
from raybench.records import Check, Finding, Severity
from raybench.validity.numerics import FLIPPED_FRACTION, MEAN_DLOGP, difference, drift_findings

AGREEMENT_FRACTION = 0.8
"""Share of the first 64 greedy tokens that two nodes have in common: batching alone flips a few near ties."""

_CODES: dict[Check, str] = {
    "limits": "limits",
    "grader": "grader_broken",
    "prompt": "prompt_format",
    "canary": "canary_failed",
    "agreement": "nodes_disagree",
    "numerics": "numerics_differ",
    "decode": "decode_differs",
}
_RULES: dict[Check, str] = {
    "limits": "max_tokens is what the eval needs, and fits with the longest prompt into the engine",
    "grader": "the graders read every reply of their own battery",
    "prompt": "the prompts that the server makes are those of the model's own chat template, token by token",
    "canary": "at most one in twenty of the trivial questions fails",
    "agreement": "every question of the comparison is answered",
    "numerics": "the log-probabilities of fixed texts can be read",
    "decode": "tokens that were decoded in a batch have the log-probabilities that the server's own prefill gives them",
}
_ADVICE: dict[Check, str] = {
    "limits": "raise sampling.max_tokens, or the engine's context length and token capacity",
    "grader": "this raybench is broken on that node: install it anew; stored replies can be scored again",
    "prompt": (
        "a prompt-format fault: leave out --chat-template so that the model's own is used, ask through the chat route "
        "(evals.route), and look for a system prompt or a switch that the server adds"
    ),
    "canary": (
        "read the canaries in the ledger: nonsense means a wrong prompt format or broken weights, a right answer that "
        "was not read means another answer format, an empty reply a reasoning parser"
    ),
    "agreement": "look at the engine's log for the faults of these requests",
    "numerics": "look at the engine's log for the faults of these requests",
    "decode": (
        "decode and prefill compute something else: compare the attention backends, the KV cache's dtype and scales, "
        "and decode without CUDA graphs or speculative decoding"
    ),
}


def counting_checks(view: RunView) -> list[Checked]:
    """Checks that say something about this run's results, in their order.

    The last one of every key, and those of nodes that answered samples of the target: a check of a server that was
    put right before the run was resumed is history.
    """
    last = {checked.key: (checked.attempt, checked.node) for checked in view.checks}
    answered = {(view.samples[key].target, node) for key, node in view.sample_nodes.items()}
    latest: dict[tuple[str, str], Checked] = {}
    for checked in view.checks:
        serves = (checked.measurement.target, checked.node) in answered
        if serves or last[checked.key] == (checked.attempt, checked.node):
            latest[checked.key, checked.node] = checked
    return list(latest.values())


def preflight_findings(view: RunView) -> list[Finding]:
    """All findings of the preflight: per node, between a target's nodes, against the reference, and what is missing."""
    checks = counting_checks(view)
    accepted = view.config.preflight.numerics
    drift = () if accepted is None else drift_findings(checks, accepted)
    return [*_own(checks), *_between(checks), *drift, *_unchecked(view)]


def _own(checks: Sequence[Checked]) -> Iterator[Finding]:
    for checked in checks:
        found = checked.measurement
        if found.result != "ok":
            severity: Severity = "red" if found.result == "stop" else "warn"
            yield Finding(
                code=_CODES[found.check], severity=severity, scope="target", target=found.target, key=checked.key,
                rule=_RULES[found.check], evidence=found.evidence,
                advice=f"{checked.node}: {found.words}. {_sentence(_ADVICE[found.check])}",
            )  # fmt: skip


def _between(checks: Sequence[Checked]) -> Iterator[Finding]:
    """Each target's first node against the others, check by check; every pair would say the same thing many times."""
    groups: dict[tuple[str, str, str], list[Checked]] = {}
    for checked in checks:
        found = checked.measurement
        groups.setdefault((found.target, found.check, found.route), []).append(checked)
    for members in groups.values():
        for one, other in combinations(members, 2):
            if one is members[0] and one.node != other.node:
                yield from _pair(one, other)


def _pair(one: Checked, other: Checked) -> Iterator[Finding]:
    a, b = one.measurement, other.measurement
    match a.check:
        case "numerics":
            yield from _numerics(one, other)
        case "agreement":
            yield from _agreement(one, other)
        case "prompt":
            pairs = [(x, y) for x, y in zip(a.prompt_tokens, b.prompt_tokens, strict=False) if x and y]
            if num := sum(x != y for x, y in pairs):
                x, y = next((x, y) for x, y in pairs if x != y)
                yield _finding(
                    ("prompt_format", "red"), one, other,
                    "every node of a target counts the same tokens in the same prompt",
                    {"num_prompts": len(pairs), "num_differing": num, "first_tokens": x, "other_tokens": y},
                    "the nodes do not use the same chat template, or one adds a system prompt: compare their flags "
                    "and the model folders",
                )  # fmt: skip
        case _:
            pass


def _numerics(one: Checked, other: Checked) -> Iterator[Finding]:
    gap = difference(one.measurement.texts, other.measurement.texts)
    if gap is None and one.measurement.texts and other.measurement.texts:
        yield _finding(
            ("numerics_differ", "red"), one, other, "every node of a target reads the same text as the same tokens",
            {"num_texts": len(one.measurement.texts)},
            "the nodes have other tokenizers: compare the model folders",
        )  # fmt: skip
    if gap is None or not gap.too_large:
        return
    yield _finding(
        ("numerics_differ", "red"), one, other,
        f"log-probabilities of the same texts differ by at most {MEAN_DLOGP:g} in the mean between nodes of a target, "
        f"and at most {FLIPPED_FRACTION:.0%} of the most probable tokens are others",
        gap.evidence,
        "one of them computes something else: compare the weights (checksums), dtype and quantization, the kernels "
        "that each server chose, and the health of its GPUs",
    )  # fmt: skip


def _agreement(one: Checked, other: Checked) -> Iterator[Finding]:
    pairs = [(a, b) for a, b in zip(one.measurement.replies, other.measurement.replies, strict=False) if a or b]
    if not pairs:
        return
    shares = [_common(a, b) for a, b in pairs]
    share = sum(shares) / len(shares)
    if share >= AGREEMENT_FRACTION:
        return
    yield _finding(
        ("nodes_disagree", "warn"), one, other,
        f"nodes of a target have {AGREEMENT_FRACTION:.0%} of the first tokens of their greedy replies in common",
        {"agreement_fraction": share, "num_questions": len(pairs)},
        "greedy replies of the same weights part at near ties only: compare the flags of the two servers, and look "
        "at the findings about prompts and numerics",
    )  # fmt: skip


def _common(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of the longer reply that both begin with."""
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same / max(len(one), len(other))


def _finding(
    named: tuple[str, Severity], one: Checked, other: Checked, rule: str, evidence: dict[str, float], advice: str
) -> Finding:
    code, severity = named
    return Finding(
        code=code, severity=severity, scope="target", target=one.measurement.target, key=other.key, rule=rule,
        evidence=evidence, advice=f"{one.node} and {other.node}: {advice}",
    )  # fmt: skip


def _unchecked(view: RunView) -> Iterator[Finding]:
    """Nodes that answered samples although a check of theirs never came back."""
    planned: dict[str, set[tuple[str, str]]] = {}
    for unit in view.planned_checks.values():
        planned.setdefault(unit.target, set()).add((unit.check, unit.route))
    made: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for checked in view.checks:
        found = checked.measurement
        made.setdefault((found.target, checked.node), set()).add((found.check, found.route))
    answered = dict.fromkeys((view.samples[key].target, node) for key, node in view.sample_nodes.items())
    for target, node in answered:
        missing = planned.get(target, set()) - made.get((target, node), set())
        if missing:
            names = ", ".join(sorted({name for name, _ in missing}))
            yield Finding(
                code="unchecked", severity="warn", scope="target", target=target,
                rule="every node is checked before it answers samples",
                evidence={"num_checks_missing": len(missing)},
                advice=f"{node}: these checks could not be made: {names}; see the failures in the ledger",
            )  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

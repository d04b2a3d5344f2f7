"""Checks that all samples of an eval came from one and the same thing: nodes, prompts, repeats, places."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from raybench.records import Finding, Severity
from raybench.stats.strata import group_effects, trend_p
from raybench.validity.accuracy import ScoredEval, eval_finding

NODE_WARN_P, NODE_RED_P = 0.01, 0.001
POSITION_P = 0.01
TREND_P = 0.001


def drift_findings(scored: ScoredEval) -> list[Finding]:
    """Findings about one eval on one target."""
    found = (_prompt_tokens(scored), _node_low(scored), _repeats_drift(scored), _position_bias(scored))
    return [finding for finding in found if finding is not None]


def between_targets(scored: Sequence[ScoredEval]) -> list[Finding]:
    """Findings about one eval on its targets, each sound by itself: were they asked the same?"""
    lengths: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for one in scored:
        for prompt, _, tokens in _prompts(one):
            lengths[prompt][one.target].add(tokens)
    shared = [by_target for by_target in lengths.values() if len(by_target) > 1]
    differing = [by_target for by_target in shared if len(set[int]().union(*by_target.values())) > 1]
    if not differing:
        return []
    first = scored[0]
    rule = "every target counts the same tokens in the same prompt"
    evidence: dict[str, float] = {"num_differing": len(differing), "num_prompts": len(shared)}
    for target in sorted(differing[0]):
        evidence[f"prompt_tokens_{target}"] = max(differing[0][target])
    advice = (
        "the targets do not read the same prompt: compare their chat templates and tokenizers, and look for a system "
        "prompt that one server adds"
    )
    found = eval_finding(first, ("prompt_tokens_differ_between_targets", "warn"), rule, evidence, advice)
    return [found.model_copy(update={"scope": "run", "target": None})]


def _prompts(scored: ScoredEval) -> Iterable[tuple[str, str, int]]:
    """(prompt hash, node, tokens) of every sample whose server counted."""
    for sample in scored.samples:
        if sample.prompt_tokens is not None and scored.outcomes[sample.question, sample.repeat] != "errored":
            yield sample.prompt_sha256, scored.nodes[sample.question, sample.repeat], sample.prompt_tokens


def _prompt_tokens(scored: ScoredEval) -> Finding | None:
    lengths: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for prompt, node, tokens in _prompts(scored):
        lengths[prompt].append((tokens, node))
    differing = [counts for counts in lengths.values() if len({tokens for tokens, _ in counts}) > 1]
    if not differing:
        return None
    # Most samples are asked as they should be: the length that is rarer is the odd one.
    odd: dict[str, int] = defaultdict(int)
    for counts in differing:
        tokens = [length for length, _ in counts]
        usual = max(sorted(set(tokens)), key=tokens.count)
        for length, node in counts:
            odd[node] += length != usual
    worst = max(sorted(odd), key=lambda node: odd[node])
    extra = max(max(t for t, _ in counts) - min(t for t, _ in counts) for counts in differing)
    rule = "the same prompt has the same number of tokens on every node and in every repeat"
    evidence: dict[str, float] = {
        "num_differing": len(differing), "num_prompts": len(lengths), "largest_difference_tokens": extra
    }  # fmt: skip
    advice = (
        f"the servers do not render one prompt alike, {worst} most often unlike the others: look for a system prompt "
        "that a server adds, another chat template, or another tokenizer"
    )
    return eval_finding(scored, ("prompt_tokens_differ", "red"), rule, evidence, advice)


def _marks(scored: ScoredEval) -> Iterable[tuple[tuple[str, int], bool]]:
    return ((item, outcome == "correct") for item, outcome in scored.outcomes.items() if outcome != "errored")


def _node_low(scored: ScoredEval) -> Finding | None:
    effects = group_effects((item[0], scored.nodes[item], right) for item, right in _marks(scored))
    low = [effect for effect in effects if effect.p_value < NODE_WARN_P and effect.share < effect.expected]
    if not low:
        return None
    node = low[0]
    severity: Severity = "red" if node.p_value < NODE_RED_P else "warn"
    rule = (
        f"no node is right more seldom than the others on the same questions (stratified, p at least {NODE_WARN_P:g})"
    )
    evidence = {
        "share": node.share, "expected_share": node.expected, "num_samples": float(node.num), "p_value": node.p_value
    }  # fmt: skip
    advice = (
        f"node {node.group} answers worse than the others: check its GPUs, its image and its flags, and leave it out"
    )
    return eval_finding(scored, ("node_low", severity), rule, evidence, advice)


def _repeats_drift(scored: ScoredEval) -> Finding | None:
    trend = trend_p((item[0], item[1], right) for item, right in _marks(scored))
    if trend is None or trend[1] >= TREND_P:
        return None
    rule = f"later repeats are right as often as earlier ones (trend within questions, p at least {TREND_P:g})"
    evidence = {"change_per_repeat": trend[0], "p_value": trend[1]}
    advice = (
        "the engine changed while it ran: split the run by time, look for restarts, a throttled GPU or a new version"
    )
    return eval_finding(scored, ("repeats_drift", "warn"), rule, evidence, advice)


def _position_bias(scored: ScoredEval) -> Finding | None:
    if scored.evaluation.answer_form != "letter":
        return None
    gold = {(sample.question, sample.repeat): sample.gold for sample in scored.samples}
    effects = group_effects((item[0], gold[item], right) for item, right in _marks(scored))
    if not effects or effects[0].p_value >= POSITION_P:
        return None
    rule = f"a question is answered alike wherever its right option stands (stratified, p at least {POSITION_P:g})"
    evidence: dict[str, float] = {
        f"share_{effect.group}": effect.share for effect in sorted(effects, key=lambda e: e.group)
    }
    evidence["p_value"] = effects[0].p_value
    advice = "the place of the right option decides: the model guesses by place, or letters are misread"
    return eval_finding(scored, ("position_bias", "warn"), rule, evidence, advice)

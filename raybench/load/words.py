"""A load point in words, and as numbers for evidence. Pure."""

from raybench.records.loads import (
    MAX_TOKENS,
    ClosedLoad,
    EmpiricalLength,
    Lengths,
    LimitedLength,
    LogNormalLength,
    NormalLength,
    OpenLoad,
    RampLoad,
    ServingLoad,
    SessionsLoad,
    TraceLoad,
    UniformLength,
)


def point_words(load: ServingLoad) -> str:
    """What tells a point from the others of its sweep: `concurrency 16`, `2.5 req/s`."""
    match load:
        case ClosedLoad() | SessionsLoad():
            return f"concurrency {load.concurrency}"
        case OpenLoad():
            return f"{load.rate_per_s:g} req/s"
        case RampLoad():
            return f"{load.start_rate_per_s:g} to {load.end_rate_per_s:g} req/s"
        case TraceLoad():
            return f"speed {load.speed:g}"


def point_numbers(load: ServingLoad) -> dict[str, float]:
    """The same as evidence of a finding."""
    match load:
        case ClosedLoad() | SessionsLoad():
            return {"concurrency": float(load.concurrency)}
        case OpenLoad():
            return {"rate_per_s": load.rate_per_s}
        case RampLoad():
            return {"end_rate_per_s": load.end_rate_per_s}
        case TraceLoad():
            return {"speed": load.speed}


def point_value(load: ServingLoad) -> float:
    """The one number that tells a point from the others of its sweep."""
    return next(iter(point_numbers(load).values()))


def load_words(load: ServingLoad) -> str:
    """What all points of a sweep have in common: `closed loop, 1,024 tokens in + 8,192 shared, 128 out`."""
    match load:
        case ClosedLoad():
            return f"closed loop, {_requests(load, f' ±{load.jitter_fraction:.0%}' if load.jitter_fraction else '')}"
        case OpenLoad():
            bursts = f" {load.burstiness:g}" if load.arrivals == "gamma" else ""
            return f"{load.arrivals}{bursts} arrivals, {_requests(load)}"
        case RampLoad():
            return f"ramp of {load.duration_s:g} s, {_sizes(load.input_tokens, load.output_tokens)}"
        case TraceLoad():
            return f"{len(load.at_s):,} requests of {load.name}"
        case SessionsLoad():
            parts = [f"conversations of {length_words(load.turns)} turns"]
            if load.system_tokens:
                parts.append(f"{load.system_tokens:,} tokens of system prompt")
            parts.append(f"each adds {length_words(load.input_tokens)} tokens, {length_words(load.output_tokens)} out")
            if load.think_s:
                parts.append(f"{load.think_s:g} s to think")
            return ", ".join(parts)


def length_words(lengths: Lengths, spread: str = "") -> str:
    """A length: `1,024`, `512 to 2,048`, `about 900 (normal, deviation 100, at most 4,096)`."""
    match lengths:
        case int():
            return f"{lengths:,}{spread}"
        case UniformLength():
            return f"{lengths.min:,} to {lengths.max:,}"
        case NormalLength():
            return f"about {lengths.mean:,.0f} (normal, deviation {lengths.deviation:,g}{_limits(lengths)})"
        case LogNormalLength():
            return f"about {lengths.median:,.0f} (log-normal, sigma {lengths.sigma:g}{_limits(lengths)})"
        case EmpiricalLength():
            return f"{min(lengths.values):,} to {max(lengths.values):,} (observed)"


def _limits(lengths: LimitedLength) -> str:
    low = f", at least {lengths.min:,}" if lengths.min > 1 else ""
    return low + (f", at most {lengths.max:,}" if lengths.max < MAX_TOKENS else "")


def _requests(load: ClosedLoad | OpenLoad, spread: str = "") -> str:
    if load.texts:
        inputs = f"{len(load.texts):,} texts in"
    else:
        inputs = f"{length_words(load.input_tokens, spread)} tokens in"
        if load.prefix is not None:
            groups = f" in {load.prefix.groups:,} groups" if load.prefix.groups > 1 else ""
            inputs += f" + {load.prefix.tokens:,} shared{groups}"
    return f"{inputs}, {length_words(load.output_tokens, spread)} out"


def _sizes(inputs: Lengths, outputs: Lengths) -> str:
    return f"{length_words(inputs)} tokens in, {length_words(outputs)} out"

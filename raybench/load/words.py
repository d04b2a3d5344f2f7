"""A load point in words, and as numbers for evidence. Pure."""

from raybench.records.loads import (
    ClosedLoad,
    EmpiricalLength,
    Lengths,
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
    """What all points of a sweep have in common: `closed loop, 1,024 tokens in, 128 out`."""
    match load:
        case ClosedLoad():
            spread = f" ±{load.jitter_fraction:.0%}" if load.jitter_fraction else ""
            return f"closed loop, {_sizes(load.input_tokens, load.output_tokens, spread)}"
        case OpenLoad():
            bursts = f" {load.burstiness:g}" if load.arrivals == "gamma" else ""
            return f"{load.arrivals}{bursts} arrivals, {_sizes(load.input_tokens, load.output_tokens)}"
        case RampLoad():
            return f"ramp of {load.duration_s:g} s, {_sizes(load.input_tokens, load.output_tokens)}"
        case TraceLoad():
            return f"{len(load.at_s):,} requests of {load.name}"
        case SessionsLoad():
            turns, added = length_words(load.turns), length_words(load.input_tokens)
            return f"conversations of {turns} turns, each adds {added} tokens"


def length_words(lengths: Lengths, spread: str = "") -> str:
    """A length: `1,024`, `512 to 2,048`, `about 900`."""
    match lengths:
        case int():
            return f"{lengths:,}{spread}"
        case UniformLength():
            return f"{lengths.min:,} to {lengths.max:,}"
        case NormalLength():
            return f"about {lengths.mean:,.0f}"
        case LogNormalLength():
            return f"about {lengths.median:,.0f} (log-normal)"
        case EmpiricalLength():
            return f"{min(lengths.values):,} to {max(lengths.values):,} (observed)"


def _sizes(inputs: Lengths, outputs: Lengths, spread: str = "") -> str:
    return f"{length_words(inputs, spread)} tokens in, {length_words(outputs, spread)} out"

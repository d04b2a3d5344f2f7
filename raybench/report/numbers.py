"""How numbers are written on every page: as many digits as repeats can show, and a dash for what was not measured."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from raybench.report.model import Spread
from raybench.stats.compare import Ratio

NONE = "-"

Writer = Callable[[float | None], str]
"""Writes one number."""


def seconds(value: float | None) -> str:
    """Seconds, three digits that count."""
    return _digits(value, 3)


def milliseconds(value_s: float | None) -> str:
    """Seconds, written in milliseconds."""
    if value_s is None:
        return NONE
    value_ms = value_s * 1000
    return f"{value_ms:,.0f}" if value_ms >= 100 else f"{value_ms:.1f}"


def itl(value_ms: float | None) -> str:
    """Milliseconds per token."""
    return NONE if value_ms is None else f"{value_ms:.2f}"


def rate(value: float | None) -> str:
    """Tokens per second."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if round(value, 1) >= 1000 else f"{value:.1f}"


def moment(unix_s: float) -> str:
    """A wall clock, in UTC, to the minute."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def price(value: float | None) -> str:
    """Price per million tokens."""
    return NONE if value is None else f"{value:,.3f}" if value < 10 else f"{value:,.2f}"


def watts(value: float | None) -> str:
    """Power."""
    return NONE if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A fraction as a score: three decimals."""
    return NONE if value is None else f"{value:.3f}"


def score(value: float | None) -> str:
    """A share of right answers, in percent."""
    return NONE if value is None else f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of two shares, in percentage points, with its sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def p_value(value: float) -> str:
    """A p-value: three decimals, two above .1."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def percent(numerator: int, denominator: int) -> str:
    """A count as a share of another."""
    return NONE if denominator == 0 else f"{100 * numerator / denominator:.1f}%"


def times(value: Ratio | None, *, with_range: bool = True) -> str:
    """A ratio, with the range that the repeats allow; without it, a `~` marks one whose range holds 1.

    A ratio of two single passes has no range and no mark: see `unmarked_note`.
    """
    if value is None:
        return NONE
    if with_range and value.low != value.high:
        return f"{value.ratio:.2f}x ({value.low:.2f}..{value.high:.2f})"
    return f"{'~' if overlaps(value) and not with_range else ''}{value.ratio:.2f}x"


def overlaps(value: Ratio | None) -> bool | None:
    """True if the repeats of the two sides overlap, so that they show no difference. None = there are no repeats that
    could: single passes on both sides."""
    if value is None or value.num_a == value.num_b == 1:
        return None
    return value.low < 1 < value.high


def unmarked_note(ratios: Iterable[Ratio | None]) -> str:
    """What a page says beside its `~` where some ratios could have none, so that its absence is no finding."""
    single = any(ratio is not None and overlaps(ratio) is None for ratio in ratios)
    return " Single passes have no range, so that none of them is marked." if single else ""


def half_range(value: Spread | None) -> str:
    """Half of the distance between the ends, as a share of the median; a dash for a single repeat."""
    if value is None or value.num < 2 or value.median == 0:
        return NONE
    return f"±{50 * (value.max - value.min) / value.median:.1f}%"


def ends(low: str, high: str) -> str:
    """Two ends of a range, or the one value that both are."""
    return low if low == high else f"{low}..{high}"


def evidence(value: float) -> str:
    """A number of a finding: whole numbers whole, others with four digits that count."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _digits(value: float | None, num: int) -> str:
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.{max(num - 2, 0)}f}"
    return f"{value:.{num - 1}f}" if value >= 1 else f"{value:.{num}f}"

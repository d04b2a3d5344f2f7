"""Log-probabilities of the same texts on two servers: how far apart, how far is too far, and a stored reference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raybench.config.reference import NumericsReference
from raybench.ledger.view import Checked
from raybench.records import Finding, TeacherForced

MEAN_DLOGP = 0.06
"""Mean |difference of log-probabilities| that two servers of one target stay below.

Measured with the tiny model on CPU: two bfloat16 servers 0 in all 3,910 tokens, bfloat16 against float32 of the same
weights 0.034, weights perturbed by 0.1% 0.032 and by 1% 0.124. Kernels that change with the batch lie below a change of
dtype; no GPU has been measured.
"""
FLIPPED_FRACTION = 0.03
"""Share of places at which the most probable token may be another one: 0, 1.4%, 0.8% and 4.1% in these measurements."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Log-probabilities of the same texts on two servers."""

    mean_dlogp: float
    """Mean of |difference| over all tokens."""
    max_dlogp: float
    """Largest |difference|."""
    flipped_fraction: float
    """Share of places at which another token is the most probable one."""
    num_tokens: int

    @property
    def evidence(self) -> dict[str, float]:
        """The numbers, by name."""
        return {
            "mean_dlogp": self.mean_dlogp, "max_dlogp": self.max_dlogp, "flipped_fraction": self.flipped_fraction,
            "num_tokens": self.num_tokens,
        }  # fmt: skip

    @property
    def too_large(self) -> bool:
        """True if the servers do not compute the same."""
        return self.mean_dlogp > MEAN_DLOGP or self.flipped_fraction > FLIPPED_FRACTION


def difference(one: Sequence[TeacherForced], other: Sequence[TeacherForced]) -> Difference | None:
    """The texts of two servers held side by side; None where none has the same tokens on both."""
    pairs = [
        (a, b)
        for a, b in zip(one, other, strict=False)
        if a.tokens_sha256 == b.tokens_sha256 and len(a.logprobs) == len(b.logprobs)
    ]
    gaps = [abs(x - y) for a, b in pairs for x, y in zip(a.logprobs, b.logprobs, strict=True)]
    if not gaps:
        return None
    return Difference(sum(gaps) / len(gaps), max(gaps), _flipped(pairs), len(gaps))


def _flipped(pairs: Sequence[tuple[TeacherForced, TeacherForced]]) -> float:
    places = [(x, y) for a, b in pairs for x, y in zip(a.top_ids, b.top_ids, strict=False)]
    return sum(x != y for x, y in places) / len(places) if places else 0.0


def drift_findings(checks: Sequence[Checked], reference: NumericsReference) -> Iterator[Finding]:
    """Each node against the stored log-probabilities of an accepted server.

    A warning, for what differs may be meant: another quantization does by design, and whether it costs accuracy is for
    the evals to say. Beside a gate that failed, this is what names the cause.
    """
    for checked in checks:
        texts = checked.measurement.texts
        if checked.measurement.check != "numerics" or not texts:
            continue
        gap = difference(reference.texts, texts)
        if gap is not None and not gap.too_large:
            continue
        seen = "reads the same texts as other tokens" if gap is None else "gives the same texts other log-probabilities"
        yield Finding(
            code="numerics_drift", severity="warn", scope="target", target=checked.measurement.target, key=checked.key,
            rule=(
                f"log-probabilities differ by at most {MEAN_DLOGP:g} in the mean from the reference's, and at most "
                f"{FLIPPED_FRACTION:.0%} of the most probable tokens are others"
            ),
            evidence={"num_texts": len(texts)} if gap is None else gap.evidence,
            advice=(
                f"{checked.node} {seen} than the reference did ({_named(reference)}): compare weights, quantization, "
                "dtype, KV cache and kernels with it; after a wanted change, save a new reference"
            ),
        )  # fmt: skip


def _named(reference: NumericsReference) -> str:
    engine = f"{reference.engine} {reference.engine_version or ''}".strip()
    return f"{reference.model}, {engine}, {reference.accelerator}, {reference.date}"

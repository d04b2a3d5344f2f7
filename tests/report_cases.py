"""The runs whose reports are kept as golden files."""

import io
from collections.abc import Callable

from ledger_builder import LedgerBuilder, config, simulated_targets, whole_ledger
from load_ledgers import serving_ledger
from rich.console import Console

from raybench.records import EngineFacts, Failure, PerfMeasurement, PerfUnit, SampleRecord
from raybench.report.model import Report
from raybench.report.terminal import print_report


def _bad_passes(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
    if unit.key == "alpha-static-b1-r0-l0":
        measured = result.measured.model_copy(update={"min_output_tokens": 3})
        return result.model_copy(update={"measured": measured})
    if unit.load.batch_size == 4:
        return result.model_copy(update={"flat": False})
    return result


def _cut_replies(sample: SampleRecord) -> SampleRecord:
    return sample.model_copy(update={"finish_reason": "length"} if sample.question in ("q001", "q005") else {})


def _own_kernels(facts: EngineFacts) -> EngineFacts:
    if facts.target == "alpha":
        return facts
    args = facts.resolved_args | {"attention_backend": "trtllm_mha", "chunked_prefill_size": 16384}
    return facts.model_copy(update={"resolved_args": args})


def invalid_and_incomplete() -> LedgerBuilder:
    """Red findings, warnings, a missing block, a retried unit and a second session."""
    lost = "beta-sums-1"
    builder = whole_ledger(perf=_bad_passes, sample=_cut_replies, engine=_own_kernels, skip=lambda key: key == lost)
    builder.failed(
        "alpha-static-b16-r0-l0", Failure(cause="engine_died", message="the server ended with signal 9\ntail")
    )
    unit = next(u for u in builder.plan.units if u.key == "alpha-static-b16-r0-l0")
    assert isinstance(unit, PerfUnit)
    builder.perf_done(unit, "n0.0", attempt=3)
    builder.failed(
        lost, Failure(cause="node_lost", message="the machine is gone", given_up=True), attempt=4, start="n1.0"
    )
    builder.session(1)
    return builder


def simulated_study() -> LedgerBuilder:
    """Simulated targets of the published study's shape."""
    settings = config(
        targets=simulated_targets(), engine={}, model={"path": "qwen3-235b-a22b-fp8"},
        perf=[{"name": "static", "batch_sizes": [1, 2, 64], "input_tokens": 4096, "output_tokens": 512, "repeats": 1}],
        evals=[{"name": "aime25", "rows": "synthetic", "sampling": {"temperature": 0.7, "max_tokens": 64}, "repeats": 2,
                "baseline": 0.703}],
    )  # fmt: skip
    return whole_ledger(settings)


def serving_study() -> LedgerBuilder:
    """Users, rates and a search on two targets, one of them with untuned kernels."""

    def untuned(facts: EngineFacts) -> EngineFacts:
        names = ("E=128,N=1536,device_name=NVIDIA_H200.json",) if facts.target == "alpha" else ()
        return facts.model_copy(update={"untuned_kernels": names})

    return serving_ledger(engine=untuned)


CASES: dict[str, Callable[[], LedgerBuilder]] = {
    "golden": whole_ledger,
    "golden_invalid": invalid_and_incomplete,
    "golden_simulated": simulated_study,
    "golden_serving": serving_study,
}


def terminal_text(report: Report, width: int) -> str:
    """What a plain terminal of that width shows."""
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, force_terminal=False, color_system=None))
    return out.getvalue()

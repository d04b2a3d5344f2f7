"""Everything that crosses a process, a machine or the disk: units, facts, measurements, samples, findings.

Invariant: a record says what was observed and nothing that could be derived later. Outcomes and scores are derived by
`raybench.evals` and `raybench.stats` when a ledger is read, so a better grader re-scores an old run. None always means
"not measured"; a NaN is never written.
"""

from raybench.records.base import Record, content_hash
from raybench.records.facts import EngineFacts, GpuFacts, MemoryUsage, NodeFacts, StartUpPhase, Stranger
from raybench.records.findings import Finding, Severity
from raybench.records.lines import LEDGER_VERSION, Kind, LedgerRecord
from raybench.records.measurements import (
    AnyMeasurement,
    Cause,
    CheckMeasurement,
    EvalMeasurement,
    Failure,
    Measurement,
    Outcome,
    Pass,
    PerfMeasurement,
    RequestRow,
    SampleRecord,
    Sign,
    TeacherForced,
)
from raybench.records.serving import LoadMeasurement
from raybench.records.telemetry import GpuSummary
from raybench.records.units import (
    AnyUnit,
    Check,
    CheckUnit,
    EvalUnit,
    LoadRoute,
    LoadUnit,
    Message,
    OneBatchLoad,
    PerfUnit,
    Plan,
    Probe,
    ReplyBudget,
    Route,
    RuleSpec,
    SampleSpec,
    Sampling,
    Timed,
    Unit,
    WarmUp,
    bare_text,
    prompt_hash,
)

__all__ = [
    "LEDGER_VERSION",
    "AnyMeasurement",
    "AnyUnit",
    "Cause",
    "Check",
    "CheckMeasurement",
    "CheckUnit",
    "EngineFacts",
    "EvalMeasurement",
    "EvalUnit",
    "Failure",
    "Finding",
    "GpuFacts",
    "GpuSummary",
    "Kind",
    "LedgerRecord",
    "LoadMeasurement",
    "LoadRoute",
    "LoadUnit",
    "Measurement",
    "MemoryUsage",
    "Message",
    "NodeFacts",
    "OneBatchLoad",
    "Outcome",
    "Pass",
    "PerfMeasurement",
    "PerfUnit",
    "Plan",
    "Probe",
    "Record",
    "ReplyBudget",
    "RequestRow",
    "Route",
    "RuleSpec",
    "SampleRecord",
    "SampleSpec",
    "Sampling",
    "Severity",
    "Sign",
    "StartUpPhase",
    "Stranger",
    "TeacherForced",
    "Timed",
    "Unit",
    "WarmUp",
    "bare_text",
    "content_hash",
    "prompt_hash",
]

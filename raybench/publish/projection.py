"""The run folder as others may see it: ledger, configuration, report, without host, path, command line, environment.

Every field that is sent is named here; a field that is added to a record stays at home until it is added here.
"""

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from raybench.config.publish import ShareSamples
from raybench.ledger.view import RunView
from raybench.publish.content import Attachment
from raybench.publish.privacy import clean, clean_texts, clean_value
from raybench.publish.samples import settings_named, sharing, text_hash
from raybench.publish.shared_config import shared_config
from raybench.publish.tables import trimmed
from raybench.publish.targets import Source
from raybench.records import Kind, LedgerRecord
from raybench.report.markdown import render
from raybench.report.model import FailureRow, Report

SENT: Mapping[Kind, tuple[str, ...]] = {
    "run": (
        "run_id", "session", "config_digest", "raybench_version", "ray_version", "python_version",
    ),
    "plan": ("digest",),
    "node": ("node", "accelerator", "driver_version", "cpu_model", "num_cpus", "memory_bytes", "python_version",
             "ray_version", "raybench_version", "load_average_1m"),
    "engine": ("engine", "target", "launch", "start", "version", "interpreter", "model_revision", "resolved_args",
               "startup", "memory", "max_total_tokens", "context_tokens", "vocab_tokens", "adopted_from", "simulated",
               "time_scale"),
    "unit_started": ("target", "kind"),
    "unit_done": ("kind", "measured", "warm_up", "flat", "started_unix_s", "duration_s", "engines_on_host",
                  "client_cpu_fraction", "client_threads", "load_average_1m", "gpus", "rows_sha256", "simulated",
                  "num_samples", "figures", "client", "server", "streams", "drained", "flush_status",
                  "stopped_early"),
    "unit_failed": ("cause", "given_up"),
    "sample": ("key", "unit", "target", "eval", "repeat", "status", "finish_reason", "prompt_tokens", "output_tokens",
               "cached_tokens", "prompt_sha256", "seed", "sent_unix_s", "duration_s", "num_transport_retries",
               "resent_after_s"),
    "decision": ("what", "numbers"),
    "calibration": ("client_version", "num_cpus", "ttft_s", "itl_s", "output_tokens", "route", "points",
                    "started_unix_s", "duration_s"),
}  # fmt: skip
"""Fields of the body by kind of record."""

_SAMPLE_CONTENT = ("question", "gold", "letter_order")
"""Fields of a sample that `share_samples: full` adds."""
_DROPPED = ("error", "message")
"""Free text of engines and libraries, at any depth: it quotes paths and command lines."""


def attachments(source: Source, share: ShareSamples, *, several: bool = False) -> tuple[Attachment, ...]:
    """Files of the artifact: ledger, resolved configuration, report; each folder's own where there are several."""
    inside = f"{source.sweep}/" if several else ""
    report = shared_report(source.report)
    config = shared_config(source.view.config)
    return (
        Attachment(f"{inside}ledger.jsonl", b"".join(_lines(source, share))),
        Attachment(f"{inside}config.json", json.dumps(config, indent=1).encode()),
        Attachment(f"{inside}report.json", report.model_dump_json(indent=1).encode()),
        Attachment(f"{inside}report.md", render(report).encode()),
    )


def shared_report(report: Report) -> Report:
    """The report without free text of others, environment and command lines."""
    targets = tuple(
        target.model_copy(
            update={
                "env": {},
                "args": _mapping(target.args),
                "resolved_args": _mapping(target.resolved_args),
                "failures": tuple(_failure(failure) for failure in target.failures),
            }
        )
        for target in report.targets
    )
    made = report.provenance
    sessions = tuple(s.model_copy(update={"cluster": "", "command": s.command[:2]}) for s in made.sessions)
    provenance = made.model_copy(
        update={"model": str(clean_value(made.model)), "sessions": sessions, "end": made.end and clean(made.end)}
    )
    shared = report.model_copy(update={"targets": targets, "provenance": provenance})
    # Words of checks and advice of findings are ours, but they may quote what an engine or a library said.
    return Report.model_validate(clean_texts(shared.model_dump(mode="json")))


def _failure(failure: FailureRow) -> FailureRow:
    return failure.model_copy(update={"message": ""})


def _mapping(values: Mapping[str, object]) -> JsonValue:
    return clean_value(json.loads(json.dumps(dict(values))))


def _lines(source: Source, share: ShareSamples) -> Iterator[bytes]:
    for record in source.records:
        body = _body(record, source.view, share)
        if body is None:
            continue
        line = {
            "seq": record.seq, "t": record.t, "kind": record.kind, "key": record.key, "attempt": record.attempt,
            "node": record.node, "launch": record.launch, "body": body,
        }  # fmt: skip
        yield json.dumps({name: value for name, value in line.items() if value is not None}).encode() + b"\n"


def _body(record: LedgerRecord, view: RunView, share: ShareSamples) -> dict[str, JsonValue] | None:
    """What is sent of a record; None = the record itself stays at home."""
    body: dict[str, JsonValue] = {name: record.body[name] for name in SENT[record.kind] if name in record.body}
    if record.kind == "plan":
        body["units"] = [{"key": unit.key, "target": unit.target, "kind": unit.kind} for unit in view.units.values()]
    if record.kind == "node":
        gpus = record.body.get("gpus")
        body["gpus"] = [_gpu(gpu) for gpu in gpus] if isinstance(gpus, list) else []
    if record.kind == "sample":
        mode = sharing(settings_named(view.config.evals, str(record.body["eval"])), share)
        if mode == "none":
            return None
        reply = record.body.get("reply")
        body["question_hash"] = text_hash(str(record.body["question"]))
        body["reply_hash"] = text_hash(reply) if isinstance(reply, str) else None
        if mode == "full":
            body |= {name: record.body.get(name) for name in _SAMPLE_CONTENT}
            body["reply"] = trimmed(reply) if isinstance(reply, str) else None
    cleaned = clean_value(_without_free_text(body)) if record.kind != "sample" else _clean_sample(body)
    return cleaned if isinstance(cleaned, dict) else {}


def _clean_sample(body: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A sample's own texts: cleaned, but never cut to the last part of what looks like a path."""
    return {name: clean(value) if name in ("reply", "question") and isinstance(value, str) else value
            for name, value in body.items()}  # fmt: skip


def _gpu(gpu: JsonValue) -> JsonValue:
    """A GPU without its serial number."""
    return {name: value for name, value in gpu.items() if name != "uuid"} if isinstance(gpu, dict) else gpu


def _without_free_text(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {name: _without_free_text(each) for name, each in value.items() if name not in _DROPPED}
        case list():
            return [_without_free_text(each) for each in value]
        case _:
            return value

"""Reads a publication back from W&B's files or service. Only what is found there is published.

Exit codes, return values and markers of W&B say nothing: after a 401 `finish` is silent and `wandb sync` ends with 0.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import wandb
from wandb.errors import CommError

from raybench.errors import PublishError
from raybench.publish.content import Publication, RunContent, Scalar
from raybench.publish.names import RECORDS, ROW_AXES, ROW_IDENTITY
from raybench.publish.wandb_log import read_log

PATIENCE_S = 20.0
"""The service shows a run's last rows a moment after it took them."""
POLL_S = 1.0
API_TIMEOUT_S = 10
SAME_FRACTION = 1e-9
"""Two numbers this close are one: a service may write them anew."""


def artifact_name(run_id: str) -> str:
    """Name of a run's artifact."""
    return f"{run_id}-raw"


def check_logs(publication: Publication, folders: Mapping[str, Sequence[Path]]) -> None:
    """Hold the new offline folders against what was to be written. Raises PublishError."""
    for run in publication.runs:
        found = [path for folder in folders[run.id] for path in folder.glob("*.wandb")]
        if len(found) != 1:
            raise PublishError(f"W&B wrote {len(found)} offline logs of run {run.id}, not one.")
        try:
            log = read_log(found[0])
        except ValueError as error:
            raise PublishError(f"W&B's log {found[0].name} is not whole: {error}.") from error
        if log.exit_code is None:
            raise PublishError(f"W&B's log {found[0].name} has no end.")
        rows = [row for row in log.history if any(axis in row for axis in ROW_AXES)]
        tables = [table.name for table in run.tables if f"{table.name}/_type" not in log.summary]
        if run.attachments and artifact_name(run.id) not in log.artifacts:
            raise PublishError(f"W&B's log {found[0].name} holds no artifact.")
        _hold(run, log.summary.get(RECORDS), rows, tables)


def check_service(publication: Publication, where: str, digests: Mapping[str, str], base_url: str | None) -> None:
    """Ask the service for every run until it shows what was sent. Raises PublishError after some patience.

    `digests`: of the artifacts, by run.
    """
    overrides = {"base_url": base_url} if base_url else {}
    api = wandb.Api(overrides=overrides, timeout=API_TIMEOUT_S)
    deadline = time.monotonic() + PATIENCE_S
    for run in publication.runs:
        while True:
            try:
                _check_run(api, run, where)
                if run.id in digests:
                    _check_artifact(api, f"{where}/{artifact_name(run.id)}:latest", digests[run.id])
                break
            except PublishError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)


def _check_run(api: wandb.Api, run: RunContent, where: str) -> None:
    # Without the flush, a second look would give the first one's answer.
    api.flush()
    try:
        there = api.run(f"{where}/{run.id}")
    except (ValueError, CommError) as error:
        raise PublishError(f"W&B does not show run {run.id}: {error}") from error
    if there.state != "finished":
        raise PublishError(f"W&B shows run {run.id} as {there.state}, not as finished: not everything arrived.")
    summary = there.summary
    rows = [row for row in there.scan_history() if any(row.get(axis) is not None for axis in ROW_AXES)]
    tables = [table.name for table in run.tables if table.name not in summary]
    _hold(run, summary.get(RECORDS), rows, tables)


def _check_artifact(api: wandb.Api, name: str, digest: str) -> None:
    try:
        there = api.artifact(name).digest
    except (ValueError, CommError) as error:
        raise PublishError(f"W&B does not show the artifact {name}: {error}") from error
    if there != digest:
        raise PublishError(f"W&B shows another version of the artifact {name} than was sent: not everything arrived.")


def _hold(
    run: RunContent, records: object, rows: Sequence[Mapping[str, object]], missing_tables: Iterable[str]
) -> None:
    steps = [int(str(row["_step"])) for row in rows]
    if records != run.summary[RECORDS]:
        raise PublishError(
            f"W&B holds {records} ledger records of run {run.id}, not {run.summary[RECORDS]}: not everything arrived."
        )
    wanted = [row.step for row in run.history]
    if sorted(steps) != wanted:
        lost, others = sorted(set(wanted) - set(steps)), sorted(set(steps) - set(wanted))
        doubled = len(steps) - len(set(steps))
        raise PublishError(
            f"W&B holds other rows of run {run.id} than the ledger: {len(lost)} missing, {len(others)} foreign, "
            f"{doubled} doubled. Should that not pass, publish it anew under other ids: --attempt LABEL."
        )
    if other := _another_value(run, rows):
        raise PublishError(
            f"W&B holds another row of run {run.id} than the ledger: {other}. It has measurements of something else "
            "under this id; publish it anew under other ids: --attempt LABEL."
        )
    if absent := list(missing_tables):
        raise PublishError(f"W&B holds no table {', '.join(absent)} of run {run.id}: not everything arrived.")


def _another_value(run: RunContent, rows: Sequence[Mapping[str, object]]) -> str | None:
    """The first value that is not the ledger's, in words.

    Of a point that got a row before it was whole, the last row alone holds what the ledger says now. A value that is
    not there was added to rows by a later version, and W&B takes no row twice.
    """
    there = {int(str(row["_step"])): row for row in rows}
    latest = {tuple(row.values.get(name) for name in ROW_IDENTITY): row for row in run.history}
    for row in latest.values():
        for name, value in row.values.items():
            found = there[row.step].get(name)
            if found is not None and not _same(found, value):
                return f"{name} of step {row.step} is {found!r}, not {value!r}"
    return None


def _same(found: object, value: Scalar) -> bool:
    if isinstance(value, int | float) and isinstance(found, int | float):
        return math.isclose(found, value, rel_tol=SAME_FRACTION, abs_tol=SAME_FRACTION)
    return found == value

"""A run as a Ray job: submitted with what it needs, followed to its end, ended with the driver's own exit code.

`ray job submit` itself ends with 0 or 1, gives a stopped driver three seconds, and loses a log stream with the first
dropped connection.
"""

import asyncio
import json
import logging
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from raybench import process
from raybench.driver.fleet import CLOSE_TIMEOUT_S
from raybench.driver.run import DRAIN_LIMIT_S
from raybench.errors import EXIT_OK, EXIT_SIGTERM, ClusterError

STOP_GRACE_S = DRAIN_LIMIT_S + CLOSE_TIMEOUT_S + 60.0
"""Time that a stopped job's driver has: to drain, to close its nodes, and to write the report of what it has."""

AGENT_PATIENCE_S = 120.0
"""A head's job agent comes up after its dashboard; on a busy machine by a minute."""
SILENCE_LIMIT_S = 120.0
"""Time for which a job's server may not answer before it is given up. The job itself may go on."""
POLL_S = 2.0

GIT_LIMIT_S = 20.0

CHATTY = (
    "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging",
)  # fmt: skip
"""Loggers of Ray that tell of uploads and closed connections between the lines of the job."""

FAULTS = (RayError, OSError, RuntimeError, ValueError, LookupError, TypeError)
"""What Ray's client raises for a server that does not answer, wants a token, or is none: it takes the answer of
whatever listens there for JSON with the keys that it looks for."""


class JobClient(Protocol):
    """The part of Ray's client that is used here."""

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        """Submit; returns the id."""
        ...

    def get_job_info(self, job_id: str) -> Any:
        """Ray's JobDetails."""
        ...

    def get_job_logs(self, job_id: str) -> str:
        """The log so far."""
        ...

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """The log from its beginning, piece by piece, until the job ends."""
        ...


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A run to submit."""

    id: str
    """Submission id."""
    entrypoint: tuple[str, ...]
    """Command of the driver."""
    folder: Path
    """What becomes the working folder."""
    env: Mapping[str, str]
    """Variables that the driver and all nodes get. They can be read in the dashboard."""
    metadata: Mapping[str, str]
    stop_grace_s: float


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended."""

    exit_code: int
    words: str
    """One line for the user; names what Ray said where the driver had no last word."""


def client_at(address: str, env: Mapping[str, str]) -> JobSubmissionClient:
    """A client of the job server at http://HOST:PORT. Raises ClusterError.

    `env` is the environment, whose RAY_API_SERVER_ADDRESS and RAY_ADDRESS Ray puts above any argument.
    """
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        raise ClusterError(
            f"{address} is no address of a job server. Give --address http://HOST:8265, the dashboard's address; "
            "`ray dashboard cluster.yaml` forwards it to http://127.0.0.1:8265."
        )
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        if env.get(name) and env[name].rstrip("/") != address.rstrip("/"):
            raise ClusterError(
                f"{name} is set to {env[name]}, which Ray would use in place of {address}. Unset it, or give "
                f"--address {env[name]}."
            )
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise _refused(error) from error
    except FAULTS as error:
        raise ClusterError(
            f"no job server answers at {address}: {_reason(error)}. Give the dashboard's address (port 8265 "
            "by default; `ray dashboard cluster.yaml` forwards it). A head started without ray[default] has none."
        ) from error


def submit(client: JobClient, order: JobOrder, say: Callable[[str], None]) -> None:
    """Submit the job; tries again while the head has no agent for it yet. Raises ClusterError."""
    # The grace is read from the job's own environment; three seconds without it.
    env = {"RAY_JOB_STOP_WAIT_TIME_S": f"{order.stop_grace_s:.0f}"} | dict(order.env)
    runtime_env = {"working_dir": str(order.folder), "env_vars": env}
    limit_s = time.monotonic() + AGENT_PATIENCE_S
    told = False
    while True:
        try:
            client.submit_job(
                entrypoint=shlex.join(order.entrypoint), submission_id=order.id, runtime_env=runtime_env,
                metadata=dict(order.metadata),
            )  # fmt: skip
            return
        except AuthenticationError as error:
            raise _refused(error) from error
        except FAULTS as error:
            if "No available agent" not in str(error) or time.monotonic() > limit_s:
                reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
                raise ClusterError(f"the job was not accepted: {reason}") from error
        if not told:
            say("waiting for the head's job agent")
            told = True
        time.sleep(POLL_S)


async def follow(client: JobClient, job: str, write: Callable[[str], None], patience_s: float = SILENCE_LIMIT_S) -> Any:
    """Write the job's log as it comes until the job has ended; returns Ray's details of it.

    A lost connection is made again and the log goes on where it stopped. Raises ClusterError after `patience_s` without
    an answer, and at once where the server wants a token.
    """
    loop = asyncio.get_running_loop()
    num_written = 0
    heard_s = loop.time()
    while True:
        num_read = 0
        error: Exception | None = None
        async for piece in _pieces(client, job):
            if isinstance(piece, Exception):
                error = piece
                break
            # Every stream begins at the beginning of the log.
            if fresh := piece[max(num_written - num_read, 0) :]:
                write(fresh)
            num_read += len(piece)
            num_written = max(num_written, num_read)
            heard_s = loop.time()
        try:
            details = await asyncio.to_thread(client.get_job_info, job)
            heard_s = loop.time()
            if JobStatus(details.status).is_terminal() and error is None:
                return details
        except AuthenticationError as refusal:
            raise _refused(refusal) from refusal
        except FAULTS as lost:
            error = lost
        if loop.time() - heard_s > patience_s:
            raise ClusterError(
                f"the job server has not answered for {patience_s:.0f} s ({_reason(error)}). The job may "
                f"go on: look with raybench status {job} once the server is back."
            ) from error
        await asyncio.sleep(min(POLL_S, patience_s / 4))


async def _pieces(client: JobClient, job: str) -> AsyncIterator[str | Exception]:
    """The log piece by piece, and what ended it early; an error of whoever takes the pieces is none of the server's."""
    try:
        async for text in client.tail_job_logs(job):
            yield text
    except (OSError, RuntimeError, aiohttp.ClientError) as lost:
        yield lost


def end_of(details: Any) -> JobEnd:
    """Exit code and last word of a job that has ended."""
    status = JobStatus(details.status)
    code: int | None = details.driver_exit_code
    if status == JobStatus.SUCCEEDED:
        return JobEnd(EXIT_OK, "the job has ended")
    if status == JobStatus.STOPPED:
        return JobEnd(EXIT_SIGTERM, "the job was stopped")
    if code is None:
        # Ray never started the driver, or lost it with its machine.
        lines = str(details.message or "Ray does not say why").strip().splitlines()
        return JobEnd(ClusterError.exit_code, f"the job has failed without a word of its driver: {lines[0][:500]}")
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        return JobEnd(128 + number, f"the driver was ended by signal {number}; what it had measured is kept")
    return JobEnd(code, f"the driver has ended with {code}")


def provenance(folder: Path) -> dict[str, str]:
    """Commit of the repository that holds `folder`, and whether it has changes; empty outside of any."""
    env = process.child_environment({})
    try:
        code, sha = process.run(["git", "-C", str(folder), "rev-parse", "HEAD"], env=env, timeout_s=GIT_LIMIT_S)
        if code != 0:
            return {}
        words = ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"]
        code, changes = process.run(words, env=env, timeout_s=GIT_LIMIT_S)
    except OSError:
        return {}  # no git here
    return {"git_sha": sha.strip(), "git_changed": str(code == 0 and bool(changes.strip())).lower()}


@dataclass(frozen=True, slots=True)
class JobStanding:
    """Where a job stands."""

    ended: bool
    words: str
    """Lines for the user."""
    run_folder: str | None
    """On the cluster; None where the job was not submitted by raybench."""
    ended_s: float | None = None
    """Seconds since 1970 on the head's clock; None = not yet, or Ray does not say."""


def describe(client: JobClient, job: str) -> JobStanding:
    """Where a job stands. Raises ClusterError, also for an id that the cluster does not know."""
    try:
        details = client.get_job_info(job)
        state = JobStatus(details.status)
    except AuthenticationError as error:
        raise _refused(error) from error
    except FAULTS as error:
        if "404" in str(error) or "does not exist" in str(error):
            raise ClusterError(
                f"there is no folder and no job {job}. `ray job list --address ...` lists the jobs of a cluster."
            ) from error
        raise ClusterError(f"the job server does not answer: {_reason(error)}") from error
    words = [f"job {job}: {state.value}"]
    if state.is_terminal():
        end = end_of(details)
        words[0] += f", {end.words} (exit code {end.exit_code})"
    words.append(f"  {details.entrypoint}")
    metadata: Mapping[str, str] = details.metadata or {}
    if known := [f"{name} {metadata[name]}" for name in ("config_digest", "git_sha") if name in metadata]:
        words.append(f"  {', '.join(known)}")
    ended_s = details.end_time / 1000 if state.is_terminal() and details.end_time else None
    return JobStanding(state.is_terminal(), "\n".join(words), metadata.get("run_folder"), ended_s)


def log_end(client: JobClient, job: str, num_lines: int) -> list[str]:
    """The last lines of a job's log. Raises ClusterError."""
    try:
        return client.get_job_logs(job).splitlines()[-num_lines:]
    except AuthenticationError as error:
        raise _refused(error) from error
    except FAULTS as error:
        raise ClusterError(
            f"the job server does not give the log of {job}: {_reason(error)}. Its head keeps it under "
            f"/tmp/ray/session_latest/logs/job-driver-{job}.log."
        ) from error


def _refused(error: AuthenticationError) -> ClusterError:
    return ClusterError(
        f"the job server lets nobody in without its token ({_reason(error)}). Set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file that holds it) here to what the cluster was started with."
    )


def _reason(error: Exception | None) -> str:
    """One line of what Ray's client met, which may hold a whole page."""
    if isinstance(error, LookupError | TypeError | json.JSONDecodeError):
        return f"what answers there is no job server of Ray ({type(error).__name__}: {error})"
    text = error.message if isinstance(error, AuthenticationError) else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0].rstrip(" .:")[:300]

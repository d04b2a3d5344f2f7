"""A job is submitted with what it needs, followed through lost connections, and ended with the driver's exit code."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loopback import http_server

from raybench.driver import job
from raybench.driver.job import STOP_GRACE_S, JobOrder, client_at, describe, end_of, follow, log_end, provenance, submit
from raybench.errors import ClusterError


@dataclass
class Details:
    """The part of Ray's JobDetails that counts."""

    status: str
    driver_exit_code: int | None = None
    message: str | None = None
    entrypoint: str = "python -m raybench run c.yaml"
    metadata: dict[str, str] | None = None
    end_time: int | None = None


@dataclass
class Server:
    """A job server whose log streams break where they are told to."""

    log: str = ""
    breaks: list[int] = field(default_factory=list)
    """Characters after which successive streams break; later ones reach the end."""
    refusals: list[str] = field(default_factory=list)
    """Reasons for which successive submissions are refused."""
    silent: bool = False
    submitted: dict[str, Any] = field(default_factory=dict)
    end: Details = field(default_factory=lambda: Details("SUCCEEDED", 0))

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        self.submitted = {"entrypoint": entrypoint, "id": submission_id, "env": runtime_env, "metadata": metadata}
        return submission_id

    def get_job_info(self, job_id: str) -> Details:
        if self.silent:
            raise ConnectionError("Failed to connect")
        return self.end

    def get_job_logs(self, job_id: str) -> str:
        return self.log

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        if self.silent:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        stop = self.breaks.pop(0) if self.breaks else None
        for start in range(0, len(self.log if stop is None else self.log[:stop]), 7):
            yield self.log[start : start + 7 if stop is None else min(start + 7, stop)]
        if stop is not None:
            raise RuntimeError("WebSocket connection closed unexpectedly")


VERSION = json.dumps({"version": "4", "ray_version": "2.55.0"})


def answering(status: int, body: str, routes: Mapping[str, str] | None = None) -> AbstractContextManager[str]:
    """Address of a server that gives everybody the same answer, but for these routes."""

    def answer(path: str, _: bytes) -> tuple[int, bytes]:
        known = (routes or {}).get(path)
        return (status, body.encode()) if known is None else (200, known.encode())

    return http_server(answer)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "POLL_S", 0.0)


def order(tmp_path: Path, entrypoint: Sequence[str] = ("python", "-m", "raybench", "run", "a b.yaml")) -> JobOrder:
    return JobOrder("id-1", tuple(entrypoint), tmp_path, {"HF_TOKEN": "x"}, {"git_sha": "abc"}, STOP_GRACE_S)


def test_a_job_carries_its_grace_its_variables_and_where_it_comes_from(tmp_path: Path) -> None:
    server = Server()
    submit(server, order(tmp_path), pytest.fail)
    assert server.submitted == {
        "entrypoint": "python -m raybench run 'a b.yaml'",
        "id": "id-1",
        "env": {
            "working_dir": str(tmp_path),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "120", "HF_TOKEN": "x"},
        },
        "metadata": {"git_sha": "abc"},
    }


def test_the_grace_covers_the_drain_the_close_and_the_report() -> None:
    from raybench.driver.fleet import CLOSE_TIMEOUT_S
    from raybench.driver.run import DRAIN_LIMIT_S

    assert STOP_GRACE_S > DRAIN_LIMIT_S + CLOSE_TIMEOUT_S


def test_a_head_without_an_agent_yet_is_asked_again(tmp_path: Path) -> None:
    said: list[str] = []
    server = Server(refusals=["Request failed: No available agent to submit job"] * 3)
    submit(server, order(tmp_path), said.append)
    assert server.submitted["id"] == "id-1"
    assert said == ["waiting for the head's job agent"]


def test_a_job_that_is_refused_is_a_cluster_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="not accepted: Job with submission_id id-1 already exists"):
        submit(Server(refusals=["Traceback\nJob with submission_id id-1 already exists"]), order(tmp_path), pytest.fail)


def test_a_reader_of_the_log_that_is_gone_is_no_lost_connection() -> None:
    """`raybench submit ... | head`."""

    def write(text: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        asyncio.run(follow(Server(log="one\ntwo\n"), "id-1", write))


@pytest.mark.parametrize("breaks", [[], [0], [20], [20, 13, 41], [41, 41]])
def test_every_character_of_the_log_is_written_once_whatever_breaks(breaks: list[int]) -> None:
    log = "".join(f"line {number}\n" for number in range(6))
    written: list[str] = []
    details = asyncio.run(follow(Server(log=log, breaks=list(breaks)), "id-1", written.append))
    assert "".join(written) == log
    assert details.status == "SUCCEEDED"


def test_a_server_that_falls_silent_is_given_up_with_what_to_do() -> None:
    with pytest.raises(ClusterError, match="raybench status id-1") as error:
        asyncio.run(follow(Server(silent=True), "id-1", pytest.fail, patience_s=0.05))
    assert error.value.exit_code == 20


@pytest.mark.parametrize(
    ("details", "code", "words"),
    [
        (Details("SUCCEEDED", 0), 0, "the job has ended"),
        (Details("FAILED", 31), 31, "the driver has ended with 31"),
        (Details("FAILED", 1), 1, "the driver has ended with 1"),
        (Details("FAILED", -9), 137, "the driver was ended by signal 9; what it had measured is kept"),
        (Details("FAILED", 137), 137, "the driver was ended by signal 9; what it had measured is kept"),
        (Details("STOPPED"), 143, "the job was stopped"),
        (
            Details("FAILED", None, "Failed to set up the runtime environment\nmore"), 20,
            "the job has failed without a word of its driver: Failed to set up the runtime environment",
        ),
        (Details("FAILED"), 20, "the job has failed without a word of its driver: Ray does not say why"),
    ],
)  # fmt: skip
def test_a_job_ends_with_the_drivers_exit_code(details: Details, code: int, words: str) -> None:
    end = end_of(details)
    assert (end.exit_code, end.words) == (code, words)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1:8265", "auto"])
def test_only_a_job_servers_address_is_taken(address: str) -> None:
    with pytest.raises(ClusterError, match=r"is no address of a job server. Give --address http://HOST:8265"):
        client_at(address, {})


def test_a_variable_that_ray_would_put_above_the_address_is_named() -> None:
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS is set to 10\.0\.0\.1:6379, which Ray would use in place of"):
        client_at("http://127.0.0.1:8265", {"RAY_ADDRESS": "10.0.0.1:6379"})


def test_nobody_at_the_address_is_one_message() -> None:
    with pytest.raises(ClusterError, match=r"no job server answers at http://127\.0\.0\.1:1: "):
        client_at("http://127.0.0.1:1", {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1/"})


TOKEN = "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
NO_RAY = "what answers there is no job server of Ray"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "who are you", rf"lets nobody in without its token \(Authentication required: who are you\)\. {TOKEN}"),
        (403, "", rf"lets nobody in without its token \(Authentication failed\)\. {TOKEN}"),
        (200, "{}", rf"no job server answers at http://127.*: {NO_RAY} \(KeyError: 'ray_version'\)\. Give the dash"),
        (200, "[]", rf"{NO_RAY} \(TypeError: "),
        (200, "<html>", rf"{NO_RAY} \(JSONDecodeError: "),
        (404, "", "no job server answers at .*: Version check returned 404"),
        (500, "", "no job server answers at .*: 500 Server Error"),
    ],
)
def test_a_server_that_is_closed_or_no_job_server_is_one_message(status: int, body: str, words: str) -> None:
    with answering(status, body) as address, pytest.raises(ClusterError, match=words) as error:
        client_at(address, {})
    assert error.value.exit_code == 20


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "token gone", {"*": r"lets nobody in without its token \(Authentication required: token gone"}),
        (
            500, "broken",
            {
                "submit": "the job was not accepted: Request failed with status code 500: broken",
                "follow": r"has not answered for 0 s \(Request failed with status code 500: broken",
                "describe": "the job server does not answer: Request failed with status code 500: broken",
                "log_end": "does not give the log of id-1: Request failed with status code 500: broken",
            },
        ),
        (
            200, "[]",
            {
                "submit": "the job was not accepted: ", "follow": NO_RAY, "describe": f"does not answer: {NO_RAY}",
                "log_end": f"does not give the log of id-1: {NO_RAY}.*logs/job-driver-id-1.log",
            },
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own call
@pytest.mark.parametrize("what", ["submit", "follow", "describe", "log_end"])
def test_a_server_that_turns_bad_later_is_one_message_too(
    tmp_path: Path, what: str, status: int, body: str, words: dict[str, str]
) -> None:
    with answering(status, body, {"/api/version": VERSION}) as address:
        client = client_at(address, {})
        with pytest.raises(ClusterError, match=words.get("*") or words[what]):
            match what:
                case "submit":
                    submit(client, order(tmp_path), pytest.fail)
                case "follow":
                    # A refused token is told at once: the test's own limit is far below this patience.
                    asyncio.run(follow(client, "id-1", pytest.fail, 3600.0 if status == 401 else 0.05))
                case "describe":
                    describe(client, "id-1")
                case _:
                    log_end(client, "id-1", 3)


def test_a_job_that_the_server_does_not_know_is_named() -> None:
    with answering(404, "", {"/api/version": VERSION}) as address:
        client = client_at(address, {})
        with pytest.raises(ClusterError, match=r"there is no folder and no job id-1\. `ray job list"):
            describe(client, "id-1")


def test_the_end_of_a_log_is_its_last_lines() -> None:
    assert log_end(Server(log="1\n2\n3\n"), "id-1", 2) == ["2", "3"]


def test_the_commit_of_the_configuration_goes_along(tmp_path: Path) -> None:
    from raybench import process

    assert provenance(tmp_path) == {}
    (tmp_path / "file").write_text("1")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "m"]):
        code, said = process.run(["git", "-C", str(tmp_path), *words], env=process.child_environment({}), timeout_s=60)
        assert code == 0, said
    clean = provenance(tmp_path)
    assert len(clean["git_sha"]) == 40 and clean["git_changed"] == "false"
    (tmp_path / "file").write_text("2")
    assert provenance(tmp_path) == clean | {"git_changed": "true"}

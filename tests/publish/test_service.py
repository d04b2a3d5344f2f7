"""The real client against a service on loopback: nothing lost, nothing doubled, no lie of the client believed."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger
from wandb_service import Fault, WandbService, serving

from raybench import process
from raybench.errors import PublishError
from raybench.publish.source import read_source
from raybench.publish.state import SinkState, read_state
from raybench.publish.tables import sharing
from raybench.publish.targets import target_runs
from raybench.records import EngineFacts, Failure, PerfUnit

KEY = "5ec2e7" * 7


@pytest.fixture
def service() -> Iterator[WandbService]:
    with serving() as made:
        yield made


def run_folder(path: Path, limit_s: float = 60) -> Path:
    return whole_ledger(config(publish={"sinks": ["wandb"], "limit_s": limit_s})).write(path / "run")


def publish(folder: Path, service: WandbService, *words: str, **env: str) -> tuple[int, str]:
    access: Mapping[str, str] = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "WANDB_BASE_URL": service.base, "WANDB_API_KEY": KEY,
        "WANDB_MODE": "online", "WANDB_ENTITY": "team",
    }  # fmt: skip
    argv = [sys.executable, "-m", "raybench", "publish", str(folder), *words]
    return process.run(argv, env=process.child_environment({**access, **env}), timeout_s=300)


def state(folder: Path) -> SinkState:
    return read_state(folder).sinks["wandb"]


def assert_whole(folder: Path, service: WandbService) -> None:
    """The service holds what the ledger says, once."""
    for run in target_runs(read_source(folder), "hashed"):
        there = service.named(run.id)
        rows = [row for row in there.history if "perf/batch_size" in row]
        assert [row["_step"] for row in rows] == [row.step for row in run.history]
        assert there.summary["raybench/records"] == run.summary["raybench/records"]
        assert there.state == "finished"
        assert there.fields["groupName"] == run.group


@pytest.mark.slow
def test_once_and_twice(tmp_path: Path, service: WandbService) -> None:
    folder = run_folder(tmp_path)
    code, output = publish(folder, service)
    assert code == 0, output
    assert_whole(folder, service)
    first = state(folder)
    assert first.state == "published"
    assert first.last.views_error is None
    assert first.last.report_url is not None and first.last.report_url in output
    code, output = publish(folder, service)
    assert code == 0, output
    assert_whole(folder, service)
    # Made once, then updated in place: a workspace and a report, one version of every artifact.
    assert sorted(view["type"] for view in service.views.values()) == ["project-view", "runs"]
    names = [artifact["collection"] for artifact in service.artifacts.values()]
    assert len(names) == len(set(names))
    assert (state(folder).attempts, state(folder).last.report_url) == (2, first.last.report_url)
    # An operation that a newer client asks for stands here by its name.
    assert service.unknown == []
    # The key is on the machine in no file of ours, and in no body that was sent.
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not [body for body in service.received if KEY.encode() in body]


@pytest.mark.slow
def test_a_partial_run_and_then_the_whole_one(tmp_path: Path, service: WandbService) -> None:
    late = ("alpha-static-b1-r1-l0", "alpha-static-b16-r0-l0", "alpha-static-b16-r1-l0")
    builder = whole_ledger(config(publish={"sinks": ["wandb"]}), skip=lambda key: key in late)
    folder = builder.write(tmp_path / "run")
    assert publish(folder, service)[0] == 0
    assert_whole(folder, service)
    builder.session(1)
    for unit in builder.plan.units:
        if isinstance(unit, PerfUnit) and unit.key in late:
            builder.perf_done(unit, "n0.0")
    builder.end()
    builder.write(folder)
    code, output = publish(folder, service)
    assert code == 0, output
    assert_whole(folder, service)
    sizes = [
        row["perf/batch_size"] for row in service.named(state(folder).last.runs[0]).history if "perf/attempt" in row
    ]
    assert sizes == [1, 4, 1, 16]


@pytest.mark.slow
def test_nothing_of_the_machine_is_sent(tmp_path: Path, service: WandbService) -> None:
    """Secrets planted wherever a run may hold them."""
    secret = "planted-secret"

    def plant(facts: EngineFacts) -> EngineFacts:
        paths = {"tokenizer_path": f"/home/{secret}/tok/final", "dtype": "bfloat16"}
        return facts.model_copy(
            update={
                "url": f"http://{secret}:30000",
                "hosts": (secret,),
                "argv": ("--x", secret),
                "resolved_args": paths,
            }
        )

    settings = config(
        model={"path": f"/data/{secret}/models/a-model"},
        engine={"args": {"chat-template": f"/home/{secret}/t.jinja"}, "env": {"SOME_TOKEN": secret, "PLAIN": secret}},
        publish={"sinks": ["wandb"], "share_samples": "full"},
    )
    builder = whole_ledger(settings, engine=plant)
    builder.failed("alpha-static-b1-r0-l0", Failure(cause="engine_died", message=f"at /srv/{secret}/x.log: {secret}"))
    folder = builder.write(tmp_path / "run")
    code, output = publish(folder, service, HOME=f"/home/{secret}-user", SOME_API_KEY=f"{secret}-value")
    assert code == 0, output
    for word in (secret, str(tmp_path), f'"{socket.gethostname()}"', KEY):
        assert not [body[:200] for body in service.received if word.encode() in body], word
    # The names that may be sent are: the check looks at the right bodies.
    assert [body for body in service.received if b"a-model" in body]


def test_the_questions_of_gpqa_are_never_shared() -> None:
    assert sharing("gpqa_diamond", "full") == "hashed"
    assert sharing("gpqa_diamond", "none") == "none"
    assert sharing("sums", "full") == "full"
    assert sharing("a-custom-eval", "full") == "full"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault("graphql:UpsertBucket", status=401),
        Fault("graphql:UpsertBucket", drop=True),
        Fault("file_stream", status=404),
        Fault("graphql:|file_stream", status=401, after=3),
    ],
    ids=["401-at-init", "refused-at-init", "404-stream", "401-midway"],
)
def test_a_fault_is_told_and_the_next_try_is_whole(tmp_path: Path, service: WandbService, fault: Fault) -> None:
    folder = run_folder(tmp_path, limit_s=90)
    service.faults = [fault]
    code, output = publish(folder, service)
    assert code == PublishError.exit_code
    assert state(folder).state == "failed"
    assert "retry with: raybench publish" in output
    service.faults = []
    code, output = publish(folder, service)
    assert code == 0, output
    assert_whole(folder, service)
    assert state(folder).attempts == 2

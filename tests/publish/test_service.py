"""The real client against a service on loopback: once, twice, after a partial run, after SIGKILL; what was sent."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from cli_runs import wait_for
from ledger_builder import config, one_pass, whole_ledger
from publishers import (
    KEY,
    Told,
    access,
    assert_whole,
    builder_of,
    command,
    grown,
    publish,
    publishing,
    run_folder,
    state,
)
from wandb_service import Fault, WandbService, serving

from raybench import process
from raybench.errors import PublishError
from raybench.publish.supervise import child_environment
from raybench.records import EngineFacts, Failure, PerfMeasurement, PerfUnit


@pytest.fixture
def service() -> Iterator[WandbService]:
    with serving() as made:
        yield made


@dataclass
class Twice:
    """A run that was published, by the command, and then once more."""

    service: WandbService
    folder: Path
    first: Told
    report_url: str
    code: int
    output: str


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    with serving() as made:
        folder = run_folder(tmp_path_factory.mktemp("twice"))
        first = publish(folder, access(made))
        url = state(folder).last.report_url or ""
        yield Twice(made, folder, first, url, *command(folder, **access(made)))


def test_once_and_twice_are_the_same(twice: Twice) -> None:
    assert twice.first.ok, twice.first.text
    assert twice.code == 0, twice.output
    assert_whole(twice.folder, twice.service)
    told = state(twice.folder)
    assert (told.state, told.attempts, told.last.views_error) == ("published", 2, None)
    assert told.last.report_url == twice.report_url
    assert twice.report_url in twice.output
    # Made once, then updated in place: a workspace and a report, one version of every artifact.
    assert sorted(view["type"] for view in twice.service.views.values()) == ["project-view", "runs"]
    names = [artifact["collection"] for artifact in twice.service.artifacts.values()]
    assert len(names) == len(set(names))


def test_no_operation_is_unknown(twice: Twice) -> None:
    """What a newer client asks for stands here by its name."""
    assert twice.service.unknown == []


def test_an_unknown_operation_is_named(service: WandbService) -> None:
    service.answer("POST", "/graphql", b'{"query": "query BrandNew { viewer { id } }"}')
    assert service.unknown == ["BrandNew"]


def test_the_key_is_nowhere(twice: Twice) -> None:
    assert not [path for path in twice.folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not [body for body in twice.service.received + twice.service.headers if KEY.encode() in body]
    assert twice.service.logged_in == {KEY}
    assert KEY not in twice.output + twice.first.text


def the_key_may_lie_in_netrc_alone(tmp_path: Path, service: WandbService) -> None:
    home = tmp_path / "home"
    home.mkdir()
    netrc = home / ".netrc"
    netrc.write_text(f"machine {urlsplit(service.base).netloc}\n  login user\n  password {KEY}\n")
    netrc.chmod(0o600)
    variables = {name: value for name, value in access(service).items() if name != "WANDB_API_KEY"}
    folder = run_folder(tmp_path)
    code, output = command(folder, **variables, HOME=str(home))
    assert code == 0, output
    assert_whole(folder, service)
    assert service.logged_in == {KEY}
    assert "W&B report: http" in output
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def without_any_key_nothing_is_sent_and_it_is_said_so(tmp_path: Path, service: WandbService) -> None:
    variables = {name: value for name, value in access(service).items() if name != "WANDB_API_KEY"}
    code, output = command(run_folder(tmp_path), **variables, HOME=str(tmp_path))
    assert code == PublishError.exit_code
    assert "WANDB_API_KEY" in output
    assert "retry with: raybench publish" in output
    assert service.runs == {}


def _fast(unit: PerfUnit, measured: PerfMeasurement) -> PerfMeasurement:
    """Faster than any smaller batch."""
    return measured.model_copy(update={"measured": one_pass(unit.load, 0.9, 5.0)})


def a_partial_run_and_then_the_whole_one(tmp_path: Path, service: WandbService) -> None:
    late = ("alpha-static-b1-r1-l0", "alpha-static-b16-r0-l0", "alpha-static-b16-r1-l0")
    builder = whole_ledger(config(publish={"sinks": ["wandb"]}), skip=lambda key: key in late)
    folder = builder.write(tmp_path / "run")
    assert publish(folder, access(service)).ok
    assert_whole(folder, service)
    builder.session(1)
    for unit in builder.plan.units:
        if isinstance(unit, PerfUnit) and unit.key in late:
            builder.perf_done(unit, "n0.0", _fast)
    builder.end()
    builder.write(folder)
    told = publish(folder, access(service))
    assert told.ok, told.text
    assert_whole(folder, service)
    # About a row that was sent long ago.
    assert "itl_not_monotonic" in service.named(state(folder).last.runs[0]).summary["perf/bs4/findings"]
    rows = [row for row in service.named(state(folder).last.runs[0]).history if "perf/attempt" in row]
    assert [row["perf/batch_size"] for row in rows] == [1, 4, 1, 16]


def _services_of(pid: int) -> list[psutil.Process]:
    """W&B's own processes that serve another one."""
    return [each for each in psutil.process_iter(["cmdline"]) if f"--pid {pid}" in " ".join(each.info["cmdline"] or ())]


def publishers_that_are_killed_lose_and_double_nothing(tmp_path: Path, service: WandbService) -> None:
    """At one stage after the other, each time with something new to send; at last their supervisor."""
    folder = tmp_path / "run"
    for number, label in enumerate(("file_stream", "graphql:CreateArtifact$", "graphql:Run$")):
        grown(number, limit_s=300).write(folder)
        fault = _stuck(service, label)
        with ThreadPoolExecutor(1) as pool:
            trying = pool.submit(publish, folder, access(service))
            wait_for(lambda fault=fault: fault.num_hits > 0, lambda label=label: f"{label} was never reached")
            (child,) = publishing(folder)
            staged = Path(child.environ()["TMPDIR"])
            assert list(staged.iterdir())
            child.send_signal(signal.SIGKILL)
            told = trying.result()
        assert not told.ok
        assert not staged.exists(), "what was staged, samples among it, went with its publisher"
        assert "ended with -9" in (state(folder).error or "")
        wait_for(lambda child=child: not _services_of(child.pid), lambda: "W&B's own process outlives its master")
    _kill_supervisor(folder, service)
    assert state(folder).state == "running"  # and nobody holds the lock: it was killed
    _let_go(service)
    told = publish(folder, access(service))
    assert told.ok, told.text
    assert_whole(folder, service)
    assert state(folder).attempts == 5


def _stuck(service: WandbService, label: str) -> Fault:
    """From now on the service never answers this."""
    _let_go(service)
    service.faults = [Fault(label, hang=True)]
    return service.faults[0]


def _let_go(service: WandbService) -> None:
    """A sound service again; whoever was kept waiting is let go."""
    service.faults = []
    service.closing.set()
    service.closing = threading.Event()


def _kill_supervisor(folder: Path, service: WandbService) -> None:
    grown(3, limit_s=300).write(folder)
    fault = _stuck(service, "graphql:CreateArtifact$")
    child = process.start(
        [sys.executable, "-m", "raybench", "publish", str(folder)],
        env=child_environment(dict(os.environ) | access(service)),
    )
    wait_for(lambda: fault.num_hits > 0, lambda: "the artifact was never reached")
    child.kill()
    child.wait()
    wait_for(lambda: not publishing(folder), lambda: "the publisher outlives its supervisor")


def two_runs_are_compared_whatever_their_dates(tmp_path: Path, service: WandbService) -> None:
    first = run_folder(tmp_path)
    builder = builder_of()
    builder.records[0] = builder.records[0].model_copy(update={"body": builder.records[0].body | {"run_id": "later"}})
    second = builder.write(tmp_path / "later")
    code, output = command("--compare", first, second, **access(service))
    assert code == 0, output
    told = state(first, "wandb against later")
    assert len(told.last.runs) == 5
    compared = service.named(told.last.runs[-1])
    assert compared.summary["compare/speedup"]["nrows"] == 3 * 3 * 5
    assert sorted(key for key in compared.summary if key.endswith("bs1_output_tok_s_ratio")) == []
    ratios = {key: value for key, value in compared.summary.items() if key.endswith("bs1/output_tok_s_ratio")}
    assert len(ratios) == 3
    assert 1.0 in ratios.values(), "the same target of both runs"
    assert told.last.report_url in output
    page = next(view for view in service.views.values() if view["type"] == "runs")
    assert all(f"study-{run.split('-')[1]}" in page["spec"] for run in told.last.runs[:4])
    assert service.unknown == []


def nothing_of_the_machine_is_sent(tmp_path: Path, service: WandbService) -> None:
    """Secrets planted wherever a run may hold them."""
    secret = "planted-secret"

    def plant(facts: EngineFacts) -> EngineFacts:
        paths = {"tokenizer_path": f"/home/{secret}/tok/final", "dtype": "bfloat16", "api_key": secret}
        changes = {"url": f"http://{secret}:30000", "hosts": (secret,), "argv": ("--x", secret)}
        return facts.model_copy(update=changes | {"resolved_args": paths})

    settings = config(
        model={"path": f"/data/{secret}/models/a-model"},
        engine={"args": {"chat-template": f"/home/{secret}/t.jinja"}, "env": {"SOME_TOKEN": secret, "PLAIN": secret}},
        publish={"sinks": ["wandb"], "share_samples": "full"},
    )
    builder = whole_ledger(settings, engine=plant)
    builder.failed("alpha-static-b1-r0-l0", Failure(cause="engine_died", message=f"at /srv/{secret}/x.log: {secret}"))
    folder = builder.write(tmp_path / "run")
    code, output = command(folder, **access(service), HOME=f"/home/{secret}-user", SOME_API_KEY=f"{secret}-value")
    assert code == 0, output
    for word in (secret, str(tmp_path), f'"{socket.gethostname()}"', KEY):
        sent = service.received + service.headers
        assert not [body[:200] for body in sent if word.encode() in body], word
    # The names that may be sent are: the check looks at the right bodies.
    assert [body for body in service.received if b"a-model" in body]


SCENARIOS: tuple[Callable[[Path, WandbService], None], ...] = (
    publishers_that_are_killed_lose_and_double_nothing,
    a_partial_run_and_then_the_whole_one,
    two_runs_are_compared_whatever_their_dates,
    the_key_may_lie_in_netrc_alone,
    nothing_of_the_machine_is_sent,
    without_any_key_nothing_is_sent_and_it_is_said_so,
)
"""Each with a service and a folder of its own; the longest first."""
AT_ONCE = 3


def _alone(scenario: Callable[[Path, WandbService], None], path: Path) -> None:
    with serving() as service:
        scenario(path, service)


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[None]]:
    """The scenarios that are asked for, side by side, since they wait for their services a good deal."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked_for = {each["scenario"].__name__ for each in params if "scenario" in each}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {
            each.__name__: pool.submit(_alone, each, tmp_path_factory.mktemp("scenario"))
            for each in SCENARIOS
            if each.__name__ in asked_for
        }


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_side_by_side(ended: dict[str, Future[None]], scenario: Callable[[Path, WandbService], None]) -> None:
    ended[scenario.__name__].result()

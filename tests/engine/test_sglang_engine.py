"""The launched engine against a stand-in server with the flags, routes and deaths of the real one."""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raybench.config.schema import EngineConfig, ModelConfig
from raybench.engine import make_engine
from raybench.engine.base import Launch
from raybench.engine.external import ExternalEngine
from raybench.engine.leftovers import left_overs
from raybench.engine.sglang import SglangEngine
from raybench.errors import EngineRefused, EngineStartError

LaunchMaker = Callable[..., Launch]


def nothing(_: str) -> None:
    """A progress that nobody reads."""


def gone(run: str) -> bool:
    limit = time.monotonic() + 20
    while left_overs(run) and time.monotonic() < limit:
        time.sleep(0.05)
    return left_overs(run) == []


def test_start_ask_stop(make_launch: LaunchMaker) -> None:
    launch = make_launch(api_key="hidden-key", enable_metrics=True, cuda_graph_bs=[1, 2])
    engine = make_engine(launch)
    lines: list[str] = []
    facts = engine.start(lines.append)
    try:
        assert engine.death() is None
        assert engine.api_key == "hidden-key"
        assert engine.served_name == "some-model"
        assert engine.pid() in [left.pid for left in left_overs(launch.run_id)]
        assert (facts.version, facts.interpreter, facts.vocab_tokens) == ("0.5.21", "python", 4096)
        assert facts.model_revision is not None
        assert facts.model_revision.startswith("config-")
        assert facts.hosts == ("boot-id",)
        assert facts.startup[-1].name == "total"
        assert facts.startup[-1].duration_s > 0.5
        assert facts.argv[:2] == ("-m", "sglang.launch_server")
        assert facts.argv[-8:] == (
            "--behave", "ready", "--api-key", "***", "--enable-metrics", "--cuda-graph-bs", "1", "2",
        )  # fmt: skip
        assert facts.env["SOME_TOKEN"] == "***"
        shown = facts.model_dump_json() + "".join(lines)
        for hidden in ("hidden-key", "hidden-in-env", str(launch.folder.parent / "some-model")):
            assert hidden not in shown
    finally:
        engine.stop(2)
    assert gone(launch.run_id)
    engine.stop(2)


def test_a_server_whose_requests_cannot_be_aborted_is_ended_all_the_same(
    make_launch: LaunchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = make_launch()
    engine = make_engine(launch)
    engine.start(nothing)

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("raybench.engine.sglang.ask", refuse)
    with pytest.raises(MemoryError):
        engine.stop(2)
    assert gone(launch.run_id)


def test_the_environment_of_the_server_is_clean(make_launch: LaunchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "WANDB_API_KEY", "VIRTUAL_ENV", "OMP_NUM_THREADS", "HF_TOKEN"):
        monkeypatch.setenv(name, "from the parent")
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    launch = make_launch()
    engine = SglangEngine(launch)
    facts = engine.start(nothing)
    engine.stop(2)
    line = next(line for line in engine.log.read_text().splitlines() if line.startswith("environment: "))
    env = json.loads(line.removeprefix("environment: "))
    assert "from the parent" not in env.values()
    assert env["OMP_NUM_THREADS"] == "1"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["RAYBENCH_RUN"] == launch.run_id
    assert env["SOME_TOKEN"] == "hidden-in-env"
    assert (env["NCCL_NVLS_ENABLE"], facts.env["NCCL_NVLS_ENABLE"]) == ("0", "0"), "the machine's own setting"


def test_a_version_without_ready_is_asked_for_a_token(make_launch: LaunchMaker) -> None:
    engine = SglangEngine(make_launch("old"))
    facts = engine.start(nothing)
    engine.stop(2)
    assert facts.version == "0.5.21"


def test_a_refused_flag_is_named_and_not_retried(make_launch: LaunchMaker) -> None:
    launch = make_launch(no_such_flag=3)
    with pytest.raises(EngineRefused, match="refuses --no-such-flag"):
        SglangEngine(launch).start(nothing)
    assert gone(launch.run_id)


@pytest.mark.parametrize(
    ("behave", "kind", "says"),
    [
        ("port", EngineStartError, "no port could be had in 3 tries"),
        ("memory", EngineStartError, "mem-fraction-static"),
        ("import", EngineRefused, "No module named 'sgl_kernel'"),
        ("crash", EngineStartError, "index -1 is out of bounds"),
    ],
)
def test_deaths_during_the_start(make_launch: LaunchMaker, behave: str, kind: type, says: str) -> None:
    launch = make_launch(behave, api_key="hidden-key")
    with pytest.raises(EngineStartError) as raised:
        SglangEngine(launch).start(nothing)
    assert type(raised.value) is kind
    assert says in raised.value.message
    assert "hidden-key" not in raised.value.message
    assert gone(launch.run_id)


def test_a_taken_port_is_replaced(make_launch: LaunchMaker) -> None:
    lines: list[str] = []
    engine = SglangEngine(make_launch("port-once"))
    engine.start(lines.append)
    engine.stop(2)
    assert "a port was taken meanwhile; trying others" in lines
    first, second = [line for line in lines if "starting on port" in line]
    assert first != second


def test_a_start_that_takes_too_long_says_how_to_give_it_more(make_launch: LaunchMaker) -> None:
    launch = make_launch("hang", timeout_s=2)
    with pytest.raises(EngineStartError, match=r"not ready after 2 s[\s\S]*engine.startup_timeout_s"):
        SglangEngine(launch).start(nothing)
    assert gone(launch.run_id)


@pytest.mark.parametrize(("content", "says"), [(None, "no config.json"), ("not JSON", "cannot be read as JSON")])
def test_a_folder_that_is_no_model(
    make_launch: LaunchMaker, model_folder: Path, content: str | None, says: str
) -> None:
    (model_folder / "config.json").unlink()
    if content is not None:
        (model_folder / "config.json").write_text(content)
    with pytest.raises(EngineRefused, match=says):
        SglangEngine(make_launch()).start(nothing)


def test_a_missing_model_folder_starts_nothing(make_launch: LaunchMaker, tmp_path: Path) -> None:
    launch = dataclasses.replace(make_launch(), model=ModelConfig(path=str(tmp_path / "missing")))
    with pytest.raises(EngineRefused, match="There is no model folder"):
        SglangEngine(launch).start(nothing)
    assert not (launch.folder / "server.log").exists()


def test_a_death_is_told_with_its_signal_and_leaves_nothing(make_launch: LaunchMaker) -> None:
    launch = make_launch(api_key="hidden-key")
    engine = SglangEngine(launch)
    engine.start(nothing)
    os.kill(engine.pid() or 0, signal.SIGKILL)
    limit = time.monotonic() + 20
    while engine.death() is None and time.monotonic() < limit:
        time.sleep(0.02)
    death = engine.death()
    assert death is not None
    assert "SIGKILL" in death
    assert "server_args=" in death
    assert "hidden-key" not in death
    assert gone(launch.run_id)
    engine.stop()


def external(launch: Launch, **settings: str) -> ExternalEngine:
    return ExternalEngine(dataclasses.replace(launch, engine=EngineConfig(kind="external", **settings)))  # type: ignore[arg-type]


def test_an_external_engine_is_described_and_left_alone(
    make_launch: LaunchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = make_launch(api_key="hidden-key")
    server = SglangEngine(launch)
    server.start(nothing)
    try:
        monkeypatch.setenv("MY_KEY", "hidden-key")
        engine = external(launch, url=server.url + "/v1/", api_key_env="MY_KEY")
        facts = engine.start(nothing)
        assert (engine.url, engine.api_key, engine.served_name) == (server.url, "hidden-key", "some-model")
        assert (facts.engine, facts.version, facts.vocab_tokens) == ("external", "0.5.21", 4096)
        assert (facts.context_tokens, facts.hosts, facts.argv) == (2048, ("boot-id",), ())
        assert "hidden-key" not in facts.model_dump_json()
        assert (engine.pid(), engine.death()) == (None, None)
        engine.stop()
        assert server.death() is None
        with pytest.raises(EngineRefused, match="refuses the key"):
            external(launch, url=server.url).start(nothing)
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(EngineRefused, match="MY_KEY, which is not set"):
            engine.start(nothing)
    finally:
        server.stop(2)


def test_an_external_engine_that_is_not_there(make_launch: LaunchMaker) -> None:
    # Port 1 of the loopback is privileged and unused.
    with pytest.raises(EngineStartError, match=r"No engine answers at http://127.0.0.1:1 .*refused"):
        external(make_launch(), url="http://127.0.0.1:1").start(nothing)


def test_credentials_in_the_url_are_refused_and_not_repeated(make_launch: LaunchMaker) -> None:
    with pytest.raises(EngineRefused, match="holds a user or password") as raised:
        external(make_launch(), url="http://someone:hidden@127.0.0.1:1").start(nothing)
    assert "hidden" not in raised.value.message


def test_an_external_engine_that_is_broken(make_launch: LaunchMaker) -> None:
    launch = make_launch("broken")
    server = SglangEngine(launch)
    server.start(nothing)
    try:
        with pytest.raises(EngineStartError, match="HTTP 500"):
            external(launch, url=server.url).start(nothing)
    finally:
        server.stop(2)

"""A machine that cannot run the engine is told so before Ray is started."""

import pytest

from raybench.config.schema import RunConfig
from raybench.driver.machine import check_this_machine
from raybench.engine import managed
from raybench.errors import InterpreterError


def config(engine: dict[str, object]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "x",
            "model": {"path": "tiny:trained"},
            "targets": [{"name": "a", "accelerator": "CPU"}],
            "engine": engine,
            "perf": [{"batch_sizes": [1], "input_tokens": 4, "output_tokens": 4}],
        }
    )


def test_a_managed_environment_needs_a_machine_that_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed.platform, "machine", lambda: "aarch64")
    with pytest.raises(InterpreterError, match=r"aarch64.*simulated-h200-b200\.yaml") as error:
        check_this_machine(config({"environment": {"managed": {"version": "0.5.21", "device": "cpu"}}}))
    assert error.value.exit_code == 21


def test_an_external_engine_runs_from_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed.platform, "machine", lambda: "aarch64")
    check_this_machine(config({"kind": "external", "url": "http://127.0.0.1:1"}))

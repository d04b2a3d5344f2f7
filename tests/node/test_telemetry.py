"""Readings of a made-up GPU."""

import time
from types import SimpleNamespace

import pynvml
import pytest

from raybench.node import telemetry
from raybench.node.telemetry import GpuSampler, gpus, nvidia_driver


class OneGpu:
    """NVML of one GPU whose energy counter runs and whose clock falls, and which knows no temperature."""

    def __init__(self) -> None:
        self.reads = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda index: f"gpu-{index}",
            "nvmlDeviceGetName": lambda gpu: "NVIDIA H200",
            "nvmlDeviceGetUUID": lambda gpu: "GPU-0",
            "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 700_000,
            "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=141 * 2**30),
            "nvmlSystemGetDriverVersion": lambda: "570.1",
            "nvmlDeviceGetPowerUsage": self.power,
            "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: 1000 * self.reads,
            "nvmlDeviceGetTemperature": self.unknown,
            "nvmlDeviceGetClockInfo": lambda gpu, kind: 2000 - self.reads,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x4 if self.reads > 1 else 0,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, answer)

    def power(self, gpu: str) -> int:
        self.reads += 1
        return 500_000

    def unknown(self, *_: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> OneGpu:
    one = OneGpu()
    one.install(monkeypatch)
    monkeypatch.setattr(telemetry, "PERIOD_S", 0.001)
    return one


def test_a_window_is_summed_up_and_what_is_not_known_is_none(gpu: OneGpu) -> None:
    sampler = GpuSampler(1)
    began = time.time()
    sampler.start()
    while gpu.reads < 5:
        time.sleep(0.001)
    sampler.stop()
    sampler.stop()
    (summary,) = sampler.summary(began, time.time())
    assert (summary.mean_power_w, summary.max_temperature_c) == (500.0, None)
    assert summary.energy_j == gpu.reads - 1
    assert (summary.max_sm_clock_mhz, summary.min_sm_clock_mhz) == (1999, 2000 - gpu.reads)
    assert summary.throttle_reasons == ("sw_power_cap",)
    assert sampler.summary(0, 1) == ()


def test_facts_of_a_gpu(gpu: OneGpu) -> None:
    (facts,) = gpus()
    assert (facts.name, facts.power_limit_w, facts.memory_bytes) == ("NVIDIA H200", 700.0, 141 * 2**30)
    assert nvidia_driver() == "570.1"


def test_without_a_gpu_there_is_nothing_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert (gpus(), nvidia_driver()) == ((), None)
    sampler = GpuSampler(8)
    sampler.start()
    sampler.stop()
    assert sampler.summary(0, time.time()) == ()

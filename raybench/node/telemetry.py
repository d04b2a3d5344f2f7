"""GPU telemetry beside a measurement: power, energy, clocks, temperature, reasons for lower clocks.

The only importer of pynvml. On a machine without an NVIDIA GPU everything here answers "nothing", never an error:
telemetry must not cost a result.
"""

import threading
import time
from dataclasses import dataclass

import pynvml

from raybench.records import GpuFacts, GpuSummary

PERIOD_S = 0.1

THROTTLE_BITS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
    0x100: "display_clock",
}
"""Clock-event reasons of NVML by bit."""


@dataclass(frozen=True, slots=True)
class _Reading:
    unix_s: float
    gpu: int
    power_w: float | None
    energy_j: float | None
    temperature_c: float | None
    sm_clock_mhz: float | None
    reasons: int


class GpuSampler:
    """A thread that reads all GPUs ten times a second until it is stopped. A node without GPU reads nothing."""

    def __init__(self, num_gpus: int) -> None:
        self._handles = _handles() if num_gpus else []
        self._readings: list[_Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="raybench-telemetry", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        if self._handles:
            self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def summary(self, from_unix_s: float, to_unix_s: float) -> tuple[GpuSummary, ...]:
        """One summary a GPU over the window; both ends are wall clocks of this machine."""
        inside = [r for r in self._readings if from_unix_s <= r.unix_s <= to_unix_s]
        return tuple(_summary(gpu, [r for r in inside if r.gpu == gpu]) for gpu in sorted({r.gpu for r in inside}))

    def _loop(self) -> None:
        while not self._stop.wait(PERIOD_S):
            for index, handle in enumerate(self._handles):
                self._readings.append(_read(index, handle))


def gpus() -> tuple[GpuFacts, ...]:
    """GPUs of this machine; empty without NVIDIA's library or without a GPU."""
    result: list[GpuFacts] = []
    for index, handle in enumerate(_handles()):
        limit = _ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
        result.append(
            GpuFacts(
                index=index,
                name=str(_ask(pynvml.nvmlDeviceGetName, handle)),
                uuid=str(_ask(pynvml.nvmlDeviceGetUUID, handle)),
                memory_bytes=0 if memory is None else int(memory.total),
                power_limit_w=None if limit is None else limit / 1000,
            )
        )
    return tuple(result)


@dataclass(frozen=True, slots=True)
class GpuUser:
    """A process that holds memory of a GPU."""

    pid: int
    gpu: int
    memory_bytes: int | None


def gpu_users() -> list[GpuUser]:
    """Processes that compute on this machine's GPUs, as the driver sees them."""
    found: list[GpuUser] = []
    for index, handle in enumerate(_handles()):
        for process in _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ():
            found.append(GpuUser(int(process.pid), index, process.usedGpuMemory))
    return found


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver; None without one."""
    if not _handles():
        return None
    version = _ask(pynvml.nvmlSystemGetDriverVersion)
    return None if version is None else str(version)


def _handles() -> list[object]:
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _ask(question, *args):
    try:
        return question(*args)
    except pynvml.NVMLError:
        return None


def _read(index: int, handle: object) -> _Reading:
    power = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    energy = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return _Reading(
        unix_s=time.time(),
        gpu=index,
        power_w=None if power is None else power / 1000,
        energy_j=None if energy is None else energy / 1000,
        temperature_c=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        sm_clock_mhz=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        reasons=_ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0,
    )


def _summary(gpu: int, readings: list[_Reading]) -> GpuSummary:
    power = [r.power_w for r in readings if r.power_w is not None]
    energy = [r.energy_j for r in readings if r.energy_j is not None]
    clocks = [r.sm_clock_mhz for r in readings if r.sm_clock_mhz is not None]
    temperatures = [r.temperature_c for r in readings if r.temperature_c is not None]
    bits = 0
    for reading in readings:
        bits |= reading.reasons
    return GpuSummary(
        index=gpu,
        mean_power_w=sum(power) / len(power) if power else None,
        energy_j=energy[-1] - energy[0] if len(energy) > 1 else None,
        max_temperature_c=max(temperatures, default=None),
        min_sm_clock_mhz=min(clocks, default=None),
        max_sm_clock_mhz=max(clocks, default=None),
        throttle_reasons=tuple(name for bit, name in THROTTLE_BITS.items() if bits & bit),
    )

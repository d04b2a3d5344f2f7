"""The first GPU of this machine: what its memory holds, and SGLang of this Python on it."""

import time
from typing import Any

import pynvml

FREE_MIB = 64
"""More than at rest by at most this much counts as free."""
LIMIT_S = 120.0
MODEL = "dummy:qwen3-235b-a22b-fp8-11-layers"
"""28 GB of random weights: its replies mean nothing, its memory is what one of eight GPUs holds of the whole model."""
ARGS: dict[str, Any] = {
    "load-format": "dummy", "attention-backend": "triton", "sampling-backend": "pytorch", "grammar-backend": "none",
    "cuda-graph-backend-prefill": "disabled", "disable-cuda-graph": True, "mem-fraction-static": 0.85,
}  # fmt: skip
"""Kernels that need no prebuilt FlashAttention-3 or FlashInfer package, and a start within a minute."""


def engine() -> dict[str, Any]:
    """Settings of the engine for `MODEL`."""
    env = {"HF_HUB_OFFLINE": "1", "SGLANG_ENABLE_JIT_DEEPGEMM": "0"}
    return {"kind": "sglang", "environment": "auto", "args": ARGS, "env": env, "startup_timeout_s": 900}


class Memory:
    """What the GPU holds beyond what it held when this was made, in MiB."""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.kind = str(pynvml.nvmlDeviceGetName(self._gpu)).split()[1]
        """`H100`, `H200`, `B200` ..."""
        self._at_rest = 0
        self._at_rest = self.held()

    def held(self) -> int:
        return (int(pynvml.nvmlDeviceGetMemoryInfo(self._gpu).used) >> 20) - self._at_rest

    def freed_after_s(self) -> float:
        """Waits until nobody holds any of it, be it for a moment: a replacement soon does."""
        began = time.monotonic()
        while (held := self.held()) > FREE_MIB:
            assert time.monotonic() - began < LIMIT_S, f"{held} MiB are still held"
            time.sleep(0.02)
        return round(time.monotonic() - began, 2)

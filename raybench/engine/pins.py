"""What a managed environment holds, by SGLang version. Pure.

The CPU recipe leaves out everything of SGLang's requirements that only a GPU loads (flashinfer, sglang-kernel,
deep-gemm and their CUDA trees, several GB): SGLang itself is installed without its dependencies, over the pinned rest.
The pins are those of each version's own metadata.
"""

from dataclasses import dataclass
from typing import Literal

DEFAULT_VERSION = "0.5.21"
"""Newest version that pins a torch whose CPU build the recipe was run with."""

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Pins:
    """Exact versions beside one SGLang version."""

    torch: str
    torchvision: str
    transformers: str
    xgrammar: str
    openai: str


PINS: dict[str, Pins] = {
    "0.5.18": Pins("2.13.0", "0.28.0", "5.12.1", "0.2.1", "2.6.1"),
    "0.5.19": Pins("2.13.0", "0.28.0", "5.12.1", "0.2.1", "2.6.1"),
    "0.5.20": Pins("2.13.0", "0.28.0", "5.12.1", "0.2.1", "2.6.1"),
    "0.5.21": Pins("2.13.0", "0.28.0", "5.12.1", "0.2.7", "2.6.1"),
}
"""SGLang versions with a managed CPU environment; 0.5.18 and 0.5.21 were run."""

_UNPINNED = (
    "IPython", "aiohttp", "dill", "distro", "einops", "fastapi", "gguf", "jsonschema", "msgspec", "numpy", "orjson",
    "packaging", "partial-json-parser", "pillow", "prometheus-client", "psutil", "pybase64", "python-multipart",
    "pyzmq", "requests", "safetensors", "sentencepiece", "setproctitle", "soundfile", "tqdm", "triton", "uvicorn",
    "uvloop", "xxhash",
)  # fmt: skip
_SGLANG_BENCHMARKS = ("datasets", "tabulate")
"""What SGLang's own load generators import; raybench is checked against them on the same server."""


def cpu_requirements(version: str) -> tuple[str, ...]:
    """Requirements of the CPU environment but for torch, torchvision and SGLang itself."""
    pins = PINS[version]
    exact = (
        f"transformers=={pins.transformers}",
        f"xgrammar=={pins.xgrammar}",
        f"openai=={pins.openai}",
        "compressed-tensors==0.18.0",
        "openai-harmony==0.0.4",
    )
    return exact + _UNPINNED + _SGLANG_BENCHMARKS


def cpu_without_dependencies(version: str) -> tuple[str, ...]:
    """Requirements that are installed without their dependencies, after the others."""
    return (f"sglang=={version}", f"torchvision=={PINS[version].torchvision}")

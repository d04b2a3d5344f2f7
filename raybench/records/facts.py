"""Facts: what a node is, and what came up when an engine was started on it."""

from typing import Literal

from pydantic import Field, JsonValue

from raybench.records.base import Record


class GpuFacts(Record):
    """One GPU as NVML describes it."""

    index: int
    """NVML index."""
    name: str
    """Product name, such as `NVIDIA H200`."""
    uuid: str
    """NVML UUID."""
    memory_bytes: int
    """Total device memory."""
    power_limit_w: float | None = None
    """Enforced power limit in watts; None where NVML does not say."""


class Stranger(Record):
    """A process on a node that may disturb what is measured there."""

    pid: int
    """Process id, as the node (or its GPU's driver) sees it."""
    name: str
    """Command name by the kernel; empty where it cannot be seen."""
    run: str | None = None
    """Run of raybench that started it as an engine; None = not ours."""
    gpus: tuple[int, ...] = ()
    """GPUs that it holds memory of."""
    gpu_memory_mib: float | None = None
    """Memory that it holds on them; None without any, or where NVML does not say."""

    @property
    def words(self) -> str:
        """For messages."""
        name = f"{self.name or 'process'} (pid {self.pid})"
        origin = f" of run {self.run}" if self.run is not None else ""
        held = "" if self.gpu_memory_mib is None else f" with {self.gpu_memory_mib:,.0f} MiB"
        return f"{name}{origin}" + (f" on GPU {', '.join(map(str, self.gpus))}{held}" if self.gpus else "")


class NodeFacts(Record):
    """What a node is. Written once when it joins."""

    node: str
    """Short name of the node within the run, such as `n0`."""
    host: str
    """Boot id of the machine, or the host that a simulated engine declares."""
    ray_node_id: str | None = None
    """Ray's id of the machine's raylet; None outside Ray."""
    accelerator: str
    """Accelerator that the node was placed for: H200, B200, CPU ..."""
    gpus: tuple[GpuFacts, ...] = ()
    """GPUs that NVML shows; empty without any."""
    driver_version: str | None = None
    """NVIDIA driver; None without GPU."""
    cpu_model: str | None = None
    """CPU model name of the operating system."""
    num_cpus: int
    """Logical CPUs that this process may use."""
    memory_bytes: int
    """Memory of the machine."""
    kernel: str
    """Operating system kernel release."""
    python_version: str
    """Python of raybench on the node."""
    ray_version: str | None = None
    """Ray on the node."""
    raybench_version: str
    """raybench on the node."""
    clock_unix_s: float
    """Wall clock when the facts were taken: anchor of the node's durations, never subtracted from another's."""
    load_average_1m: float | None = None
    """Load average of the machine over one minute when the node joined."""
    strangers: tuple[Stranger, ...] = ()
    """Engines of other runs and foreign users of the GPUs that were there when the node joined."""


class StartUpPhase(Record):
    """One phase of an engine's start."""

    name: str
    """weights, kv_cache, cuda_graph, autotune, total ..."""
    duration_s: float = Field(ge=0)
    """Duration in seconds."""


class MemoryUsage(Record):
    """Memory of one rank as the engine reports it, in GiB."""

    weights_gib: float | None = None
    """Model weights."""
    kv_cache_gib: float | None = None
    """Key and value cache together."""
    cuda_graph_gib: float | None = None
    """CUDA graphs of all phases."""
    available_gib: float | None = None
    """Left after start."""
    token_capacity: int | None = None
    """Tokens that the KV cache holds."""


class EngineFacts(Record):
    """One launch of an engine on a node: what was asked for and what came up."""

    engine: Literal["sglang", "external", "simulated"]
    """Kind of engine."""
    target: str
    """Target that it was started for."""
    launch: int
    """Launch number of the plan, from 0."""
    start: str
    """Id of this physical start, such as `n0.2`; the `launch` field of every record that it made."""
    adopted_from: str | None = None
    """Id of the start that it was taken over from: the server was kept warm. None: it was started."""
    version: str | None = None
    """Engine version as the server itself says."""
    url: str
    """Base URL, credentials removed."""
    hosts: tuple[str, ...] = ()
    """Hosts (boot ids or addresses) that the engine occupies."""
    interpreter: str | None = None
    """Kind of the environment that was chosen (`node`, `python`, `managed cpu 0.5.21`); None where none is started."""
    argv: tuple[str, ...] = ()
    """Command line without interpreter path, secrets redacted."""
    env: dict[str, str] = {}
    """Environment variables that the machine (those of its GPUs' links) and the configuration set, secrets redacted."""
    model_revision: str | None = None
    """Resolved revision, or a content hash of a local model's configuration."""
    resolved_args: dict[str, JsonValue] = {}
    """Arguments as the engine resolved them (kernels, parallel sizes, dtype ...), secrets and paths removed."""
    startup: tuple[StartUpPhase, ...] = ()
    """Phases of the start; always holds `total`."""
    memory: MemoryUsage | None = None
    """Memory of rank 0; None where the engine does not say."""
    max_total_tokens: int | None = None
    """Tokens that may be in the engine at once."""
    context_tokens: int | None = None
    """Longest prompt plus reply."""
    vocab_tokens: int | None = None
    """Token ids of the model are below this: prompts are drawn from it. None where it could not be learnt."""
    untuned_kernels: tuple[str, ...] = ()
    """Kernel configurations that the server had none of for this GPU, by its log at the start: it runs default ones."""
    simulated: bool = False
    """True: every number that came from it is made up by a timing model."""
    time_scale: float = 1.0
    """Simulated seconds per real second; 1 for real engines."""

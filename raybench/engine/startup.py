"""What an engine says about its own start, in its log and under /server_info. Pure parsers.

Read from SGLang 0.5.7 to 0.5.23: what one version lacks, another source fills; what none says is None. Sizes are GiB
although the server prints GB. Log lines come once a rank, prefixed `[date time TP0]`: rank 0 counts for sizes, the
slowest rank for durations.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from raybench.records import MemoryUsage, StartUpPhase

_PREFIX = re.compile(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)((?: [A-Z]+\d+)*)\] (.*)$")
_ELAPSED = re.compile(r"(?:Time elapsed: |elapsed=)([\d.]+) ?s")
_MEM_USAGE = re.compile(r"mem usage=(-?[\d.]+) GB")
_KV_SPLIT = re.compile(r"K size: ([\d.]+) GB, V size: ([\d.]+) GB")
_KV_WHOLE = re.compile(r"KV size: ([\d.]+) GB")
_AVAILABLE = re.compile(r"available_\w+_mem=([\d.]+) GB")
_CONTEXT = re.compile(r"context_len=(\d+)")
_CAPACITY = re.compile(r"max_total_num_tokens=(\d+)")
_UNTUNED = re.compile(r"Performance might be sub-optimal! Config file not found at (?:\S*/)?(\S+(?: \S+)*?\.json)")
_GRAPH_END = re.compile(r"^Capture .*cuda graph end", re.IGNORECASE)

RESOLVED = (
    "device", "load_format", "dtype", "quantization", "kv_cache_dtype", "context_length", "trust_remote_code",
    "tp_size", "ep_size", "dp_size", "pp_size", "nnodes", "enable_dp_attention", "attn_dp_size",
    "mem_fraction_static", "max_running_requests", "max_total_tokens", "chunked_prefill_size", "max_prefill_tokens",
    "schedule_policy", "schedule_conservativeness", "page_size", "disable_radix_cache", "radix_eviction_policy",
    "disable_overlap_schedule", "num_continuous_decode_steps", "enable_mixed_chunk", "stream_interval", "sleep_on_idle",
    "attention_backend", "prefill_attention_backend", "decode_attention_backend", "sampling_backend", "grammar_backend",
    "fp8_gemm_runner_backend", "fp4_gemm_runner_backend", "bf16_gemm_backend", "moe_runner_backend", "moe_a2a_backend",
    "deepep_mode", "enable_eplb", "disable_custom_all_reduce", "enable_nccl_nvls", "enable_torch_compile",
    "disable_cuda_graph", "cuda_graph_max_bs", "cuda_graph_max_bs_decode", "cuda_graph_max_bs_prefill",
    "disable_piecewise_cuda_graph", "speculative_algorithm", "speculative_num_steps", "speculative_eagle_topk",
    "speculative_num_draft_tokens", "enable_deterministic_inference", "sampling_defaults", "reasoning_parser",
    "tool_call_parser", "enable_metrics", "enable_cache_report", "model_impl",
)  # fmt: skip
"""Server arguments that say what was measured. No paths, no ports, no keys."""


@dataclass(frozen=True, slots=True)
class StartUp:
    """All that is known of a start, from every source."""

    version: str | None
    phases: tuple[StartUpPhase, ...]
    memory: MemoryUsage | None
    resolved_args: dict[str, JsonValue]
    max_total_tokens: int | None
    context_tokens: int | None
    untuned_kernels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    when: datetime
    rank0: bool
    text: str


def read_start(info: Mapping[str, JsonValue], log: str) -> StartUp:
    """Join /server_info (empty mapping if it could not be had) and the log (empty for a remote engine)."""
    state = _state(info)
    capacity = _whole(info.get("max_total_num_tokens")) or _last_whole(_CAPACITY, log)
    return StartUp(
        version=_text(info.get("version")),
        phases=merged_phases(phases_of_info(state), phases_of_log(log)),
        memory=memory_of(state, log),
        resolved_args={name: info[name] for name in RESOLVED if _is_plain(info.get(name))},
        max_total_tokens=capacity,
        context_tokens=_last_whole(_CONTEXT, log) or _whole(info.get("context_length")),
        untuned_kernels=untuned_kernels(log),
    )


def untuned_kernels(log: str) -> tuple[str, ...]:
    """Kernel configurations that the server looked for and did not find, so that it runs with default ones."""
    return tuple(dict.fromkeys(match[1] for match in _UNTUNED.finditer(log)))


def phases_of_log(log: str) -> tuple[StartUpPhase, ...]:
    """Phases of which the log prints a duration (weights, cuda_graph), and autotune by its time stamps (1 s fine)."""
    longest: dict[str, float] = {}
    graphs: dict[str, float] = {}
    tune_began: datetime | None = None
    for line in _lines(log):
        elapsed = _number(_ELAPSED, line.text)
        if line.text.startswith("Load weight end") and elapsed is not None:
            longest["weights"] = max(elapsed, longest.get("weights", 0.0))
        elif _GRAPH_END.match(line.text) and elapsed is not None:
            name = line.text.split(" end", 1)[0]
            graphs[name] = max(elapsed, graphs.get(name, 0.0))
        elif line.text.startswith("Running FlashInfer autotune") and tune_began is None:
            tune_began = line.when
        elif line.text.startswith("FlashInfer autotune completed") and tune_began is not None:
            longest["autotune"] = max(0.0, (line.when - tune_began).total_seconds())
    if graphs:
        longest["cuda_graph"] = sum(graphs.values())
    return tuple(StartUpPhase(name=name, duration_s=duration_s) for name, duration_s in longest.items())


def phases_of_info(state: Mapping[str, JsonValue]) -> tuple[StartUpPhase, ...]:
    """Phases under `startup_time` of an internal state (newer versions only)."""
    times = state.get("startup_time")
    if not isinstance(times, dict):
        return ()
    names = {"load_weight": "weights", "kv_cache_allocation": "kv_cache", "scheduler_e2e": "scheduler"}
    found = {ours: _float(times.get(theirs)) for theirs, ours in names.items()}
    found["cuda_graph"] = _sum(times.get("cuda_graph"))
    return tuple(StartUpPhase(name=name, duration_s=value) for name, value in found.items() if value is not None)


def merged_phases(*sources: tuple[StartUpPhase, ...]) -> tuple[StartUpPhase, ...]:
    """One phase a name, the earliest source's. A zero is a phase that did not happen (CUDA graphs on a CPU)."""
    chosen: dict[str, StartUpPhase] = {}
    for phase in (phase for source in sources for phase in source):
        if phase.duration_s > 0:
            chosen.setdefault(phase.name, phase)
    return tuple(chosen.values())


def memory_of(state: Mapping[str, JsonValue], log: str) -> MemoryUsage | None:
    """Memory of rank 0; None if neither source says anything."""
    said = state.get("memory_usage")
    usage: dict[str, JsonValue] = said if isinstance(said, dict) else {}
    weights, kv_cache, graphs = _memory_of_log(log)
    # Up to 0.5.16 /server_info leaves out the piecewise graphs: 0.29 there, 0.29 + 1.27 GiB in the log.
    graph = max((size for size in (_sum(usage.get("graph")), graphs) if size is not None), default=None)
    memory = MemoryUsage(
        weights_gib=_first(_float(usage.get("weight")), weights),
        kv_cache_gib=_first(_float(usage.get("kvcache")), kv_cache),
        cuda_graph_gib=graph,
        available_gib=_first(_float(usage.get("startup_available")), _number(_AVAILABLE, log)),
        token_capacity=_whole(usage.get("token_capacity")) or _last_whole(_CAPACITY, log),
    )
    return None if memory == MemoryUsage() else memory


def _memory_of_log(log: str) -> tuple[float | None, float | None, float | None]:
    weights = kv_cache = graphs = None
    for line in _lines(log):
        if not line.rank0:
            continue
        used = _number(_MEM_USAGE, line.text)
        if line.text.startswith("Load weight end"):
            weights = used
        elif "KV Cache is allocated" in line.text:
            split = _KV_SPLIT.search(line.text)
            kv_cache = float(split[1]) + float(split[2]) if split else _number(_KV_WHOLE, line.text)
        elif _GRAPH_END.match(line.text) and used is not None:
            graphs = used + (graphs or 0.0)
    return weights, kv_cache, graphs


_MILESTONES = (
    ("server_args=", "arguments accepted"),
    ("Load weight begin", "loading weights"),
    ("Load weight end", "weights loaded"),
    ("KV Cache is allocated", "KV cache allocated"),
    ("Running FlashInfer autotune", "autotuning kernels"),
    ("cuda graph begin", "capturing CUDA graphs"),
    ("max_total_num_tokens=", "scheduler up, warming up"),
    ("fired up and ready", "ready"),
)


def milestone(log: str) -> str | None:
    """How far a start has come, by the last telling line of the log; None at the beginning."""
    reached = None
    for line in log.splitlines():
        for mark, words in _MILESTONES:
            if mark.lower() in line.lower():
                reached = words
    return reached


def _lines(log: str) -> list[_Line]:
    found: list[_Line] = []
    for line in log.splitlines():
        match = _PREFIX.match(line)
        if match:
            ranks = match[2].split()
            # Time stamps are only ever subtracted from each other; the server prints no zone.
            when = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
            found.append(_Line(when, all(rank.endswith("0") and rank[-2].isalpha() for rank in ranks), match[3]))
    return found


def _state(info: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    states = info.get("internal_states")
    first = states[0] if isinstance(states, list) and states else {}
    return first if isinstance(first, dict) else {}


def _is_plain(value: JsonValue) -> bool:
    return isinstance(value, str | int | float | bool) and value != ""


def _number(pattern: re.Pattern[str], text: str) -> float | None:
    match = pattern.search(text)
    return float(match[1]) if match else None


def _last_whole(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.findall(text)
    return int(found[-1]) if found else None


def _float(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _sum(value: JsonValue) -> float | None:
    """A number, or the sum of a mapping's numbers (newer versions split CUDA graphs by phase)."""
    if isinstance(value, dict):
        numbers = [number for number in map(_float, value.values()) if number is not None]
        return sum(numbers) if numbers else None
    return _float(value)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)

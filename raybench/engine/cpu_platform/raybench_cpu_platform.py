"""SGLang platform that runs the torch-native code paths on a CPU.

Not part of raybench's own process: raybench copies this file into an environment that it manages, where SGLang finds it
through the entry point group `sglang.srt.platforms` and selects it by `SGLANG_PLATFORM`. It is SGLang's own extension
point; nothing of SGLang is patched. SGLang's built-in CPU switch needs a CPU build of its kernel package, which no
registry carries.
"""

# ruff: noqa: PLC0415, ARG002 - SGLang imports this early; the signatures are its own
from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform


def _token_allocator(size, *, page_size, **settings):
    from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator

    if page_size != 1:
        raise ValueError(f"page size {page_size}: the CPU platform of raybench serves page size 1 only")
    return TokenToKVPoolAllocator(size, **settings)


class RaybenchCpuPlatform(CpuDeviceMixin, SRTPlatform):
    """SGLang's scheduler, cache and sampler over plain torch operators."""

    _enum = PlatformEnum.OOT

    def get_default_attention_backend(self):
        return "torch_native"

    def get_dispatch_key_name(self):
        return "native"

    def get_compile_backend(self, mode=None):
        return "eager"

    def get_mha_kv_pool_cls(self):
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        return MHATokenToKVPool

    def get_paged_allocator_cls(self):
        return _token_allocator


def activate():
    """Entry point: where SGLang finds the class."""
    return "raybench_cpu_platform:RaybenchCpuPlatform"

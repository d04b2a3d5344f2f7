"""Why an engine did not start or died, read from its log and its exit. Pure.

The advice is specific where the cause can be named; else the last error line and the tail of the log speak.
"""

import re
import signal
from dataclasses import dataclass

TAIL_LINES = 20
ARGPARSE_EXIT = 2
_NOISE = (
    "Ignore import error when loading",
    "Sleeping 5 seconds before crash diagnostics",
    "skipping py-spy",
    "kill_process_tree called",
    "Only CUDA, HIP and XPU support",
    "Only CUDA, MUSA and NPU support",
    "warnings.warn(",
    "UserWarning:",
    "FutureWarning:",
    "resource_tracker",
)
_CARETS = re.compile(r"^[\s^~]*$")
_ERROR_LINE = re.compile(r"^(?:\[[^\]]*\] )?(?:[\w.]*\.)?(\w*(?:Error|Exception|Exit|OutOfMemory\w*))(?:: |$)")
_ARGPARSE = re.compile(r"^.*?: error: (.*)$", re.MULTILINE)
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")
_PORT = re.compile(r"address already in use|EADDRINUSE|\[Errno 98\]|port \d+ is (?:already )?in use", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory|OutOfMemoryError|Not enough memory|cannot allocate memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cause:
    """A named cause of an end."""

    name: str
    """flag, port, memory, import, killed, unknown."""
    advice: str
    """What happened in words, and what to do."""
    retryable: bool
    """Whether the same start may succeed another time."""


def cause_of(exit_status: int | None, log: str) -> Cause:
    """The likeliest cause of an engine's end during its start."""
    refused = _ARGPARSE.findall(log)
    if exit_status == ARGPARSE_EXIT and refused:
        flags = ", ".join(_FLAG.findall(refused[-1])[:1]) or "a flag"
        return Cause(
            "flag",
            f"This SGLang version refuses {flags}: {refused[-1].strip()[:300]}. Correct engine.args (full flag names; "
            "names change between versions).",
            retryable=False,
        )
    if _PORT.search(log):
        return Cause("port", "A port was taken by another process. Retry, or end what holds it.", retryable=True)
    if _MEMORY.search(log):
        return Cause(
            "memory",
            "It ran out of memory. See what else holds the GPU's or the machine's memory (nvidia-smi, free), lower "
            "mem-fraction-static, max-total-tokens or cuda-graph-max-bs, or use more GPUs (tp-size).",
            retryable=True,
        )
    error = last_error(log)
    if error is not None and error.startswith(("ModuleNotFoundError", "ImportError")):
        return Cause(
            "import",
            f"Its environment lacks something: {error}. Install it there, or choose another engine.environment.",
            retryable=False,
        )
    if exit_status == -signal.SIGKILL and error is None:
        return Cause(
            "killed",
            "It was killed from outside, as the operating system does when memory runs out (see dmesg).",
            retryable=True,
        )
    return Cause("unknown", "Its log says why; correct engine.args, engine.env or the model.", retryable=True)


def last_error(log: str) -> str | None:
    """The last line that names an exception, without its time stamp; None without any."""
    found = None
    for line in meaningful(log):
        match = _ERROR_LINE.match(line)
        if match and match[1] != "SystemExit":
            found = re.sub(r"^\[[^\]]*\] ", "", line)
    return found


def tail(log: str, num_lines: int = TAIL_LINES) -> str:
    """The last meaningful lines of the log, long ones cut."""
    lines = [line if len(line) <= 300 else line[:297] + "..." for line in meaningful(log)]
    return "\n".join(lines[-num_lines:])


def meaningful(log: str) -> list[str]:
    """Lines of the log without known noise: nanobind's leak report, optional models, crash diagnostics, carets."""
    kept: list[str] = []
    leak_block = False
    for line in log.splitlines():
        if line.startswith("nanobind:"):
            leak_block = True
        elif leak_block and not line.startswith((" -", " ...", "See https")):
            leak_block = False
        if leak_block or _CARETS.match(line) or any(words in line for words in _NOISE):
            continue
        kept.append(line.rstrip())
    return kept


def exit_words(exit_status: int | None) -> str:
    """An exit status in words."""
    if exit_status is None:
        return "its exit status is not known"
    if exit_status < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"it was ended by {known.get(-exit_status, f'signal {-exit_status}')}"
    return f"it ended with exit code {exit_status}"

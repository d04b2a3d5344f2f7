"""Causes are read from what real servers printed when they ended."""

import signal

import pytest

from raybench.engine.failure import cause_of, exit_words, last_error, tail

CRASH = """\
[2026-11-23 14:58:51] Ignore import error when loading sglang.srt.models.other: No module named 'x'
[2026-11-23 14:58:52] Scheduler hit an exception: Traceback (most recent call last):
    output = moe_forward_native(
             ^^^^^^^^^^^^^^^^^^^
RuntimeError: index -1 is out of bounds for dimension 1 with size 8

[2026-11-23 14:58:52] Sleeping 5 seconds before crash diagnostics to let GPU activity settle.
[2026-11-23 14:58:57] No live scheduler processes found; skipping py-spy and CUDA coredump.
[2026-11-23 14:58:57] kill_process_tree called: parent_pid=22288, include_parent=True, pid=22288
nanobind: leaked 4 instances!
 - leaked instance 0x7fb02953eaa8 of type "triton"
 - ... skipped remainder
nanobind: this is likely caused by a reference counting issue in the binding code.
See https://nanobind.readthedocs.io/en/latest/refleaks.html
"""
REFUSED = """\
usage: launch_server.py [-h] --model-path MODEL_PATH
launch_server.py: error: unrecognized arguments: --cuda-graph-max-batch 64
"""
AMBIGUOUS = """\
launch_server.py: error: ambiguous option: --cuda-graph-max-bs could match --cuda-graph-max-bs-decode
"""


@pytest.mark.parametrize(
    ("exit_status", "log", "name", "retryable", "says"),
    [
        (2, REFUSED, "flag", False, "refuses --cuda-graph-max-batch"),
        (2, AMBIGUOUS, "flag", False, "refuses --cuda-graph-max-bs:"),
        (1, "OSError: [Errno 98] Address already in use", "port", True, "port"),
        (
            -9,
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "memory",
            True,
            "mem-fraction-static",
        ),
        (
            -9,
            "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
            "memory",
            True,
            "memory",
        ),
        (1, "ModuleNotFoundError: No module named 'sgl_kernel'", "import", False, "No module named 'sgl_kernel'"),
        (-9, "[2026-11-23 14:58:51] Load weight begin", "killed", True, "dmesg"),
        (-9, CRASH, "unknown", True, "log"),
        (None, "", "unknown", True, "log"),
    ],
)
def test_causes(exit_status: int | None, log: str, name: str, retryable: bool, says: str) -> None:
    cause = cause_of(exit_status, log)
    assert (cause.name, cause.retryable) == (name, retryable)
    assert says in cause.advice


def test_an_optional_model_that_does_not_import_is_no_cause() -> None:
    log = "Ignore import error when loading sglang.srt.models.a: ImportError: b\nValueError: tp-size must divide 4\n"
    assert cause_of(1, log).name == "unknown"
    assert last_error(log) == "ValueError: tp-size must divide 4"


def test_the_tail_is_without_noise_and_the_error_is_found() -> None:
    assert last_error(CRASH) == "RuntimeError: index -1 is out of bounds for dimension 1 with size 8"
    shown = tail(CRASH)
    assert "index -1" in shown
    for noise in ("nanobind", "leaked", "refleaks", "Ignore import", "^^^", "py-spy", "kill_process_tree"):
        assert noise not in shown


def test_the_tail_is_bounded() -> None:
    shown = tail("\n".join("x" * 5000 for _ in range(500)), num_lines=10)
    assert len(shown.splitlines()) == 10
    assert max(len(line) for line in shown.splitlines()) == 300


@pytest.mark.parametrize(
    ("exit_status", "words"),
    [(0, "exit code 0"), (-signal.SIGKILL, "SIGKILL"), (None, "not known"), (-63, "signal 63")],
)
def test_exit_statuses_in_words(exit_status: int | None, words: str) -> None:
    assert words in exit_words(exit_status)

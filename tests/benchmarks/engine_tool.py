"""A benchmark of the engine's own, unmodified, in the engine's interpreter: imported once, then run as often as asked.

The script that wraps it gets the folder as its argument, prints `@ready` when it can take a run and after each one,
with what it has to tell behind it as JSON, and reads one line for each run: the words of the command as a JSON list.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class EngineTool:
    """The child that holds it."""

    def __init__(self, python: str, script: str, folder: Path) -> None:
        self._log_path = folder / "tool.log"
        self._log = self._log_path.open("wb")
        self._child = subprocess.Popen(
            [python, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            cwd=folder, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self._said()

    def _said(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        printed: list[str] = []
        for line in self._child.stdout:
            if line.startswith("@ready"):
                return json.loads(line[6:].strip() or "{}")
            printed.append(line)
        raise SystemExit("".join(printed[-20:]) + self._log_path.read_text()[-4000:])

    def run(self, words: Sequence[str]) -> dict[str, Any]:
        """What it told behind `@ready`. Raises SystemExit with its last words when it ends instead."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(words) + "\n")
        self._child.stdin.flush()
        return self._said()

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.communicate()
        self._log.close()

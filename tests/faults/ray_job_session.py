"""Runs as the first process of a pid namespace: a Ray head, three submitted jobs, what became of them as JSON.

    ray_job_session.py FOLDER      FOLDER holds small.yaml and gets the run folders and result.json

When it ends, the kernel ends everything that it started, Ray's daemons included.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ray.job_submission import JobSubmissionClient

LIMIT_S = 180.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ray(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"ray {' '.join(words)}: {done.stdout}\n{done.stderr}")
    return done


def submit(url: str, folder: Path, name: str, *words: str, wait: bool) -> subprocess.CompletedProcess[str]:
    stop = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}})
    return ray(
        "job", "submit", "--address", url, "--submission-id", name, "--working-dir", str(folder / "configs"),
        "--runtime-env-json", stop, *([] if wait else ["--no-wait"]), "--", "python", "-m", "raybench", "run", *words,
        check=False,
    )  # fmt: skip


def ended(client: JobSubmissionClient, name: str, command: int | None) -> dict[str, Any]:
    info = client.get_job_info(name)
    return {
        "status": str(info.status), "driver_exit_code": info.driver_exit_code, "command_exit_code": command,
        "log": client.get_job_logs(name),
    }  # fmt: skip


def units_done(folder: Path) -> int:
    ledger = folder / "ledger.jsonl"
    return ledger.read_bytes().count(b'"kind":"unit_done"') if ledger.exists() else 0


def main(folder: Path) -> None:
    dashboard = free_port()
    ray(
        "start", "--head", f"--port={free_port()}", f"--dashboard-port={dashboard}", "--num-cpus=2",
        f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
        "--disable-usage-stats",
    )  # fmt: skip
    url = f"http://127.0.0.1:{dashboard}"
    client = JobSubmissionClient(url)
    result: dict[str, dict[str, Any]] = {}

    done = submit(url, folder, "relative", "small.yaml", "--out", "results", wait=True)
    result["relative"] = ended(client, "relative", done.returncode)

    done = submit(url, folder, "whole", "small.yaml", "--out", str(folder / "whole"), wait=True)
    result["whole"] = ended(client, "whole", done.returncode)

    submit(url, folder, "stopped", "small.yaml", "--out", str(folder / "stopped"), wait=False)
    limit_s = time.monotonic() + LIMIT_S
    while units_done(folder / "stopped") < 2 and time.monotonic() < limit_s:
        time.sleep(0.1)
    ray("job", "stop", "stopped", "--address", url)
    result["stopped"] = ended(client, "stopped", None)
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"
    main(Path(sys.argv[1]))

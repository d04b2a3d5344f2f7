"""Runs as the first process of a pid namespace: a Ray head, three submitted jobs, what became of them as JSON.

    ray_job_session.py FOLDER      FOLDER holds configs/ and gets the run folders and result.json

When it ends, the kernel ends everything that it started, Ray's daemons included.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.job_submission import JobSubmissionClient

LIMIT_S = 300.0


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


def submit(client: JobSubmissionClient, folder: Path, name: str, config: str, out: str) -> None:
    """Submit a job; again while the head has no agent yet, which on a busy machine comes up after the dashboard."""
    limit_s = time.monotonic() + LIMIT_S
    while True:
        try:
            client.submit_job(
                entrypoint=f"python -m raybench run {config} --out {out}", submission_id=name,
                runtime_env={
                    "working_dir": str(folder / "configs"), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"},
                },
            )  # fmt: skip
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > limit_s:
                raise
            time.sleep(1.0)
        else:
            return


def ended(client: JobSubmissionClient, name: str, command: int | None) -> dict[str, Any]:
    info = client.get_job_info(name)
    return {
        "status": str(info.status), "driver_exit_code": info.driver_exit_code, "command_exit_code": command,
        "log": client.get_job_logs(name),
    }  # fmt: skip


def has_ended(client: JobSubmissionClient, name: str) -> bool:
    return client.get_job_status(name).is_terminal()


def units_done(folder: Path) -> int:
    ledger = folder / "ledger.jsonl"
    return ledger.read_bytes().count(b'"kind":"unit_done"') if ledger.exists() else 0


def until(happened: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > limit_s:
            raise TimeoutError(f"did not happen within {LIMIT_S:.0f} s")
        time.sleep(0.1)


def main(folder: Path) -> None:
    dashboard = free_port()
    ray(
        "start", "--head", f"--port={free_port()}", f"--dashboard-port={dashboard}", "--num-cpus=2",
        f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
        "--disable-usage-stats",
    )  # fmt: skip
    url = f"http://127.0.0.1:{dashboard}"
    client = JobSubmissionClient(url)
    submit(client, folder, "stopped", "long.yaml", str(folder / "stopped"))
    submit(client, folder, "relative", "small.yaml", "results")
    whole = ray(
        "job", "submit", "--address", url, "--submission-id", "whole", "--working-dir", str(folder / "configs"), "--",
        "python", "-m", "raybench", "run", "small.yaml", "--out", str(folder / "whole"), check=False,
    )  # fmt: skip
    until(lambda: has_ended(client, "relative"))
    until(lambda: units_done(folder / "stopped") > 0)
    client.stop_job("stopped")
    until(lambda: has_ended(client, "stopped"))
    result = {
        "relative": ended(client, "relative", None),
        "whole": ended(client, "whole", whole.returncode),
        "stopped": ended(client, "stopped", None),
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"
    main(Path(sys.argv[1]))

"""Runs as the first process of a pid namespace: a Ray head, submitted jobs, what became of them as JSON.

    ray_job_session.py FOLDER      FOLDER holds configs/ and gets the run folders and result.json

When it ends, the kernel ends everything that it started, Ray's daemons included.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.job_submission import JobSubmissionClient

LIMIT_S = 300.0

Results = dict[str, dict[str, Any]]


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


class Submitted:
    """A `raybench submit` in a process of its own, from the folder of the configurations."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "raybench", "submit", *words], cwd=folder / "configs", stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._child.pid, signal.SIGINT)

    def ended(self) -> dict[str, Any]:
        output, _ = self._child.communicate(timeout=LIMIT_S)
        return {"exit_code": self._child.returncode, "output": output}


def submit(client: JobSubmissionClient, folder: Path, name: str, config: str, out: str) -> None:
    """Submit a job without `raybench submit`; again while the head has no agent yet, which on a busy machine comes up
    after the dashboard.
    """
    limit_s = time.monotonic() + LIMIT_S
    while True:
        try:
            client.submit_job(
                entrypoint=f"python -m raybench run {config} --out {out}", submission_id=name,
                runtime_env={"working_dir": str(folder / "configs")},
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
        "log": client.get_job_logs(name), "metadata": info.metadata,
    }  # fmt: skip


def until_ended(client: JobSubmissionClient, name: str) -> None:
    until(lambda: client.get_job_status(name).is_terminal())


def newest(client: JobSubmissionClient, run_folder: Path) -> str:
    """Id of the job that was last submitted for a run folder."""
    jobs = [job for job in client.list_jobs() if (job.metadata or {}).get("run_folder") == str(run_folder)]
    return str(max(jobs, key=lambda job: job.start_time or 0).submission_id)


def units_done(folder: Path) -> int:
    ledger = folder / "ledger.jsonl"
    return ledger.read_bytes().count(b'"kind":"unit_done"') if ledger.exists() else 0


def sessions(folder: Path) -> int:
    return (folder / "ledger.jsonl").read_bytes().count(b'"kind":"run"')


def until(happened: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > limit_s:
            raise TimeoutError(f"did not happen within {LIMIT_S:.0f} s")
        time.sleep(0.1)


def kill_driver(config: str) -> None:
    """SIGKILL for the driver of the running job, and for nothing else."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            if words[1:5] == ["-m", "raybench", "run", config]:
                os.kill(int(entry.name), signal.SIGKILL)


def plain_jobs(client: JobSubmissionClient, url: str, folder: Path) -> Results:
    """`ray job submit` without any help of ours."""
    submit(client, folder, "relative", "small.yaml", "results")
    whole = ray(
        "job", "submit", "--address", url, "--submission-id", "whole", "--working-dir", str(folder / "configs"), "--",
        "python", "-m", "raybench", "run", "small.yaml", "--out", str(folder / "whole"), check=False,
    )  # fmt: skip
    until_ended(client, "relative")
    return {"relative": ended(client, "relative", None), "whole": ended(client, "whole", whole.returncode)}


def submitted_jobs(client: JobSubmissionClient, url: str, folder: Path) -> Results:
    """`raybench submit`: a red verdict; one job that is stopped, resumed, killed, and resumed to its end."""
    results: Results = {}
    there = ("--address", url)
    invalid = Submitted(folder, "invalid.yaml", *there, "--out", str(folder / "invalid"))
    run_folder = folder / "medium"
    words = ("medium.yaml", *there, "--env", "RAYBENCH_TEST=1")

    follower = Submitted(folder, *words, "--out", str(run_folder))
    until(lambda: units_done(run_folder) > 2)
    job = newest(client, run_folder)
    client.stop_job(job)
    results["stopped"] = follower.ended() | {"job": ended(client, job, None), "num_units_done": units_done(run_folder)}
    results["invalid"] = invalid.ended()

    follower = Submitted(folder, *words, "--resume", str(run_folder))
    until(lambda: sessions(run_folder) == 2 and units_done(run_folder) > results["stopped"]["num_units_done"] + 2)
    kill_driver("medium.yaml")
    results["killed"] = follower.ended() | {"num_units_done": units_done(run_folder)}

    results["resumed"] = Submitted(folder, *words, "--resume", str(run_folder)).ended()
    return results


def watched_job(client: JobSubmissionClient, url: str, folder: Path, follower: Submitted) -> Results:
    """Ctrl-C in front of a long job, a look at it, its end, another look."""
    run_folder = folder / "long"
    until(lambda: units_done(run_folder) > 0)
    follower.interrupt()
    left = follower.ended()
    job = newest(client, run_folder)
    left["status"] = str(client.get_job_status(job))
    look = status_of(job, url)
    client.stop_job(job)
    until_ended(client, job)
    return {"left": left, "look": look, "gone": status_of(job, url)}


def status_of(job: str, url: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "raybench", "status", job, "--address", url], capture_output=True, text=True, check=False
    )
    return {"exit_code": done.returncode, "output": done.stdout + done.stderr}


def main(folder: Path) -> None:
    dashboard = free_port()
    ray(
        "start", "--head", f"--port={free_port()}", f"--dashboard-port={dashboard}", "--num-cpus=2",
        f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
        "--disable-usage-stats",
    )  # fmt: skip
    url = f"http://127.0.0.1:{dashboard}"
    client = JobSubmissionClient(url)
    # The long job runs beside the others: its engine is a timing model that mostly sleeps.
    follower = Submitted(folder, "long.yaml", "--address", url, "--out", str(folder / "long"))
    result = plain_jobs(client, url, folder)
    result |= watched_job(client, url, folder, follower)
    result |= submitted_jobs(client, url, folder)
    (folder / "result.json").write_text(json.dumps(result))


def reap() -> None:
    """Go on in a child; the first process of the namespace must bury orphans, as that of every real machine does.

    Ray waits for all processes of a stopped job to be gone, and a dead one that nobody has buried is not.
    """
    child = os.fork()
    while child:
        done, status = os.wait()
        if done == child:
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"
    reap()
    main(Path(sys.argv[1]))

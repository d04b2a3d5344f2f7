"""`python -m raybench.client JOB.json OUT.jsonl`: run one job, append its result lines.

Exit code 0: the job is whole. 25: `ClientDone` says what stopped it. Anything else: a bug, the traceback is on stderr.
"""

import asyncio
import sys
from pathlib import Path
from typing import IO

import uvloop

from raybench.client.drive import run_batch
from raybench.client.job import (
    JOB,
    AnyJob,
    AnyLine,
    BatchJob,
    CalibrationJob,
    CalibrationLine,
    ChatJob,
    ClientDone,
    LoadJob,
)
from raybench.errors import ClientError


def main(job_file: Path, out_file: Path) -> int:
    """Run the job of one file; returns the exit code."""
    job = JOB.validate_json(job_file.read_bytes())
    with out_file.open("a", encoding="utf-8") as out:
        error: str | None = None
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run(job, out, out_file.parent))
        except ClientError as failure:
            error = failure.message
        _write(out, ClientDone(error=error))
    return 0 if error is None else ClientError.exit_code


async def _run(job: AnyJob, out: IO[str], folder: Path) -> None:
    match job:
        case BatchJob():
            await run_batch(job, lambda line: _write(out, line))
        case ChatJob():
            # The SDK takes 0.6 s to import: batch jobs do not pay for it.
            from raybench.client.chat import run_chat  # noqa: PLC0415

            await run_chat(job, lambda line: _write(out, line))
        case LoadJob():
            # numpy and Arrow take as long.
            from raybench.client.serve import run_serving  # noqa: PLC0415

            await run_serving(job, folder, lambda line: _write(out, line))
        case CalibrationJob():
            from raybench.client.calibrate import ROUTES, MockShape, calibrate  # noqa: PLC0415

            shape = MockShape(route=ROUTES[job.route])
            found = calibrate([job.streams], ("ticks", "steps"), shape, job.max_processes, lambda _: None)
            _write(out, CalibrationLine(result=found))


def _write(out: IO[str], line: AnyLine) -> None:
    out.write(line.model_dump_json() + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

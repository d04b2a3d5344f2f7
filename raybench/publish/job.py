"""What the supervising process tells the publishing one, and what it hears back: two files in the run folder."""

from pathlib import Path

from raybench.config.publish import PublishConfig, SinkName
from raybench.publish.state import Published
from raybench.records import Record

FOLDER = ".publish"
"""Folder inside a run folder for these files."""


class Job(Record):
    """One publication to one sink."""

    folders: tuple[str, ...]
    """Run folders; the first one holds the state. Several: their comparison."""
    sink: SinkName
    """The sink."""
    settings: PublishConfig
    """Settings that hold, whatever the folders' configurations say."""
    attempt: str = ""
    """Label that makes new run ids."""
    known: Published = Published()
    """The last whole publication, whose views are updated in place."""
    live: bool = False
    """True: the measured run goes on; be modest."""


class Answer(Record):
    """How it ended."""

    published: Published | None = None
    """What was read back; None after a failure."""
    error: str | None = None
    """What went wrong, secrets hidden; None if nothing did."""


def job_path(folder: Path) -> Path:
    """Where the job lies."""
    return folder / FOLDER / "job.json"


def answer_path(folder: Path) -> Path:
    """Where the answer will lie."""
    return folder / FOLDER / "answer.json"

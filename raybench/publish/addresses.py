"""Addresses of the views that were made, noted one by one the moment that each was saved.

The publishing process may be killed between a save and its answer, and one view may be refused after the other was
made: what is not known of is made a second time. They are kept by what they show and where, since a run folder may be
published to two projects, and be compared with many.
"""

from pathlib import Path

from raybench.publish.job import FOLDER
from raybench.records import Record

ADDRESSES = "views.json"


class Views(Record):
    """The two views of one comparison in one project."""

    workspace_url: str | None = None
    """The workspace; None = not made."""
    report_url: str | None = None
    """The report; None = not made."""


class AddressBook(Record):
    """All views that were made from a run folder."""

    version: int = 1
    """Version of the file."""
    views: dict[str, Views] = {}
    """By the project's address and the comparison's id."""


def known_views(folder: Path, where: str, compared_id: str) -> Views | None:
    """The views of a comparison in a project; None where the folder tells of none."""
    return _read(folder).views.get(_key(where, compared_id))


def has_book(folder: Path) -> bool:
    """Whether any view of this folder was noted: versions before this file kept one pair of addresses only."""
    return _path(folder).is_file()


def note_views(folder: Path, where: str, compared_id: str, views: Views) -> None:
    """Keep them; the file is whole or as it was. Raises OSError."""
    path = _path(folder)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    book = AddressBook(views=_read(folder).views | {_key(where, compared_id): views})
    part.write_text(book.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _key(where: str, compared_id: str) -> str:
    return f"{where} {compared_id}"


def _path(folder: Path) -> Path:
    return folder / FOLDER / ADDRESSES


def _read(folder: Path) -> AddressBook:
    try:
        return AddressBook.model_validate_json(_path(folder).read_bytes())
    except (OSError, ValueError):
        return AddressBook()

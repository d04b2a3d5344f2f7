"""What a lint of a cluster file finds, and how its checks walk through a file that may hold anything. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from raybench.config.source import Document, KeyPath, dotted

Severity = Literal["error", "fill_in", "warning"]
"""fill_in: an example stands where a value of the user's own must. It stops a cluster as an error does."""


@dataclass(frozen=True, slots=True)
class Lint:
    """One thing that is wrong with a cluster file."""

    code: str
    severity: Severity
    where: str
    """`file:line: key.path`."""
    message: str
    """What is wrong, and what to do."""

    @property
    def words(self) -> str:
        """The whole of it in one line."""
        return f"{self.where}: {self.message} [{self.code}]"


class Leaf:
    """A value of a document with its place. Asking for what is not there gives a leaf without a value."""

    def __init__(self, document: Document, path: KeyPath = (), value: JsonValue = None) -> None:
        self._document = document
        self.path = path
        self.value = document.data if path == () else value

    def __getitem__(self, key: str) -> "Leaf":
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Leaf(self._document, (*self.path, key), value)

    def items(self) -> Iterator[tuple[str, "Leaf"]]:
        """Entries of a mapping; none of anything else."""
        for key in self.value if isinstance(self.value, dict) else ():
            yield key, self[key]

    def entries(self) -> Iterator["Leaf"]:
        """Entries of a list; none of anything else."""
        for number, value in enumerate(self.value if isinstance(self.value, list) else ()):
            yield Leaf(self._document, (*self.path, number), value)

    @property
    def text(self) -> str:
        """The text; empty for anything else."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def number(self) -> float | None:
        """The number, also where it is written as text; None for anything else."""
        if isinstance(self.value, str) and self.value.isdigit():
            return float(self.value)
        return float(self.value) if isinstance(self.value, int | float) and not isinstance(self.value, bool) else None

    def texts(self) -> list[str]:
        """Texts of a list, or the text itself."""
        return [entry.text for entry in self.entries()] or ([self.text] if self.text else [])

    def leaves(self) -> Iterator["Leaf"]:
        """Every plain value below, this one included."""
        for child in [*(leaf for _, leaf in self.items()), *self.entries()]:
            yield from child.leaves()
        if not isinstance(self.value, dict | list):
            yield self

    @property
    def where(self) -> str:
        """Its place, or that of the nearest thing that is there."""
        path = self.path
        while path and path not in self._document.places:
            path = path[:-1]
        place = self._document.places.get(path, "")
        return f"{place}: {dotted(self.path)}" if self.path else place

    def lint(self, code: str, severity: Severity, message: str) -> Lint:
        """A lint at this place."""
        return Lint(code, severity, self.where, message)

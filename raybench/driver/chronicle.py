"""Everything that is written to the ledger, told to the screen as well."""

import asyncio
import time
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, JsonValue

from raybench.driver.screen import Screen
from raybench.driver.store import Mirror
from raybench.ledger.journal import Journal
from raybench.records import Kind, LedgerRecord
from raybench.report.early import EarlyFindings
from raybench.report.progress import Progress

SHOW_EVERY_S = 1.0


class Chronicle:
    """The journal with its listeners. They see a record when it is on disk."""

    def __init__(
        self, journal: Journal, screen: Screen, earlier: Iterable[LedgerRecord], mirror: Mirror | None
    ) -> None:
        """`earlier` = everything that the journal holds already, the head of the session included."""
        self.journal = journal
        self.screen = screen
        self._mirror = mirror
        held = tuple(earlier)
        self._progress = Progress(held)
        self._early = EarlyFindings(held)

    def append(
        self, kind: Kind, body: BaseModel | Mapping[str, JsonValue], *, key: str | None = None,
        attempt: int | None = None, node: str | None = None, launch: str | None = None,
    ) -> LedgerRecord:  # fmt: skip
        """As `Journal.append`."""
        record = self.journal.append(kind, body, key=key, attempt=attempt, node=node, launch=launch)
        if self._mirror is not None and kind != "sample":
            self._mirror.wake()
        self._progress.take(record)
        for line in self._early.take(record):
            self.screen.line(line)
        return record

    async def keep_showing(self) -> None:
        """Keep the screen up to date until it is cancelled."""
        while True:
            self.screen.show(self._progress.status(time.time()))
            await asyncio.sleep(SHOW_EVERY_S)

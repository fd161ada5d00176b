"""The matrix of the fleet, kept for those who look at it: rows of bytes, made anew at most once a second.

Owns when rows are made: only while somebody looks, and only those of models that have changed. All who look share them;
what each may see of it is the stream's matter. Must not do I/O.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from services.status.catalog import Catalog
from services.status.page.cells import Row, in_order, row
from services.status.page.sources import Reports

BEAT_SECONDS = 1.0
# Of the time, making rows may take this part: of a large fleet that moves throughout they come less often.
_SHARE = 0.05
# And what all who look are sent, this one.
_VIEWERS_SHARE = 0.2
# Whatever a message took, perhaps because the API server was asked: nobody is left without news for longer.
_LONGEST_PAUSE_SECONDS = 60.0
# A node that has gone leaves its column for so long, as nothing else tells of it.
_BEATS_PER_LOOK_AT_COLUMNS = 10


def pause_seconds(spent_seconds: float, viewers: int) -> float:
    """How much longer than a beat one of so many viewers waits whose last message took so long to make."""
    return min(_LONGEST_PAUSE_SECONDS, max(0.0, spent_seconds * viewers / _VIEWERS_SHARE - BEAT_SECONDS))


class Board:
    """Rows by the uid of their model. Both maps are replaced and never changed: who holds an old one can compare."""

    def __init__(self, catalog: Catalog, reports: Reports) -> None:
        self.columns: MappingProxyType[str, int] = MappingProxyType({})
        self.rows: MappingProxyType[str, Row] = MappingProxyType({})
        self._catalog = catalog
        self._reports = reports
        self._watchers = 0
        self._painting: asyncio.Task[None] | None = None
        self._painted = asyncio.Event()
        self._beat = asyncio.Condition()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep the matrix current until the block ends. It is complete when the block begins."""
        self._watchers += 1
        if self._painting is None:
            self._painted = asyncio.Event()
            self._painting = asyncio.create_task(self._paint(self._painted))
        try:
            await self._painted.wait()
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                painting, self._painting = self._painting, None
                painting.cancel()
                self.columns, self.rows = MappingProxyType({}), MappingProxyType({})

    async def next_beat(self) -> None:
        """Wait until changes, if there are any, have been taken up."""
        async with self._beat:
            await self._beat.wait()

    async def _paint(self, painted: asyncio.Event) -> None:
        with self._catalog.subscribe(lambda ref: True) as (subscription, _):
            subscription.take_all()
            await self._look_at_columns()
            painted.set()
            beats, spent = 0, 0.0
            while True:
                await asyncio.sleep(max(BEAT_SECONDS, spent / _SHARE))
                started = time.perf_counter()
                beats += 1
                changed = {ref.uid for ref in subscription.take_all()}
                if beats % _BEATS_PER_LOOK_AT_COLUMNS == 0 or self._has_new_nodes(changed):
                    await self._look_at_columns()
                if changed:
                    kept = {uid: each for uid, each in self.rows.items() if uid not in changed}
                    self.rows = MappingProxyType(kept | await self._made(changed, self.columns))
                spent = time.perf_counter() - started
                async with self._beat:
                    self._beat.notify_all()

    def _has_new_nodes(self, uids: set[str]) -> bool:
        return any(
            status.node not in self.columns
            for uid in uids
            if (model := self._catalog.get(uid))
            for status in model.nodes
        )

    async def _look_at_columns(self) -> None:
        """Give each node its place, and make all rows anew if a place has changed."""
        named = set(self._reports.reporting_nodes())
        for model in self._catalog.models():
            named.update(status.node for status in model.nodes)
            await asyncio.sleep(0)
        columns = MappingProxyType({node: place for place, node in enumerate(in_order(frozenset(named)))})
        if columns != self.columns or not self.rows:
            rows = await self._made({model.ref.uid for model in self._catalog.models()}, columns)
            # Both at once: a row has as many cells as there are columns.
            self.columns, self.rows = columns, MappingProxyType(rows)

    async def _made(self, uids: set[str], columns: Mapping[str, int]) -> dict[str, Row]:
        """Rows of models, between each of which others have their turn."""
        made = {}
        for uid in uids:
            if model := self._catalog.get(uid):
                made[uid] = row(model, self._reports.desired_nodes(uid), columns, self._reports.progress)
                await asyncio.sleep(0)
        return made

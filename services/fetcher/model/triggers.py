"""Everything that has a model looked at: its assignment, a look at the disk, damage, a reconnect, the passing of time.

Must not look itself: that is the model loop's.
"""

import asyncio
import random

from libs.artifact.names import split_node_key
from libs.chassis.work import KeyedQueue
from services.fetcher.fleet.assignments import Assignments
from services.fetcher.fleet.reports import Reports
from services.fetcher.model.keeping import Keeper
from services.fetcher.model.model_loop import ModelLoop
from services.fetcher.model.roots import Roots

# Somebody may have deleted what we said, or restored an older state of it.
REVISE_SECONDS = 300.0
# How often it is looked whether it has become known what is wanted, at the most.
_DOUBT_SECONDS = 1.0


class Triggers:
    """Adds models to the queue."""

    def __init__(
        self,
        queue: "KeyedQueue[str]",
        assignments: Assignments,
        roots: Roots,
        reports: Reports,
        model_loop: ModelLoop,
        keeper: Keeper,
        grace_seconds: float,
    ) -> None:
        """grace_seconds is how long what nobody asks for stays in a root that was opened."""
        self._queue = queue
        self._assignments = assignments
        self._roots = roots
        self._reports = reports
        self._model_loop = model_loop
        self._keeper = keeper
        self._grace_seconds = grace_seconds
        self._root_opened = asyncio.Event()

    def assignment_changed(self, key: str) -> None:
        """An assignment is new, different or gone."""
        model_uid = split_node_key(key)[1]
        self._queue.add(model_uid)
        self._keeper.look_again()
        for other in self._model_loop.makes_way_for(model_uid):
            self._queue.add(other)

    def artifact_damaged(self, digest: str) -> None:
        """Reading an artifact has found damage."""
        for model_uid in self._model_loop.models_of(digest):
            self._queue.add(model_uid)

    def said_unsure(self) -> None:
        """What is stored of our own words may be lost: compare it with what is the case, for every model."""
        self._reports.forget_all()
        self._look_at_assigned()

    async def root_opened(self) -> None:
        """A root has become usable: what has a name there is looked at, also if no assignment says so."""
        self._root_opened.set()
        for model_uid in await self._roots.published_models():
            self._model_loop.expect(model_uid)
            self._queue.add(model_uid)
        self._look_at_assigned()

    async def collect_leftovers(self) -> None:
        """Some time after a root was opened, remove from all of them what no model asks for, until cancelled."""
        while True:
            await self._root_opened.wait()
            self._root_opened.clear()
            await asyncio.sleep(self._grace_seconds)
            while not self._model_loop.knows_what_is_wanted():
                await asyncio.sleep(max(self._grace_seconds, _DOUBT_SECONDS))
            await self._roots.collect(self._model_loop.wanted_digests())

    async def room_freed(self) -> None:
        """Have what did not fit on the disk attempted again as soon as there may be room, until cancelled."""
        while True:
            await self._roots.room.freed()
            for model_uid in self._model_loop.retry_for_room():
                self._queue.add(model_uid)

    async def revise(self) -> None:
        """Doubt what was said every few minutes, until cancelled."""
        while True:
            # Not all nodes at the same moment, as after a restart of NATS.
            await asyncio.sleep(random.uniform(0.75, 1.25) * REVISE_SECONDS)
            self._reports.look_again()
            self._look_at_assigned()

    def _look_at_assigned(self) -> None:
        for key in self._assignments.entries:
            self.assignment_changed(key)
        for model_uid in self._model_loop.unassigned_models():
            self._queue.add(model_uid)

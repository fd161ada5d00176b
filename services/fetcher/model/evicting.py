"""Makes room on the node's disks by having models give up their copies, and has them come back.

Owns what the controller has said of use, the loop that looks at the watermarks, and the order in which a model is
recorded as evicted, loses its name, and its files go. Which models go is decided in eviction.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from libs.artifact.sizes import shown_size
from libs.chassis.errors import ServiceError
from libs.model.eviction import (
    SETTLED_SECONDS,
    Resident,
    Watermarks,
    bytes_over,
    choose,
    comes_back,
    fits_below,
)
from ome.fetch.v1 import fetch_pb2
from ome.fetch.v1.fetch_pb2 import RootCapacity
from services.fetcher.model.keeping import UseSource
from services.fetcher.model.roots import Roots

# How often watermarks and use are looked at.
_LOOK_SECONDS = 60.0
# How long files may take to go after their name: until it is known that no Pod has followed it in the last moment.
_GOING_SECONDS = 15.0
_TICK_SECONDS = 0.1
_ASKED = "evicted, as the annotation ome.io/artifact-residency or models.ome.io/evicted-nodes says; remove it to return"
_log = structlog.get_logger()


class Evictor:
    """Gives copies up and takes them back, one at a time for each root."""

    def __init__(
        self,
        roots: Roots,
        use: UseSource,
        assignments: Callable[[], Mapping[str, fetch_pb2.Assignment]],
        busy: Callable[[str], bool],
        collect: Callable[[], Awaitable[None]],
        changed: Callable[[str], None],
        watermarks: Watermarks,
        give_up_revisions: Callable[[str, Callable[[], Awaitable[int]]], Awaitable[None]],
    ) -> None:
        """busy tells whether something is fetched for a model; collect removes what nothing refers to; changed is
        called with the uid of a model about which there is something else to say or to do. give_up_revisions removes
        earlier revisions from a root until nothing is lacking.
        """
        self._roots = roots
        self._use = use
        self._assignments = assignments
        self._busy = busy
        self._collect = collect
        self._changed = changed
        self._watermarks = watermarks
        self._give_up_revisions = give_up_revisions
        # Models that a Pod uses or names, as was said last.
        self._used: set[str] = set()
        # Evicted models whose turn it is to come back by themselves.
        self._invited: set[str] = set()
        self._lock = asyncio.Lock()

    async def away(self, model_uid: str, assignment: fetch_pb2.Assignment) -> str:
        """Why the node is not to have a copy now, a sentence for a person; empty when it is. Forgets what is over."""
        if assignment.residency == fetch_pb2.RESIDENCY_EVICTED:
            return _ASKED
        eviction = self._roots.eviction(model_uid)
        if eviction is None:
            return ""
        if comes_back(
            evictable=assignment.residency == fetch_pb2.RESIDENCY_EVICTABLE,
            demanded=assignment.demand != eviction.demand,
            used=model_uid in self._used,
            invited=model_uid in self._invited,
        ):
            self._invited.discard(model_uid)
            await self._roots.readmit(model_uid)
            return ""
        return f"evicted to make room; its {shown_size(eviction.bytes)} come back when a Pod uses it or there is room"

    async def forget(self, model_uid: str) -> None:
        """The node is not meant for a model any more, so it need not come back."""
        self._invited.discard(model_uid)
        if self._roots.eviction(model_uid):
            await self._roots.readmit(model_uid)

    def is_away(self, model_uid: str, assignment: fetch_pb2.Assignment) -> bool:
        """Whether what is on disk for a model is of no use to it now."""
        return assignment.residency == fetch_pb2.RESIDENCY_EVICTED or self._roots.eviction(model_uid) is not None

    async def make_room(self, root: str, lacking: Callable[[], Awaitable[int]]) -> bool:
        """Free what a download lacks in a root, if that can be had; whether it is there now.

        lacking tells how many bytes that is at the moment.
        """
        async with self._lock:
            needed = await lacking()
            if needed <= 0:
                # Another one has made it meanwhile.
                return True
            await self._collect()
            await self._give_up_revisions(root, lacking)
            needed = await lacking()
            if needed <= 0:
                return True
            chosen = choose(await self._residents(root), needed)
            await self._evict(root, chosen, f"{shown_size(needed)} are needed")
            deadline = time.monotonic() + (_GOING_SECONDS if chosen else 0.0)
            while (needed := await lacking()) > 0 and time.monotonic() < deadline:
                await asyncio.sleep(_TICK_SECONDS)
            if chosen and needed > 0:
                # A Pod has followed a name in the last moment, or nobody tells. What it uses stays, and is counted.
                _log.info("evicted_files_stay", root=root, lacking=needed)
            return needed <= 0

    async def capacities(self) -> list[RootCapacity]:
        """What the roots have, and the watermarks that this node keeps."""
        found = await self._roots.capacities()
        for each in found:
            each.high_watermark_percent = round(100 * self._watermarks.high)
            each.low_watermark_percent = round(100 * self._watermarks.low)
        return found

    async def run(self) -> None:
        """Look at use and watermarks every minute, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once at use and watermarks; see run. A root whose disk cannot be read holds up no other."""
        # Files go some time after their name, and roots may share a disk: one pass gives up what is over once.
        relieved: set[int] = set()
        for capacity in await self._roots.capacities():
            if capacity.problem:
                continue
            try:
                await self._look_at(capacity, relieved)
            except ServiceError as error:
                _log.warning("watermarks_not_kept", root=capacity.root, reason=error.reason, message=error.message)

    async def _look_at(self, capacity: RootCapacity, relieved: set[int]) -> None:
        """Look at one root; relieved are devices on which something has been given up in this look."""
        total, free = capacity.total_bytes, capacity.free_bytes - capacity.reserved_bytes
        if bytes_over(self._watermarks, total, free):
            device = self._roots.store(capacity.root).device
            if device not in relieved and await self._relieve(capacity.root):
                relieved.add(device)
            return
        evictions = await self._roots.evictions(capacity.root)
        await self._residents(capacity.root)
        fitting = (
            uid
            for uid, eviction in evictions.items()
            # One that is to be away, as somebody has asked for that, would keep its turn for ever.
            if _may_go(self._assignments().get(uid)) and fits_below(self._watermarks, total, free, eviction.bytes)
        )
        # One at a time: the room of the next one is known when this one has come.
        if (uid := next(fitting, None)) is not None:
            self._invited.add(uid)
            self._changed(uid)

    async def _relieve(self, root: str) -> bool:
        """Bring a root below its low watermark as far as that can be; whether a model has given up its copy for it."""
        async with self._lock:
            await self._collect()
            if await self._bytes_over(root):
                await self._give_up_revisions(root, lambda: self._bytes_over(root))
            # All this may have been enough.
            over = await self._bytes_over(root)
            residents = await self._residents(root)
            chosen = choose(residents, over, time.time() - SETTLED_SECONDS) if over else ()
            await self._evict(root, chosen, "the disk is nearly full")
            return bool(chosen)

    async def _bytes_over(self, root: str) -> int:
        """How many bytes are to go from a root's disk now; 0 of one that cannot be read."""
        for capacity in await self._roots.capacities():
            if capacity.root == root and not capacity.problem:
                free = capacity.free_bytes - capacity.reserved_bytes
                return bytes_over(self._watermarks, capacity.total_bytes, free)
        return 0

    async def _residents(self, root: str) -> list[Resident]:
        """The copies in a root, and who uses them as of now. Notes the time of their use."""
        assignments = self._assignments()
        names = await self._roots.names(root)
        evicted = await self._roots.evictions(root)
        paths = {uid: name.path for uid, name in names.items() if _may_go(assignments.get(uid))}
        paths |= {uid: eviction.path for uid, eviction in evicted.items() if uid in assignments}
        used = await self._ask(root, paths)
        for uid in evicted:
            if used.get(uid):
                self._changed(uid)
        for uid in paths:
            (self._used.add if used.get(uid) else self._used.discard)(uid)
            if used.get(uid) and uid in names:
                await self._roots.note_use(uid, root)
        by_digest: defaultdict[str, list[str]] = defaultdict(list)
        for uid, name in names.items():
            by_digest[name.digest].append(uid)
        now = time.time()
        return [
            Resident(
                digest=digest,
                models=tuple(sorted(uids)),
                bytes=await self._roots.freed_bytes(root, digest),
                last_used=max(now if used.get(uid) else names[uid].last_used for uid in uids),
                evictable=all(
                    _may_go(assignments.get(uid)) and not names[uid].reserved and not self._busy(uid) for uid in uids
                ),
                used=_used_by_any([used.get(uid) for uid in uids]),
            )
            for digest, uids in by_digest.items()
        ]

    async def _ask(self, root: str, paths: Mapping[str, str]) -> dict[str, bool]:
        """Which of the models Pods use or name; nothing about any while the controller does not answer."""
        questions = [
            fetch_pb2.UseQuestion(model_uid=uid, root=root, paths=[path]) for uid, path in sorted(paths.items())
        ]
        if not questions:
            return {}
        try:
            answers = await self._use.ask(questions)
        except ServiceError as error:
            # What is not known to be unused stays.
            _log.info("use_unknown", questions=len(questions), reason=error.reason, message=error.message)
            return {}
        return {question.model_uid: answer.pods > 0 for question, answer in zip(questions, answers, strict=True)}

    async def _evict(self, root: str, chosen: Sequence[Resident], why: str) -> None:
        assignments = self._assignments()
        for resident in chosen:
            for uid in resident.models:
                demand = assignments[uid].demand if uid in assignments else ""
                await self._roots.evict(uid, root, resident.bytes, demand)
                _log.info("model_evicted", model=uid, root=root, digest=resident.digest, why=why)
                self._changed(uid)


def _may_go(assignment: fetch_pb2.Assignment | None) -> bool:
    return (
        assignment is not None
        and assignment.goal == fetch_pb2.GOAL_HOLD
        and assignment.residency == fetch_pb2.RESIDENCY_EVICTABLE
    )


def _used_by_any(answers: Sequence[bool | None]) -> bool | None:
    """Whether a Pod uses a copy that several models have: known only if it is known of each, or of one that it does."""
    if any(answers):
        return True
    return None if None in answers else False

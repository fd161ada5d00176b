"""The node's model roots, seen from the event loop: one store per root, and an executor for its blocking calls.

Must not know what is desired, nor import NATS or gRPC.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from libs.artifact.manifest import Manifest
from libs.artifact.model_directory import ModelFile, fingerprint, read_model_directory
from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Corrupt, Missing, ServiceError, Unavailable
from libs.chassis.health import Health
from ome.fetch.v1.fetch_pb2 import RootCapacity
from ome.model.v1.model_pb2 import Artifact
from services.fetcher import metrics
from services.fetcher.model.observed import Copy, PublishedName
from services.fetcher.model.room import Room
from services.fetcher.store import artifacts as store_artifacts
from services.fetcher.store.artifacts import Store
from services.fetcher.store.evictions import Eviction
from services.fetcher.store.paths import Place, Tenant, host_path, place_model, resolve_local
from services.fetcher.store.releases import Release
from services.fetcher.store.scopes import Claimant
from services.fetcher.store.space import Reservations

P = ParamSpec("P")
R = TypeVar("R")

CHECK = "roots"
# Stat calls and renames; what takes long, a transfer, has threads of its own.
_THREADS = 4
_REOPEN_SECONDS = 5.0
_log = structlog.get_logger()


class Roots:
    """Stores by root. A root that cannot be used fails its own models and is tried again; the others go on."""

    def __init__(
        self,
        host_root: Path,
        roots: Sequence[str],
        contest_seconds: float,
        release_time: Callable[[], float | None] = lambda: None,
    ) -> None:
        """contest_seconds is how long another process may hold a root before models are said to suffer from it.

        release_time is as the store's.
        """
        self._host_root = host_root
        self._roots = tuple(roots)
        reservations = Reservations()
        self._stores = {root: Store(host_path(host_root, root), root, reservations, release_time) for root in roots}
        self._closed: dict[str, ServiceError] = {}
        self._contest_seconds = contest_seconds
        # Times of the monotonic clock until which the other holder of a root speaks for its models.
        self._contested_until: dict[str, float] = {}
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")
        self.room = Room()
        # Set when a name may have let go of a copy.
        self.released = asyncio.Event()

    @asynccontextmanager
    async def opened(self, health: Health) -> AsyncIterator[None]:
        """Hold the roots until the block ends; the health check "roots" fails while another fetcher may let go of one.

        A root that cannot be used for another reason is a fact about the node, which capacities tell: no other Pod
        would do better there, and one that is never ready would keep all fetchers from being updated.
        """
        health.declare(CHECK, "not opened yet")
        try:
            for root in self._roots:
                await self._open(root)
            self._tell(health)
            yield
        finally:
            for root, store in self._stores.items():
                if root not in self._closed:
                    await self.run(store.close)
            self._executor.shutdown()

    async def reopen(self, health: Health, on_open: Callable[[], Awaitable[None]]) -> None:
        """Try the roots that cannot be used again and again, until cancelled; on_open is awaited after a success."""
        while True:
            await asyncio.sleep(_REOPEN_SECONDS)
            opened = [root for root in tuple(self._closed) if await self._open(root)]
            self._tell(health)
            if opened:
                await on_open()

    def refuse_contested(self) -> None:
        """Raise Unavailable while another process, such as this node's last fetcher, still holds a root.

        What lies there must not be said to be gone. A root on a disk that is broken does not count: a model that nobody
        can reach is not there, and what is left of it is an orphan when the disk comes back.
        """
        for error in self._closed.values():
            if isinstance(error, Conflict):
                raise Unavailable(error.reason, error.message) from error

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a short blocking call on the disk's own threads. An OSError becomes Unavailable (DiskError)."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))
        except OSError as error:
            raise Unavailable(
                Reason.DISK_ERROR, f"the node's disk refused {self._shown(error.filename)}: {error.strerror or error}"
            ) from error

    def store(self, root: str) -> Store:
        """The store of a root. Raises Unavailable when it cannot be used.

        Raises Conflict as long as another process, such as this node's last fetcher, may be about to let go of it: that
        one knows how its models are, and two that contradict each other would show a Ready model as failed.
        """
        error = self._closed.get(root)
        if error is None:
            return self._stores[root]
        kind = Conflict if time.monotonic() < self._contested_until.get(root, 0.0) else Unavailable
        raise kind(error.reason, error.message)

    def refuse_contested_for_now(self) -> None:
        """Raise Conflict while another process holds a root and may be about to let go of it; see store."""
        for root, error in self._closed.items():
            if isinstance(error, Conflict):
                self.store(root)

    def usable_roots(self) -> list[str]:
        """The roots that can be used just now."""
        return [root for root, _ in self._usable()]

    def place(self, path: str) -> Place:
        """The place that a path means. Raises InvalidValue with reason InvalidPath."""
        return place_model(path, self._roots)

    async def check_free(self, model_uid: str, place: Place, leaving: Callable[[str], bool]) -> None:
        """Raise what publish would raise about the place, before anything is fetched for it."""
        await self.run(self.store(place.root).check_path, model_uid, place.relative, leaving)

    async def copy(self, root: str, digest: str, claimant: Claimant) -> Copy:
        """Whether an artifact is held in a root, whether the claimant may have it without fetching it, and which of its
        files are damaged as far as sizes and scrubs tell.
        """

        def check(store: Store) -> Copy:
            if not store.holds(digest):
                return Copy()
            foreign = not store.may_share(digest, claimant)
            try:
                return Copy(True, store.check(digest), digest, foreign)
            except Corrupt:
                # Taken anew from the object store, while the files that it names are kept.
                return Copy(True, ("its manifest",), digest, foreign)

        return await self.run(check, self.store(root))

    async def is_damaged(self, root: str, digest: str) -> bool:
        """Whether files of an artifact are missing or wrong as far as sizes and scrubs tell."""

        def look(store: Store) -> bool:
            try:
                return bool(store.check(digest))
            except ServiceError:
                # What cannot be looked at, nobody else can read either.
                return True

        return await self.run(look, self.store(root))

    async def publications(self, model_uid: str) -> tuple[PublishedName, ...]:
        """The names that a model has in the roots that can be used."""
        return await self.run(self._publications, model_uid)

    async def published_artifacts(self) -> list[tuple[str, str]]:
        """Root and digest of every artifact that some name leads to."""
        return sorted({(root, each.digest) for root, each in await self._all_publications()})

    async def note_damage(self, root: str, digest: str, files: Collection[str]) -> None:
        """Remember what a scrub has found until it is repaired."""
        await self.run(self.store(root).note_damage, digest, files)

    async def published_models(self) -> set[str]:
        """Uids of all models that have a name in any root."""
        return {each.uid for _, each in await self._all_publications()}

    async def local_directory(self, path: str, tenant: Tenant) -> Path:
        """The directory of a local:// model. Raises Missing or InvalidValue."""
        return await self.run(resolve_local, self._host_root, self._roots, path, tenant)

    async def local_copy(self, path: str, tenant: Tenant) -> Copy:
        """The directory of a local:// model as it is now. Raises Missing, InvalidValue, or Unavailable (DiskError)."""
        directory = await self.local_directory(path, tenant)
        return Copy(held=True, identity=await self.run(fingerprint, str(directory), self._boundary(directory)))

    async def model_files(self, directory: Path, schema_path: str) -> list[ModelFile]:
        """What the parser is to be sent of a model. Raises Unavailable (DiskError) when it cannot be read."""
        boundary = self._boundary(directory)
        return await self.run(lambda: list(read_model_directory(str(directory), schema_path, boundary)))

    async def publish(self, model_uid: str, path: str, digest: str, leaving: Callable[[str], bool]) -> None:
        """Lead readers of path to an artifact that its root holds, in place of a model that leaves it. Idempotent."""
        place = self.place(path)
        await self.run(self.store(place.root).publish, model_uid, place.relative, digest, leaving)
        self.room.free()
        self.released.set()

    async def unpublish(self, model_uid: str, root: str) -> None:
        """Take a model's name out of a root, and its artifact when that was the last name. Idempotent."""
        await self.run(self.store(root).unpublish, model_uid)
        self.room.free()
        self.released.set()

    @property
    def usable(self) -> list[str]:
        """The roots that can be used at the moment, as far as it is known."""
        return [root for root, _ in self._usable()]

    async def releases(self) -> list[tuple[str, Release]]:
        """What was let go and stays, by root. Raises Unavailable when one of them cannot be read."""
        return [(root, each) for root in self.usable for each in await self.releases_in(root)]

    async def releases_in(self, root: str) -> list[Release]:
        """What was let go in one root and stays."""
        return await self.run(self.store(root).releases)

    async def forget_releases(self, root: str, releases: Collection[Release]) -> list[str]:
        """Remove what was let go and has no other name; sentences about what another user's rights keep. Idempotent."""
        kept = await self.run(self.store(root).forget_releases, releases)
        self.room.free()
        return kept

    async def artifact(self, root: str, digest: str) -> Artifact:
        """What an artifact is, as far as its record tells."""
        return await self.run(_described, self.store(root), digest)

    async def reserve(self, model_uid: str, root: str) -> None:
        """Leave a model's name and artifact in a root to nobody. Idempotent."""
        await self.run(self.store(root).reserve, model_uid)

    async def age_reserved(self, elapsed_seconds: float, limit_seconds: float) -> None:
        """Count the time of what deleted models have left, and remove what has been kept for longer than the limit."""
        for root, store in self._usable():
            try:
                gone = await self.run(store.age_reserved, elapsed_seconds, limit_seconds)
            except ServiceError as error:
                _log.warning("reserved_kept", root=root, reason=error.reason, message=error.message)
                continue
            if gone:
                self.room.free()
                self.released.set()
                _log.info("reserved_removed", root=root, paths=gone)

    async def names(self, root: str) -> dict[str, store_artifacts.Name]:
        """The names in a root by uid, with paths as the node sees them."""
        names = await self.run(self.store(root).names)
        return {uid: replace(name, path=Place(root, name.path).path) for uid, name in names.items()}

    async def note_use(self, model_uid: str, root: str) -> None:
        """A Pod uses what a model has in a root."""
        await self.run(self.store(root).note_use, model_uid)

    async def freed_bytes(self, root: str, digest: str) -> int:
        """What the disk gets back when an artifact goes."""
        return await self.run(self.store(root).freed_bytes, digest)

    async def evict(self, model_uid: str, root: str, size: int, demand: str) -> None:
        """Have a model give up its copy in a root. Idempotent."""
        await self.run(self.store(root).evict, model_uid, size, demand)
        self.room.free()
        self.released.set()

    def eviction(self, model_uid: str) -> Eviction | None:
        """That a model has given up its copy in some root, if it has."""
        found = (store.eviction(model_uid) for _, store in self._usable())
        return next((each for each in found if each), None)

    async def evictions(self, root: str) -> dict[str, Eviction]:
        """The models that have given up their copies in a root, by uid, with paths as the node sees them."""
        evictions = await self.run(self.store(root).evictions)
        return {uid: replace(each, path=Place(root, each.path).path) for uid, each in evictions.items()}

    async def readmit(self, model_uid: str) -> None:
        """A model may have a copy again. Idempotent."""
        for _, store in self._usable():
            await self.run(store.readmit, model_uid)

    async def lacking_bytes(self, root: str, manifest: Manifest, claimant: Claimant) -> int:
        """How many bytes a root misses for an artifact."""
        return await self.run(self.store(root).lacking_bytes, manifest, claimant)

    async def abandon(self, root: str, digest: str, wanted_by: Collection[Claimant]) -> None:
        """Remove what a transfer that was given up has written, but for those who still want it. Idempotent."""
        await self.run(self.store(root).abandon, digest, wanted_by)
        self.room.free()

    async def collect(self, wanted: Collection[str]) -> None:
        """Remove what earlier processes left behind: staging and artifacts that nobody wants and no name leads to."""
        for root, store in self._usable():
            try:
                removed = await self.run(store.collect, wanted)
            except ServiceError as error:
                _log.warning("leftovers_kept", root=root, reason=error.reason, message=error.message)
                continue
            if removed:
                self.room.free()
                _log.info("leftovers_removed", root=root, digests=removed)

    async def capacities(self) -> list[RootCapacity]:
        """Size and free space of the roots, and of those that cannot be used why."""
        for root in self._roots:
            metrics.ROOT_USABLE.labels(root=root).set(root not in self._closed)
        capacities = [RootCapacity(root=root, problem=error.message) for root, error in self._closed.items()]
        for root, store in self._usable():
            # A root that cannot even be measured has no room to speak of; its models say what is wrong with it.
            with contextlib.suppress(ServiceError):
                capacity = await self.run(store.capacity)
                metrics.ROOT_FREE_BYTES.labels(root=root).set(capacity.free_bytes)
                capacities.append(
                    RootCapacity(
                        root=root,
                        total_bytes=capacity.total_bytes,
                        free_bytes=capacity.free_bytes,
                        reserved_bytes=capacity.reserved_bytes,
                    )
                )
        return capacities

    async def _all_publications(self) -> list[tuple[str, store_artifacts.Publication]]:
        found = []
        for root, store in self._usable():
            try:
                found += [(root, each) for each in (await self.run(store.publications)).values()]
            except ServiceError as error:
                _log.warning("root_unreadable", root=root, reason=error.reason, message=error.message)
        return found

    def _publications(self, model_uid: str) -> tuple[PublishedName, ...]:
        found = []
        for root, store in self._usable():
            publication = store.publication(model_uid)
            if publication:
                artifact = _described(store, publication.digest)
                path = Place(root, publication.path).path
                found.append(PublishedName(root, path, artifact, publication.intact))
        return tuple(found)

    def _shown(self, path: object) -> str:
        """A path as the node sees it."""
        below = isinstance(path, str) and Path(path).is_relative_to(self._host_root)
        return f"/{Path(str(path)).relative_to(self._host_root)}" if below else "an operation"

    def _boundary(self, directory: Path) -> str:
        """How far links of a model may lead: the outermost model root that holds it, else the directory alone."""
        roots = [host_path(self._host_root, root) for root in self._roots]
        holding = [root for root in roots if directory.is_relative_to(root)]
        return str(min(holding, key=lambda root: len(root.parts), default=directory))

    def _usable(self) -> list[tuple[str, Store]]:
        return [(root, store) for root, store in self._stores.items() if root not in self._closed]

    async def _open(self, root: str) -> bool:
        try:
            await self.run(self._stores[root].open)
        except ServiceError as error:
            if root not in self._closed:
                _log.warning("root_unusable", root=root, reason=error.reason, message=error.message)
            self._closed[root] = error
            if isinstance(error, Conflict):
                self._contested_until.setdefault(root, time.monotonic() + self._contest_seconds)
            return False
        self._closed.pop(root, None)
        self._contested_until.pop(root, None)
        return True

    def _tell(self, health: Health) -> None:
        now = time.monotonic()
        contested = [
            root
            for root, error in self._closed.items()
            if isinstance(error, Conflict) and now < self._contested_until[root]
        ]
        if contested:
            health.fail(CHECK, "; ".join(self._closed[root].message for root in contested))
        else:
            health.ok(CHECK)


def _described(store: Store, digest: str) -> Artifact:
    artifact = Artifact(digest=digest)
    with contextlib.suppress(Missing, Corrupt):
        manifest = store.manifest(digest)
        artifact.source_revision = manifest.source_revision
        artifact.bytes = manifest.size_bytes
        artifact.files = len(manifest.files)
    return artifact

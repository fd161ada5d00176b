"""Carries out one order: manifest, credentials, origin, and the transfer on a thread of its own.

Must not decide when anything is fetched, nor publish what was fetched.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from libs.artifact.manifest import Manifest
from libs.artifact.reasons import Reason
from libs.artifact.sizes import shown_size
from libs.chassis.errors import Corrupt, Missing, ServiceError, Unavailable
from ome.fetch.v1.fetch_pb2 import Source
from services.fetcher.fleet.credentials import Credentials, CredentialsClient
from services.fetcher.fleet.manifests import Manifests
from services.fetcher.model.downloads import Order
from services.fetcher.model.roots import Roots
from services.fetcher.sources.catalogue import Sources
from services.fetcher.sources.renewal import RenewedOrigin
from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from services.fetcher.transfer.acquire import acquire
from services.fetcher.transfer.origin import Origin, Streams
from services.fetcher.transfer.progress import Progress
from services.fetcher.transfer.sharing import Sharing

# How long a transfer that was told to stop is waited for when the process ends; it looks at its flag once per buffer.
_STOP_SECONDS = 5.0
# How soon a stop is noticed while the transfer is prepared: NATS and the SDKs have timeouts of their own, longer ones.
_TICK_SECONDS = 0.2

# How often a download that lacks room is begun anew after some was made.
_ATTEMPTS = 4

R = TypeVar("R")
MakeRoom = Callable[[str, Callable[[], Awaitable[int]]], Coroutine[Any, Any, bool]]


class Fetching:
    """Runs orders; fetch() is what Downloads wants."""

    def __init__(
        self,
        slots: int,
        roots: Roots,
        manifests: Manifests,
        credentials: CredentialsClient,
        sources: Sources,
        sharing: Sharing,
        make_room: MakeRoom,
        held_bytes: Callable[[str], Awaitable[int]],
    ) -> None:
        """make_room frees what a download lacks in a root, if that can be had, and tells whether it has. held_bytes
        tells how many bytes of a root are there for Pods alone.
        """
        self._make_room = make_room
        self._held_bytes = held_bytes
        self._roots = roots
        self._manifests = manifests
        self._credentials = credentials
        self._sources = sources
        self._sharing = sharing
        self._executor = ThreadPoolExecutor(slots, thread_name_prefix="transfer")

    async def fetch(self, order: Order, stop: StopFlag, note: Callable[[Progress], None]) -> None:
        """Bring an artifact into the store of its root. Raises Stopped, or the error that ended the transfer.

        When cancelled it tells the transfer to stop and waits a moment for it.
        """
        store = self._roots.store(order.root)
        manifest = await _unless_stopped(stop, self._manifest(store, order))
        origin, streams = await _unless_stopped(stop, self._ways(order, stop))

        async def lacking() -> int:
            return await self._roots.lacking_bytes(order.root, manifest, order.claimant)

        for last in (*[False] * (_ATTEMPTS - 1), True):
            try:
                await self._acquire(order, store, manifest, origin, streams, stop, note)
                return
            except Unavailable as error:
                # What others reserve meanwhile may take the room that was made.
                if error.reason is not Reason.INSUFFICIENT_DISK:
                    raise
                if last or not await _unless_stopped(stop, self._make_room(order.root, lacking)):
                    raise await self._with_held(error, order.root) from error

    async def _with_held(self, error: Unavailable, root: str) -> Unavailable:
        """The error that there is no room, and how much comes by itself when Pods end."""
        held = await self._held_bytes(root)
        if not held:
            return error
        why = f"{error.message}. Pods still use {shown_size(held)} there that models have let go: it goes with them"
        return Unavailable(error.reason, why, error.retry_after_seconds)

    async def _acquire(
        self,
        order: Order,
        store: Store,
        manifest: Manifest,
        origin: Origin,
        streams: Streams | None,
        stop: StopFlag,
        note: Callable[[Progress], None],
    ) -> None:
        running = asyncio.get_running_loop().run_in_executor(
            self._executor,
            lambda: acquire(
                store,
                manifest,
                origin,
                stop,
                order.claimant,
                progress=note,
                damaged=order.damaged,
                streams=streams,
                sharing=self._sharing,
                egress=self._sources.egress(order.uri, order.namespaced),
            ),
        )
        try:
            await asyncio.shield(running)
            # A repair lets go of what was there.
            self._roots.released.set()
        except ServiceError as error:
            self._roots.room.give_back(error)
            raise
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running], timeout=_STOP_SECONDS)
            if running.done() and not running.cancelled():
                # Looked at, so that nobody is told of an exception that was never retrieved.
                running.exception()
            raise

    def __enter__(self) -> "Fetching":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more orders; those that run have been told to stop."""
        self._executor.shutdown(wait=False)

    async def _manifest(self, store: Store, order: Order) -> Manifest:
        """The manifest of what is held, when it is to be repaired, else the fleet's."""
        if order.damaged:
            with contextlib.suppress(Missing, Corrupt):
                return await self._roots.run(store.manifest, order.digest)
        return await self._manifests.get(order.digest)

    async def _ways(self, order: Order, stop: StopFlag) -> tuple[Origin, Streams | None]:
        """Where the bytes come from: over HTTP, and the second way where the source has one."""
        credentials = await self._ask(order) if order.has_secret else Credentials()
        origin = await self._origin(order, credentials)
        streams = self._sources.streams(
            order.uri, dict(order.parameters), credentials.values(), order.source_revision, order.namespaced
        )
        if not order.has_secret:
            return origin, streams
        loop = asyncio.get_running_loop()

        def renew(version: str) -> tuple[Origin, str] | None:
            """Called by the transfer's thread."""
            renewed = _unless_stopped(stop, self._renewed(order, version))
            return asyncio.run_coroutine_threadsafe(renewed, loop).result()

        return RenewedOrigin(origin, credentials.version, renew), streams

    async def _renewed(self, order: Order, version: str) -> tuple[Origin, str] | None:
        """The origin with the credentials as they are now; None when these are still of the given version."""
        credentials = await self._ask(order)
        if credentials.version == version:
            return None
        return await self._origin(order, credentials), credentials.version

    async def _ask(self, order: Order) -> Credentials:
        return await self._credentials.get(order.model_uid, Source(uri=order.uri, parameters=dict(order.parameters)))

    async def _origin(self, order: Order, credentials: Credentials) -> Origin:
        return await self._sources.origin(
            order.uri, dict(order.parameters), credentials.values(), order.source_revision, order.namespaced
        )


async def _unless_stopped(stop: StopFlag, work: Coroutine[Any, Any, R]) -> R:
    """What work returns, or Stopped soon after the flag is set."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            stop.check()
            await asyncio.wait([task], timeout=_TICK_SECONDS)
        return task.result()
    finally:
        task.cancel()

"""Which replica writes: the holder of a Lease.

Owns the Lease alone. A replica watches it and asks for it only when it is free or its holder has been silent for the
Lease's duration, by this replica's own clock, as clocks of machines differ. A holder that could not renew in time stops
leading before anybody else may begin.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from libs.chassis.errors import Conflict, ServiceError
from libs.chassis.health import Health
from services.status.kube import ApiServer, Informer, Object, Resource
from services.status.metrics import LEADER

LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")

# A process that is asked to end has other things to finish.
_RELEASE_SECONDS = 2.0
_log = structlog.get_logger()


class Leadership:
    """Takes part in the election under an identity that no other running process has."""

    def __init__(
        self,
        api: ApiServer,
        health: Health,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: float,
        on_change: Callable[[], None],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._seen_at = 0.0
        self._leads_until = 0.0
        self._led = False
        self._informer = Informer(
            api, LEASES, health, self._lease_changed, namespace=namespace, field_selector=f"metadata.name={name}"
        )

    @property
    def leading(self) -> bool:
        """Whether this replica may write now."""
        return asyncio.get_running_loop().time() < self._leads_until

    async def watch(self) -> None:
        """Follow the Lease until cancelled."""
        await self._informer.run()

    async def campaign(self) -> None:
        """Hold the Lease whenever it can be had, until cancelled; then give it up."""
        await self._informer.synced()
        try:
            while True:
                await self._wait(await self._step())
        finally:
            await self._release()

    async def _step(self) -> float:
        """Renew or acquire the Lease where that is due; returns after how long to look again, in seconds."""
        now = asyncio.get_running_loop().time()
        if not self.leading:
            # A process that was stopped finds its term over: what was skipped since then must be looked at again.
            self._set_leading(0.0)
        lease = self._lease()
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
        remaining = self._seen_at + self._lease_seconds - now
        if lease and holder not in ("", self._identity) and remaining > 0:
            self._set_leading(0.0)
            return remaining + random.random() * self._lease_seconds / 10
        try:
            await self._claim(lease, holder)
        except Conflict:
            # Another replica was faster, or our copy is old: the watch brings the Lease as it is now.
            return self._lease_seconds / 10
        except ServiceError as error:
            _log.warning("lease_not_renewed", reason=error.reason, message=error.message)
            return self._lease_seconds / 10
        # Counted from before the request: the server may have taken it any time since.
        self._set_leading(now + self._lease_seconds * 2 / 3)
        return self._lease_seconds / 3

    async def _claim(self, lease: Object | None, holder: str) -> None:
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = dict((lease or {}).get("spec") or {})
        if holder != self._identity:
            spec["acquireTime"] = time
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._lease_seconds)),
            "renewTime": time,
        }
        if lease is None:
            body: Object = {"metadata": {"name": self._name}, "spec": spec}
            written = await self._api.create(LEASES, body, self._namespace)
        else:
            written = await self._api.replace(LEASES, {**lease, "spec": spec})
        self._informer.absorb(written)

    async def _release(self) -> None:
        lease = self._lease()
        held = self.leading
        self._set_leading(0.0)
        if lease and held:
            spec = {**lease["spec"], "holderIdentity": ""}
            try:
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._api.replace(LEASES, {**lease, "spec": spec})
            except (ServiceError, TimeoutError) as error:
                # The Lease runs out by itself; the other replica only waits a little longer.
                _log.info("lease_not_released", error=f"{type(error).__name__}: {error}")

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _lease(self) -> Object | None:
        return self._informer.objects.get((self._namespace, self._name))

    def _lease_changed(self, before: Object | None, after: Object | None) -> None:
        self._seen_at = asyncio.get_running_loop().time()
        holder = ((after or {}).get("spec") or {}).get("holderIdentity")
        if holder != self._identity:
            self._changed.set()

    def _set_leading(self, until: float) -> None:
        self._leads_until = until
        led, self._led = self._led, self.leading
        if led != self._led:
            LEADER.set(self._led)
            _log.info("leadership_changed", leading=self._led)
            self._on_change()

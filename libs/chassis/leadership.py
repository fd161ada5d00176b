"""Who of several replicas acts: the holder of a Lease.

Owns the Lease, and that whoever acts on leadership hears of each change of it. What a leader does is for the services.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, ServiceError, Unavailable
from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector

_LEASE_SECONDS = 15.0
# A process that is asked to end has other things to finish.
_RELEASE_SECONDS = 2.0
_log = structlog.get_logger()


class Leadership:
    """Holds a Lease so that one replica of several acts. The others wait and take over when it is not renewed.

    The Lease is watched, and asked for only when it is free or its holder has not renewed it for as long as it lasts,
    by our own clock, as clocks of machines differ. A holder leads for two thirds of that, counted from before it asked:
    it stops leading before another begins.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: float = _LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """identity is one that no other running process has, such as the name of the Pod."""
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._key = (namespace, name)
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._term_seconds = lease_seconds * 2 / 3
        self._clock = clock
        # Whether the Lease can be followed is no matter of the process' health: the others lead meanwhile.
        self._lease = Reflector(self._path, "lease", Health(), {"fieldSelector": f"metadata.name={name}"})
        self._changed = asyncio.Event()
        self._seen_at = 0.0
        self._term = Term(name, clock)
        self._complaint = ""

    @property
    def leading(self) -> bool:
        """Whether we hold the Lease now; false well before another may think that it has expired."""
        return self._term.lasts

    async def run(self, on_change: Callable[[bool], None]) -> None:
        """Hold the Lease whenever it can be had until cancelled, then give it up.

        on_change hears of each change. Whoever left something undone because `leading` was false can rely on a later
        on_change(True) when it becomes true again, however short the time between was.
        """
        self._term.on_change = on_change
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._lease.run(self._client, self._lease_changed))
            try:
                await self._lease.synced()
                while True:
                    await self._wait(await self._step())
            finally:
                following.cancel()
                await asyncio.shield(self._release())

    async def _step(self) -> float:
        """Renew or acquire the Lease where that is due; returns after how many seconds to look again."""
        now = self._clock()
        lease = self._lease.objects.get(self._key)
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
        remaining = self._seen_at + self._lease_seconds - now
        if lease and holder not in ("", self._identity) and remaining > 0:
            self._term.end()
            return remaining
        try:
            self._lease.absorb(await self._claim(lease, holder), self._lease_changed)
        except Conflict:
            # Another was faster, or our copy is old: the watch brings the Lease as it is now.
            return self._lease_seconds / 10
        except ServiceError as error:
            if error.message != self._complaint:
                # Once for an outage: without the Lease nothing is written, and nothing else would say why.
                _log.warning("lease_not_taken", lease=self._key[1], reason=error.reason, message=error.message)
            self._complaint = error.message
            return self._lease_seconds / 10
        self._complaint = ""
        # Counted from before the request: the server may have taken it at any time since.
        self._term.extend(now + self._term_seconds)
        return max(0.0, now + self._term_seconds / 2 - self._clock())

    async def _claim(self, lease: Object | None, holder: str) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = dict((lease or {}).get("spec") or {})
        if holder != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        spec |= {"holderIdentity": self._identity, "renewTime": now}
        spec["leaseDurationSeconds"] = max(1, round(self._lease_seconds))
        if lease is not None:
            return await self._write("PUT", f"{self._path}/{self._key[1]}", {**lease, "spec": spec})
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._key[1]},
            "spec": spec,
        }
        return await self._write("POST", self._path, body)

    async def _write(self, method: str, path: str, body: Object) -> Object:
        try:
            # The term that an answer gives is over by then: asking anew is quicker than to wait for it.
            async with asyncio.timeout(self._term_seconds):
                return await self._client.request(method, path, body)
        except TimeoutError as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{method} {path}: no answer in {self._term_seconds:g} s") from error

    async def _release(self) -> None:
        lease = self._lease.objects.get(self._key)
        held = self.leading
        self._term.end()
        if not lease or not held:
            return
        body = {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._client.request("PUT", f"{self._path}/{self._key[1]}", body)
        except (ServiceError, TimeoutError) as error:
            # The Lease runs out by itself; the other replica only waits a little longer.
            _log.info("lease_not_released", lease=self._key[1], error=f"{type(error).__name__}: {error}")

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _lease_changed(self, before: Object | None, after: Object | None) -> None:
        self._seen_at = self._clock()
        if not after or (after.get("spec") or {}).get("holderIdentity") != self._identity:
            self._changed.set()


class Term:
    """The time for which we lead. Its beginning and its end are told once each, an end by the clock included."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        """on_change may be set until the first extension."""
        self.on_change: Callable[[bool], None] = lambda leading: None
        self._name = name
        self._clock = clock
        self._until = 0.0
        self._told = False
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def lasts(self) -> bool:
        """Whether we lead now. By the clock: a process that was stopped is not told before it goes on."""
        return self._clock() < self._until

    def extend(self, until: float) -> None:
        """Lead until then; without effect when that is over already."""
        if not self.lasts:
            # It ran out a moment ago and the alarm is still to come. What was left undone in that moment comes back
            # only if the end is told as well.
            self.end()
        self._until = until
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, until - self._clock()), self.end)
        self._tell(self.lasts)

    def end(self) -> None:
        """Lead no more."""
        self._until = 0.0
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        self._tell(False)

    def _tell(self, leading: bool) -> None:
        if leading != self._told:
            self._told = leading
            _log.info("leadership_changed", lease=self._name, leading=leading)
            self.on_change(leading)

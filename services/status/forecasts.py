"""Asks the controller what would come of a manifest, and adds what is known here: how long it would take.

For the page as well as for gRPC. Owns who may ask, and how many do at a time; who asks, others have found out.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.client import Client

from libs.artifact.names import FORECAST_SUBJECT
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_asking import ask
from libs.model.kinds import kind_numbered
from libs.model.posted import posted_ref, read_manifest
from libs.model.problems import error_of
from ome.fetch.v1.fetch_pb2 import ForecastReply, ForecastRequest
from ome.model.v1.model_pb2 import (
    ROOM_VERDICT_HELD,
    ROOM_VERDICT_UNSPECIFIED,
    Forecast,
    ModelRef,
)
from services.status.access import NODES, Access, Denied, EveryAccess, Viewer, scope_of
from services.status.allowances import Rate, Seats
from services.status.callers import Caller, TooMany
from services.status.cluster import Cluster
from services.status.observations import Observations

# A controller answers within 25 seconds.
_SECONDS = 30.0
_AT_A_TIME = 4
# Each plan has a source listed, perhaps that of a stranger.
_PER_SECOND, _AT_ONCE = 0.5, 20.0
_REMEMBERED_CALLERS = 10_000


class Forecaster:
    """Has manifests planned for callers who may apply them: one of a namespace, and one of a caller, at a time."""

    def __init__(self, cluster: Cluster, observations: Observations, access: Access) -> None:
        self._cluster = cluster
        self._observations = observations
        self._access = access
        self._client: Client | None = None
        self._plans: Rate[str] = Rate(_PER_SECOND, _AT_ONCE, _REMEMBERED_CALLERS)
        self._namespaces: Seats[str] = Seats(1, _AT_A_TIME)
        self._callers: Seats[str] = Seats(1, _AT_A_TIME)

    def connected(self, client: Client) -> None:
        """Ask by this connection from now on."""
        self._client = client

    async def plan(self, caller: Caller, manifest: str) -> Forecast:
        """What would come of a manifest, as far as the caller may know it.

        Raises Invalid for what is no manifest, Denied, TooMany, or Unavailable.
        """
        if isinstance(self._access, EveryAccess):
            # Whoever reaches the port could have sources listed with any Secret that a model may name.
            raise Denied(Reason.FORBIDDEN, "there are no plans with callers: anyone, as nobody's rights are known")
        ref = posted_ref(read_manifest(manifest))
        # Whoever may make the model may have its source listed with the Secret that it names, and nobody else.
        await Viewer(self._access, caller, "create").require(scope_of(ref))
        if self._exists(ref):
            await Viewer(self._access, caller, "update").require(scope_of(ref), ref.name)
        now = asyncio.get_running_loop().time()
        if wait := self._plans.wait_seconds(caller.name, now):
            raise TooMany(Reason.RATE_LIMITED, f"{caller.name} asks for plans too often", wait)
        self._plans.take(caller.name, now)
        tells_nodes = await self._access.permits(caller, "list", NODES)
        with _seat(self._callers, caller.name, caller.name), _seat(self._namespaces, ref.namespace, _place(ref)):
            forecast = await self._ask(ForecastRequest(manifest=manifest, tells_nodes=tells_nodes))
        if tells_nodes:
            # How fast another model came tells of the node, too.
            self._add_times(forecast)
        await _hide_models(forecast, Viewer(self._access, caller, "list"))
        return forecast

    async def _ask(self, request: ForecastRequest) -> Forecast:
        if self._client is None:
            raise Unavailable(Reason.UNAVAILABLE, "the service is not connected yet", retry_after_seconds=1)
        # Once: each time a source is listed.
        reply = await ask(self._client, FORECAST_SUBJECT, request, ForecastReply, _SECONDS, again_seconds=None)
        if reply.HasField("problem"):
            raise error_of(reply.problem)
        return reply.forecast

    def _exists(self, ref: ModelRef) -> bool:
        wanted = (kind_numbered(ref.kind).name, ref.namespace, ref.name)
        return any(
            (model["kind"], model["metadata"].get("namespace", ""), model["metadata"]["name"]) == wanted
            for model in self._cluster.models.values()
        )

    def _add_times(self, forecast: Forecast) -> None:
        """How long each node would take, at the rate that it had last from a source of the same kind."""
        scheme = forecast.source.partition("://")[0]
        for node in forecast.nodes:
            if node.room in (ROOM_VERDICT_UNSPECIFIED, ROOM_VERDICT_HELD):
                continue
            # What nodes say of themselves, every replica has heard, and so has one that was started a moment ago.
            heartbeat = self._observations.heartbeat(node.node)
            told = heartbeat.rates if heartbeat else ()
            rate = next((each.bytes_per_second for each in told if each.scheme == scheme), 0)
            if rate > 0:
                node.bytes_per_second = rate
                node.seconds = max(1, forecast.artifact.bytes // rate)


async def _hide_models(forecast: Forecast, viewer: Viewer) -> None:
    """Leave out other models that the caller may not list."""
    scopes = {scope_of(ref) for node in forecast.nodes for ref in node.evictable}
    permitted = await viewer.permitted(scopes) if scopes else frozenset()
    for node in forecast.nodes:
        shown = [ref for ref in node.evictable if scope_of(ref) in permitted]
        del node.evictable[:]
        node.evictable.extend(shown)


@contextmanager
def _seat(seats: Seats[str], key: str, whose: str) -> Iterator[None]:
    if not seats.take(key):
        raise TooMany(
            Reason.RATE_LIMITED, f"another plan of {whose} is being made, or too many of others: ask again", 1
        )
    try:
        yield
    finally:
        seats.free(key)


def _place(ref: ModelRef) -> str:
    return f"namespace {ref.namespace}" if ref.namespace else "the cluster"

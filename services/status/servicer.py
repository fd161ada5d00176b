"""StatusService over gRPC: reads the catalog and the observations, and tells callers what they may see.

Owns the order of a call: who is it, is it within its share, what may it see. Writes nothing.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from libs.model.kinds import KINDS, shown_ref
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_UNSPECIFIED, ModelKind, ModelRef
from ome.status.v1 import status_pb2_grpc
from ome.status.v1.status_pb2 import (
    ExplainRequest,
    ExplainResponse,
    GetModelRequest,
    GetModelResponse,
    GetNodeRequest,
    GetNodeResponse,
    ListModelsRequest,
    ListModelsResponse,
    ListNodesRequest,
    ListNodesResponse,
    Model,
    PlanRequest,
    PlanResponse,
    Synced,
    WatchModelsRequest,
    WatchModelsResponse,
    WatchProgressRequest,
    WatchProgressResponse,
)
from services.status.access import NODES, Access, Viewer, named_scope, scope_of
from services.status.allowances import Rate, Seats
from services.status.callers import Caller, Callers, TooMany
from services.status.catalog import Catalog, Subscription
from services.status.explaining import Explainer, explanation_message
from services.status.forecasts import Forecaster
from services.status.listing import is_listed, sorted_after, token_after
from services.status.messages import node_message, node_models, page_of, with_progress
from services.status.metrics import REFUSED_CALLS, WATCHERS
from services.status.observations import Observations
from services.status.resuming import Tokens
from services.status.transfers import Told

SERVICE = "ome.status.v1.StatusService"

_DEFAULT_PAGE_SIZE = 100
_LARGEST_PAGE_SIZE = 1000
_REMEMBERED_CALLERS = 10_000
# A watcher that takes no message for so long will not catch up by waiting; it gets everything when it calls again.
_SLOW_READER_SECONDS = 60.0
# Between two messages of a watch of progress: nodes tell once a second.
_PROGRESS_SECONDS = 1.0
# Half of what a client of gRPC takes in an answer unless it says otherwise, at some hundred bytes for each transfer.
_MOST_TRANSFERS = 10_000
_KINDS = {kind.number for kind in KINDS}


class SlowReader(Unavailable):
    """A watcher reads more slowly than models change, though it is sent only the latest of each."""

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


# gRPC's context has no types of its own.
Context = Any


@dataclass(frozen=True)
class Shares:
    """What one caller may have of the service, and all of them together."""

    calls_per_second: float
    watches_per_caller: int
    watches: int = 2000

    @property
    def burst(self) -> float:
        """Calls at once after a pause."""
        return max(1.0, 5 * self.calls_per_second)


class StatusServicer(status_pb2_grpc.StatusServiceServicer):
    """Answers from memory; synced says whether that is complete, and stop ends the watches."""

    def __init__(
        self,
        catalog: Catalog,
        observations: Observations,
        explainer: Explainer,
        forecaster: Forecaster,
        synced: Callable[[], bool],
        stop: asyncio.Event,
        callers: Callers,
        access: Access,
        shares: Shares,
    ) -> None:
        self._catalog = catalog
        self._observations = observations
        self._explainer = explainer
        self._forecaster = forecaster
        self._tokens = Tokens(secrets.token_hex(16))
        self._synced = synced
        self._stop = stop
        self._callers = callers
        self._access = access
        self._calls: Rate[str] = Rate(shares.calls_per_second, shares.burst, _REMEMBERED_CALLERS)
        self._seats: Seats[str] = Seats(shares.watches_per_caller, shares.watches)

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """One model by kind, namespace and name."""
        viewer = Viewer(self._access, await self._admit(context), "get")
        self._require_synced()
        return GetModelResponse(model=self._with_progress(await self._named(viewer, request)))

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """One page of the models that match."""
        viewer = Viewer(self._access, await self._admit(context), "list")
        self._require_synced()
        if request.page_size < 0:
            raise Invalid(Reason.INVALID_PARAMETER, "page_size must not be negative")
        size = min(request.page_size or _DEFAULT_PAGE_SIZE, _LARGEST_PAGE_SIZE)
        matches = _filter(request.kind, request.namespace, "")
        if named := named_scope(request.kind, request.namespace):
            await viewer.require(named)
        matching = [model for model in self._catalog.models() if matches(model.ref)]
        permitted = await viewer.permitted(scope_of(model.ref) for model in matching)
        found = sorted_after(
            (model for model in matching if scope_of(model.ref) in permitted and is_listed(model, request)),
            request.order,
            request.page_token,
        )
        page = page_of(found, size)
        token = token_after(page[-1], request.order) if len(found) > len(page) else ""
        return ListModelsResponse(models=[self._with_progress(model) for model in page], next_page_token=token)

    async def WatchModels(self, request: WatchModelsRequest, context: Context) -> AsyncIterator[WatchModelsResponse]:
        """Every model that matches and that the caller may see, a marker, and then each change."""
        caller = await self._admit(context)
        self._require_synced()
        matches = _filter(request.kind, request.namespace, request.name)
        if named := named_scope(request.kind, request.namespace):
            await Viewer(self._access, caller, "watch").require(named, request.name)
        after = self._tokens.number(request)
        if after is not None and not self._catalog.remembers(after):
            after = None
        resumed = after is not None
        with (
            self._seat(caller),
            self._catalog.subscribe(matches, after) as (subscription, existing),
            WATCHERS.track_inprogress(),
        ):

            def token() -> str:
                return self._tokens.token(subscription.told_to, request)

            stopped = asyncio.ensure_future(self._stop.wait())
            try:
                if not existing:
                    yield WatchModelsResponse(synced=Synced(resumed=resumed), resume_token=token())
                looked_at = sent = 0
                while True:
                    ref = await _next_before(stopped, subscription.next_change())
                    if ref is None:
                        raise Unavailable(Reason.UNAVAILABLE, "the service stops; call again")
                    if await self._may_watch(context, ref, request):
                        offered = asyncio.get_running_loop().time()
                        event = self._event(ref)
                        event.resume_token = token()
                        yield event
                        _require_quick(offered)
                        sent += 1
                    looked_at += 1
                    if looked_at == existing:
                        yield WatchModelsResponse(synced=Synced(models=sent, resumed=resumed), resume_token=token())
            finally:
                stopped.cancel()

    async def ListNodes(self, request: ListNodesRequest, context: Context) -> ListNodesResponse:
        """All nodes whose fetcher reports."""
        viewer = Viewer(self._access, await self._admit(context), "list")
        await viewer.require(NODES)
        self._require_synced()
        return ListNodesResponse(
            nodes=[
                node_message(
                    node,
                    self._observations.reachable(node) is not False,
                    self._observations.heartbeat(node),
                    self._observations.states_of_node(node),
                )
                for node in self._observations.reporting_nodes()
            ]
        )

    async def GetNode(self, request: GetNodeRequest, context: Context) -> GetNodeResponse:
        """One node, and the models on it that the caller may list."""
        caller = await self._admit(context)
        await self._require_node(caller, request.name)
        self._require_synced()
        if not self._explainer.knows_node(request.name):
            raise Missing(Reason.NOT_FOUND, f"node {request.name} does not exist")
        found = node_models(request.name, map(self._with_progress, self._catalog.models()))
        permitted = await Viewer(self._access, caller, "list").permitted(scope_of(each.model) for each in found)
        node = node_message(
            request.name,
            self._observations.reachable(request.name) is not False,
            self._observations.heartbeat(request.name),
            self._observations.states_of_node(request.name),
        )
        return GetNodeResponse(node=node, models=[each for each in found if scope_of(each.model) in permitted])

    async def Explain(self, request: ExplainRequest, context: Context) -> ExplainResponse:
        """Why a model is, or is not, on a node or on more nodes."""
        caller = await self._admit(context)
        self._require_synced()
        model = await self._named(Viewer(self._access, caller, "get"), request)
        if request.node:
            await self._require_node(caller, request.node)
            explained = self._explainer.on_node(model.ref.uid, request.node)
        else:
            may_list = await self._access.permits(caller, "list", NODES)
            explained = self._explainer.in_cluster(model.ref.uid, with_other_nodes=may_list)
        if explained is None:
            raise Missing(Reason.NOT_FOUND, f"{shown_ref(model.ref)} does not exist")
        return explanation_message(explained)

    async def Plan(self, request: PlanRequest, context: Context) -> PlanResponse:
        """What would come of a manifest, were it applied now."""
        caller = await self._admit(context)
        self._require_synced()
        return PlanResponse(forecast=await self._forecaster.plan(caller, request.manifest))

    async def WatchProgress(
        self, request: WatchProgressRequest, context: Context
    ) -> AsyncIterator[WatchProgressResponse]:
        """The transfers under way of models that match and that the caller may see, and what changes of them."""
        caller = await self._admit(context)
        self._require_synced()
        matches = _filter(request.kind, request.namespace, request.name)
        if named := named_scope(request.kind, request.namespace):
            await Viewer(self._access, caller, "watch").require(named, request.name)
        told = Told(self._observations.progress, request.node)
        with (
            self._seat(caller),
            self._catalog.subscribe(matches) as (subscription, existing),
            WATCHERS.track_inprogress(),
        ):
            stopped = asyncio.ensure_future(self._stop.wait())
            try:
                # The first answer comes at once, and says so if nothing is under way.
                refs = [await subscription.next_change() for _ in range(existing)]
                first = True
                while True:
                    permitted = [ref for ref in refs if await self._may_watch(context, ref, request)]
                    changed = [each for ref in permitted for each in told.changes(ref.uid, self._catalog.get(ref.uid))]
                    offered = asyncio.get_running_loop().time()
                    for start in range(0, max(len(changed), 1 if first else 0), _MOST_TRANSFERS):
                        yield WatchProgressResponse(transfers=changed[start : start + _MOST_TRANSFERS])
                    _require_quick(offered)
                    first = False
                    refs = await self._changes(subscription, stopped)
            finally:
                stopped.cancel()

    async def _changes(self, subscription: Subscription, stopped: "asyncio.Task[Literal[True]]") -> list[ModelRef]:
        """The next changes, with what else changes in the time between two messages. Raises Unavailable."""
        await asyncio.wait([stopped], timeout=_PROGRESS_SECONDS)
        ref = await _next_before(stopped, subscription.next_change())
        if ref is None:
            raise Unavailable(Reason.UNAVAILABLE, "the service stops; call again")
        return [ref, *subscription.take_all()]

    async def _named(self, viewer: Viewer, request: GetModelRequest | ExplainRequest) -> Model:
        """The model that a request names. Raises Invalid, Denied or Missing."""
        if not request.name or request.kind not in _KINDS:
            raise Invalid(Reason.INVALID_PARAMETER, "kind and name of the model must be given")
        if (request.kind == MODEL_KIND_BASE_MODEL) != bool(request.namespace):
            raise Invalid(Reason.INVALID_PARAMETER, "a BaseModel has a namespace, and no other kind has one")
        wanted = ModelRef(kind=request.kind, namespace=request.namespace, name=request.name)
        # Before anything is looked up: whether a model exists is none of a stranger's business.
        await viewer.require(scope_of(wanted), request.name)
        model = self._catalog.find(_filter(request.kind, request.namespace, request.name))
        if model is None:
            raise Missing(Reason.NOT_FOUND, f"{shown_ref(wanted)} does not exist")
        return model

    async def _require_node(self, caller: Caller, name: str) -> None:
        """Raises Invalid, or Denied unless the caller may read a node."""
        if not name or "_" in name:
            raise Invalid(Reason.INVALID_PARAMETER, "name must be that of a node of Kubernetes")
        await Viewer(self._access, caller, "get").require(NODES, name)

    async def _identify(self, context: Context) -> Caller:
        return await self._callers.identify(context.invocation_metadata() or (), context.peer())

    async def _admit(self, context: Context) -> Caller:
        """Whose call it is. Raises Unauthenticated, TooMany or Unavailable."""
        try:
            caller = await self._identify(context)
            now = asyncio.get_running_loop().time()
            if wait := self._calls.wait_seconds(caller.name, now):
                raise TooMany(Reason.RATE_LIMITED, f"{caller.name} calls too often", wait)
        except ServiceError as error:
            REFUSED_CALLS.labels(type(error).__name__).inc()
            raise
        self._calls.take(caller.name, now)
        return caller

    @contextmanager
    def _seat(self, caller: Caller) -> Iterator[None]:
        if not self._seats.take(caller.name):
            REFUSED_CALLS.labels(TooMany.__name__).inc()
            raise TooMany(Reason.RATE_LIMITED, f"there are too many watches, of {caller.name} or of all callers")
        try:
            yield
        finally:
            self._seats.free(caller.name)

    async def _may_watch(
        self, context: Context, ref: ModelRef, request: WatchModelsRequest | WatchProgressRequest
    ) -> bool:
        """Whether a change may be told, by what the API server said a short time ago at the latest.

        Raises Unauthenticated when the token is not valid any more, Denied when what the call names may not be watched
        any more.
        """
        viewer = Viewer(self._access, await self._identify(context), "watch")
        if named := named_scope(request.kind, request.namespace):
            await viewer.require(named, request.name)
            return True
        return bool(await viewer.permitted([scope_of(ref)]))

    def _require_synced(self) -> None:
        if not self._synced():
            raise Unavailable(Reason.UNAVAILABLE, "the service has not read everything yet", retry_after_seconds=1)

    def _event(self, ref: ModelRef) -> WatchModelsResponse:
        model = self._catalog.get(ref.uid)
        return WatchModelsResponse(updated=self._with_progress(model)) if model else WatchModelsResponse(deleted=ref)

    def _with_progress(self, model: Model) -> Model:
        return with_progress(model, self._observations.progress)


def _filter(kind: ModelKind, namespace: str, name: str) -> Callable[[ModelRef], bool]:
    def matches(ref: ModelRef) -> bool:
        return (
            kind in (MODEL_KIND_UNSPECIFIED, ref.kind) and namespace in ("", ref.namespace) and name in ("", ref.name)
        )

    return matches


def _require_quick(offered: float) -> None:
    """Raises SlowReader when a message that was offered at a time was taken too late."""
    if asyncio.get_running_loop().time() - offered > _SLOW_READER_SECONDS:
        raise SlowReader(Reason.RATE_LIMITED, "the watch is read too slowly; call again for the latest state")


async def _next_before(
    stopped: "asyncio.Task[Literal[True]]", change: Coroutine[Any, Any, ModelRef]
) -> ModelRef | None:
    """The next change, or None when the service stops first."""
    waiting: asyncio.Task[Any] = asyncio.ensure_future(change)
    try:
        await asyncio.wait([waiting, stopped], return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() and not stopped.done() else None
    finally:
        waiting.cancel()

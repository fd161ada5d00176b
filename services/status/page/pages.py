"""The web page: who asks, what may they see, and which template shows it. Reads the same memory as StatusService.

Owns addresses, the order of a request, and what becomes of an error. Writes nothing but what a person confirms, with
that person's own token.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote

import structlog
from google.protobuf.json_format import MessageToJson
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.artifact.reasons import Reason
from libs.artifact.sizes import shown_size
from libs.chassis.errors import Conflict, Invalid, Missing, ServiceError, Unavailable
from libs.chassis.kube import Object
from libs.model.explanation import Explanation
from libs.model.kinds import KINDS, kind_numbered, shown_ref
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, ModelRef
from ome.status.v1.status_pb2 import Model
from services.status.access import NODES, Access, Denied, Viewer, scope_of
from services.status.allowances import Rate, Remembered, Seats
from services.status.callers import Caller, Callers, TooMany, Unauthenticated
from services.status.messages import node_message
from services.status.metrics import PAGE_VIEWERS, REFUSED_CALLS
from services.status.page.acting import Acts, own_token
from services.status.page.actions import ACTIONS
from services.status.page.assets import Assets
from services.status.page.board import BEAT_SECONDS, Board, pause_seconds
from services.status.page.files_view import files_view
from services.status.page.headers import SECURITY_HEADERS
from services.status.page.manifest_text import manifest_json
from services.status.page.own_events import ReadsEvents, shown_events
from services.status.page.plan_view import PlanView, plan_view
from services.status.page.session import (
    COOKIE,
    MOST_TOKEN_CHARACTERS,
    TrustedProxy,
    identify,
    is_from_here,
    place_of,
)
from services.status.page.sight import Sight
from services.status.page.sources import Sources
from services.status.page.streams import SIGN_OF_LIFE, EventStream, event, json_event
from services.status.page.views import (
    ModelView,
    NodeView,
    limits_of_nodes,
    manifest,
    model_address,
    model_view,
    node_address,
    node_view,
    source_views,
    standing,
    status_on,
)

_REMEMBERED_CALLERS = 10_000
_REQUESTS_AT_ONCE = 5
# Of all callers together. Each costs a connection and, on the fleet's page, one look at each row a second.
_MOST_VIEWERS = 500
_MOST_FORM_BYTES = 64 << 10
# A manifest of 48 KiB, of which each byte may be written as three.
_MOST_PLAN_BYTES = 150 << 10
_FORM = "application/x-www-form-urlencoded"
_SIGN_OF_LIFE_BEATS = 15
_NODE_BEATS = 2
# An explanation looks at each node of the cluster, and all who look at a model share it for so long.
_EXPLAINED_SECONDS = 5.0
_MOST_EXPLAINED = 500
_PLURALS = {kind.plural: kind for kind in KINDS}
_log = structlog.get_logger()


@dataclass(frozen=True)
class Door:
    """Who is let in, and what each may have."""

    callers: Callers
    access: Access
    proxy: TrustedProxy
    needs_login: bool
    # How to make a token, for the page of the login.
    audience: str
    requests_per_second: float
    viewers_per_caller: int
    # Changes models, and reads their events, as the person who asks; None where nobody has a token.
    acts: Acts | None = None
    reads_events: ReadsEvents | None = None


class Pages:
    """The pages, the streams that keep them current, and login and logout."""

    def __init__(self, sources: Sources, door: Door, stop: asyncio.Event) -> None:
        self._catalog = sources.catalog
        self._reports = sources.reports
        self._sources = sources
        self._door = door
        self._stop = stop
        self._assets = Assets()
        self._board = Board(sources.catalog, sources.reports)
        burst = max(1.0, _REQUESTS_AT_ONCE * door.requests_per_second)
        self._requests: Rate[str] = Rate(door.requests_per_second, burst, _REMEMBERED_CALLERS)
        self._seats: Seats[str] = Seats(door.viewers_per_caller, _MOST_VIEWERS)
        self._viewers = 0
        self._explained: Remembered[tuple[str, bool], Explanation] = Remembered(_MOST_EXPLAINED)
        self._templates = Environment(
            loader=PackageLoader("services.status.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "asset": self._assets.address,
            "model_address": model_address,
            "node_address": node_address,
            "shown_size": shown_size,
            "shown_ref": shown_ref,
        }

    def application(self) -> Starlette:
        """All of it, as ASGI."""
        model = "/models/{plural}/{path:path}"
        get = ["GET"]
        application = Starlette(
            routes=[
                Route("/", self.fleet, methods=get),
                Route("/fleet/stream", self.fleet_stream, methods=get),
                Route("/stream" + model, self.model_stream, methods=get),
                Route("/manifest" + model, self.model_manifest, methods=get),
                Route("/cell" + model, self.cell, methods=get),
                Route("/files" + model, self.files, methods=get),
                Route("/events" + model, self.events, methods=get),
                Route("/act/{action}" + model, self.act, methods=["GET", "POST"]),
                Route(model, self.model, methods=get),
                Route("/nodes", self.nodes, methods=get),
                Route("/nodes/{name}", self.node, methods=get),
                Route("/stream/nodes/{name}", self.node_stream, methods=get),
                Route("/sources", self.source_page, methods=get),
                Route("/plan", self.plan_page, methods=get),
                Route("/plan", self.plan, methods=["POST"]),
                Route("/session", self.session, methods=get),
                Route("/login", self.login, methods=["GET", "POST"]),
                Route("/logout", self.logout, methods=["POST"]),
                Route("/static/{digest}/{path:path}", self.static, methods=get),
            ],
            middleware=[Middleware(_SecurityHeaders)],
            exception_handlers={ServiceError: self._refusal, HTTPException: self._refusal},
        )
        # Every address has one form.
        application.router.redirect_slashes = False
        return application

    async def fleet(self, request: Request) -> Response:
        """The matrix, without its content, which the stream brings."""
        return self._page("fleet.html", await self._admit(request), title="Fleet", place="fleet")

    async def fleet_stream(self, request: Request) -> Response:
        """The matrix as far as the caller may watch models, and then each difference."""
        caller = await self._admit(request)
        self._require_synced()
        return EventStream(self._fleet_messages(request, caller))

    async def model(self, request: Request) -> Response:
        """One model."""
        caller = await self._admit(request)
        found = await self._model(request, caller)
        view, why_not = await self._model_view(found, caller), await self._why_no_actions(request, caller, found.ref)
        may_act = why_not is None
        return self._page(
            "model.html",
            caller,
            title=found.ref.name,
            place="fleet",
            view=view,
            actions=ACTIONS.values() if may_act else (),
            why_no_actions=why_not,
        )

    async def act(self, request: Request) -> Response:
        """Asks for a confirmation, and does what was confirmed."""
        caller = await self._admit(request)
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise HTTPException(404)
        found = await self._model(request, caller)
        model = self._object(found.ref)
        if (why_not := await self._why_no_actions(request, caller, found.ref)) is not None:
            raise Denied(Reason.FORBIDDEN, why_not or f"{caller.name} may not patch {scope_of(found.ref)}")
        address = model_address(found.ref)
        if request.method == "GET":
            choices = action.offered(model)
            return self._page(
                "act.html",
                caller,
                title=action.title,
                action=action,
                ref=found.ref,
                address=address,
                choices=choices,
                why=action.why_not(model, ""),
            )
        self._require_from_here(request)
        choice = (await _form(request)).get("choice", [""])[0]
        if why := action.why_not(model, choice):
            raise HTTPException(409, f"{shown_ref(found.ref)}: {why}.")
        assert self._door.acts
        patch = action.patch(model, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), choice)
        try:
            await self._door.acts.patch(self._token(request), found.ref, patch)
        except (Invalid, Missing) as error:
            raise HTTPException(403, self._refused(error)) from error
        except Conflict as error:
            raise HTTPException(409, "Somebody else has changed the model in this moment. Try again.") from error
        _log.info("page_action", action=action.word, model=found.ref.uid, user=caller.name)
        return RedirectResponse(address, 303)

    async def model_stream(self, request: Request) -> Response:
        """The parts of a model's page, each whenever it has changed."""
        caller = await self._admit(request)
        await self._model(request, caller)

        async def parts(again: Caller) -> Mapping[str, str]:
            return self._parts("model.html", await self._model_view(await self._model(request, again), again))

        return EventStream(self._part_messages(request, caller, parts, 1))

    async def model_manifest(self, request: Request) -> Response:
        """The object of a model as YAML."""
        model = self._object((await self._model(request, await self._admit(request))).ref)
        return Response(manifest(model), media_type="text/plain", headers={"Cache-Control": "no-store"})

    async def cell(self, request: Request) -> Response:
        """One model on one node, for the line below the matrix."""
        caller = await self._admit(request)
        found = await self._model(request, caller)
        node, uid = request.query_params.get("node", ""), found.ref.uid
        here = status_on(found, node)
        desired = node in self._reports.desired_nodes(uid)
        one = standing(found.ref, here, desired, self._reports.progress(node, uid)) if here else None
        may_see_node = await self._door.access.permits(caller, "get", NODES, node)
        explained = self._sources.explainer.on_node(uid, node) if may_see_node else None
        return self._fragment("cell.html", ref=found.ref, one=one, node=node, explained=explained)

    async def files(self, request: Request) -> Response:
        """The files of the artifact that nodes of a model must hold, for whoever may get the model."""
        found = await self._model(request, await self._admit(request))
        digest = found.artifact.digest
        if not digest:
            return self._fragment("files.html", view=None, why="The source has not been listed, or nothing is copied.")
        try:
            view = files_view(digest, await self._sources.lists.files(digest))
        except ServiceError as error:
            return self._fragment("files.html", view=None, why=f"Not known now: {error.message}.")
        return self._fragment("files.html", view=view)

    async def events(self, request: Request) -> Response:
        """What Kubernetes has noted of a model, as far as the API server shows it to the caller."""
        ref = (await self._model(request, await self._admit(request))).ref
        token = self._token(request) if self._door.needs_login else ""
        reads = self._door.reads_events
        why = "The page shows events by your own token, and knows you without one. kubectl shows them:"
        if token and reads:
            try:
                return self._fragment("events.html", why="", events=shown_events(await reads.of_model(token, ref)))
            except (Invalid, Missing) as error:
                # A token for the page alone is no error: it is what the guide recommends to those who only look.
                why = f"{self._refused(error)} kubectl shows them as well:"
            except ServiceError as error:
                return self._fragment("events.html", why=f"{_capital(error.message)}.", command="")
        return self._fragment("events.html", why=why, command=_describe(ref))

    async def nodes(self, request: Request) -> Response:
        """All nodes whose fetcher reports."""
        caller = await self._admit(request)
        self._require_synced()
        await Viewer(self._door.access, caller, "list").require(NODES)
        reports = self._reports
        found = [
            node_message(
                name, reports.reachable(name) is not False, reports.heartbeat(name), reports.states_of_node(name)
            )
            for name in reports.reporting_nodes()
        ]
        return self._page("nodes.html", caller, title="Nodes", place="nodes", nodes=found)

    async def node(self, request: Request) -> Response:
        """One node."""
        caller = await self._admit(request)
        view = await self._node_view(request, caller)
        return self._page("node.html", caller, title=view.name, place="nodes", view=view)

    async def node_stream(self, request: Request) -> Response:
        """The parts of a node's page, each whenever it has changed."""
        caller = await self._admit(request)
        await self._node_view(request, caller)

        async def parts(again: Caller) -> Mapping[str, str]:
            return self._parts("node.html", await self._node_view(request, again))

        return EventStream(self._part_messages(request, caller, parts, _NODE_BEATS))

    async def source_page(self, request: Request) -> Response:
        """Where models come from, with rates and failures."""
        caller = await self._admit(request)
        self._require_synced()
        found = source_views(await self._permitted(caller, "list"), self._reports.progress)
        limits: list[tuple[str, int]] = []
        if await self._door.access.permits(caller, "list", NODES):
            heartbeats = map(self._reports.heartbeat, self._reports.reporting_nodes())
            limits = limits_of_nodes(filter(None, heartbeats))
        return self._page("sources.html", caller, title="Sources", place="sources", sources=found, limits=limits)

    async def plan_page(self, request: Request) -> Response:
        """The form for a manifest, which holds that of a model if one is named."""
        caller, named, text = await self._admit(request), request.query_params.get("model", ""), ""
        if named:
            request.path_params["plural"], _, request.path_params["path"] = named.partition("/")
            text = manifest(self._object((await self._model(request, caller)).ref))
        return self._plan_page(caller, text)

    async def plan(self, request: Request) -> Response:
        """What would come of a manifest: of the form for a person, of JSON for a program such as the plugin."""
        self._require_from_here(request)
        caller = await self._admit(request)
        self._require_synced()
        if request.headers.get("content-type", "").partition(";")[0] == _FORM:
            text = (await _form(request, _MOST_PLAN_BYTES)).get("manifest", [""])[0]
            try:
                asked = await asyncio.to_thread(manifest_json, text)
                return self._plan_page(caller, text, plan_view(await self._sources.forecaster.plan(caller, asked)))
            except ServiceError as error:
                return self._plan_page(caller, text, problem=f"{_capital(error.message)}.", status=_status_of(error)[0])
        try:
            text = (await _body(request)).decode()
        except UnicodeDecodeError as error:
            raise HTTPException(400, "The manifest is no JSON.") from error
        forecast = await self._sources.forecaster.plan(caller, text)
        return Response(MessageToJson(forecast), media_type="application/json", headers={"Cache-Control": "no-store"})

    async def session(self, request: Request) -> Response:
        """Whether who asks may still look, for a page that has lost its stream."""
        await self._admit(request)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    async def login(self, request: Request) -> Response:
        """The form, and the token that was pasted into it. The token stands in no address and in no log."""
        if request.method == "GET":
            return self._login_form(place_of(request.query_params.get("next", "/")))
        self._require_from_here(request)
        form = await _form(request)
        token = "".join(form.get("token", [""])[0].split())
        place = place_of(form.get("next", ["/"])[0])
        if not token:
            return self._login_form(place, "Paste a token first.")
        if len(token) > MOST_TOKEN_CHARACTERS or not token.isascii():
            return self._login_form(
                place, f"The token is longer than {MOST_TOKEN_CHARACTERS:,} characters, or not one."
            )
        try:
            await self._door.callers.identify([("authorization", f"Bearer {token}")], _peer(request))
        except Unauthenticated as error:
            REFUSED_CALLS.labels(type(error).__name__).inc()
            return self._login_form(place, f"{_capital(error.message.partition(';')[0])}.")
        answer = RedirectResponse(place, 303)
        answer.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="strict")
        return answer

    async def logout(self, request: Request) -> Response:
        """Have the browser forget the token."""
        self._require_from_here(request)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return answer

    async def static(self, request: Request) -> Response:
        """One of our files, for everybody."""
        asset = self._assets.get(request.path_params["digest"], request.path_params["path"])
        if asset is None:
            raise HTTPException(404)
        return Response(asset.content, headers=asset.headers)

    async def _admit(self, request: Request) -> Caller:
        """Whose request it is. Raises Unauthenticated, TooMany or Unavailable."""
        try:
            caller = await self._identify(request)
            now = asyncio.get_running_loop().time()
            if wait := self._requests.wait_seconds(caller.name, now):
                raise TooMany(Reason.RATE_LIMITED, f"{caller.name} asks too often", wait)
        except ServiceError as error:
            REFUSED_CALLS.labels(type(error).__name__).inc()
            raise
        self._requests.take(caller.name, now)
        return caller

    async def _identify(self, request: Request) -> Caller:
        peer = (request.client.host, request.client.port) if request.client else ("", 0)
        return await identify(self._door.callers, self._door.proxy, request.headers, request.cookies, peer)

    def _token(self, request: Request) -> str:
        peer = request.client.host if request.client else ""
        return own_token(self._door.proxy, peer, request.headers, request.cookies)

    async def _why_no_actions(self, request: Request, caller: Caller, ref: ModelRef) -> str | None:
        """Why a caller cannot act on a model, empty if it may not; None when it can."""
        if self._door.acts is None or not self._door.needs_login:
            return ""
        if not self._token(request):
            return (
                "a proxy signs you in by name and brings no token of yours, and the page acts for nobody with its own "
                "rights: use kubectl ome-models"
            )
        permitted = await self._door.access.permits(caller, "patch", scope_of(ref), ref.name)
        return None if permitted else ""

    def _refused(self, error: ServiceError) -> str:
        """What the API server says, and what may help."""
        message = f"{_capital(error.message)}."
        if self._door.audience == "api-server":
            return message
        return (
            f"{message} Unless your account lacks a right, the token is for {self._door.audience} alone: sign in with "
            "one that is for the API server as well, which kubectl create token makes with a second --audience."
        )

    async def _model(self, request: Request, caller: Caller) -> Model:
        """The model that an address names. Raises Denied, Missing or Unavailable."""
        kind = _PLURALS.get(request.path_params["plural"])
        namespace, _, name = request.path_params["path"].rpartition("/")
        if not kind or not name or (kind.number == MODEL_KIND_BASE_MODEL) != bool(namespace):
            raise HTTPException(404)
        self._require_synced()
        wanted = ModelRef(kind=kind.number, namespace=namespace, name=name)
        # Before anything is looked up: whether a model exists is none of a stranger's business.
        await Viewer(self._door.access, caller, "get").require(scope_of(wanted), name)
        found = self._catalog.find(lambda ref: (ref.kind, ref.namespace, ref.name) == (kind.number, namespace, name))
        if found is None:
            raise Missing(Reason.NOT_FOUND, f"{shown_ref(wanted)} does not exist")
        return found

    def _object(self, ref: ModelRef) -> Object:
        """The object of a model. Raises Missing."""
        found = self._sources.model_object(ref.uid)
        if found is None:
            raise Missing(Reason.NOT_FOUND, f"{shown_ref(ref)} is being deleted")
        return found

    async def _model_view(self, model: Model, caller: Caller) -> ModelView:
        """A model, and why it is not on more nodes; of those on which it is not, only who may list them learns."""
        uid = model.ref.uid
        question = uid, await self._door.access.permits(caller, "list", NODES)
        now = asyncio.get_running_loop().time()
        explained = self._explained.get(question, now) or self._sources.explainer.in_cluster(*question)
        if explained:
            self._explained.put(question, explained, now + _EXPLAINED_SECONDS)
        status = (self._sources.model_object(uid) or {}).get("status") or {}
        desired, progress = self._reports.desired_nodes(uid), self._reports.progress
        return model_view(model, desired, progress, explained, status)

    async def _node_view(self, request: Request, caller: Caller) -> NodeView:
        name, reports = request.path_params["name"], self._reports
        self._require_synced()
        await Viewer(self._door.access, caller, "get").require(NODES, name)
        heartbeat = reports.heartbeat(name)
        if heartbeat is None and not reports.models_of_node(name):
            raise Missing(Reason.NOT_FOUND, f"no fetcher reports from node {name}")
        models = [
            model for model in await self._permitted(caller, "list") if model.ref.uid in reports.models_of_node(name)
        ]
        reachable = reports.reachable(name) is not False

        def status_of(uid: str) -> Mapping[str, Any]:
            return (self._sources.model_object(uid) or {}).get("status") or {}

        return node_view(name, reachable, heartbeat, models, reports.desired_nodes, reports.progress, status_of)

    async def _permitted(self, caller: Caller, verb: str) -> list[Model]:
        """The models on which the caller has the right."""
        models = self._catalog.models()
        permitted = await Viewer(self._door.access, caller, verb).permitted(scope_of(model.ref) for model in models)
        return [model for model in models if scope_of(model.ref) in permitted]

    def _fleet_messages(self, request: Request, caller: Caller) -> AsyncGenerator[str, None]:
        sight = Sight()

        async def next_message(again: Caller) -> str:
            models = await self._permitted(again, "watch")
            every_node = await self._door.access.permits(again, "list", NODES)
            message = sight.message(models, self._board.columns, self._board.rows, every_node)
            return json_event(*message) if message else ""

        return self._beats(request, caller, self._board.watched(), next_message, self._board.next_beat)

    def _part_messages(
        self,
        request: Request,
        caller: Caller,
        parts: Callable[[Caller], Awaitable[Mapping[str, str]]],
        every: int,
    ) -> AsyncGenerator[str, None]:
        """The parts of a page that differ from what was sent last."""
        sent: dict[str, str] = {}

        async def next_message(again: Caller) -> str:
            made = await parts(again)
            changed = "".join(event(name, text) for name, text in made.items() if sent.get(name) != text)
            sent.update(made)
            return changed

        async def beat() -> None:
            await asyncio.sleep(every * BEAT_SECONDS)

        return self._beats(request, caller, nullcontext(), next_message, beat)

    async def _beats(
        self,
        request: Request,
        caller: Caller,
        watching: AbstractAsyncContextManager[None],
        next_message: Callable[[Caller], Awaitable[str]],
        beat: Callable[[], Awaitable[None]],
    ) -> AsyncGenerator[str, None]:
        """What there is to send at each beat, until the service stops or the caller may not have it any more.

        Who asks is looked at again at each beat, which costs the API server one request a minute. Where many look at
        much, messages come less often: what they cost together is a part of the time that the service has for others.
        """
        told, beats = None, 0
        try:
            async with self._viewer(caller), watching:
                while not self._stop.is_set():
                    caller = await self._identify(request)
                    started = time.perf_counter()
                    message = await next_message(caller)
                    spent = time.perf_counter() - started
                    if (stale := self._why_stale()) != told:
                        message += event("stale", stale)
                        told = stale
                    beats += 1
                    pause = pause_seconds(spent, self._viewers)
                    if message or pause or beats % _SIGN_OF_LIFE_BEATS == 0:
                        yield message or SIGN_OF_LIFE
                    if pause:
                        await self._unless_stopped(asyncio.sleep(pause))
                    await self._unless_stopped(beat())
        except (Unauthenticated, Denied, Missing, TooMany) as error:
            kind = "expired" if isinstance(error, Unauthenticated) else "ended"
            yield event(kind, _capital(error.message.partition(";")[0]) + ".")
        except ServiceError as error:
            # The browser connects again after a moment.
            _log.info("page_stream_ended", reason=error.reason, message=error.message)

    async def _unless_stopped(self, beat: Awaitable[None]) -> None:
        waiting = [asyncio.ensure_future(beat), asyncio.ensure_future(self._stop.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    @asynccontextmanager
    async def _viewer(self, caller: Caller) -> AsyncIterator[None]:
        if not self._seats.take(caller.name):
            REFUSED_CALLS.labels(TooMany.__name__).inc()
            raise TooMany(Reason.RATE_LIMITED, f"there are too many open pages, of {caller.name} or of all callers")
        try:
            self._viewers += 1
            with PAGE_VIEWERS.track_inprogress():
                yield
        finally:
            self._viewers -= 1
            self._seats.free(caller.name)

    def _why_stale(self) -> str:
        """Why what is shown may be old; empty while it is not."""
        return " ".join(f"{_capital(why)}." for _, why in sorted(self._sources.health.failures.items()))

    def _require_synced(self) -> None:
        if not self._sources.synced():
            raise Unavailable(Reason.UNAVAILABLE, "the service has not read everything yet", retry_after_seconds=1)

    def _require_from_here(self, request: Request) -> None:
        if not is_from_here(request.headers):
            raise HTTPException(403, "The form was sent by another site.")

    def _parts(self, template: str, view: Any) -> dict[str, str]:
        """The blocks of a page that change while somebody looks, by their names."""
        blocks = self._templates.get_template(template).blocks
        context = self._templates.get_template(template).new_context({"view": view})
        return {
            name[5:]: "".join(render(context)).strip() for name, render in blocks.items() if name.startswith("live_")
        }

    def _page(self, template: str, caller: Caller | None, status: int = 200, **values: Any) -> HTMLResponse:
        shown = {"caller": caller, "needs_login": self._door.needs_login, "place": "", "title": "", **values}
        return self._fragment(template, status, **shown)

    def _fragment(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = self._templates.get_template(template).render(values)
        return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})

    def _plan_page(
        self, caller: Caller, text: str, view: PlanView | None = None, problem: str = "", status: int = 200
    ) -> Response:
        return self._page(
            "plan.html", caller, status, title="Plan", place="plan", text=text, view=view, problem=problem
        )

    def _login_form(self, place: str, problem: str = "") -> Response:
        audience = self._door.audience
        return self._page(
            "login.html", None, 401 if problem else 200, title="Sign in", next=place, problem=problem, audience=audience
        )

    async def _refusal(self, request: Request, error: Exception) -> Response:
        """The answer to a request that failed, as a page or, to a script, as a line."""
        wants_page = "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers
        if isinstance(error, Unauthenticated) and wants_page:
            return RedirectResponse(f"/login?next={quote(_address(request), safe='')}", 303)
        status, message = _status_of(error)
        headers = {"Cache-Control": "no-store"}
        if isinstance(error, Unavailable) and error.retry_after_seconds:
            headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
        if not wants_page:
            return Response(f"{message}\n", status, headers, "text/plain")
        page = self._page("refusal.html", None, status, title=message, code=status, message=message)
        page.headers.update(headers)
        return page


class _SecurityHeaders:
    """Puts the headers of every answer onto it, those of errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _status_of(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException():
            return error.status_code, error.detail if error.status_code != 404 else "There is no such page."
        case Unauthenticated():
            return 401, _capital(error.message) + "."
        case Denied():
            return 403, _capital(error.message) + "."
        case Invalid():
            return 400, _capital(error.message) + "."
        case Missing():
            return 404, _capital(error.message) + "."
        case TooMany():
            return 429, _capital(error.message) + "."
        case ServiceError():
            return 503, _capital(error.message) + "."
        case _:
            raise error


async def _form(request: Request, most_bytes: int = _MOST_FORM_BYTES) -> dict[str, list[str]]:
    try:
        return parse_qs((await _body(request, most_bytes)).decode("utf-8", "replace"), max_num_fields=4)
    except ValueError as error:
        raise HTTPException(400, "The form has too many fields.") from error


async def _body(request: Request, most_bytes: int = _MOST_FORM_BYTES) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise HTTPException(413, "The form is too long.")
    return body


def _describe(ref: ModelRef) -> str:
    kind = kind_numbered(ref.kind).name.lower()
    return f"kubectl describe {kind} {ref.name}" + (f" --namespace {ref.namespace}" if ref.namespace else "")


def _peer(request: Request) -> str:
    return f"{request.client.host}:{request.client.port}" if request.client else ":0"


def _address(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

"""The door for webhooks of hubs: who knows the secret may say that a repository has changed, and nothing else.

Owns the port, the secret and the bounds. What an event says is read in hub_events; what follows from it is the
controller's, which takes it as a reason to look at the source.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from nats.aio.client import Client
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from libs.artifact.names import SOURCE_CHANGED_SUBJECT
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_asking import ask
from libs.chassis.settings import SettingsError
from libs.chassis.tls_files import TlsFiles
from ome.fetch.v1.fetch_pb2 import SourceChanged, SourceChangedReply
from services.status.allowances import Rate
from services.status.hub_events import RepositoryChange, read_event
from services.status.metrics import HUB_EVENTS
from services.status.page.server import serve_page
from services.status.settings import Settings

PATH = "/webhooks/huggingface"
HEADER = "X-Webhook-Secret"
_CHECK = "webhooks_port"
_BODY_BYTES = 64 << 10
_LEAST_SECRET_CHARACTERS = 16
# A webhook of the hub is triggered a thousand times a day at most.
_PER_SECOND, _AT_ONCE = 2.0, 30.0
_ANSWER_SECONDS = 5.0
_MOST_CONNECTIONS = 100
_log = structlog.get_logger()


class Webhooks:
    """Takes events of hubs and passes them on."""

    def __init__(self, secret_file: Path, tell: Callable[[RepositoryChange], Awaitable[bool]]) -> None:
        """tell passes a change on, and says whether somebody has heard it."""
        self._secret_file = secret_file
        self._tell = tell
        # Of those who know the secret: all of them are one hub.
        self._events: Rate[str] = Rate(_PER_SECOND, _AT_ONCE, 1)

    def application(self) -> Starlette:
        """The one path there is."""
        return Starlette(routes=[Route(PATH, self._take, methods=["POST"])])

    def check(self) -> None:
        """Raises SettingsError when there is no secret by which a hub could be known."""
        if len(self._secret()) < _LEAST_SECRET_CHARACTERS:
            least = f"{_LEAST_SECRET_CHARACTERS} characters or more"
            raise SettingsError([f"OME_WEBHOOKS_SECRET_FILE: {self._secret_file} must hold {least}"])

    async def _take(self, request: Request) -> Response:
        outcome, response = await self._answer(request)
        HUB_EVENTS.labels(outcome).inc()
        return response

    async def _answer(self, request: Request) -> tuple[str, Response]:
        """What came of an event, and the answer to it."""
        # Before anything else is read: strangers cost no more than this.
        if not self._is_known(request.headers.get(HEADER, "")):
            return "refused", _said(401, f"the secret in {HEADER} is not that of this webhook")
        now = asyncio.get_running_loop().time()
        if wait := self._events.wait_seconds("", now):
            return "too_many", _said(429, "too many events", {"Retry-After": str(int(wait) + 1)})
        self._events.take("", now)
        body = await _body(request)
        if body is None:
            return "too_large", _said(413, f"an event may have {_BODY_BYTES} bytes")
        change = read_event(body)
        if change is None:
            return "ignored", _said(200, "nothing that a model follows has changed")
        if not await self._tell(change):
            return "unanswered", _said(503, "no controller answers", {"Retry-After": "10"})
        return "told", _said(200, "models that follow the repository are listed again")

    def _secret(self) -> bytes:
        # Each time: it may have been replaced, and the hub is told of that by hand in any order.
        try:
            return self._secret_file.read_bytes().strip()
        except OSError:
            return b""

    def _is_known(self, shown: str) -> bool:
        secret = self._secret()
        same = hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), secret)
        return same and len(secret) >= _LEAST_SECRET_CHARACTERS


class ControllerLine:
    """The line to the controller."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def tell(self, change: RepositoryChange) -> bool:
        """Tell the controller that a repository has changed; whether one has heard it."""
        said = SourceChanged(repository=change.repository, revisions=change.revisions)
        try:
            # Once: all controllers hear it.
            reply = await ask(self._client, SOURCE_CHANGED_SUBJECT, said, SourceChangedReply, _ANSWER_SECONDS, None)
        except Unavailable as error:
            _log.warning("hub_event_unanswered", repository=change.repository, error=error.message)
            return False
        _log.info("hub_event", repository=change.repository, models=reply.models)
        return True


async def _body(request: Request) -> bytes | None:
    """What was sent; None for too much of it, which is not read to its end."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _BODY_BYTES:
                return None
    except ClientDisconnect:
        return b""
    return body


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)


@asynccontextmanager
async def opened_webhooks(
    settings: Settings, client: Client, tls: TlsFiles | None, health: Health
) -> AsyncIterator[None]:
    """Take events until the block ends, and tell the controller of them. Raises SettingsError."""
    webhooks = Webhooks(settings.webhooks_secret_file, ControllerLine(client).tell)
    webhooks.check()
    serving = serve_page(
        webhooks.application(),
        settings.listen_host,
        settings.webhooks_port,
        tls,
        settings.grpc_tls_dir,
        health,
        most_connections=_MOST_CONNECTIONS,
        check=_CHECK,
    )
    async with serving:
        yield

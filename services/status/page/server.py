"""Serves the page over TLS, with the certificate of gRPC, from a port of its own.

Owns the server and its end. A new certificate counts from the next handshake on.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette

from libs.chassis.health import Health, listening_socket
from libs.chassis.tls_files import CERTIFICATE, KEY, TlsFiles, TlsIdentity
from services.status.page.connections import BoundedConnection
from services.status.page.handshakes import Doorway

_PORT_CHECK = "page_port"
_MOST_CONNECTIONS = 1000
_IDLE_SECONDS = 30
# For each request, and for the next part of an answer to be read.
_PATIENCE_SECONDS = 30.0
_DRAIN_SECONDS = 2
# For a handshake, which takes a browser some round trips.
_HANDSHAKE_SECONDS = 10.0
_MOST_HANDSHAKES = 200
_RETRY_SECONDS = 1.0
_log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to the process that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_page(
    application: Starlette,
    host: str,
    port: int,
    tls: TlsFiles | None,
    directory: Path,
    health: Health,
    patience_seconds: float = _PATIENCE_SECONDS,
    most_connections: int = _MOST_CONNECTIONS,
    handshake_seconds: float = _HANDSHAKE_SECONDS,
    most_handshakes: int = _MOST_HANDSHAKES,
    check: str = _PORT_CHECK,
) -> AsyncIterator[None]:
    """Serve until the block ends. With `tls`, the port opens once its files in `directory` can be used.

    `check` is the check of health that fails if it cannot.
    """
    connection = partial(BoundedConnection, patience_seconds=patience_seconds, most_connections=most_connections)
    doorway = partial(Doorway, patience_seconds=handshake_seconds, most=most_handshakes)
    serving = asyncio.create_task(_serve(application, host, port, tls, directory, health, connection, doorway, check))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def _serve(
    application: Starlette,
    host: str,
    port: int,
    tls: TlsFiles | None,
    directory: Path,
    health: Health,
    connection: partial[BoundedConnection],
    doorway: partial[Doorway],
    check: str,
) -> None:
    context = None
    if tls is not None:
        await tls.usable()
        context = await _Certificates(tls, directory).context()
    try:
        listener = doorway(listening_socket(host, port))
    except OSError as error:
        _log.error("port_not_opened", check=check, port=port, error=str(error))
        health.fail(check, f"port {port} cannot be opened: {error}")
        return
    server = _Server(
        uvicorn.Config(
            application,
            # Called as a class is.
            http=partial(connection, entered=listener.entered),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # What strangers send that is no HTTP is theirs to know.
            log_level="error",
            server_header=False,
            # Only a setting of ours says whose headers count.
            proxy_headers=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            ssl_context_factory=(lambda config, default: context) if context else None,
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait([serving])


class _Certificates:
    """Has each handshake use the newest files that could be used."""

    def __init__(self, tls: TlsFiles, directory: Path) -> None:
        self._tls = tls
        self._directory = directory
        self._identity: TlsIdentity | None = None
        self._newest: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """The context to listen with, once the files can be used: they may be replaced in this very moment."""
        while True:
            try:
                context = self._load()
            except OSError as error:
                _log.warning("certificate_not_loaded", directory=str(self._directory), error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                context.sni_callback = self._choose
                return context

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        if self._tls.current is not None and self._tls.current != self._identity:
            # Files that are just being replaced are taken up at a later handshake.
            with contextlib.suppress(OSError):
                self._newest = self._load()
        if self._newest is not None:
            connection.context = self._newest

    def _load(self) -> ssl.SSLContext:
        identity = self._tls.current
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._directory / CERTIFICATE, self._directory / KEY, password="")
        self._identity = identity
        return context

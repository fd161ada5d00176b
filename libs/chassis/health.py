"""Health of a process, by named checks, and the HTTP server that tells it: /healthz, /readyz, /metrics.

Alive means that the event loop runs; ready means that every declared check holds.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import prometheus_client
from aiohttp import web


class Health:
    """The checks of one process. A check is declared with a reason why it does not hold yet."""

    def __init__(self) -> None:
        self._failures: dict[str, str | None] = {}
        self._listeners: list[Callable[[], None]] = []

    def declare(self, check: str, why: str) -> None:
        """Add a check that does not hold yet."""
        self._set(check, why)

    def ok(self, check: str) -> None:
        """Say that a check holds."""
        self._set(check, None)

    def fail(self, check: str, why: str) -> None:
        """Say that a check does not hold, and why."""
        self._set(check, why)

    def holds(self, check: str) -> bool:
        """Whether a check holds; one that was never declared does."""
        return self._failures.get(check) is None

    @property
    def ready(self) -> bool:
        """Whether every check holds."""
        return not self.failures

    @property
    def failures(self) -> dict[str, str]:
        """The checks that do not hold and why."""
        return {check: why for check, why in self._failures.items() if why is not None}

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call listener whenever ready may have changed."""
        self._listeners.append(listener)

    def _set(self, check: str, why: str | None) -> None:
        before = self.ready
        self._failures[check] = why
        if self.ready != before:
            for listener in self._listeners:
                listener()


@asynccontextmanager
async def serve_http(
    health: Health, host: str, port: int, routes: list[web.RouteDef] | None = None
) -> AsyncIterator[None]:
    """Serve health, metrics and, where given, a service's own routes until the block ends.

    The host "::" stands for all addresses of both families, as it does for gRPC.
    """

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(request: web.Request) -> web.Response:
        failures = health.failures
        if not failures:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="".join(f"{check}: {why}\n" for check, why in sorted(failures.items())))

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
        )

    application = web.Application()
    application.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics), *(routes or [])]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.SockSite(runner, listening_socket(host, port)).start()
        yield
    finally:
        await runner.cleanup()


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket for a server; the host "::" stands for all addresses of both families. Raises OSError."""
    # asyncio would open IPv6 alone for "::", and nothing where the kernel has none.
    if host == "::":
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

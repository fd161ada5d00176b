"""Serves `kubectl logs`: the one part of a kubelet's own API that people use here. Only the API server may ask."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

PORT = 10250
_FOLLOW_SECONDS = 0.2

FindLog = Callable[[str, str, str], "tuple[Path, Callable[[], bool]] | None"]


class ContainerLogs:
    """`find` answers for (namespace, pod, container) with the log and whether its process still runs."""

    def __init__(self, find: FindLog, context: ssl.SSLContext) -> None:
        self._find = find
        self._context = context
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer)
        # Whoever follows a log does not hold up the end of a cluster.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        await self._runner.setup()
        try:
            yield
        finally:
            await self._runner.cleanup()

    async def listen(self, address: str) -> None:
        """Answer at a node's address as well; nothing happens when it does so already."""
        if (address, PORT) not in self._runner.addresses:
            await web.TCPSite(self._runner, address, PORT, ssl_context=self._context).start()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request.match_info["namespace"], request.match_info["pod"], request.match_info["container"])
        if found is None:
            raise web.HTTPNotFound(text=f"container {request.match_info['container']} has not been started\n")
        log, running = found
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        # What was written before a process ended is read after it was seen to have ended.
        alive = "follow" in request.query and request.query["follow"] != "false"
        with log.open("rb") as file:
            file.seek(_position(log, request.query.get("tailLines")))
            while True:
                last = not (alive and running())
                await response.write(file.read())
                if last:
                    return response
                await asyncio.sleep(_FOLLOW_SECONDS)


def _position(log: Path, lines: str | None) -> int:
    """Where the last `lines` lines begin."""
    if lines is None:
        return 0
    content = log.read_bytes()
    wanted = content.splitlines(keepends=True)[-int(lines) :] if int(lines) else []
    return len(content) - sum(map(len, wanted))


def server_context(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context

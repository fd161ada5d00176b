"""A copy of a collection, against a server that answers as told: what is kept, and whether it is current."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object, open_kube
from libs.chassis.reflector import Reflector

PATH = "/api/v1/pods"


def pod(name: str, version: int, wanted: bool = True) -> Object:
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "wanted": wanted}


def kept(item: Object) -> Object | None:
    return item if item["wanted"] else None


class Server:
    """Lists some objects, and tells events of a watch as they are put into a queue; None ends the watch."""

    def __init__(self, *listed: Object) -> None:
        self.listed = list(listed)
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.refuses = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            return web.json_response({"message": "no"}, status=503)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": self.listed})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        while event := await self.events.get():
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    @asynccontextmanager
    async def client(self) -> AsyncIterator[KubeClient]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            async with open_kube(f"http://127.0.0.1:{runner.addresses[0][1]}", ssl.create_default_context()) as client:
                yield client
        finally:
            await runner.cleanup()


class Followed:
    """A reflector at work, and the changes that it told of, by name before and after."""

    def __init__(self) -> None:
        self.reflector = Reflector(PATH, "pods", Health(), project=kept)
        self.changes: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def note(self, before: Object | None, after: Object | None) -> None:
        self.changes.put_nowait(tuple(each["metadata"]["name"] if each else "" for each in (before, after)))  # type: ignore[arg-type]

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(10):
            return await self.changes.get()

    @asynccontextmanager
    async def running(self, server: Server) -> AsyncIterator[None]:
        async with server.client() as client:
            task = asyncio.create_task(self.reflector.run(client, self.note))
            try:
                async with asyncio.timeout(10):
                    await self.reflector.synced()
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_what_the_projection_drops_is_neither_kept_nor_told() -> None:
    server, followed = Server(pod("a", 1), pod("b", 1, wanted=False)), Followed()
    async with followed.running(server):
        assert await followed.next() == ("", "a")
        server.events.put_nowait({"type": "ADDED", "object": pod("c", 2, wanted=False)})
        server.events.put_nowait({"type": "DELETED", "object": pod("b", 3, wanted=False)})
        server.events.put_nowait({"type": "ADDED", "object": pod("d", 4)})
        assert await followed.next() == ("", "d")
        assert set(followed.reflector.objects) == {("n", "a"), ("n", "d")}


async def test_what_is_no_longer_of_interest_is_told_as_gone_and_back_when_it_is_again() -> None:
    server, followed = Server(pod("a", 1)), Followed()
    async with followed.running(server):
        assert await followed.next() == ("", "a")
        server.events.put_nowait({"type": "MODIFIED", "object": pod("a", 2, wanted=False)})
        assert await followed.next() == ("a", "")
        assert followed.reflector.objects == {}
        server.events.put_nowait({"type": "MODIFIED", "object": pod("a", 3)})
        assert await followed.next() == ("", "a")


async def test_a_copy_is_current_while_it_is_watched_and_not_when_the_server_is_away() -> None:
    server, followed = Server(pod("a", 1)), Followed()
    assert not followed.reflector.current
    async with followed.running(server):
        assert followed.reflector.current
        server.refuses = True
        server.events.put_nowait(None)
        async with asyncio.timeout(10):
            while followed.reflector.current:
                await asyncio.to_thread(lambda: None)
        server.refuses = False
        server.listed.append(pod("b", 2))
        assert await followed.next() == ("", "a")
        assert await followed.next() == ("", "b")
        assert followed.reflector.current

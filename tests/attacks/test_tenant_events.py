"""A tenant writes Events of an own model, each as large as an object may be: whoever looks at them on the page sees a
sentence, and the service reads no more than it has room for.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from libs.chassis.errors import Unavailable
from libs.chassis.kube import KubeClient, open_kube
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, ModelRef
from services.status.page.own_events import KubeEvents

REF = ModelRef(kind=MODEL_KIND_BASE_MODEL, namespace="team-a", name="mine", uid="mine")
EVENT = b'{"reason": "Made up", "message": "' + b"x" * (1 << 20) + b'"},'
EVENTS = 200


class ApiServer:
    """Has many large events, and counts what it could send of them."""

    def __init__(self) -> None:
        self.sent = 0
        self.at_once, self.most_at_once = 0, 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """All events, in as many bytes as they have."""
        assert request.headers["Accept-Encoding"] == "identity"
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            await response.write(b'{"items": [')
            for _ in range(EVENTS):
                await response.write(EVENT)
                self.sent += len(EVENT)
            await response.write(b"{}]}")
        except ConnectionError:
            return response
        finally:
            self.at_once -= 1
        return response


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[KubeClient]:
    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with open_kube(address, ssl.create_default_context(), lambda: "the service's own") as client:
        yield client
    await runner.cleanup()


async def test_events_of_any_size_are_not_read_to_their_end(server: ApiServer, kube: KubeClient) -> None:
    with pytest.raises(Unavailable, match="more than"):
        await KubeEvents(kube).of_model("the tenant's", REF)
    assert server.sent < EVENTS * len(EVENT) // 4


async def test_many_who_look_at_once_are_answered_a_few_at_a_time(server: ApiServer, kube: KubeClient) -> None:
    events = KubeEvents(kube)
    looks = [events.of_model("the tenant's", REF) for _ in range(12)]
    found = await asyncio.gather(*looks, return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in found)
    assert server.most_at_once <= 4

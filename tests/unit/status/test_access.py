"""What the API server is asked about the rights of callers, and what is remembered of it."""

import ssl

from aiohttp import web

from libs.chassis.kube import open_kube
from services.status.access import NODES, ReviewedAccess, Scope
from services.status.callers import Caller


async def test_names_that_nothing_can_have_are_neither_asked_about_nor_remembered() -> None:
    """Whoever makes up long names would otherwise choose how much memory the service takes."""
    asked = []

    async def review(request: web.Request) -> web.Response:
        asked.append((await request.json())["spec"]["resourceAttributes"])
        return web.json_response({"status": {"allowed": True}})

    application = web.Application()
    application.router.add_post("/{path:.*}", review)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with open_kube(url, ssl.create_default_context()) as kube:
            access, caller = ReviewedAccess(kube, 60.0), Caller("tenant")
            assert not await access.permits(caller, "get", NODES, "n" * 254)
            assert not await access.permits(caller, "create", Scope("ome.io", "basemodels", "n" * 60_000))
            assert asked == []
            assert await access.permits(caller, "get", NODES, "n" * 253)
            assert len(asked) == 1
    finally:
        await runner.cleanup()

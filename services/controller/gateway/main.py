"""The gateway's process: stands between the nodes' account of NATS and the fleet's, and lets nodes into the former.

Not a part of the controller's process, so that planning does not hold it up. docs/adr/0023-gateway.md says why it is.
"""

import asyncio
import os
from contextlib import AsyncExitStack

from libs.chassis.health import Health, serve_http
from libs.chassis.kube import connect_kube
from libs.chassis.nats_client import connect_nats
from libs.chassis.tasks import run_until
from services.controller.authorization import Authorizer
from services.controller.gateway.gateway import Gateway
from services.controller.gateway.settings import Settings

_SYNCED = "synced"


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run until stop is set."""
    async with AsyncExitStack() as stack:
        health = Health()
        health.declare(_SYNCED, "what nodes must hold has not been read yet")
        await stack.enter_async_context(serve_http(health, settings.listen_host, settings.http_port))
        kube = await stack.enter_async_context(connect_kube(settings.service_account_dir, os.environ))
        gateways: list[Gateway] = []

        def fleet_reconnected() -> None:
            for gateway in gateways:
                gateway.fleet_reconnected()

        def nodes_reconnected() -> None:
            for gateway in gateways:
                gateway.nodes_reconnected()

        ome = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                "ome-gateway",
                user=settings.nats_user,
                password_file=settings.nats_password_file,
                ca_file=settings.nats_ca_file,
                inbox_prefix="_INBOX_gateway",
                on_reconnect=fleet_reconnected,
            )
        )
        account = f"{settings.namespace}:{settings.fetcher_service_account}"
        authorizer = Authorizer(kube, settings.nats_issuer_seed_file, settings.nats_account, account)
        await authorizer.serve(ome)
        nodes = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                "ome-gateway",
                user=settings.nats_nodes_user,
                password_file=settings.nats_nodes_password_file,
                ca_file=settings.nats_ca_file,
                check="nats of the nodes",
                on_reconnect=nodes_reconnected,
            )
        )
        gateways.append(Gateway(ome, nodes))
        await run_until(stop, gateways[0].run(lambda: health.ok(_SYNCED)))

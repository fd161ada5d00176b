"""Puts the page together from the settings and serves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.chassis.health import Health
from libs.chassis.kube import KubeClient
from libs.chassis.settings import SettingsError
from libs.chassis.tls_files import TlsFiles
from services.status.access import Access
from services.status.callers import Callers
from services.status.page.sources import Sources
from services.status.settings import Settings


@asynccontextmanager
async def opened_page(
    settings: Settings,
    sources: Sources,
    callers: Callers,
    access: Access,
    kube: KubeClient,
    stop: asyncio.Event,
    tls: TlsFiles | None,
    health: Health,
) -> AsyncIterator[None]:
    """Serve the page, if the settings want one, until the block ends. Raises SettingsError."""
    if not settings.page_enabled:
        yield
        return
    # Whoever wants no page need not pay for its libraries.
    from services.status.page.acting import KubeActs
    from services.status.page.own_events import KubeEvents
    from services.status.page.pages import Door, Pages
    from services.status.page.server import serve_page
    from services.status.page.session import TrustedProxy, networks_of

    try:
        networks = networks_of(settings.page_proxy_ranges)
    except ValueError as error:
        raise SettingsError([f"OME_PAGE_PROXY_RANGES: {error}"]) from error
    door = Door(
        callers,
        access,
        TrustedProxy(networks, settings.page_proxy_user_header, settings.page_proxy_groups_header),
        settings.callers == "authenticated",
        settings.audience,
        settings.calls_per_second,
        settings.watches_per_caller,
        KubeActs(kube),
        KubeEvents(kube),
    )
    application = Pages(sources, door, stop).application()
    async with serve_page(application, settings.listen_host, settings.page_port, tls, settings.grpc_tls_dir, health):
        yield

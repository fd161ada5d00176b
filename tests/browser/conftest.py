"""Chromium, and a page with a simulated fleet to look at."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from libs.chassis.health import Health
from services.status.page.server import serve_page
from tests.support.simulated_page import Patches, SimulatedFleet, simulated_pages
from tools.localcluster.addresses import free_port

# Nothing of it may want the network, and without root's rights it would have a sandbox of its own.
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Page:
    """A page that is served, with its fleet, its health and the event that stops it."""

    def __init__(self, address: str, fleet: SimulatedFleet, health: Health, stop: asyncio.Event) -> None:
        self.address = address
        self.fleet = fleet
        self.health = health
        self.stop = stop


@asynccontextmanager
async def served_page(models: int, nodes: int, port: int = 0, patches: Patches | None = None) -> AsyncIterator[Page]:
    """Serve a simulated fleet; with patches for those who sign in and act on it."""
    fleet, health, stop, port = SimulatedFleet(models, nodes), Health(), asyncio.Event(), port or free_port()
    pages = simulated_pages(fleet, stop, health, patches)
    async with serve_page(pages.application(), "127.0.0.1", port, None, Path(), health):
        address = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{address}/session"):
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.02)
        try:
            yield Page(address, fleet, health, stop)
        finally:
            stop.set()


@asynccontextmanager
async def launched() -> AsyncIterator[Any]:
    """Chromium, as `python -m tools.browser` has found it."""
    from playwright.async_api import async_playwright  # pants: no-infer-dep

    libraries = os.environ.get("OME_CHROMIUM_LIBRARIES", "")
    environ = {**os.environ, **({"LD_LIBRARY_PATH": libraries} if libraries else {})}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=os.environ["OME_CHROMIUM"], args=list(_ARGUMENTS), env=environ
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Any]:
    """The browser, for all tests."""
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served() -> AsyncIterator[Page]:
    """A fleet of 40 models and 60 nodes."""
    async with served_page(40, 60) as page:
        yield page

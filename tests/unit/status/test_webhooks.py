"""The door for webhooks: who is let in, how much is taken, and what is passed on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from libs.chassis.health import Health
from libs.chassis.settings import SettingsError
from services.status.hub_events import RepositoryChange
from services.status.page.server import serve_page
from services.status.webhooks import HEADER, PATH, Webhooks
from tests.unit.status.test_hub_events import event
from tools.localcluster.addresses import free_port

SECRET = "a secret of the hub"


class Hub:
    """A hub that posts events, and what was passed on of them."""

    def __init__(self, url: str, session: aiohttp.ClientSession, folder: Path) -> None:
        self.told: list[RepositoryChange] = []
        self.somebody_hears = True
        self.secret_file = folder / "secret"
        self._url = url
        self._session = session

    async def tell(self, change: RepositoryChange) -> bool:
        """As the line to the controller does."""
        self.told.append(change)
        return self.somebody_hears

    async def post(self, body: Any = None, secret: str | None = SECRET, path: str = PATH) -> tuple[int, str]:
        """Status and text of the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body or event()).encode()
        headers = {HEADER: secret} if secret is not None else {}
        async with self._session.post(self._url + path, data=data, headers=headers) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def door(folder: Path, secret: str = SECRET) -> AsyncIterator[Hub]:
    port = free_port()
    async with aiohttp.ClientSession() as session:
        hub = Hub(f"http://127.0.0.1:{port}", session, folder)
        hub.secret_file.write_text(f"{secret}\n")
        application = Webhooks(hub.secret_file, hub.tell).application()
        async with serve_page(application, "127.0.0.1", port, None, Path(), Health()), asyncio.timeout(20):
            while True:
                try:
                    await hub.post(secret=None)
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)
            yield hub


async def test_a_hub_that_knows_the_secret_is_heard(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        assert await hub.post() == (200, "models that follow the repository are listed again\n")
        assert hub.told == [RepositoryChange("org/llama", ("main",))]


@pytest.mark.parametrize("secret", [None, "", "a secret of the hu", "another secret!!", "\xff" * 19])
async def test_who_does_not_know_it_is_not(secret: str | None, tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        assert (await hub.post(secret=secret))[0] == 401
        assert (await hub.post(secret=None, path=f"{PATH}?secret={SECRET}"))[0] == 401
        assert not hub.told


async def test_strangers_are_refused_before_they_have_sent_anything_and_take_nothing_from_the_hub(
    tmp_path: Path,
) -> None:
    async with door(tmp_path) as hub:
        for _ in range(100):
            assert (await hub.post(b"x" * 100, secret="wrong"))[0] == 401
        assert (await hub.post())[0] == 200


async def test_a_secret_that_is_replaced_counts_from_the_next_event_on_and_none_lets_nobody_in(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        hub.secret_file.write_text("quite another secret")
        assert (await hub.post())[0] == 401
        assert (await hub.post(secret="quite another secret"))[0] == 200
        hub.secret_file.write_text("")
        assert (await hub.post(secret=""))[0] == 401
        hub.secret_file.unlink()
        assert (await hub.post(secret=""))[0] == 401


async def test_what_says_nothing_of_models_is_taken_and_passed_on_to_nobody(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        for body in (b"{}", b"junk", event(event={"action": "create", "scope": "discussion"})):
            assert await hub.post(body) == (200, "nothing that a model follows has changed\n")
        assert not hub.told


async def test_a_large_event_is_refused(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        assert (await hub.post(b" " * (65 << 10)))[0] == 413
        assert (await hub.post(b" " * (60 << 10)))[0] == 200


async def test_a_hub_that_has_too_much_to_say_is_asked_to_wait(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        begun = time.monotonic()
        answers = [(await hub.post())[0] for _ in range(60)]
        seconds = time.monotonic() - begun
        assert answers[:30] == [200] * 30
        assert len(hub.told) <= 30 + 2 * seconds + 1
        assert 429 in answers or seconds > 10


async def test_an_event_that_nobody_hears_is_the_hubs_to_repeat(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        hub.somebody_hears = False
        assert (await hub.post())[0] == 503


async def test_nothing_else_is_there(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        assert (await hub.post(path="/"))[0] == 404
        assert (await hub.post(path="/metrics"))[0] == 404


def test_without_a_secret_of_some_length_the_service_does_not_start(tmp_path: Path) -> None:
    async def tell(change: RepositoryChange) -> bool:
        raise AssertionError

    secret = tmp_path / "secret"
    for text in (None, "", "too short"):
        if text is not None:
            secret.write_text(text)
        with pytest.raises(SettingsError, match="must hold 16 characters"):
            Webhooks(secret, tell).check()
    secret.write_text("sixteen letters!")
    Webhooks(secret, tell).check()

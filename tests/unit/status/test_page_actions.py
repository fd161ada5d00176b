"""What people have done from the page: with a confirmation, by their own token, and from this site alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Missing, ServiceError
from libs.chassis.health import Health
from services.status.access import EveryAccess
from services.status.page.pages import Door, Pages
from services.status.page.server import serve_page
from services.status.page.session import COOKIE, TrustedProxy, networks_of
from services.status.page.sources import Sources
from services.status.page.views import model_address
from tests.support.simulated_page import EveryRight, Named, Patches, SimulatedFleet
from tools.localcluster.addresses import free_port

pytestmark = pytest.mark.asyncio
# The first model of a simulated fleet.
UID = "00000000-0000-4000-8000-000000000000"
HERE = {"Sec-Fetch-Site": "same-origin"}
VERIFY = "models.ome.io/verify-requested-at"


class Browser:
    """Somebody who is signed in."""

    def __init__(self, address: str, session: aiohttp.ClientSession, path: str) -> None:
        self._address = address
        self._session = session
        self.path = path

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        return await self._ask("GET", path, None, headers)

    async def confirm(self, word: str, choice: str = "", **headers: str) -> tuple[int, str]:
        """Send the form of an action; status and text, or where it leads."""
        return await self._ask("POST", f"/act/{word}{self.path}", {"choice": choice}, headers or HERE)

    async def _ask(
        self, method: str, path: str, form: dict[str, str] | None, headers: dict[str, str]
    ) -> tuple[int, str]:
        sent = {"Accept": "text/html", "Cookie": f"{COOKIE}=ada-token", **headers}
        async with self._session.request(
            method, self._address + path, data=form, headers=sent, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers.get("Location") or await answer.text()


@asynccontextmanager
async def browser(
    patches: Patches | None, access: EveryAccess | None = None, proxied: bool = False
) -> AsyncIterator[Browser]:
    fleet, health, stop, port = SimulatedFleet(3, 9), Health(), asyncio.Event(), free_port()
    proxy = TrustedProxy(networks_of(["127.0.0.0/8"] if proxied else []))
    sources = Sources(fleet.catalog, fleet, fleet, fleet, fleet, fleet.model_object, lambda: True, health)
    door = Door(Named(), access or EveryRight(), proxy, True, "ome-status", 1000.0, 4, patches)
    found = fleet.catalog.get(UID)
    assert found
    async with (
        serve_page(Pages(sources, door, stop).application(), "127.0.0.1", port, None, Path(), health),
        aiohttp.ClientSession() as session,
        asyncio.timeout(20),
    ):
        one = Browser(f"http://127.0.0.1:{port}", session, model_address(found.ref))
        while True:
            try:
                await one.get("/session")
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
        yield one


async def test_an_action_is_asked_about_and_then_done_with_the_token_of_whoever_confirms() -> None:
    patches = Patches()
    async with browser(patches) as one:
        page = (await one.get(one.path))[1]
        assert f'href="/act/verify{one.path}"' in page
        status, form = await one.get(f"/act/verify{one.path}")
        assert status == 200
        assert f'method="post" action="/act/verify{one.path}"' in form
        assert "as ada-token" in form
        assert patches.sent == []

        assert await one.confirm("verify") == (303, one.path)
        [(token, name, annotations)] = patches.sent
        assert (token, name) == ("ada-token", one.path.rpartition("/")[2])
        assert annotations[VERIFY]
        assert annotations["models.ome.io/verify-node"] is None


async def test_a_choice_of_the_form_names_a_node_or_a_revision() -> None:
    patches = Patches()
    async with browser(patches) as one:
        form = (await one.get(f"/act/evict{one.path}"))[1]
        node = form.split('<option value="')[2].partition('"')[0]
        assert (await one.confirm("evict", node))[0] == 303
        digest = f"sha256:{2:064x}"
        assert digest in (await one.get(f"/act/return{one.path}"))[1]
        assert (await one.confirm("return", digest))[0] == 303
    assert [annotations for _, _, annotations in patches.sent] == [
        {"models.ome.io/evicted-nodes": node},
        {"models.ome.io/revision": digest},
    ]


async def test_what_the_model_does_not_allow_is_said_before_and_refused_after() -> None:
    patches = Patches()
    async with browser(patches) as one:
        form = (await one.get(f"/act/pull{one.path}"))[1]
        assert "Not now: no node has given it up." in form
        assert '<button type="submit" class="primary"' not in form
        status, text = await one.confirm("pull")
        assert (status, "no node has given it up" in text) == (409, True)
        assert (await one.confirm("evict", "no-such-node"))[0] == 409
        assert (await one.confirm("destroy"))[0] == 404
    assert patches.sent == []


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
async def test_another_site_has_nothing_done(headers: dict[str, str]) -> None:
    patches = Patches()
    async with browser(patches) as one:
        assert (await one.confirm("verify", **headers))[0] == 403
    assert patches.sent == []


async def test_who_may_only_look_finds_no_button_and_no_form() -> None:
    patches = Patches()
    async with browser(patches, EveryAccess()) as one:
        assert "/act/" not in (await one.get(one.path))[1]
        assert (await one.get(f"/act/verify{one.path}"))[0] == 403
        assert (await one.confirm("verify"))[0] == 403
    assert patches.sent == []


async def test_somebody_whom_a_proxy_names_is_told_why_there_is_no_button() -> None:
    patches = Patches()
    async with browser(patches, proxied=True) as one:
        page = (await one.get(one.path, **{"X-Forwarded-User": "ada"}))[1]
        assert "No actions here: a proxy signs you in by name and brings no token of yours" in page
        assert "/act/" not in page
        status, text = await one.confirm("verify", **HERE, **{"X-Forwarded-User": "ada"})
        assert (status, "acts for nobody with its own rights" in text) == (403, True)
        # Without the proxy's header the cookie counts again.
        assert (await one.confirm("verify"))[0] == 303
    assert [token for token, _, _ in patches.sent] == ["ada-token"]


@pytest.mark.parametrize(
    ("refusal", "status", "said"),
    [
        (Missing(Reason.FORBIDDEN, "PATCH /x: 401 Unauthorized"), 403, "a second --audience"),
        (Missing(Reason.FORBIDDEN, "PATCH /x: 403 ada cannot patch"), 403, "ada cannot patch"),
        (Conflict(Reason.CONFLICT, "PATCH /x: 409"), 409, "Try again"),
    ],
)
async def test_what_the_api_server_refuses_is_shown(refusal: ServiceError, status: int, said: str) -> None:
    async with browser(Patches(refusal)) as one:
        answered, text = await one.confirm("verify")
        assert (answered, said in text) == (status, True)


async def test_without_tokens_there_are_no_actions() -> None:
    async with browser(None) as one:
        assert "/act/" not in (await one.get(one.path))[1]
        assert (await one.get(f"/act/verify{one.path}"))[0] == 403

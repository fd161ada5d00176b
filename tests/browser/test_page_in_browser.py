"""The page as people use it, in Chromium: by mouse, by keys alone, on a phone, in both themes, with bad news."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Page, served_page
from tests.support.simulated_page import Patches

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MODEL = "/models/clusterbasemodels/llama-4-maverick-17b-128e"
FAILING = "/models/clusterbasemodels/deepseek-v3-2"
PHONE = (390, 844)
DESKTOP = (1360, 820)


@asynccontextmanager
async def opened(
    chromium: Any, page: Page, path: str = "/", theme: str = "light", size: tuple[int, int] = DESKTOP
) -> AsyncIterator[Any]:
    """A tab in a browser of its own. Nothing may be refused by the policy of content, and no script may fail."""
    context = await chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    tab = await context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    elsewhere: list[str] = []
    tab.on("request", lambda request: None if request.url.startswith(page.address) else elsewhere.append(request.url))
    await tab.goto(page.address + path)
    yield tab
    assert problems == []
    assert elsewhere == []
    await context.close()


async def live(tab: Any) -> None:
    """Wait until the page is current."""
    await tab.wait_for_selector('#connection[data-state="live"]')
    if await tab.query_selector("#loading"):
        await tab.wait_for_selector("#loading", state="hidden")


async def text(tab: Any, selector: str) -> str:
    """What an element says."""
    return str(await tab.text_content(selector)).strip()


async def until(tab: Any, expression: str) -> None:
    """Wait until JavaScript is true. The driver's own way would have the page evaluate a text."""
    async with asyncio.timeout(15):
        while not await tab.evaluate(expression):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize(
    "path", ["/", MODEL, FAILING, "/nodes", "/nodes/gpu-a-1", "/sources", "/plan", "/login", "/nowhere"]
)
async def test_axe_finds_no_barrier(chromium: Any, served: Page, path: str, size: tuple[int, int], theme: str) -> None:
    async with opened(chromium, served, path, theme, size) as tab:
        if await tab.query_selector("#connection"):
            await live(tab)
        await barriers(tab)
        width = await tab.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], "the page scrolls sideways"


async def barriers(tab: Any) -> None:
    """Have axe find none."""
    import axe_playwright_python  # pants: no-infer-dep

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    # By the driver, as the page's own policy lets no script in.
    await tab.evaluate(script + "; null")
    found = await tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    shown = [(each["id"], [node["html"][:150] for node in each["nodes"][:3]]) for each in found["violations"]]
    assert not shown, json.dumps(shown, indent=1)


async def test_the_matrix_is_used_by_keys_alone(chromium: Any, served: Page) -> None:
    async with opened(chromium, served) as tab:
        await live(tab)
        await tab.keyboard.press("/")
        assert await tab.evaluate("document.activeElement.id") == "filter"
        await tab.keyboard.type("deepseek-v3-2 node:gpu-b")
        assert await text(tab, "#shown") == "1 of 40 models, 30 nodes"
        await tab.keyboard.press("Enter")
        assert await tab.evaluate("document.activeElement.id") == "matrix"
        await tab.keyboard.press("ArrowRight")
        await tab.keyboard.press("End")
        assert (await text(tab, "#spoken-cell")).startswith("deepseek-v3-2 on gpu-b-30: ")
        assert await tab.get_attribute("#matrix", "aria-activedescendant") == "spoken-cell"
        await tab.keyboard.press("Home")
        await until(tab, "document.querySelector('#inspector-text').textContent.includes('gpu-b-1')")
        await tab.keyboard.press("Escape")
        assert await text(tab, "#shown") == "60 nodes"
        await tab.keyboard.press("?")
        assert await tab.is_visible("#keys")
        await tab.keyboard.press("Escape")
        await tab.keyboard.press("v")
        assert await tab.is_visible("#list")
        await tab.keyboard.press("v")
        await tab.focus("#matrix")
        spoken = await text(tab, "#spoken-model")
        await tab.keyboard.press("Enter")
        await tab.wait_for_url("**/models/**")
        assert await text(tab, "h1") == spoken.rpartition("/")[2]


async def test_a_click_chooses_a_cell_and_the_line_below_says_why(chromium: Any, served: Page) -> None:
    async with opened(chromium, served) as tab:
        await live(tab)
        await tab.click('[data-only="failed"]')
        await tab.fill("#filter", "nemotron-70b")
        await tab.click("#matrix", position={"x": 276, "y": 32})
        await until(tab, "document.querySelector('#inspector-text').textContent.includes('ChecksumMismatch')")
        await tab.click('#inspector-text a[href^="/nodes/"]')
        await tab.wait_for_url("**/nodes/gpu-*")
        assert "ChecksumMismatch" in await text(tab, "main")


async def test_a_name_at_the_left_opens_the_model(chromium: Any, served: Page) -> None:
    async with opened(chromium, served) as tab:
        await live(tab)
        await tab.fill("#filter", "llama-4-maverick-17b-128e")
        await tab.click("#matrix", position={"x": 80, "y": 32})
        await tab.wait_for_url(f"**{MODEL}")


async def test_progress_moves_in_the_matrix_and_on_the_page_of_a_model(chromium: Any, served: Page) -> None:
    async with opened(chromium, served) as fleet, opened(chromium, served, MODEL) as model:
        await live(fleet)
        await live(model)
        before = await text(fleet, "#figure-left"), await text(model, "table")
        for _ in range(3):
            served.fleet.step()
        await until(fleet, f"document.querySelector('#figure-left').textContent !== {json.dumps(before[0])}")
        await until(model, f"document.querySelector('table').textContent.trim() !== {json.dumps(before[1])}")
        # The chart is drawn from what the page has seen.
        await model.wait_for_selector("#chart canvas")


async def test_the_theme_is_the_systems_until_somebody_chooses_and_stays_then(chromium: Any, served: Page) -> None:
    async with opened(chromium, served, "/nodes", "dark") as tab:
        paper = "getComputedStyle(document.body).backgroundColor"
        assert await tab.evaluate(paper) == "rgb(16, 17, 19)"
        await tab.click("#theme")
        assert await tab.evaluate(paper) == "rgb(250, 250, 248)"
        await tab.reload()
        assert await tab.evaluate(paper) == "rgb(250, 250, 248)"
        await tab.click("#theme")
        assert await tab.evaluate(paper) == "rgb(16, 17, 19)"


async def test_the_page_says_that_it_is_old_and_recovers_when_the_service_is_back(chromium: Any) -> None:
    async with served_page(5, 5) as first, opened(chromium, first) as tab:
        await live(tab)
        first.health.fail("nats", "NATS cannot be reached")
        await tab.wait_for_selector("#notice:not([hidden])")
        assert "may be old: NATS cannot be reached." in await text(tab, "#notice")
        first.health.ok("nats")
        await tab.wait_for_selector("#notice", state="hidden")
        first.stop.set()
        await tab.wait_for_selector('#connection[data-state="lost"]')
        assert "Reconnecting; this is from" in await text(tab, "#connection")
        first.stop.clear()
        await live(tab)


async def test_a_phone_begins_with_the_list_and_can_show_the_matrix(chromium: Any, served: Page) -> None:
    async with opened(chromium, served, size=PHONE) as tab:
        await live(tab)
        assert await tab.is_visible("#list")
        await tab.click("#as-matrix")
        assert await tab.is_visible("#canvas")
        await tab.click("#as-list")
        await tab.click("#rows a >> nth=3")
        await tab.wait_for_url("**/models/**")


async def test_a_manifest_is_shown_and_copied(chromium: Any, served: Page) -> None:
    async with opened(chromium, served, MODEL) as tab:
        await tab.click("#manifest summary")
        await until(tab, "document.querySelector('#yaml').textContent.startsWith('apiVersion: ome.io/v1beta1')")
        await tab.click("#copy")
        await until(tab, "['Copied', 'Selected'].includes(document.querySelector('#copy').textContent)")


async def test_a_fleet_without_models_and_a_filter_without_matches_say_so(chromium: Any) -> None:
    async with served_page(0, 3) as empty, opened(chromium, empty) as tab:
        await live(tab)
        assert "No models to see" in await text(tab, "#empty")
    async with served_page(3, 3) as few, opened(chromium, few) as tab:
        await live(tab)
        await tab.fill("#filter", "nothing-like-this")
        assert "Nothing matches the filter" in await text(tab, "#empty")
        await tab.keyboard.press("Escape")
        await asyncio.wait_for(tab.wait_for_selector("#empty", state="hidden"), 10)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_model_is_verified_by_keys_alone_and_axe_finds_no_barrier(chromium: Any, theme: str) -> None:
    patches = Patches()
    async with served_page(3, 9, patches=patches) as page, opened(chromium, page, "/login", theme) as tab:
        # The cookie wants HTTPS, which a browser takes an address of its own machine for only in parts.
        await tab.set_extra_http_headers({"Authorization": "Bearer ada"})
        await tab.goto(page.address + MODEL)
        await live(tab)
        await barriers(tab)
        await tab.focus('nav[aria-label="Actions"] a')
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector("#choice")
        await barriers(tab)
        await tab.keyboard.press("ArrowDown")
        node = await tab.input_value("#choice")
        await tab.keyboard.press("Tab")
        assert patches.sent == []
        await tab.keyboard.press("Enter")
        await live(tab)
        [(token, name, annotations)] = patches.sent
        assert (token, name) == ("ada", MODEL.rpartition("/")[2])
        assert annotations["models.ome.io/verify-node"] == node
        assert node


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_a_model_shows_its_files_and_events_to_who_has_signed_in(
    chromium: Any, theme: str, size: tuple[int, int]
) -> None:
    async with served_page(3, 9, patches=Patches()) as page, opened(chromium, page, "/login", theme, size) as tab:
        await tab.set_extra_http_headers({"Authorization": "Bearer ada"})
        await tab.goto(page.address + MODEL)
        await tab.wait_for_selector("table.files")
        await tab.wait_for_selector(".events li")
        assert await text(tab, "table.files tbody th") == "model-00001-of-00030.safetensors"
        assert "ChecksumMismatch" in await text(tab, ".events li")
        assert "model-00" in await text(tab, ".on-their-way li")
        await barriers(tab)
        assert await tab.evaluate("document.documentElement.scrollWidth") <= size[0], "the page scrolls sideways"
        async with tab.expect_response("**/events/models/**"):
            await tab.click("#look-again")


async def test_without_a_token_of_its_own_a_visitor_is_told_how_to_see_events(chromium: Any, served: Page) -> None:
    async with opened(chromium, served, MODEL) as tab:
        await until(tab, "document.querySelector('#events').textContent.includes('kubectl describe')")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_the_manifest_of_a_model_is_changed_and_planned_by_keys(
    chromium: Any, served: Page, theme: str, size: tuple[int, int]
) -> None:
    async with opened(chromium, served, MODEL, theme, size) as tab:
        await tab.click("#manifest summary")
        await tab.click("#manifest a")
        await tab.wait_for_url("**/plan?model=**")
        written = await tab.input_value("#manifest")
        assert written.startswith("apiVersion: ome.io/v1beta1")
        await tab.fill("#manifest", "kind: [")
        await tab.focus("form button")
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector("#problem")
        assert "no YAML" in await text(tab, "#problem")
        assert await tab.input_value("#manifest") == "kind: ["
        await barriers(tab)
        await tab.fill("#manifest", written)
        await tab.focus("form button")
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector("#outcome")
        assert "It fails" in await text(tab, "#outcome")
        assert (await tab.input_value("#manifest")).replace("\r\n", "\n") == written
        await barriers(tab)
        assert await tab.evaluate("document.documentElement.scrollWidth") <= size[0], "the page scrolls sideways"

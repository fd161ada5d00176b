"""The site of the documentation in Chromium, without a network: it is found by its search, and asks nobody else."""

import os
from pathlib import Path
from typing import Any

import pytest

from tools.docs.generator import Generator
from tools.localcluster.programs import cache_folder

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Generator(cache_folder(os.environ).parent, os.environ).build(tmp_path_factory.mktemp("docs"))


async def test_a_reason_is_found_by_the_search_from_the_file_system(chromium: Any, site: Path) -> None:
    context = await chromium.new_context()
    tab = await context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on(
        "request",
        lambda request: None if request.url.startswith(("file://", "data:")) else problems.append(request.url),
    )
    await tab.goto((site / "index.html").as_uri())
    await tab.fill("input.sidebar-search", "InsufficientDisk")
    await tab.press("input.sidebar-search", "Enter")
    link = tab.locator("#search-results a", has_text="Troubleshooting by reason").first
    await link.click()
    assert "Troubleshooting by reason" in await tab.title()
    assert problems == []
    await context.close()

"""Each version that a lock pins is looked up; a database that does not answer is no finding and no silence."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from tools.audit.finding import NotChecked
from tools.audit.vulnerabilities import DEBIAN, PYPI, Pin, check, debian_pins, python_pins

HARMLESS = Pin(PYPI, "harmless", "1.0", "default.lock")
SIX = Pin(PYPI, "six_words", "1.0", "default.lock")
GLIBC = Pin(DEBIAN, "glibc", "2.36-9", "debian.lock")


def affected(ecosystem: str, name: str, *fixed: str) -> dict[str, Any]:
    events: list[Mapping[str, str]] = [{"introduced": "0"}, *({"fixed": version} for version in fixed)]
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}


class Osv:
    """A database of vulnerabilities by package, which answers with one of them at a time."""

    def __init__(self) -> None:
        self.known = {"six_words": ["PYSEC-1", "PYSEC-2"], "glibc": ["DEBIAN-1", "DEBIAN-2"]}
        self.described = {
            "PYSEC-1": [affected(PYPI, "six-words", "1.1")],
            "PYSEC-2": [affected(PYPI, "six-words")],
            "DEBIAN-1": [affected("Debian:11", "glibc", "2.31-1"), affected(DEBIAN, "glibc")],
            "DEBIAN-2": [affected(DEBIAN, "glibc", "2.36-10")],
        }

    async def answer(self, request: web.Request) -> web.Response:
        return web.json_response({"results": [self._page(each) for each in (await request.json())["queries"]]})

    def _page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        names = self.known.get(query["package"]["name"], [])
        at = int(query.get("page_token", "0"))
        page: dict[str, Any] = {"vulns": [{"id": name} for name in names[at : at + 1]]} if names else {}
        return page | ({"next_page_token": str(at + 1)} if at + 1 < len(names) else {})

    async def describe(self, request: web.Request) -> web.Response:
        return web.json_response({"affected": self.described[request.match_info["name"]]})


@pytest.fixture
async def address() -> AsyncIterator[str]:
    osv = Osv()
    application = web.Application()
    application.add_routes([web.post("/v1/querybatch", osv.answer), web.get("/v1/vulns/{name}", osv.describe)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_every_vulnerability_of_every_page_is_a_finding(address: str) -> None:
    found = await check([HARMLESS, SIX], address)

    assert [each.subject for each in found] == ["default.lock: six_words 1.0"] * 2
    assert found[0].message.startswith("PYSEC-1, fixed in 1.1; see ")
    assert found[1].message.startswith("PYSEC-2, no version is known")


async def test_of_debian_only_what_the_release_has_fixed_is_a_finding(address: str) -> None:
    [found] = await check([GLIBC], address)

    assert found.message.startswith("DEBIAN-2, fixed in 2.36-10; see ")


async def test_a_database_that_does_not_answer_is_told_in_words() -> None:
    with pytest.raises(NotChecked, match=r"^http://127.0.0.1:9 does not answer \(Client"):
        await check([SIX], "http://127.0.0.1:9")


def test_pins_are_read_from_locks_of_both_kinds() -> None:
    assert python_pins("x.lock", "# six==1\nsix==1.17.0 \\\n    --hash=sha256:00  # via x\n") == [
        Pin(PYPI, "six", "1.17.0", "x.lock")
    ]
    line = "libc6 2.36-9+b1 debian/pool/main/g/glibc/libc6_2.36-9_amd64.deb 1 00\n"
    assert debian_pins("debian.lock", line + line.replace("libc6", "libc-bin")) == [
        Pin(DEBIAN, "glibc", "2.36-9", "debian.lock")
    ]

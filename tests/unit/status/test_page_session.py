"""Whom the page believes: tokens in cookies and headers, and proxies that a setting trusts."""

from collections.abc import Iterable, Mapping

import pytest
from starlette.datastructures import Headers

from libs.chassis.errors import ServiceError
from services.status.callers import Caller
from services.status.page.session import COOKIE, TrustedProxy, identify, is_from_here, networks_of, place_of

PROXY = TrustedProxy(networks_of(["10.1.0.0/16", "fd00::/8"]))


class Shown:
    """Takes every token, and remembers what it was shown."""

    def __init__(self) -> None:
        self.metadata: list[tuple[str, str | bytes]] = []

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Caller:
        """Whoever comes."""
        self.metadata = list(metadata)
        return Caller("by-token")


async def who(headers: Mapping[str, str], cookies: Mapping[str, str], peer: str) -> tuple[Caller, Shown]:
    """Who a request is by, and what was shown for it."""
    shown = Shown()
    return await identify(shown, PROXY, Headers(headers), cookies, (peer, 1)), shown


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0"])
async def test_a_trusted_proxy_names_user_and_groups(peer: str) -> None:
    caller, _ = await who({"X-Forwarded-User": "ada", "X-Forwarded-Groups": "team-a, ,ops"}, {}, peer)
    assert caller == Caller("ada", groups=("team-a", "ops", "system:authenticated"))


@pytest.mark.parametrize("peer", ["10.2.0.1", "127.0.0.1", "", "fe80::1", "not-an-address"])
async def test_headers_of_anybody_else_count_for_nothing(peer: str) -> None:
    caller, shown = await who({"X-Forwarded-User": "ada"}, {}, peer)
    assert caller.name == "by-token"
    assert shown.metadata == []


async def test_an_address_that_a_header_names_is_not_where_somebody_connects_from() -> None:
    caller, _ = await who({"X-Forwarded-User": "ada", "X-Forwarded-For": "10.1.2.3"}, {}, "192.0.2.1")
    assert caller.name == "by-token"


async def test_without_networks_no_proxy_is_trusted() -> None:
    caller = await identify(Shown(), TrustedProxy(), Headers({"X-Forwarded-User": "ada"}), {}, ("127.0.0.1", 1))
    assert caller.name == "by-token"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-User": "system:admin"},
        {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "team-a,system:masters"},
        {"X-Forwarded-User": "ada", "X-Forwarded-Groups": " system:masters"},
    ],
    ids=str,
)
async def test_a_proxy_makes_nobody_an_administrator(headers: Mapping[str, str]) -> None:
    with pytest.raises(ServiceError, match="begins with system:"):
        await who(headers, {}, "10.1.2.3")


@pytest.mark.parametrize("twice", ["x-forwarded-user", "x-forwarded-groups"])
async def test_a_header_that_a_proxy_has_put_beside_that_of_a_stranger_names_nobody(twice: str) -> None:
    named = [("x-forwarded-user", "ada"), ("x-forwarded-groups", "team-a"), (twice, "bob")]
    headers = Headers(raw=[(name.encode(), value.encode()) for name, value in named])
    with pytest.raises(ServiceError, match="more than once"):
        await identify(Shown(), PROXY, headers, {}, ("10.1.2.3", 1))
    by_token = await identify(Shown(), PROXY, headers, {}, ("192.0.2.1", 1))
    assert by_token.name == "by-token"


async def test_the_token_of_a_header_comes_before_that_of_the_cookie() -> None:
    _, shown = await who({"authorization": "Bearer one"}, {COOKIE: "two"}, "192.0.2.1")
    assert shown.metadata == [("authorization", "Bearer one")]
    _, shown = await who({}, {COOKIE: "two"}, "192.0.2.1")
    assert shown.metadata == [("authorization", "Bearer two")]


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site", "origin": "https://ome.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": "https://ome.example", "host": "ome.example"}, True),
        ({"origin": "https://evil.example", "host": "ome.example"}, False),
        ({"origin": "null", "host": "ome.example"}, False),
        ({}, True),
    ],
    ids=str,
)
def test_forms_of_other_sites_are_refused(headers: Mapping[str, str], is_ours: bool) -> None:
    assert is_from_here(headers) is is_ours


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/models/clusterbasemodels/m?x=1", "/models/clusterbasemodels/m?x=1"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/a\\b", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_a_login_leads_nowhere_else(text: str, place: str) -> None:
    assert place_of(text) == place


def test_networks_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        networks_of(["10.0.0.0/8", "everywhere"])

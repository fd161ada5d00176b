"""Which proxy is asked, by what the environment says."""

import os
from collections.abc import Mapping

import pytest

from services.fetcher.transfer.addresses import Endpoint
from services.fetcher.transfer.proxies import proxy_credentials, proxy_for

HUB = Endpoint("https", "hub.example.org", 443)
PLAIN = Endpoint("http", "hub.example.org", 80)
PROXY = "http://proxy.example:3128"
ASKED: dict[str, tuple[Endpoint, Mapping[str, str], bool]] = {
    "nothing is set": (HUB, {}, False),
    "lower case": (HUB, {"https_proxy": PROXY}, True),
    "upper case": (HUB, {"HTTPS_PROXY": PROXY}, True),
    "upper case for http": (PLAIN, {"HTTP_PROXY": PROXY}, True),
    "upper case for http that the client of a CGI program may have set": (
        PLAIN,
        {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"},
        False,
    ),
    "a proxy of the other scheme": (HUB, {"http_proxy": PROXY}, False),
    "a proxy of all schemes": (HUB, {"all_proxy": PROXY}, True),
    "lower case that is empty wins over upper case": (HUB, {"HTTPS_PROXY": PROXY, "https_proxy": ""}, False),
    "an address without a scheme": (HUB, {"https_proxy": "proxy.example:3128"}, True),
    "no_proxy names the host": (HUB, {"https_proxy": PROXY, "no_proxy": "a.example, hub.example.org"}, False),
    "no_proxy names the domain": (HUB, {"https_proxy": PROXY, "no_proxy": "example.org"}, False),
    "no_proxy names the domain with a dot": (HUB, {"https_proxy": PROXY, "NO_PROXY": ".example.org"}, False),
    "no_proxy names the domain with a star": (HUB, {"https_proxy": PROXY, "no_proxy": "*.example.org"}, False),
    "no_proxy names the end of another word": (HUB, {"https_proxy": PROXY, "no_proxy": "ample.org"}, True),
    "no_proxy names every host": (HUB, {"https_proxy": PROXY, "no_proxy": "*"}, False),
    "no_proxy names the port": (HUB, {"https_proxy": PROXY, "no_proxy": "hub.example.org:443"}, False),
    "no_proxy names another port": (HUB, {"https_proxy": PROXY, "no_proxy": "hub.example.org:8443"}, True),
    "no_proxy names an IPv6 address": (Endpoint("http", "::1", 80), {"http_proxy": PROXY, "no_proxy": "::1"}, False),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(("endpoint", "variables", "asked"), ASKED.values(), ids=ASKED.keys())
def test_the_proxy_is_asked_when(
    endpoint: Endpoint, variables: Mapping[str, str], asked: bool, environment: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    proxy = proxy_for(endpoint)
    assert (proxy is not None) is asked
    if proxy:
        assert (proxy.hostname, proxy.port) == ("proxy.example", 3128)


def test_user_and_password_of_a_proxy_go_into_a_header(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("https_proxy", "http://me%40work:p%2Fw@proxy.example:3128")
    proxy = proxy_for(HUB)
    assert proxy
    assert proxy_credentials(proxy) == {"Proxy-Authorization": "Basic bWVAd29yazpwL3c="}

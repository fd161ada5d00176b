"""Which proxy the environment names for an endpoint, by the rules of Python's standard library.

Listings go through libraries that follow the same rules, so that a source is listed and fetched by one way.
"""

import base64
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from services.fetcher.transfer.addresses import Endpoint


def proxy_for(endpoint: Endpoint) -> SplitResult | None:
    """The proxy to ask for an endpoint, None for a direct connection.

    http_proxy, https_proxy, all_proxy and no_proxy in lower or upper case; lower case wins.
    """
    proxies = getproxies_environment()
    url = proxies.get(endpoint.scheme) or proxies.get("all")
    if not url:
        return None
    # The library takes "*" for every host, but "*.example.org" for no more than a name.
    rules = {"no": ",".join(rule.strip().replace("*.", ".", 1) for rule in proxies.get("no", "").split(","))}
    # Without a port as well, because it takes the last group of a bare IPv6 address for one.
    if any(proxy_bypass(name, rules) for name in (endpoint.host, endpoint.authority)):
        return None
    return urlsplit(url if "://" in url else f"http://{url}")


def proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    """The header that a proxy with a user and a password in its address expects; empty for others."""
    if not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

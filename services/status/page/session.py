"""Who looks at the page: by a token in a cookie or a header, or by what a trusted proxy says.

Decides which of these counts and what a cookie is like. Whether a token is valid is callers', what may be seen access'.
Nothing is kept here: the cookie holds the token itself, so that each replica knows it, and only the browser stores it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from libs.artifact.reasons import Reason
from services.status.callers import Caller, Callers, Unauthenticated

# The prefix has browsers insist on Secure, on the whole site and on no other host.
COOKIE = "__Host-ome-token"
# With its attributes; browsers keep no longer ones.
MOST_TOKEN_CHARACTERS = 3800
_AUTHENTICATED = "system:authenticated"
_RESERVED = "system:"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class TrustedProxy:
    """Proxies that say who somebody is, by the networks that they connect from; without networks there are none."""

    networks: tuple[Network, ...] = ()
    user_header: str = "X-Forwarded-User"
    groups_header: str = "X-Forwarded-Groups"

    def caller(self, peer: str, headers: Headers) -> Caller | None:
        """Whom the headers name, if a trusted proxy has sent them and they name anybody. Raises Unauthenticated.

        `peer` is the address of the connection itself, never one that a header names. Names of the cluster's own
        accounts and groups are refused: no proxy may make anybody an administrator. So are headers that are there more
        than once: a proxy has added its own behind that of a stranger.
        """
        if not self.networks or not _is_within(peer, self.networks):
            return None
        for each in (self.user_header, self.groups_header):
            if len(headers.getlist(each)) > 1:
                raise Unauthenticated(Reason.FORBIDDEN, f"the proxy sends the header {each} more than once")
        name = headers.get(self.user_header, "").strip()
        if not name:
            return None
        groups = tuple(filter(None, (each.strip() for each in headers.get(self.groups_header, "").split(","))))
        if any(each.startswith(_RESERVED) for each in (name, *groups)):
            raise Unauthenticated(Reason.FORBIDDEN, f"the proxy names a user or group that begins with {_RESERVED}")
        return Caller(name, groups=(*groups, _AUTHENTICATED))


def networks_of(ranges: Sequence[str]) -> tuple[Network, ...]:
    """The networks that a setting lists, one by one. Raises ValueError."""
    return tuple(map(ip_network, ranges))


async def identify(
    callers: Callers, proxy: TrustedProxy, headers: Headers, cookies: Mapping[str, str], peer: tuple[str, int]
) -> Caller:
    """Who makes a request. Raises as Callers.identify does."""
    host, port = peer
    if named := proxy.caller(host, headers):
        return named
    shown = headers.get("authorization", "")
    if not shown and (token := cookies.get(COOKIE, "")):
        shown = f"Bearer {token}"
    return await callers.identify([("authorization", shown)] if shown else [], f"{host}:{port}")


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent from this very site, as far as the browser says.

    Other sites could otherwise log somebody in as themselves. Programs, which are no browsers, say nothing.
    """
    site = headers.get("sec-fetch-site", "")
    if site:
        return site in ("same-origin", "none")
    origin = headers.get("origin", "")
    return not origin or urlsplit(origin).netloc == headers.get("host", "")


def place_of(text: str) -> str:
    """A path of this site to go to after the login; that of the fleet for anything else."""
    starts_elsewhere = not text.startswith("/") or text.startswith(("//", "/\\"))
    return "/" if starts_elsewhere or not text.isprintable() or "\\" in text else text


def _is_within(peer: str, networks: Sequence[Network]) -> bool:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)

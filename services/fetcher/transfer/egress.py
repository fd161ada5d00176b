"""Which addresses may be connected to on behalf of a model: one rule for every connection of every client. Pure.

The rule looks at the address that a connection is about to be made to, never at a name alone: what a name stands for is
its owner's choice, and may be another address a moment later.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from libs.artifact.hosts import is_listed, plain_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Never reached, whatever model asks: the machine itself, its neighbours on the link, and what clouds answer to a
# machine about itself (AWS, Google and Azure at 169.254.169.254; Azure also at 168.63.129.16, Alibaba at
# 100.100.100.200, Oracle at 192.0.0.192; AWS at fd00:ec2::254, Google at fd20:ce::254).
_FORBIDDEN = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
        "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
        "::/128", "::1/128", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::/32",
    )
)  # fmt: skip
# Where SDKs of clouds ask for the identity of a machine or Pod.
_IDENTITY = tuple(
    ipaddress.ip_address(each)
    for each in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")
)
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
# IPv4-compatible addresses and those of SIIT: RFC 4291 2.5.5.1, RFC 2765 2.1.
_COMPATIBLE = (ipaddress.ip_network("::/96"), ipaddress.ip_network("::ffff:0:0:0/96"))


@dataclass(frozen=True)
class Rule:
    """What one model may reach.

    `networks` and `hosts` are what the operator lists. `cluster` are the networks of the cluster. `own` are hosts and
    ports that the operator has configured as a source. `identity` permits to ask for the identity of the Pod.
    """

    namespaced: bool = True
    networks: tuple[Network, ...] = ()
    hosts: tuple[str, ...] = ()
    cluster: tuple[Network, ...] = ()
    own: tuple[tuple[str, int], ...] = ()
    identity: bool = False
    unrestricted: bool = False

    def refusal(self, host: str, port: int, address: str) -> str:
        """Why a host, which stands for an address now, is not connected to; empty when it may be.

        The sentence begins with the host and says who can permit it. It holds nothing that the address would tell.
        """
        if self.unrestricted or (plain_host(host), port) in self.own:
            return ""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return f"{host} stands for something that is no address"
        forms = tuple(_forms(found))
        what = next((why for form in forms if (why := self._why_not(host, form))), "")
        return f"{host} is {what}" if what else ""

    def _why_not(self, host: str, address: Address) -> str:
        if self.identity and address in _IDENTITY:
            return ""
        around = [network for network in (*_FORBIDDEN, *self.cluster) if _within(address, network)]
        listed = [network for network in self.networks if _within(address, network)]
        # A network that is larger than what it would open was not listed for that.
        opened = all(any(_is_part(small, large) for small in listed) for large in around)
        if any(large in _FORBIDDEN for large in around):
            return "" if opened else "an address that no model may reach, such as that of a machine itself"
        if is_listed(host, self.hosts):
            return ""
        if around:
            return "" if opened else f"an address of this cluster: {_permit(host)}"
        if address.is_global or listed or not self.namespaced:
            return ""
        return f"in a private network, which BaseModels may not reach: {_permit(host)}"


# For callers that have no model: what they connect to is their own choice.
ANYWHERE = Rule(unrestricted=True)


def read_networks(entries: Iterable[str]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """The networks and the hosts of a list that holds both. Raises ValueError for an entry that is neither."""
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry.strip("[]")))
        except ValueError:
            if "/" in entry or not entry.strip("*."):
                raise ValueError(f"{entry!r} is neither a network such as 10.1.0.0/16 nor a host") from None
            hosts.append(entry)
    return tuple(networks), tuple(hosts)


def _permit(host: str) -> str:
    return f"the administrator can add {host!r}, or its network, to egress.allow of the fetcher's chart"


def _forms(address: Address) -> Iterator[Address]:
    """The addresses that a packet to this one may end at: an IPv6 address may hold one of IPv4."""
    held: list[Address] = []
    if isinstance(address, ipaddress.IPv6Address):
        last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.ipv4_mapped:
            held.append(address.ipv4_mapped)
        elif address.sixtofour:
            held.append(address.sixtofour)
        elif address.teredo:
            held += address.teredo
        elif any(address in network for network in _NAT64) or (
            any(address in network for network in _COMPATIBLE) and int(address) > 1
        ):
            held.append(last)
    yield from held or [address]


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _is_part(small: Network, large: Network) -> bool:
    if isinstance(small, ipaddress.IPv4Network):
        return isinstance(large, ipaddress.IPv4Network) and small.subnet_of(large)
    return isinstance(large, ipaddress.IPv6Network) and small.subnet_of(large)

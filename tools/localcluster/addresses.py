"""Decides the addresses of a cluster, and keeps clusters that run side by side on this machine apart.

Kubernetes refuses loopback addresses for Pods and Services, and processes without privileges can listen nowhere else.
So the API shows 10.X.a.b and the process behind it listens on 127.X.a.b, for an X that this cluster alone has.
"""

import contextlib
import ipaddress
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

# Below 10.X: nodes in .0, Pods up to .127, Services' cluster addresses in the half from .128, and in its upper half,
# on the loopback side only, the addresses that stand for Service names.
_POD_BASE = 1 << 8
_POD_LIMIT = 128 << 8
_NAME_BASE = 192 << 8
_given_ports: set[int] = set()
# What free_port chooses from.
PORTS = range(12_000, 32_000)


class NoAddressesLeft(RuntimeError):
    """Every value of X is taken by another cluster, or a cluster ran out of Pod addresses."""


@dataclass
class AddressPlan:
    """The address space of one cluster, and who has which Pod address."""

    number: int
    _pods_in_use: set[int] = field(default_factory=set)
    _next_pod: int = _POD_BASE + 2
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def service_range(self) -> str:
        return f"10.{self.number}.128.0/18"

    def node_address(self, index: int) -> str:
        return f"10.{self.number}.0.{index + 1}"

    def claim_pod_address(self) -> str:
        """An address no living Pod has; addresses go round so that a new Pod does not get a dead one's connections."""
        for offset in range(_POD_LIMIT - _POD_BASE):
            candidate = _POD_BASE + (self._next_pod - _POD_BASE + offset) % (_POD_LIMIT - _POD_BASE)
            if candidate & 0xFF not in (0, 255) and candidate not in self._pods_in_use:
                self._pods_in_use.add(candidate)
                self._next_pod = candidate + 1
                return self._text("10", candidate)
        raise NoAddressesLeft(f"all Pod addresses below 10.{self.number} are in use")

    def release_pod_address(self, address: str) -> None:
        self._pods_in_use.discard(int(ipaddress.IPv4Address(address)) & 0xFFFF)

    def name_address(self, namespace: str, service: str) -> str:
        """The loopback address that stands for <service>.<namespace>.svc; the same one each time it is asked for."""
        return self._names.setdefault((namespace, service), self._text("127", _NAME_BASE + 1 + len(self._names)))

    def _text(self, network: str, low: int) -> str:
        return f"{network}.{self.number}.{low >> 8}.{low & 0xFF}"


def to_loopback(address: str) -> str:
    """Where the process behind a Pod or node address really listens."""
    return "127." + address.removeprefix("10.") if address.startswith("10.") else address


@contextlib.contextmanager
def claimed_plan() -> Iterator[AddressPlan]:
    """An address plan that no other cluster on this machine uses until the context ends."""
    for number in range(1, 255):
        # An abstract socket is as local as the loopback addresses it guards (a network namespace), and the kernel
        # gives it back when the process dies.
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0ome-localcluster-{number}")
        except OSError:
            claim.close()
            continue
        with claim:
            yield AddressPlan(number)
        return
    raise NoAddressesLeft("254 local clusters run on this machine already")


def free_port() -> int:
    """A loopback port that was free a moment ago and that this process has not been given before.

    It lies below those that kernels give to outgoing connections (from 32768 on), of which one may take a port at any
    time. Whoever uses it must still be ready to lose a race for it, unless PORTS are those of this process alone.
    """
    while True:
        # Not the common generator, which hypothesis gives the same seed in every process.
        port = random.SystemRandom().choice(PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port

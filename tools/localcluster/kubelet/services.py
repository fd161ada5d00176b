"""Stands in for kube-proxy and cluster DNS: listens where a Service's name leads to and passes connections on.

It listens only while the Service has a ready endpoint, so that a client is refused at once otherwise, as by kube-proxy.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from libs.chassis.kube import KubeClient, Object
from tools.localcluster.addresses import AddressPlan, to_loopback
from tools.localcluster.kube import reflect

_log = logging.getLogger(__name__)
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Front:
    """One port of one Service."""

    namespace: str
    service: str
    port_name: str
    address: str
    port: int


class ServiceProxy:
    def __init__(self, kube: KubeClient, plan: AddressPlan) -> None:
        self._plan = plan
        self._dirty = asyncio.Event()
        self._kube = kube
        self._services = reflect("/api/v1/services")
        self._slices = reflect("/apis/discovery.k8s.io/v1/endpointslices")
        self._servers: dict[Front, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._turns = itertools.count()

    def services(self, namespace: str) -> Iterator[Object]:
        return (service for service in self._services.objects.values() if service["metadata"]["namespace"] == namespace)

    async def run(self) -> None:
        """Follow Services and their endpoints until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._services.run(self._kube, self._changed))
                group.create_task(self._slices.run(self._kube, self._changed))
                while True:
                    await self._dirty.wait()
                    self._dirty.clear()
                    await self._listen_as_desired()
        finally:
            for server in self._servers.values():
                server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*tuple(self._connections), return_exceptions=True)

    def _changed(self, _before: Object | None, _after: Object | None) -> None:
        self._dirty.set()

    async def _listen_as_desired(self) -> None:
        services = self._services.objects.values()
        desired = {front for service in services for front in self._fronts(service) if self._endpoints(front)}
        for front in self._servers.keys() - desired:
            self._servers.pop(front).close()
        for front in desired - self._servers.keys():
            try:
                self._servers[front] = await self._listen(front)
            except OSError as error:
                _log.warning(
                    "service %s/%s: cannot listen on port %d: %s", front.namespace, front.service, front.port, error
                )

    async def _listen(self, front: Front) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # Cancelled by run() alone; asyncio's streams would report it as an error of the connection.
            with contextlib.suppress(asyncio.CancelledError):
                await self._serve(front, reader, writer)

        return await asyncio.start_server(accept, front.address, front.port, limit=_PIECE_BYTES)

    def _fronts(self, service: Object) -> Iterator[Front]:
        metadata = service["metadata"]
        for port in service["spec"].get("ports", []):
            if port.get("protocol", "TCP") == "TCP":
                address = self._plan.name_address(metadata["namespace"], metadata["name"])
                yield Front(metadata["namespace"], metadata["name"], port.get("name", ""), address, port["port"])

    def _endpoints(self, front: Front) -> list[tuple[str, int]]:
        found = []
        for part in self._slices.objects.values():
            metadata = part["metadata"]
            owner = metadata.get("labels", {}).get("kubernetes.io/service-name")
            if (metadata["namespace"], owner) != (front.namespace, front.service):
                continue
            ports = [port["port"] for port in part.get("ports") or [] if (port.get("name") or "") == front.port_name]
            for endpoint in part.get("endpoints") or []:
                if endpoint.get("conditions", {}).get("ready", True):
                    found += [(to_loopback(address), port) for address in endpoint["addresses"] for port in ports]
        return found

    async def _serve(self, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            endpoints = self._endpoints(front)
            turn = next(self._turns)
            for offset in range(len(endpoints)):
                address, port = endpoints[(turn + offset) % len(endpoints)]
                try:
                    upstream = await asyncio.open_connection(address, port, limit=_PIECE_BYTES)
                except OSError:
                    continue
                await _join((reader, writer), upstream)
                return


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(client: Stream, upstream: Stream) -> None:
    """Copy both ways until each side has ended, or one breaks."""
    for _, writer in (client, upstream):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.closing(upstream[1]), contextlib.suppress(OSError, ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(client[0], upstream[1]))
            group.create_task(_copy(upstream[0], client[1]))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()

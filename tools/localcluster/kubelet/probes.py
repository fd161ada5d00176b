"""Asks a container how it is: httpGet, grpc, tcpSocket, exec. What follows from the answer is not decided here.

Until a probe first succeeds it is tried more often than its period says, so that a Pod is Ready as soon as it is;
failures still count once per period.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import grpc
from grpc_health.v1 import health_pb2

from tools.localcluster.kubelet.environment import Object

_EAGER_SECONDS = 0.1

Run = Callable[[Sequence[str]], Awaitable[int]]


@dataclass(frozen=True)
class Result:
    success: bool
    reason: str


class Probe:
    """One probe of one container, asked at the address its process listens on."""

    def __init__(self, spec: Object, *, address: str, ports: Mapping[str, int], run: Run) -> None:
        self._spec = spec
        self._address = address
        self._ports = ports
        self._run = run
        self._period: float = spec.get("periodSeconds", 10)
        self._timeout: float = spec.get("timeoutSeconds", 1)

    async def verdicts(self) -> AsyncIterator[Result]:
        """A result each time the thresholds of the probe turn its answers into one: success or failure."""
        successes = failures = 0
        needed_successes = self._spec.get("successThreshold", 1)
        needed_failures = self._spec.get("failureThreshold", 3)
        await asyncio.sleep(self._spec.get("initialDelaySeconds", 0))
        failure_counts_from = time.monotonic() + self._period
        while True:
            result = await self._ask()
            if result.success:
                successes, failures = successes + 1, 0
                if successes >= needed_successes:
                    yield result
            elif time.monotonic() >= failure_counts_from:
                successes, failures = 0, failures + 1
                failure_counts_from = time.monotonic() + self._period
                if failures >= needed_failures:
                    yield result
            await asyncio.sleep(self._period if successes >= needed_successes else min(self._period, _EAGER_SECONDS))

    async def _ask(self) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                if "httpGet" in self._spec:
                    return await self._http(self._spec["httpGet"])
                if "grpc" in self._spec:
                    return await self._grpc(self._spec["grpc"])
                if "tcpSocket" in self._spec:
                    return await self._tcp(self._spec["tcpSocket"])
                status = await self._run(self._spec["exec"]["command"])
                return Result(status == 0, f"command ended with status {status}")
        except TimeoutError:
            return Result(False, f"no answer within {self._timeout} s")
        except (OSError, aiohttp.ClientError) as error:
            return Result(False, str(error))

    async def _http(self, action: Object) -> Result:
        scheme = action.get("scheme", "HTTP").lower()
        url = f"{scheme}://{self._host(action)}:{self._port(action)}{action.get('path', '/')}"
        headers = {entry["name"]: entry["value"] for entry in action.get("httpHeaders", [])}
        async with (
            aiohttp.ClientSession() as session,
            # Like the kubelet: any redirect is a success, and a certificate is not looked at.
            session.get(url, headers=headers, ssl=False, allow_redirects=False) as response,
        ):
            body = (await response.content.read(1000)).decode(errors="replace")
            return Result(200 <= response.status < 400, f"HTTP status {response.status}: {body}")

    async def _grpc(self, action: Object) -> Result:
        async with grpc.aio.insecure_channel(f"{self._host(action)}:{action['port']}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = await check(health_pb2.HealthCheckRequest(service=action.get("service", "")))
            except grpc.aio.AioRpcError as error:
                return Result(False, f"{error.code().name}: {error.details()}")
            serving = answer.status == health_pb2.HealthCheckResponse.SERVING
            return Result(serving, health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def _tcp(self, action: Object) -> Result:
        _, writer = await asyncio.open_connection(self._host(action), self._port(action))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Result(True, "connected")

    def _host(self, action: Object) -> str:
        return str(action.get("host") or self._address)

    def _port(self, action: Object) -> int:
        port = action["port"]
        return port if isinstance(port, int) else self._ports[port]

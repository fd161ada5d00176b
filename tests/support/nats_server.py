"""A real nats-server for a test: a free port, TLS, JetStream in a folder of its own, its log shown on failure."""

import asyncio
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from libs.chassis.nats_client import OrderedClient
from tests.support.mounted_secret import usual_sides
from tools.localcluster.addresses import free_port
from tools.localcluster.builds import Builder
from tools.localcluster.certificates import KeyPair
from tools.localcluster.natsserver import tls_configuration
from tools.localcluster.programs import PROGRAMS, cached_path, locate

_START_SECONDS = 60


class NatsServer:
    """One server, which can be killed and started again on the same port with the same storage."""

    def __init__(self, folder: Path, configuration: Mapping[str, Any] | None = None) -> None:
        """folder holds storage, configuration and log; configuration is added to what every test needs."""
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._extra = dict(configuration or {})
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"tls://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """What clients know the server by."""
        return usual_sides().server.folder / "ca.crt"

    async def client(self, **options: Any) -> Client:
        """A connection of the test itself."""
        return await connect_trusting(self.authority, self.url, **options)

    @property
    def pid(self) -> int:
        """Process id of the running server, 0 while it does not run."""
        return self._process.pid if self._process else 0

    @property
    def log(self) -> str:
        """Everything that the server has printed so far."""
        path = self.folder / "nats-server.log"
        return path.read_text() if path.exists() else ""

    async def start(self) -> None:
        """Start the server and wait until it takes connections."""
        configuration = {
            "listen": f"127.0.0.1:{self.port}",
            "tls": tls_configuration(KeyPair(*(usual_sides().server.folder / name for name in ("tls.crt", "tls.key")))),
            "jetstream": {"store_dir": str(self.folder / "jetstream"), "max_file_store": 2**31},
            **self._extra,
        }
        path = self.folder / "nats-server.conf"
        path.write_text(json.dumps(configuration))
        with (self.folder / "nats-server.log").open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                _binary(), "--config", str(path), stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await self._listens():
                    assert self._process.returncode is None, f"nats-server ended:\n{self.log}"
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.stop()
            raise AssertionError(f"nats-server does not listen:\n{self.log}") from None

    async def stop(self) -> None:
        """Stop the server in order. Idempotent."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the server as a crash would."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process and process.returncode is None:
            process.send_signal(number)
            await process.wait()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@asynccontextmanager
async def running_nats(folder: Path, configuration: Mapping[str, Any] | None = None) -> AsyncIterator[NatsServer]:
    """A server that runs until the block ends."""
    server = NatsServer(folder, configuration)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def connect_trusting(authority: Path, url: str, **options: Any) -> Client:
    """A connection of the test itself to a server that an authority has certified."""
    context = ssl.create_default_context(cafile=str(authority))
    client = OrderedClient()
    # Back as soon as the services are, however long the server was away.
    options = {"reconnect_time_wait": 0.25, "max_reconnect_attempts": 480} | options
    await client.connect(url, tls=context, tls_handshake_first=True, **options)
    return client


def _binary() -> str:
    program = next(program for program in PROGRAMS if program.name == "nats-server")
    path = locate(program, os.environ)
    if path is None:
        path = cached_path(program, os.environ)
        Builder(os.environ).build(program, path)
    return str(path)

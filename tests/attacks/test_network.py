"""Somebody on the network stands in the server's place and speaks no TLS: not a token, not a password comes to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats
from tests.support.nats_server import NatsServer
from tools.localcluster.addresses import free_port
from tools.localcluster.certificates import Authority

TOKEN = "a-token-that-nobody-else-may-see"
INFO = b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576,"headers":true,"proto":1}\r\n'


class Stripper:
    """Greets like a server that asks for no TLS, and keeps whatever it is sent."""

    def __init__(self) -> None:
        self.received = b""
        self.connected = asyncio.Event()
        self.heard = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connected.set()
        writer.write(INFO)
        while data := await reader.read(4096):
            self.received += data
            self.heard.set()
        writer.close()

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        """Stand in the server's place while the block runs."""
        async with await asyncio.start_server(self.serve, "127.0.0.1", port):
            yield


def assert_nothing_was_told(received: bytes) -> None:
    # The type of a TLS record that holds a handshake: RFC 8446, section 5.1.
    assert not received or received[0] == 22
    assert TOKEN.encode() not in received
    assert b"CONNECT" not in received


@pytest.mark.parametrize("how", ["tls", "ca"])
async def test_a_server_that_asks_for_no_tls_is_told_nothing(tmp_path: Path, how: str) -> None:
    (tmp_path / "token").write_text(TOKEN)
    authority, port, stripper = Authority(tmp_path), free_port(), Stripper()
    ca = authority.certificate if how == "ca" else None
    url = f"{'nats' if how == 'ca' else 'tls'}://127.0.0.1:{port}"
    async with stripper.listening(port):
        connection = connect_nats(url, Health(), "victim", token_file=tmp_path / "token", ca_file=ca)
        entering = asyncio.ensure_future(connection.__aenter__())
        async with asyncio.timeout(20):
            await stripper.heard.wait()
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
    assert_nothing_was_told(stripper.received)


async def test_nor_is_one_that_takes_the_place_of_the_right_one_later(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    authority, stripper = Authority(tmp_path), Stripper()
    pair = authority.issue_server("nats", ("localhost",), ("127.0.0.1",))
    tls = {"cert_file": str(pair.certificate), "key_file": str(pair.key), "handshake_first": True}
    server = NatsServer(tmp_path, {"tls": tls, "authorization": {"token": TOKEN}})
    await server.start()
    url = server.url.replace("nats://", "tls://")
    async with connect_nats(
        url, Health(), "victim", token_file=tmp_path / "token", ca_file=authority.certificate
    ) as client:
        await client.flush()
        await server.kill()
        async with stripper.listening(server.port), asyncio.timeout(20):
            await stripper.heard.wait()
        assert_nothing_was_told(stripper.received)
        await server.start()
        async with asyncio.timeout(20):
            while not client.is_connected:
                await asyncio.sleep(0.05)
        await client.flush()
    await server.stop()

"""Handshakes that never end hold nothing for long, and those that end are no longer counted."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.chassis.health import listening_socket
from services.status.page.handshakes import Doorway
from tools.localcluster.certificates import Authority

pytestmark = pytest.mark.asyncio


class Server(asyncio.Protocol):
    """Says hello when the handshake is done."""

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._doorway.entered(transport.get_extra_info("socket").fileno())
        transport.write(b"hello")

    def data_received(self, data: bytes) -> None:
        pass


@asynccontextmanager
async def serving(folder: Path, patience_seconds: float, most: int) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A port with TLS behind a doorway, and how to speak to it."""
    authority = Authority(folder)
    pair = authority.issue_server("page", (), ("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    doorway = Doorway(listening_socket("127.0.0.1", 0), patience_seconds, most)
    port = doorway.getsockname()[1]
    server = await asyncio.get_running_loop().create_server(lambda: Server(doorway), sock=doorway, ssl=context)
    async with server, asyncio.timeout(40):
        yield port, ssl.create_default_context(cafile=str(authority.certificate))


async def is_ended(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read(1) == b""
    return True


async def test_who_begins_no_handshake_is_cut_off_and_who_has_ended_one_stays(tmp_path: Path) -> None:
    async with serving(tmp_path, 5.0, 10) as (port, context):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert await reader.readexactly(5) == b"hello"
        silent, other = await asyncio.open_connection("127.0.0.1", port)
        half, half_writer = await asyncio.open_connection("127.0.0.1", port)
        # The beginning of a record that never ends.
        half_writer.write(b"\x16\x03\x01\x02\x00\x01")
        assert await is_ended(silent)
        assert await is_ended(half)
        # Both began after it, so its time would have been over.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        for each in (writer, other, half_writer):
            each.close()


async def test_of_too_many_handshakes_the_oldest_makes_room_for_a_browser(tmp_path: Path) -> None:
    async with serving(tmp_path, 60.0, 3) as (port, context):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert await reader.readexactly(5) == b"hello"
        assert await is_ended(silent[0][0])
        for _, each in (*silent, (reader, writer)):
            each.close()

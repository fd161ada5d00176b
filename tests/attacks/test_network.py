"""Somebody on the network stands in the server's place, or calls it: not a token, not a request comes to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.artifact.model_directory import ModelFile
from libs.chassis.errors import Unavailable
from libs.chassis.grpc_server import serve_grpc
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats
from libs.chassis.tls_files import TlsFiles
from ome.model.v1.model_pb2 import NODE_PHASE_READY, REASON_UNAVAILABLE
from ome.parser.v1.parser_pb2 import ModelFacts, ParseRequest, ParseResponse
from ome.parser.v1.parser_pb2_grpc import (
    ParserServiceServicer,
    ParserServiceStub,
    add_ParserServiceServicer_to_server,
)
from services.fetcher.model.parser_client import ParserClient, connect_parser
from tests.support.fetcher_node import FetcherNode, connected_driver, nats_configuration, running_parser
from tests.support.mounted_secret import MountedSecret, Sides, new_sides, usual_sides
from tests.support.nats_server import NatsServer
from tools.localcluster.addresses import free_port
from tools.localcluster.certificates import Authority

TOKEN = "a-token-that-nobody-else-may-see"
INFO = b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576,"headers":true,"proto":1}\r\n'
# The first frame of a server of HTTP/2, SETTINGS without any: a client that speaks plain text goes on after it.
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
CONFIG = b'{"model_type": "a-model-that-nobody-else-may-see"}'


class Stripper:
    """Greets like a server that asks for no TLS, and keeps whatever it is sent."""

    def __init__(self, greeting: bytes = INFO) -> None:
        self._greeting = greeting
        self.received = b""
        self.connected = asyncio.Event()
        self.heard = asyncio.Event()
        self.left = asyncio.Event()
        self._conversations: list[asyncio.Task[Any] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._conversations.append(asyncio.current_task())
        self.connected.set()
        try:
            writer.write(self._greeting)
            # To break off is as good as to leave.
            with suppress(OSError):
                while data := await reader.read(4096):
                    self.received += data
                    self.heard.set()
        finally:
            self.left.set()
            writer.close()

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        """Stand in the server's place while the block runs."""
        async with await asyncio.start_server(self.serve, "127.0.0.1", port):
            yield
        # No connection is left for the garbage collector of a later test.
        for conversation in filter(None, self._conversations):
            conversation.cancel()
            await asyncio.wait([conversation])


def assert_nothing_was_told(received: bytes) -> None:
    # The type of a TLS record that holds a handshake: RFC 8446, section 5.1.
    assert not received or received[0] == 22
    assert TOKEN.encode() not in received
    assert b"CONNECT" not in received
    assert b"PRI * HTTP/2" not in received
    assert CONFIG not in received


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
    async with connect_nats(
        server.url, Health(), "victim", token_file=tmp_path / "token", ca_file=authority.certificate
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


async def test_what_waits_to_be_sent_is_not_told_when_the_client_ends_before_a_handshake(tmp_path: Path) -> None:
    server, silent = NatsServer(tmp_path), Stripper(b"")
    await server.start()
    connection = connect_nats(server.url, Health(), "victim", ca_file=server.authority)
    client = await connection.__aenter__()
    await server.kill()
    async with silent.listening(server.port):
        async with asyncio.timeout(20):
            await silent.heard.wait()
        await client.publish("ome.node.victim.observed", TOKEN.encode())
        await connection.__aexit__(None, None, None)
        async with asyncio.timeout(20):
            await silent.left.wait()
    assert_nothing_was_told(silent.received)


class Recorder(ParserServiceServicer):
    """A parser that answers every request, and keeps them all."""

    def __init__(self) -> None:
        self.requests: list[ParseRequest] = []

    async def Parse(self, requests: AsyncIterator[ParseRequest], context: Any) -> ParseResponse:
        async for request in requests:
            self.requests.append(request)
        return ParseResponse(facts=ModelFacts(model_type="bert"))

    @asynccontextmanager
    async def listening(self, port: int, files: MountedSecret | None, **more: Any) -> AsyncIterator[int]:
        """Serve, without files in plain text."""
        health = Health()
        tls = TlsFiles(files.folder, "FILES", health, with_authority=True) if files else None
        add = {"ome.parser.v1.ParserService": lambda server: add_ParserServiceServicer_to_server(self, server)}
        async with serve_grpc("127.0.0.1", port, add, health, tls, drain_seconds=0, **more) as bound:
            assert health.ready, health.failures
            yield bound


async def one_file(directory: Path, schema_path: str) -> list[ModelFile]:
    return [ModelFile("config.json", len(CONFIG), CONFIG)]


@asynccontextmanager
async def calling(port: int, files: MountedSecret) -> AsyncIterator[ParserClient]:
    """A fetcher's client of the parser."""
    tls = TlsFiles(files.folder, "FILES", Health(), with_authority=True)
    async with connect_parser(f"127.0.0.1:{port}", tls, one_file) as parser:
        yield parser


async def ask(parser: ParserClient) -> bool:
    """Whether the parser, or whoever it is, gives an answer."""
    try:
        await parser.parse(Path("/"), "")
    except Unavailable:
        return False
    return True


async def until_answered(parser: ParserClient) -> None:
    async with asyncio.timeout(20):
        while not await ask(parser):
            await asyncio.sleep(0.05)


async def test_a_parser_that_speaks_no_tls_is_told_nothing(tmp_path: Path) -> None:
    sides, port, stripper = new_sides(tmp_path), free_port(), Stripper(SETTINGS)
    async with stripper.listening(port), calling(port, sides.client) as parser:
        assert not await ask(parser)
        assert stripper.heard.is_set()
    assert_nothing_was_told(stripper.received)


async def test_nor_is_one_that_takes_the_place_of_the_right_parser_later(tmp_path: Path) -> None:
    sides, port, stripper = new_sides(tmp_path), free_port(), Stripper(SETTINGS)
    async with calling(port, sides.client) as parser:
        async with Recorder().listening(port, sides.server):
            await until_answered(parser)
        async with stripper.listening(port):
            assert not await ask(parser)
            async with asyncio.timeout(20):
                await stripper.heard.wait()
        assert_nothing_was_told(stripper.received)
        async with Recorder().listening(port, sides.server):
            await until_answered(parser)


async def test_a_fetcher_at_work_tells_neither_of_them_anything(tmp_path: Path) -> None:
    server, port = NatsServer(tmp_path, nats_configuration("node-1")), free_port()
    parser, nats = Stripper(SETTINGS), Stripper()
    await server.start()
    async with parser.listening(port):
        node = FetcherNode(tmp_path, server.url, "node-1", {"OME_PARSER_ADDRESS": f"127.0.0.1:{port}"})
        node.path("/models/mine").mkdir(parents=True)
        (node.path("/models/mine") / "config.json").write_bytes(CONFIG)
        async with connected_driver(server, "node-1") as driver:
            await node.start()
            await driver.hold("a", "local:///models/mine")
            state = await driver.state("a", NODE_PHASE_READY)
            assert state.parse_problem.reason == REASON_UNAVAILABLE
        assert parser.heard.is_set()
        assert_nothing_was_told(parser.received)
        await server.kill()
        async with nats.listening(server.port), asyncio.timeout(20):
            await nats.heard.wait()
        assert_nothing_was_told(nats.received)
        assert await node.stop() == 0


async def test_a_parser_under_another_authority_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs, impostor = new_sides(tmp_path / "ours"), new_sides(tmp_path / "theirs"), Recorder()
    async with impostor.listening(0, theirs.server) as port, calling(port, ours.client) as parser:
        assert not await ask(parser)
    assert impostor.requests == []


async def test_one_with_the_certificate_of_a_caller_is_told_nothing(tmp_path: Path) -> None:
    sides, impostor = new_sides(tmp_path), Recorder()
    # All that a stolen node has.
    async with impostor.listening(0, sides.client) as port, calling(port, sides.client) as parser:
        assert not await ask(parser)
    assert impostor.requests == []


def strangers(folder: Path) -> dict[str, grpc.ChannelCredentials | None]:
    """Who calls the usual parser although it was not given a certificate for it; None speaks plain text."""
    other = new_sides(folder)
    usual, authority = usual_sides(), (usual_sides().server.folder / "ca.crt").read_bytes()

    def showing(directory: Path) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            authority, (directory / "tls.key").read_bytes(), (directory / "tls.crt").read_bytes()
        )

    return {
        "plain text": None,
        "no certificate": grpc.ssl_channel_credentials(authority),
        "a certificate of another authority": showing(other.client.folder),
        "the certificate of a server": showing(usual.server.folder),
    }


async def test_a_caller_that_the_authority_has_not_certified_gets_nothing_from_the_parser(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with running_parser(tmp_path) as address:
        async with grpc.aio.secure_channel(address, usual_sides().channel_credentials()) as channel:
            assert await codes(channel) == [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK]
        for who, credentials in strangers(tmp_path / "other").items():
            open_channel = grpc.aio.insecure_channel(address)
            if credentials is not None:
                open_channel = grpc.aio.secure_channel(address, credentials)
            async with open_channel as channel:
                # Of a call whose requests end while the connection fails, gRPC says that it was cancelled.
                assert set(await codes(channel)) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, who


async def codes(channel: grpc.aio.Channel) -> list[grpc.StatusCode]:
    """What comes of a request without files, and of one for health."""
    stub: Any = ParserServiceStub(channel)
    health: Any = health_pb2_grpc.HealthStub(channel)
    found = []
    for call in (stub.Parse(iter(())), health.Check(health_pb2.HealthCheckRequest())):
        found.append(await call.code())
    return found


async def test_a_changed_authority_counts_at_once_and_without_a_restart(tmp_path: Path) -> None:
    sides, recorder = new_sides(tmp_path), Recorder()
    stolen = sides.channel_credentials()
    async with recorder.listening(0, sides.server) as port, calling(port, sides.client) as parser:
        assert await ask(parser)
        renewed = sides.renew(tmp_path / "renewed")
        renewed.fill_server()
        async with asyncio.timeout(20):
            while await first_code(port, stolen) == grpc.StatusCode.OK:
                await asyncio.sleep(0.05)
        # Whoever was connected already is not asked again before the connection is five minutes old.
        renewed.fill_client()
        await until_taken_up(port, renewed)
        assert await ask(parser)


async def test_a_parser_of_the_former_authority_is_told_nothing_after_the_change(tmp_path: Path) -> None:
    sides, recorder = new_sides(tmp_path), Recorder()
    async with recorder.listening(0, sides.server) as port, calling(port, sides.client) as parser:
        # Connected, which does not count any more once the files are others.
        assert await ask(parser)
        renewed = sides.renew(tmp_path / "renewed")
        renewed.fill_client()
        async with asyncio.timeout(20):
            while await ask(parser):
                await asyncio.sleep(0.05)
        heard = len(recorder.requests)
        assert not await ask(parser)
        assert len(recorder.requests) == heard
        renewed.fill_server()
        await until_answered(parser)


async def test_a_connection_from_before_the_change_ends(tmp_path: Path) -> None:
    sides, recorder = new_sides(tmp_path), Recorder()
    async with (
        recorder.listening(0, sides.server, certified_connection_seconds=0.5) as port,
        grpc.aio.secure_channel(f"127.0.0.1:{port}", sides.channel_credentials()) as channel,
    ):
        assert (await codes(channel))[0] == grpc.StatusCode.OK
        renewed = sides.renew(tmp_path / "renewed")
        renewed.fill_server()
        async with asyncio.timeout(20):
            while (await codes(channel))[0] == grpc.StatusCode.OK:
                await asyncio.sleep(0.05)
        renewed.fill_client()
        await until_taken_up(port, renewed)


async def until_taken_up(port: int, sides: Sides) -> None:
    async with asyncio.timeout(20):
        while (await first_code(port, sides.channel_credentials())) != grpc.StatusCode.OK:
            await asyncio.sleep(0.05)


async def first_code(port: int, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    """What comes of a request over a connection of its own."""
    # Otherwise gRPC shares connections between channels.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        return (await codes(channel))[0]

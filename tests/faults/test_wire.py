"""One connection against peers that break the rules of HTTP, TLS and names."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.fetcher.transfer import tls
from services.fetcher.transfer.addresses import Endpoint
from services.fetcher.transfer.egress import ANYWHERE
from services.fetcher.transfer.wire import Connection, Watch, WireError
from tools.localcluster.certificates import Authority

WATCH = Watch(lambda: None, connect_seconds=5, stall_seconds=30, stall_bytes=100)
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


@contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which the first connection is treated so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    behave(connection)
                except OSError:
                    # The client has had enough.
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


def read_request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4096)


@pytest.mark.parametrize("size", [b"-4", b"+4", b"0x4", b"1_0", b"", b"4" * 40])
def test_a_chunk_whose_size_is_no_number_is_not_guessed(size: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nbody\r\n0\r\n\r\n")

    with peer(behave) as port:
        connection = Connection(Endpoint("http", "127.0.0.1", port), WATCH, ANYWHERE)
        connection.request("/", {})
        connection.flush()
        connection.head()
        with pytest.raises(WireError, match="a chunk whose size"):
            connection.receive(memoryview(bytearray(100)))
        connection.close()


def test_what_a_proxy_sends_before_the_handshake_is_not_the_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + BODY + b"fake")

    with peer(behave) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(WireError, match="sent more than its answer to CONNECT"):
            Connection(Endpoint("https", "models.example", 443), WATCH, ANYWHERE)


@pytest.fixture
def server_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    authority = Authority(tmp_path)
    pair = authority.issue_server("server", (), ("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    tls.tls_context.cache_clear()
    yield context
    tls.tls_context.cache_clear()


def test_a_record_that_trickles_is_given_up_and_a_stop_is_heeded_meanwhile(server_side: ssl.SSLContext) -> None:
    looks: list[float] = []

    def behave(connection: socket.socket) -> None:
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = server_side.wrap_bio(received, sent, server_side=True)
        while True:
            try:
                secure.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(sent.read())
                received.write(connection.recv(65536))
        connection.sendall(sent.read())
        secure.write(BODY + b"body")
        for byte in sent.read()[:40]:
            connection.sendall(bytes((byte,)))
            time.sleep(0.1)

    watch = Watch(lambda: looks.append(time.monotonic()), 5, 2.5, WATCH.stall_bytes)
    with peer(behave) as port:
        connection = Connection(Endpoint("https", "127.0.0.1", port), watch, ANYWHERE)
        connection.request("/", {})
        connection.flush()
        before = len(looks)
        with pytest.raises(WireError, match="sent nothing"):
            connection.head()
        assert len(looks) - before >= 2
        connection.close()


def test_a_handshake_that_trickles_is_given_up(server_side: ssl.SSLContext) -> None:
    def behave(connection: socket.socket) -> None:
        # The head of a handshake record that is never complete.
        for byte in b"\x16\x03\x03\x40\x00" + bytes(40):
            connection.sendall(bytes((byte,)))
            time.sleep(0.1)

    with peer(behave) as port, pytest.raises(WireError, match=r"TLS handshake.*timed out"):
        Connection(Endpoint("https", "127.0.0.1", port), Watch(lambda: None, 0.5, 5, 100), ANYWHERE)


def test_an_address_of_a_kind_that_the_node_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(BODY + b"body")

    with peer(behave) as port:
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        # As IPv6 is on a node that has been told to do without: no socket of its family can be made.
        lacking = (socket.AF_APPLETALK, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [lacking, four])
        connection = Connection(Endpoint("http", "models.example", port), WATCH, ANYWHERE)
        connection.request("/", {})
        connection.flush()
        assert connection.head().status == 200
        connection.close()

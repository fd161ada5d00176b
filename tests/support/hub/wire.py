"""HTTP/1.1 on threads: reads requests, writes answers, sends files by sendfile(2). Must not know what is asked for.

One thread per connection and no timeouts: a benchmark measures its client only if the server costs next to nothing.
"""

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

_RECEIVE_BYTES = 64 << 10
_HEAD_BYTES = 1 << 20
_COPY_BYTES = 1 << 20
_SENDFILE_BYTES = 1 << 30


@dataclass(frozen=True)
class Request:
    """A request; path and parts are decoded, header names are in lower case."""

    method: str
    path: str
    parts: tuple[str, ...]
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class FileRange:
    """A part of a file on disk."""

    location: str
    offset: int
    length: int


@dataclass(frozen=True)
class Response:
    """An answer; Content-Length is added when it is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileRange = b""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.body.length if isinstance(self.body, FileRange) else len(self.body)


class Connection:
    """One client's connection, from the side of the server."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self._socket = sock
        self._received = b""
        self.number = number

    def receive(self) -> Request | None:
        """The next request; None when the client has closed."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > _HEAD_BYTES or not (data := self._socket.recv(_RECEIVE_BYTES)):
                return None
            self._received += data
        head, self._received = self._received[:end], self._received[end + 4 :]
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._received) < length:
            if not (data := self._socket.recv(_RECEIVE_BYTES)):
                return None
            self._received += data
        body, self._received = self._received[:length], self._received[length:]
        path, _, query = target.partition("?")
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        return Request(method, unquote(path), parts, target, dict(parse_qsl(query)), headers, body)

    def send_head(self, response: Response, content_length: int, body: bytes = b"", *, alone: bool = False) -> None:
        """Status line and headers, in one packet with a short body; alone says that no body follows, as after HEAD."""
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.status != 304:
            lines.append(f"Content-Length: {content_length}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        # A body that follows from a file shares the packet with the head; without one, the kernel would hold the head
        # back for a fifth of a second.
        follows = content_length and not body and not alone and not isinstance(self._socket, ssl.SSLSocket)
        self._socket.sendall(head + body, socket.MSG_MORE if follows else 0)

    def send(self, body: bytes | FileRange, start: int, count: int) -> None:
        """count bytes of a body from start on."""
        if isinstance(body, bytes):
            self._socket.sendall(memoryview(body)[start : start + count])
            return
        file = os.open(body.location, os.O_RDONLY)
        try:
            offset, end = body.offset + start, body.offset + start + count
            while offset < end:
                if isinstance(self._socket, ssl.SSLSocket):
                    sent = self._socket.send(os.pread(file, min(_COPY_BYTES, end - offset), offset))
                else:
                    sent = os.sendfile(self._socket.fileno(), file, offset, min(_SENDFILE_BYTES, end - offset))
                if not sent:
                    raise ConnectionError(f"{body.location} is shorter than it was")
                offset += sent
        finally:
            os.close(file)

    def wait(self, until: threading.Event, seconds: float | None = None) -> bool:
        """Wait until the event is set or the time is over; False when the client has gone meanwhile."""
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        waited = 0.0
        while not until.is_set() and (seconds is None or waited < seconds):
            step = 0.02 if seconds is None else min(0.02, seconds - waited)
            # The plain socket's recv, as that of TLS cannot peek.
            if readable.poll(0) and not socket.socket.recv(self._socket, 1, socket.MSG_PEEK):
                return False
            until.wait(step)
            waited += step
        return True

    def close(self) -> None:
        """End the connection, whoever waits for it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


# Answers one request on a connection; False ends the connection.
Serve = Callable[[Request, Connection], bool]


class Listener:
    """A port, its connections and their threads."""

    def __init__(
        self,
        name: str,
        port: int,
        serve: Serve,
        certificate: tuple[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        """certificate is the files of a certificate chain and its key; with it the port speaks TLS."""
        self._name = name
        self._serve = serve
        self._tls = _tls_context(certificate) if certificate else None
        self._socket = socket.create_server((address, port), backlog=512)
        self._address = address
        self.port: int = self._socket.getsockname()[1]
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._accepted = 0
        self._acceptor = threading.Thread(target=self._accept, name=f"hub-{name}", daemon=True)

    @property
    def url(self) -> str:
        """Where the port is reached."""
        return f"{'https' if self._tls else 'http'}://{self._address}:{self.port}"

    def start(self) -> None:
        """Take connections from now on."""
        self._acceptor.start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for their threads."""
        # Wakes accept(2), which close(2) alone does not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._acceptor.is_alive():
            self._acceptor.join()
        with self._lock:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            connection.close()
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._accepted += 1
                thread = threading.Thread(
                    target=self._converse,
                    args=(sock, self._accepted),
                    name=f"hub-{self._name}-{self._accepted}",
                    daemon=True,
                )
                self._threads.add(thread)
            thread.start()

    def _converse(self, sock: socket.socket, number: int) -> None:
        if self._tls:
            # The handshake comes with the first bytes, so that stop() finds the connection even before it.
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        connection = Connection(sock, number)
        with self._lock:
            self._connections.add(connection)
        try:
            # A client that goes away in the middle, or speaks something else, is no matter of the server's.
            with contextlib.suppress(OSError, ValueError):
                while (request := connection.receive()) is not None:
                    if not self._serve(request, connection) or request.headers.get("connection", "").lower() == "close":
                        break
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
                self._threads.discard(threading.current_thread())
            sock.close()


def _tls_context(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"

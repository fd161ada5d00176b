"""A proxy on the loopback interface, for this process alone: clients that are not ours reach the world through it.

It holds every connection of an SDK to the rule of the model that it is made for, at the address that it is made to.
Who may pass shows a token that nobody else knows. Must not look into what is sent, nor keep any of it.
"""

import base64
import contextlib
import re
import secrets
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from weakref import WeakValueDictionary

from services.fetcher.stop import Stopped
from services.fetcher.transfer.addresses import AddressError, Endpoint, split_url
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.passage import Passage
from services.fetcher.transfer.proxies import proxy_credentials, proxy_for
from services.fetcher.transfer.wire import RefusedError, Watch, WireError, check_literal, reach

_HEAD_BYTES = 64 << 10
# What connects to us sends its head at once, or is none of our clients.
_HEAD_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_CONNECTIONS = 256
_BUFFER_BYTES = 256 << 10
_USER = "ome"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
# About one connection, or the proxy's own: RFC 9110 7.6.1. Each request gets a connection of its own.
_HOP_HEADERS = ("connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade")


class Gate:
    """The proxy. It listens from the first passage on, on a port of the system's choice."""

    def __init__(self, check: Callable[[], None]) -> None:
        """check is called while waiting for a connection, and may raise."""
        self._watch = Watch(check, _CONNECT_SECONDS, _CONNECT_SECONDS, stall_bytes=1)
        self._passages: WeakValueDictionary[str, Passage] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._room = threading.BoundedSemaphore(_CONNECTIONS)

    def passage(self, rule: Rule) -> Passage:
        """Open a way that leads where a rule permits."""
        with self._lock:
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", 0))
                threading.Thread(target=self._listen, args=(self._listener,), name="gate", daemon=True).start()
            port = self._listener.getsockname()[1]
            token = secrets.token_urlsafe(32)
            passage = Passage(rule, f"http://{_USER}:{token}@127.0.0.1:{port}")
            self._passages[token] = passage
            return passage

    def close(self) -> None:
        """Take no more connections."""
        with self._lock:
            if self._listener:
                # Closing alone does not wake a thread that waits for the next one.
                with contextlib.suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), name="passage", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError, Stopped):
                self._answer(client)
        finally:
            self._room.release()

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(_HEAD_SECONDS)
        head, body = _read_head(client)
        request, *lines = head.split("\r\n")
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        passage = self._passage_of(dict(headers).get("proxy-authorization", ""))
        if passage is None:
            _refuse(client, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
            return
        method, _, rest = request.partition(" ")
        try:
            tunnel = method == "CONNECT"
            endpoint, target = split_url(f"https://{rest.split(' ')[0]}" if tunnel else rest.split(" ")[0])
        except AddressError:
            _refuse(client, HTTPStatus.BAD_REQUEST)
            return
        if not tunnel and (endpoint.scheme != "http" or "transfer-encoding" in dict(headers)):
            _refuse(client, HTTPStatus.NOT_IMPLEMENTED)
            return
        server = self._dial(client, endpoint, passage, tunnel)
        if server is None:
            return
        with server:
            client.settimeout(None)
            server.settimeout(None)
            if not tunnel:
                self._forward(client, server, endpoint, method, target, headers, body)
                _pass_head(server, client)
                _pump(server, client, passage.take)
                return
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            upwards = threading.Thread(target=_pump, args=(client, server), name="passage", daemon=True)
            upwards.start()
            _pump(server, client, passage.take)
            # Whoever still waits for the client to say more, or for the server to take it, ends too.
            for peer in (client, server):
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            upwards.join()

    def _dial(self, client: socket.socket, endpoint: Endpoint, passage: Passage, tunnel: bool) -> socket.socket | None:
        """A connection to an endpoint, or to the operator's proxy for it; None when the client was told of a failure.

        The client is answered only after what went wrong has been noted.
        """
        proxy = proxy_for(endpoint)
        try:
            if proxy is None:
                server = reach(endpoint.host, endpoint.port, self._watch, passage.rule)
            else:
                check_literal(endpoint, passage.rule)
                server = reach(proxy.hostname or "", proxy.port or 80, self._watch, ANYWHERE)
                if tunnel:
                    credentials = "".join(f"{name}: {value}\r\n" for name, value in proxy_credentials(proxy).items())
                    try:
                        _open_tunnel(server, endpoint, credentials, proxy.hostname or "")
                    except BaseException:
                        server.close()
                        raise
        except RefusedError as error:
            passage.note(refusal=str(error))
            _refuse(client, HTTPStatus.FORBIDDEN)
            return None
        except (WireError, OSError) as error:
            passage.note(trouble=str(error))
            _refuse(client, HTTPStatus.BAD_GATEWAY)
            return None
        passage.note()
        return server

    def _forward(
        self,
        client: socket.socket,
        server: socket.socket,
        endpoint: Endpoint,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> None:
        """Send one request with its body, and no other: the next may be meant for another host."""
        proxy = proxy_for(endpoint)
        kept = [(name, value) for name, value in headers if name not in _HOP_HEADERS]
        if proxy:
            target = f"{endpoint}{target}"
            kept += list(proxy_credentials(proxy).items())
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in kept), "connection: close"]
        server.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        length = dict(headers).get("content-length", "0")
        left = int(length) if length.isdecimal() else 0
        while left > 0:
            body = body or client.recv(_BUFFER_BYTES)
            if not body:
                return
            server.sendall(body[:left])
            left, body = left - len(body), b""

    def _passage_of(self, header: str) -> Passage | None:
        scheme, _, encoded = header.partition(" ")
        try:
            user, _, token = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return None
        return self._passages.get(token) if scheme.lower() == "basic" and user == _USER else None


def _read_head(peer: socket.socket, data: bytes = b"") -> tuple[str, bytes]:
    """A head up to its empty line, and what came behind it; `data` came before. Raises OSError if it does not end."""
    while b"\r\n\r\n" not in data:
        more = peer.recv(_HEAD_BYTES)
        data += more
        if not more or len(data) > _HEAD_BYTES:
            raise ConnectionError("no head of a request")
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def _pass_head(server: socket.socket, client: socket.socket) -> None:
    """Pass the head of an answer on, with the word that no request may follow it."""
    status, body = 100, b""
    while 100 <= status < 200:
        head, body = _read_head(server, body)
        first, *lines = head.split("\r\n")
        match = _STATUS.match(first.encode("latin-1"))
        if match is None:
            raise ConnectionError("no answer of HTTP")
        status = int(match[1])
        kept = [line for line in lines if line.partition(":")[0].strip().lower() not in ("connection", "keep-alive")]
        client.sendall("\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1"))
    client.sendall(body)


def _open_tunnel(server: socket.socket, endpoint: Endpoint, credentials: str, proxy: str) -> None:
    server.settimeout(_CONNECT_SECONDS)
    authority = endpoint.authority
    server.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n".encode("latin-1"))
    head, behind = _read_head(server)
    status = _STATUS.match(head.encode("latin-1"))
    if status is None or not 200 <= int(status[1]) < 300 or behind:
        answer = status[1].decode() if status else "something else than HTTP"
        raise WireError(f"the proxy {proxy} answered {answer} to CONNECT")


def _refuse(client: socket.socket, status: HTTPStatus) -> None:
    challenge = "Proxy-Authenticate: Basic\r\n" if status is HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else ""
    client.sendall(
        f"HTTP/1.1 {status.value} {status.phrase}\r\n{challenge}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )


def _pump(source: socket.socket, sink: socket.socket, take: Callable[[int], bool] = lambda count: True) -> None:
    """Pass on what comes until it ends, or is more than may be taken, and that it has ended."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with contextlib.suppress(OSError):
        while (count := source.recv_into(buffer)) and take(count):
            sink.sendall(buffer[:count])
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

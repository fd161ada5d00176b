"""A small real HTTP/1.1 origin over sockets, with faults that are injected one by one and counted when they fire.

Serves ranges, keeps connections and counts them, answers pipelined requests in order. Also a program, for origins in a
process of their own: python -m tests.support.origin DIRECTORY [CHAIN KEY] prints its port and serves the files below
DIRECTORY, and lists them; over TLS when it is given a certificate.
"""

import gzip
import hashlib
import os
import re
import socket
import ssl
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PAUSE_SECONDS = 0.05
_COPY_BYTES = 1 << 20


@dataclass
class Fault:
    """What goes wrong with requests for a path (any, if None): the first skip ones go well, then times go wrong.

    kind is one of: status (answer with status, headers), cut (close after after_bytes of the body), reset (the same
    with RST), stall (silence after after_bytes), trickle (a byte at a time from there), corrupt (flip a bit at
    after_bytes of the body), short (a body that is shorter by one, and says so), long (longer by one, and says so),
    overlong (longer than it says), whole (200 in spite of Range), other_range (Content-Range and body are off by one),
    other_total (Content-Range says another size), new_tag (another ETag), close (no answer at all), garbage (no HTTP),
    chunked (chunked transfer coding), coded (what is sent, be it a range, in the Content-Encoding of headers, and not
    by its length alone if after_bytes is set: then in chunks). body is that of a status.
    """

    kind: str
    path: str | None = None
    times: int = 1
    skip: int = 0
    after_bytes: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"as told\n"
    fired: int = 0


@dataclass(frozen=True)
class Request:
    """A request that was received: target with query, headers in lower case."""

    target: str
    headers: Mapping[str, str]


class OriginServer:
    """Serves content by path on a free loopback port, until closed. Usable as a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._tls = tls
        self._contents: dict[str, bytes | Path] = {}
        self._redirects: dict[str, str] = {}
        self._required: dict[str, tuple[str, str]] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self.connections = 0
        self.most_connections = 0
        self._listener = socket.create_server((host, 0), backlog=128)
        self.host, self.port = self._listener.getsockname()[:2]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> "OriginServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, path: str, content: bytes | Path) -> None:
        """Serve bytes or a file at a path such as "/model/config.json"."""
        self._contents[path] = content

    def remove(self, path: str) -> None:
        """Serve nothing at a path any more."""
        self._contents.pop(path, None)

    def redirect(self, path: str, url: str) -> None:
        """Answer requests for a path with 302; an empty url takes the redirect away."""
        if url:
            self._redirects[path] = url
        else:
            self._redirects.pop(path, None)

    def require(self, path: str, header: str, value: str) -> None:
        """Answer 401 to requests for a path without this header."""
        self._required[path] = (header.lower(), value)

    def inject(self, fault: Fault) -> Fault:
        """Let a fault happen; the caller asserts that it fired."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Take all faults away."""
        with self._lock:
            self._faults.clear()

    def requested(self, path: str) -> list[Request]:
        """The requests for a path, whatever their query."""
        return [request for request in list(self.requests) if request.target.split("?")[0] == path]

    def close(self) -> None:
        """Close everything and wait for the threads. Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._sockets.add(connection)
                # By what the kernel knows: a thread may not have noticed yet that its peer has closed.
                self.most_connections = max(self.most_connections, sum(map(_is_established, self._sockets)))
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(raw, server_side=True)
                with self._lock:
                    self._sockets.discard(raw)
                    self._sockets.add(connection)
            pending = b""
            while not self._closing.is_set():
                while b"\r\n\r\n" not in pending:
                    data = connection.recv(65536)
                    if not data:
                        return
                    pending += data
                head, _, pending = pending.partition(b"\r\n\r\n")
                if not self._answer(connection, head.decode("latin-1")):
                    return
        except OSError:
            return
        finally:
            with self._lock:
                self._sockets.discard(connection)
                self._sockets.discard(raw)
            connection.close()
            raw.close()

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.path not in (None, path) or fault.fired >= fault.times:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.fired += 1
                return fault
        return None

    def _answer(self, connection: socket.socket, head: str) -> bool:
        request_line, *lines = head.split("\r\n")
        target = request_line.split(" ")[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self._lock:
            self.requests.append(Request(target, headers))
        # A proxy is asked for whole addresses; this one serves them all itself.
        path = unquote(re.sub(r"^http://[^/]*", "", target).split("?")[0])
        fault = self._fault(path)
        kind = fault.kind if fault else ""
        if kind == "close":
            return False
        if kind == "garbage":
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return False
        if fault and kind == "status":
            return self._status(connection, fault.status, fault.headers, fault.body)
        if path in self._required and headers.get(self._required[path][0]) != self._required[path][1]:
            return self._status(connection, 401, {})
        if path in self._redirects:
            return self._status(connection, 302, {"Location": self._redirects[path]})
        if path.endswith("/"):
            return self._list(connection, path)
        if path not in self._contents:
            return self._status(connection, 404, {})
        if request_line.startswith("HEAD "):
            return self._head(connection, self._contents[path])
        return self._content(connection, self._contents[path], headers.get("range", ""), fault)

    def _list(self, connection: socket.socket, path: str) -> bool:
        below = {name[len(path) :] for name in self._contents if name.startswith(path)}
        names = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in below})
        body = "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        return True

    def _head(self, connection: socket.socket, content: bytes | Path) -> bool:
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        connection.sendall(b"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n" % size)
        return True

    def _status(
        self, connection: socket.socket, status: int, headers: Mapping[str, str], body: bytes = b"as told\n"
    ) -> bool:
        body = b"" if status in (204, 304) else body
        lines = [
            f"HTTP/1.1 {status} Told",
            f"Content-Length: {len(body)}",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return True

    def _content(self, connection: socket.socket, content: bytes | Path, asked: str, fault: Fault | None) -> bool:
        kind = fault.kind if fault else ""
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        tag = (
            hashlib.md5(str(size).encode(), usedforsecurity=False).hexdigest()
            if isinstance(content, Path)
            else _tag(content)
        )
        start, end, status = 0, size, 200
        match = _RANGE.fullmatch(asked)
        if match and not kind.startswith("whole"):
            start, end, status = int(match[1]), min(int(match[2] or size - 1) + 1, size), 206
            if start >= size:
                return self._status(connection, 416, {"Content-Range": f"bytes */{size}"})
        if fault and kind == "coded":
            return self._send_coded(connection, content, (start, end, size), status, fault)
        if kind == "other_range":
            start, end = start + 1, min(end + 1, size)
        shown_end = end - 1 if kind == "short" else end
        lines = [f"HTTP/1.1 {status} OK", f'ETag: "{tag}{"x" if kind == "new_tag" else ""}"']
        if status == 206:
            total = size + 1 if kind == "other_total" else size
            lines.append(f"Content-Range: bytes {start}-{shown_end - 1}/{total}")
        length = shown_end - start + (1 if kind == "long" else 0)
        lines.append("Transfer-Encoding: chunked" if kind == "chunked" else f"Content-Length: {length}")
        head = "\r\n".join([*lines, "", ""]).encode()
        if fault is None and isinstance(content, Path):
            return self._send_file(connection, head, content, start, end)
        connection.sendall(head)
        body = content.read_bytes()[start:end] if isinstance(content, Path) else content[start:end]
        if fault is None:
            self._send(connection, body)
            return True
        return self._send_wrongly(connection, body, fault, length)

    def _send_coded(
        self,
        connection: socket.socket,
        content: bytes | Path,
        carried: tuple[int, int, int],
        status: int,
        fault: Fault,
    ) -> bool:
        start, end, size = carried
        body = content.read_bytes() if isinstance(content, Path) else content
        coded = encoded(body[start:end], fault.headers["Content-Encoding"])
        lines = [f"HTTP/1.1 {status} OK", f"Content-Encoding: {fault.headers['Content-Encoding']}"]
        if status == 206:
            lines.append(f"Content-Range: bytes {start}-{end - 1}/{size}")
        lines.append("Transfer-Encoding: chunked" if fault.after_bytes else f"Content-Length: {len(coded)}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        if fault.after_bytes:
            coded = b"".join(
                b"%x\r\n" % len(part) + part + b"\r\n"
                for part in (coded[at : at + 10_000] for at in range(0, len(coded), 10_000))
            )
            coded += b"0\r\n\r\n"
        self._send(connection, coded)
        return True

    def _send_wrongly(self, connection: socket.socket, body: bytes, fault: Fault, length: int) -> bool:
        match fault.kind:
            case "cut" | "whole_cut":
                self._send(connection, body[: fault.after_bytes])
                return False
            case "reset":
                self._send(connection, body[: fault.after_bytes])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return False
            case "stall":
                self._send(connection, body[: fault.after_bytes])
                self._until_closed(connection)
                return False
            case "trickle":
                self._send(connection, body[: fault.after_bytes])
                for position in range(fault.after_bytes, len(body)):
                    if self._closing.wait(_PAUSE_SECONDS):
                        return False
                    self._send(connection, body[position : position + 1])
                return True
            case "corrupt":
                wrong = bytearray(body)
                wrong[min(fault.after_bytes, len(wrong) - 1)] ^= 1
                self._send(connection, bytes(wrong))
            case "chunked":
                for position in range(0, len(body), 70_000):
                    part = body[position : position + 70_000]
                    self._send(connection, b"%x;name=value\r\n" % len(part) + part + b"\r\n")
                self._send(connection, b"0\r\nTrailer: yes\r\n\r\n")
            case "overlong":
                self._send(connection, body + b"!")
            case _:
                self._send(connection, (body + b"!")[:length])
        return True

    def _until_closed(self, connection: socket.socket) -> None:
        connection.settimeout(_PAUSE_SECONDS)
        while not self._closing.is_set():
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue

    def _send(self, connection: socket.socket, body: bytes) -> None:
        for position in range(0, len(body), _COPY_BYTES):
            part = body[position : position + _COPY_BYTES]
            with self._counted(len(part)):
                connection.sendall(part)

    @contextmanager
    def _counted(self, count: int) -> Iterator[None]:
        """Counts bytes as sent before they are: who has got them may look at the count at once."""
        with self._lock:
            self.bytes_sent += count
        try:
            yield
        except OSError:
            with self._lock:
                self.bytes_sent -= count
            raise

    def _send_file(self, connection: socket.socket, head: bytes, path: Path, start: int, end: int) -> bool:
        with path.open("rb", buffering=0) as content:
            if self._tls:
                connection.sendall(head)
                for position in range(start, end, _COPY_BYTES):
                    self._send(connection, os.pread(content.fileno(), min(_COPY_BYTES, end - position), position))
            else:
                # The head shares a packet with the first bytes of the body.
                connection.sendall(head, socket.MSG_MORE if end > start else 0)
                position = start
                with self._counted(end - start):
                    while position < end:
                        position += os.sendfile(connection.fileno(), content.fileno(), position, end - position)
        return True


def encoded(content: bytes, coding: str) -> bytes:
    """Content as a proxy sends it with this Content-Encoding; by a name that nobody knows it is sent as it is."""
    match coding:
        case "gzip" | "x-gzip":
            return gzip.compress(content)
        case "deflate":
            return zlib.compress(content)
        case _:
            return content


def _is_established(connection: socket.socket) -> bool:
    try:
        # The first byte of struct tcp_info is the state; 1 is TCP_ESTABLISHED.
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x01"
    except OSError:
        return False


def _tag(content: bytes) -> str:
    return hashlib.md5(content[:4096] + str(len(content)).encode(), usedforsecurity=False).hexdigest()


def main() -> None:
    """Serve a directory until standard input ends."""
    directory, certificate = Path(sys.argv[1]), sys.argv[2:4]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if tls:
        tls.load_cert_chain(*certificate)
    with OriginServer(tls) as server:
        for file in directory.rglob("*"):
            if file.is_file():
                server.add(f"/{file.relative_to(directory)}", file)
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""One HTTP/1.1 connection that receives bodies straight into the caller's memory.

Python's http.client copies each body through a buffered reader; here the kernel writes into the buffer that is hashed
and written to disk. Owns sockets and framing (RFC 9112), also through a proxy. Must not retry, follow redirects or know
of files.
"""

import errno
import ipaddress
import os
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from urllib.parse import SplitResult

from services.fetcher.transfer.addresses import Endpoint, bracketed
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.proxies import proxy_credentials, proxy_for
from services.fetcher.transfer.tls import TlsSocket

# The longest head, and what is received at once where one is expected: with it come whole small bodies and the heads
# behind them, which are copied once more.
_HEAD_BYTES = 64 << 10
# How often a waiting receive looks at the stop flag and at its own lack of progress.
_TICK_SECONDS = 0.25
_DRAIN_BYTES = 64 << 10
_ALWAYS_SENT = {"User-Agent": "ome-fetcher", "Accept": "*/*", "Accept-Encoding": "identity"}
# Google sends one for each kind of checksum.
_LISTS = ("x-goog-hash",)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")

# As getaddrinfo gives it: family, type, protocol, canonical name, address.
_Address = tuple[int, int, int, str, "tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]"]


class WireError(Exception):
    """The connection failed or the peer broke the protocol: the request may be sent again on another one.

    closed_early says that the peer closed before the first byte of a response, as it may do with an idle connection.
    """

    def __init__(self, message: str, closed_early: bool = False) -> None:
        super().__init__(message)
        self.closed_early = closed_early


class TrustError(Exception):
    """The peer's certificate is not trusted: trying again does not help."""


class RefusedError(Exception):
    """The model may not reach the host, wherever else it is: trying again does not help. Nothing was sent."""


@dataclass(frozen=True)
class Watch:
    """What a connection observes while it waits: check may raise; a peer slower than the two figures is given up.

    allow waits until bytes of a body may be received and returns how many of the wanted ones; None allows all. silent
    is told for how many seconds nothing has come, each time that nothing came for a moment.
    """

    check: Callable[[], None]
    connect_seconds: float
    stall_seconds: float
    stall_bytes: int
    allow: Callable[[int], int] | None = None
    silent: Callable[[float], None] | None = None


@dataclass(frozen=True)
class Head:
    """Status and headers of a response; names are in lower case, the last one wins where it is not one of a list."""

    status: int
    headers: Mapping[str, str]


class Connection:
    """A connection to one endpoint, directly or through the proxy that the environment names. Used by one thread.

    Requests may be pipelined; responses are then read in the order of the requests, each body to its end.
    """

    def __init__(self, endpoint: Endpoint, watch: Watch, rule: Rule) -> None:
        """Connect. Raises RefusedError where the rule does not permit it, WireError, TrustError."""
        self.endpoint = endpoint
        self.reusable = True
        self.answers = 0
        self._watch = watch
        self._unsent = b""
        # Of what was received at once, the part from start to end is not taken yet.
        self._memory = bytearray(_HEAD_BYTES)
        self._received = memoryview(self._memory)
        self._start = self._end = 0
        self._left: int | None = 0
        self._allowance = 0
        # Time in which bytes could not be received because we ourselves did not allow it: not the peer's fault.
        self._held_back_seconds = 0.0
        self._chunked = self._first_chunk = False
        self._rule = rule
        self._proxy = proxy_for(endpoint)
        self._socket: socket.socket | TlsSocket
        self._socket = self._connect()

    def request(self, target: str, headers: Mapping[str, str]) -> None:
        """Prepare a GET; flush sends it, together with others."""
        fields = {"Host": self.endpoint.host_header, **_ALWAYS_SENT, **headers}
        if self._proxy and self.endpoint.scheme == "http":
            target = f"{self.endpoint}{target}"
            fields |= proxy_credentials(self._proxy)
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise WireError("a header holds a line break")
        self._unsent += "\r\n".join([*lines, "", ""]).encode("latin-1")

    def flush(self) -> None:
        """Send what request has prepared. Raises WireError."""
        data, self._unsent = self._unsent, b""
        if data:
            self._send(data)

    def head(self) -> Head:
        """Read the head of the next response; the previous body must have been read to its end."""
        head = self._read_head()
        while 100 <= head.status < 200:
            head = self._read_head()
        self.answers += 1
        self._frame(head)
        return head

    def body_length(self) -> int | None:
        """Bytes that are left of the body; None when the peer did not say."""
        return None if self._chunked else self._left

    def receive(self, view: memoryview) -> int:
        """Fill view from the body; fewer bytes only at its end. Raises WireError when the peer stops early."""
        return self.receive_some(view, lambda _: None)

    def receive_some(self, view: memoryview, seen: Callable[[int], None]) -> int:
        """As receive, and tell how many bytes have arrived so far each time that some did, also before an error."""
        done = window_done = 0
        window_end = self._patient_time() + self._watch.stall_seconds
        while done < len(view):
            count = self._body_into(view[done:])
            if count == 0:
                break
            done += count
            seen(done)
            if self._patient_time() > window_end:
                # A peer that sends a byte now and then is as useless as a silent one.
                if done - window_done < self._watch.stall_bytes:
                    raise WireError(
                        f"{self.endpoint} sent {done - window_done} bytes in {self._watch.stall_seconds:g} seconds"
                    )
                window_done, window_end = done, self._patient_time() + self._watch.stall_seconds
        return done

    def excerpt(self, most_bytes: int) -> bytes:
        """The beginning of a body that nobody wants otherwise, and finish it."""
        buffer = bytearray(most_bytes)
        count = self.receive(memoryview(buffer))
        self.finish()
        return bytes(buffer[:count])

    def finish(self) -> None:
        """Read what is left of a body that nobody wants, or give the connection up when that is much."""
        if self.receive(memoryview(bytearray(_DRAIN_BYTES))) == _DRAIN_BYTES and self.body_length() != 0:
            self.reusable = False

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self.reusable = False
        self._socket.close()

    def _connect(self) -> socket.socket | TlsSocket:
        proxy = self._proxy
        if proxy:
            # The proxy is the operator's; where it goes is its own rule's.
            check_literal(self.endpoint, self._rule)
            raw = reach(proxy.hostname or "", proxy.port or 80, self._watch, ANYWHERE)
        else:
            raw = reach(self.endpoint.host, self.endpoint.port, self._watch, self._rule)
        # For the tunnel; what follows goes by what is returned.
        self._socket = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll_in_kernel(raw)
            if self.endpoint.scheme == "http":
                return raw
            if proxy:
                self._open_tunnel(proxy)
            return self._secure(raw)
        except BaseException:
            raw.close()
            raise

    def _secure(self, raw: socket.socket) -> TlsSocket:
        host = self.endpoint.host
        try:
            secure = TlsSocket(raw, host)
            secure.handshake(self._watch.check, self._watch.connect_seconds)
        except ssl.SSLCertVerificationError as error:
            raise TrustError(f"the certificate of {host} is not trusted: {error.verify_message}") from error
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise WireError(f"the TLS handshake with {host} failed: {why}") from error
        return secure

    def _poll_in_kernel(self, raw: socket.socket) -> None:
        # With a timeout of Python's, each receive costs a poll more and MSG_WAITALL cannot be used; the kernel's own
        # timeout lets one system call fill a whole buffer and still returns for a look at the stop flag.
        raw.settimeout(None)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(_TICK_SECONDS * 1e6)))
        raw.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(self._watch.connect_seconds) + 1, 0)
        )

    def _open_tunnel(self, proxy: SplitResult) -> None:
        authority = self.endpoint.authority
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        lines += [f"{name}: {value}" for name, value in proxy_credentials(proxy).items()]
        self._send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head = self._read_head()
        if not 200 <= head.status < 300:
            raise WireError(f"the proxy {proxy.hostname} answered {head.status} to CONNECT")
        if self._start < self._end:
            # Nobody has vouched for bytes before the handshake: they must not be read as the origin's.
            raise WireError(f"the proxy {proxy.hostname} sent more than its answer to CONNECT")

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise WireError(
                f"sending to {self.endpoint} failed: {error.strerror or error}", closed_early=True
            ) from error

    def _read_head(self) -> Head:
        data = self._take_until(b"\r\n\r\n", "headers")
        if data is None:
            raise WireError(f"{self.endpoint} closed the connection", closed_early=self._start == self._end)
        return _parse_head(data, self.endpoint)

    def _take_until(self, mark: bytes, what: str) -> bytes | None:
        """What comes before a mark, which is passed over; None when the peer closes before it."""
        while (found := self._memory.find(mark, self._start, self._end)) < 0:
            left = self._end - self._start
            if left == _HEAD_BYTES:
                raise WireError(f"{self.endpoint} sent {what} of more than {_HEAD_BYTES} bytes")
            self._received[:left] = self._received[self._start : self._end]
            self._start, self._end = 0, left
            count = self._wait(lambda: self._socket.recv_into(self._received[self._end :]))
            if count == 0:
                return None
            self._end += count
        data = bytes(self._received[self._start : found])
        self._start = found + len(mark)
        return data

    def _frame(self, head: Head) -> None:
        self._chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        length = head.headers.get("content-length", "")
        keep = "close" not in head.headers.get("connection", "").lower()
        if head.status in (204, 304):
            self._left, self._chunked = 0, False
        elif self._chunked:
            self._left = 0
        elif length.isdecimal():
            self._left = int(length)
        elif length or "transfer-encoding" in head.headers:
            raise WireError(f"{self.endpoint} sent a body whose length cannot be understood")
        else:
            self._left, keep = None, False
        self.reusable = self.reusable and keep
        self._first_chunk = True

    def _body_into(self, view: memoryview) -> int:
        if self._chunked and self._left == 0:
            self._next_chunk()
        if self._left == 0:
            return 0
        wanted = self._allowed(len(view) if self._left is None else min(len(view), self._left))
        if self._start < self._end:
            count = min(self._end - self._start, wanted)
            view[:count] = self._received[self._start : self._start + count]
            self._start += count
        else:
            count = self._receive_into(view[:wanted])
        if self._watch.allow:
            self._allowance -= count
        if self._left is None:
            return count
        if count == 0:
            raise WireError(f"{self.endpoint} closed the connection with {self._left} bytes of the body missing")
        self._left -= count
        return count

    def _allowed(self, wanted: int) -> int:
        if self._watch.allow is None:
            return wanted
        if self._allowance == 0:
            began = time.monotonic()
            self._allowance = self._watch.allow(wanted)
            self._held_back_seconds += time.monotonic() - began
        return min(wanted, self._allowance)

    def _patient_time(self) -> float:
        return time.monotonic() - self._held_back_seconds

    def _receive_into(self, view: memoryview) -> int:
        return self._wait(lambda: self._socket.recv_into(view, 0, socket.MSG_WAITALL))

    def _next_chunk(self) -> None:
        if not self._first_chunk:
            self._line()
        self._first_chunk = False
        size = self._line().partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size):
            raise WireError(f"{self.endpoint} sent a chunk whose size cannot be understood")
        self._left = int(size, 16)
        if self._left == 0:
            while self._line():
                continue
            self._chunked = False

    def _line(self) -> bytes:
        line = self._take_until(b"\n", "a line")
        if line is None:
            raise WireError(f"{self.endpoint} closed the connection in the middle of a body")
        return line.rstrip(b"\r")

    def _wait(self, receive: Callable[[], int]) -> int:
        began = time.monotonic()
        while True:
            self._watch.check()
            try:
                return receive()
            except BlockingIOError:
                silence = time.monotonic() - began
                if silence > self._watch.stall_seconds:
                    raise WireError(f"{self.endpoint} sent nothing for {self._watch.stall_seconds:g} seconds") from None
                if self._watch.silent:
                    self._watch.silent(silence)
            except OSError as error:
                raise WireError(f"receiving from {self.endpoint} failed: {error.strerror or error}") from error


def reach(host: str, port: int, watch: Watch, rule: Rule) -> socket.socket:
    """Connect to a host, at those of its addresses alone that the rule permits. Blocks.

    Raises RefusedError when there is none, WireError, and what the watch's check raises.
    """
    try:
        addresses = _look_up(host, port, watch)
    except OSError as error:
        raise WireError(f"cannot connect to {host}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise WireError(f"cannot connect to {host!r}: it is no name of a host ({error})") from error
    code, refusals, tried = errno.EHOSTUNREACH, [], 0
    for family, kind, protocol, _, address in addresses:
        if why := rule.refusal(host, port, str(address[0])):
            refusals.append(why)
            continue
        tried += 1
        try:
            raw = socket.socket(family, kind, protocol)
        except OSError as error:
            # As of an IPv6 address on a node without IPv6.
            code = error.errno or code
            continue
        try:
            raw.setblocking(False)
            code = raw.connect_ex(address)
            if code == errno.EINPROGRESS:
                code = _connected(raw, watch)
            if code == 0:
                return raw
        except BaseException:
            raw.close()
            raise
        raw.close()
    if refusals and not tried:
        raise RefusedError(refusals[0])
    raise WireError(f"cannot connect to {bracketed(host)}:{port}: {os.strerror(code)}")


def check_literal(endpoint: Endpoint, rule: Rule) -> None:
    """Hold an endpoint that a proxy is asked for to the rule as far as its host is an address. Raises RefusedError.

    What a name stands for is the proxy's to find out, and to refuse.
    """
    try:
        address = ipaddress.ip_address(endpoint.host)
    except ValueError:
        try:
            # 127.1 and 2130706433 are 127.0.0.1 too.
            address = ipaddress.ip_address(socket.inet_aton(endpoint.host))
        except OSError:
            return
    if why := rule.refusal(endpoint.host, endpoint.port, str(address)):
        raise RefusedError(why)


def _look_up(host: str, port: int, watch: Watch) -> Sequence[_Address]:
    # The resolver cannot be interrupted and may try silent name servers for minutes: whoever is told to stop
    # leaves it behind on a thread that does not keep the process alive.
    answer: Future[Sequence[_Address]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    while not wait((answer,), _TICK_SECONDS).done:
        watch.check()
    return answer.result()


def _connected(raw: socket.socket, watch: Watch) -> int:
    deadline = time.monotonic() + watch.connect_seconds
    poll = select.poll()
    poll.register(raw, select.POLLOUT)
    while time.monotonic() < deadline:
        watch.check()
        if poll.poll(_TICK_SECONDS * 1000):
            return raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.ETIMEDOUT


def _parse_head(data: bytes, endpoint: Endpoint) -> Head:
    status_line, *lines = data.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not (parts[1].isdecimal() and len(parts[1]) == 3):
        raise WireError(f"{endpoint} does not speak HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name or name != name.strip():
            raise WireError(f"{endpoint} sent a header that cannot be understood")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers and name in _LISTS else value
    if parts[0] == "HTTP/1.0" and "connection" not in headers:
        headers["connection"] = "close"
    return Head(int(parts[1]), headers)

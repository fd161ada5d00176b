"""TLS over a connected socket, many records of which are received with one system call; and whose certificates count.

Python's SSLSocket asks the kernel twice for each record of at most 16 KiB; here the kernel fills a larger buffer, and
OpenSSL takes the records out of memory. Must not know what is sent.
"""

import contextlib
import functools
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import cast

# Held twice, as OpenSSL copies it, by each connection.
_READ_BYTES = 256 << 10
# How long one call goes on receiving when bytes only trickle.
_TICK_SECONDS = 0.25
_trust_lock = threading.Lock()


class TlsSocket:
    """The client's side of TLS. The socket must have the kernel's own timeouts, short ones for receiving."""

    def __init__(self, raw: socket.socket, host: str) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with _trust_lock:
            # Or each of the threads that begin together would read hundreds of certificates for itself.
            context = tls_context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._records = memoryview(bytearray(_READ_BYTES))

    def handshake(self, check: Callable[[], None], seconds: float) -> None:
        """Agree on keys; check is called about four times a second. Raises ssl.SSLError, TimeoutError and OSError."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                check()
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
                with contextlib.suppress(BlockingIOError):
                    if not self._refill():
                        self._incoming.write_eof()
        except ssl.SSLError:
            # An alert tells the peer what is wrong.
            with contextlib.suppress(OSError):
                self._flush()
            raise
        self._flush()

    def sendall(self, data: bytes) -> None:
        """As a socket's."""
        self._tls.write(data)
        self._flush()

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:
        """As a socket's for a whole buffer (nbytes is 0); of the flags only MSG_WAITALL means anything.

        With it, too, what has come within one tick is returned. Raises BlockingIOError when that is no whole record.
        """
        deadline = time.monotonic() + _TICK_SECONDS
        # With a buffer it returns a number, which the types of the standard library do not say.
        read = cast("Callable[[int, memoryview], int]", self._tls.read)
        wanted, done = nbytes or len(buffer), 0
        try:
            while done < wanted:
                try:
                    count = read(wanted - done, buffer[done:])
                except ssl.SSLWantReadError:
                    late = time.monotonic() > deadline
                    if done and (late or not flags & socket.MSG_WAITALL):
                        break
                    if late:
                        raise BlockingIOError from None
                    # Keys may have been renewed.
                    self._flush()
                    if self._refill():
                        continue
                    break
                if count == 0:
                    break
                done += count
        except OSError:
            # What has arrived counts; an error that lasts is met again by the next call.
            if not done:
                raise
        return done

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._raw.close()

    def _refill(self) -> int:
        count = self._raw.recv_into(self._records)
        self._incoming.write(self._records[:count])
        return count

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.sendall(self._outgoing.read())


@functools.cache
def tls_context() -> ssl.SSLContext:
    """What is trusted, read once: the system's certificates and those that the environment names."""
    # SSL_CERT_FILE and SSL_CERT_DIR are read by OpenSSL itself; the other two are what people set for requests and
    # curl.
    context = ssl.create_default_context()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path:
            context.load_verify_locations(capath=path) if os.path.isdir(path) else context.load_verify_locations(path)
    context.set_alpn_protocols(["http/1.1"])
    return context

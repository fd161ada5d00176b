"""A door with TLS before a server that speaks none: what comes in is passed on as it is, and back."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_CHUNK_BYTES = 64 << 10


@contextmanager
def tls_door(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a door before the server at a URL, until the block ends."""
    upstream = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_accept, args=(listening, context, upstream.hostname, upstream.port))
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            # Closing alone does not wake a thread that waits for a caller.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listening: socket.socket, context: ssl.SSLContext, host: str, port: int) -> None:
    while True:
        try:
            raw, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(raw, context, host, port), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, host: str, port: int) -> None:
    # A caller that does not trust the certificate hangs up.
    with (
        contextlib.suppress(OSError),
        raw,
        context.wrap_socket(raw, server_side=True) as inside,
        socket.create_connection((host, port)) as outside,
    ):
        back = threading.Thread(target=_pass_on, args=(outside, inside), daemon=True)
        back.start()
        _pass_on(inside, outside)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)

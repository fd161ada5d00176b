"""What the stores that speak HTTP by the standard library's server have in common."""

from contextlib import suppress
from http.server import BaseHTTPRequestHandler


class KeptAliveHandler(BaseHTTPRequestHandler):
    """Answers any number of requests of one connection."""

    protocol_version = "HTTP/1.1"
    # Otherwise a head and its body leave as two packets, and the second waits for an acknowledgement.
    wbufsize = -1

    def handle(self) -> None:
        """Serve the connection until either side ends it."""
        # A client may give a connection up at any time.
        with suppress(OSError):
            super().handle()

"""A server with one way to answer everything, in place of one that a test could not bring to answer so."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Status, headers and body for a target.
Answer = Callable[[str], tuple[int, Mapping[str, str], bytes]]


@contextmanager
def answering(answer: Answer, address: str = "127.0.0.1") -> Iterator[tuple[str, list[str]]]:
    """A server on a free loopback port; yields its URL and the targets that it is asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer((address, 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://{address}:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A tiny service for tests of the local cluster: as ready, healthy and obedient as it is told."""

import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PORT = 8080


class _Condition:
    """What the probes are answered; over a restart of the process it starts anew."""

    def __init__(self) -> None:
        self.ready = os.environ.get("READY_AT_START", "yes") == "yes"
        self.healthy = True


class _Echo(BaseHTTPRequestHandler):
    condition = _Condition()

    def do_GET(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        match urlsplit(self.path).path:
            case "/readyz":
                self._answer(200 if self.condition.ready else 503, "")
            case "/healthz":
                self._answer(200 if self.condition.healthy else 500, "")
            case "/env":
                self._answer(200, json.dumps(dict(os.environ)))
            case "/file":
                path = Path(query["path"])
                self._answer(200, path.read_text()) if path.is_file() else self._answer(404, "")
            case _:
                self._answer(404, "")

    def do_POST(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        match urlsplit(self.path).path:
            case "/ready":
                self.condition.ready = query["is"] == "yes"
            case "/healthy":
                self.condition.healthy = query["is"] == "yes"
            case "/exit":
                self._answer(200, "")
                os._exit(int(query["code"]))
        self._answer(200, "")

    def log_message(self, format: str, *arguments: object) -> None:
        return

    def _answer(self, code: int, body: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["say"]:
        print(" ".join(arguments[2:]), flush=True)
        return int(arguments[1])
    server = ThreadingHTTPServer((os.environ.get("LISTEN_HOST", "127.0.0.1"), PORT), _Echo)
    server.daemon_threads = True

    def end(_number: int, _frame: object) -> None:
        print("asked to end", flush=True)
        if os.environ.get("STUBBORN") != "yes":
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    print(f"listening on {socket.gethostname()}", flush=True)
    server.serve_forever(poll_interval=0.01)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

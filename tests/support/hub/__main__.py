"""The hub as a process of its own, until SIGTERM or SIGINT."""

import argparse
import json
import signal
import threading
from pathlib import Path

from tests.support.hub.server import Hub


def main() -> None:
    """Read the command line, serve, and say where."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.hub", description="A local Hugging Face hub.")
    parser.add_argument("--port", type=int, default=0, help="port of the hub and of its admin API; 0 for any")
    parser.add_argument("--cdn-port", type=int, default=0, help="port that large files are redirected to; 0 for any")
    parser.add_argument("--state-dir", type=Path, help="keeps repositories and tokens over a restart")
    parser.add_argument("--cache-dir", type=Path, help="keeps generated files for every hub of the machine")
    parser.add_argument("--ready-file", type=Path, help="gets the addresses as JSON once the hub serves")
    parser.add_argument(
        "--no-real-model", action="store_true", help="begin without sentence-transformers/all-MiniLM-L6-v2"
    )
    parser.add_argument("--tls", nargs=2, metavar=("CHAIN", "KEY"), help="PEM files; both ports speak TLS then")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    hub = Hub(
        port=arguments.port,
        cdn_port=arguments.cdn_port,
        state_dir=arguments.state_dir,
        cache_dir=arguments.cache_dir,
        real_model=not arguments.no_real_model,
        certificate=tuple(arguments.tls) if arguments.tls else None,
    )
    with hub:
        addresses = json.dumps({"endpoint": hub.endpoint, "cdn": hub.cdn_endpoint, "admin": f"{hub.endpoint}/-/"})
        if arguments.ready_file:
            draft = arguments.ready_file.with_suffix(".draft")
            draft.write_text(addresses)
            draft.replace(arguments.ready_file)
        print(addresses, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()

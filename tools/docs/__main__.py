"""`python -m tools.docs build | serve`: the site of the documentation."""

import argparse
import contextlib
import functools
import os
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools.docs.generator import Generator, NotBuilt
from tools.docs.staging import REPOSITORY, DocumentProblem
from tools.localcluster.programs import cache_folder


def main() -> int:
    arguments = _parser().parse_args()
    try:
        pages = Generator(cache_folder(os.environ).parent, os.environ).build(arguments.out)
    except (DocumentProblem, NotBuilt) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The site is in {pages}.")
    if arguments.command == "serve":
        _serve(pages, arguments.port)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="The site of the documentation.")
    parser.add_argument("command", choices=("build", "serve"), help="serve: build, and show it to this machine")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist" / "docs", help="folder to write (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1 (%(default)s)")
    return parser


def _serve(pages: Path, port: int) -> None:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(pages))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server, contextlib.suppress(KeyboardInterrupt):
        print(f"Read it at http://127.0.0.1:{server.server_port}/ until Ctrl-C.", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())

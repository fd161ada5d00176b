"""A program that lists and fetches one model as a fetcher with a private authority does.

python -m tests.support.trusting_fetcher ROOT, with a JSON object by standard input: uri, parameters, credentials,
settings, and authorities, a file. Prints "fetched" and the number of files, or the message of what went wrong.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import ServiceError
from services.fetcher.settings import SourceSettings
from services.fetcher.sources.catalogue import Sources
from services.fetcher.sources.trust import trust_also
from services.fetcher.stop import StopFlag
from tests.support.transfers import QUICK, acquire, new_store


async def fetch(root: Path, asked: dict[str, Any]) -> int:
    """List and fetch; the number of files."""
    credentials = {name: value.encode() for name, value in asked["credentials"].items()}
    settings: dict[str, Any] = {
        name: Path(value) if name.endswith("_file") else value for name, value in asked["settings"].items()
    }
    with Sources(SourceSettings(**{"egress_allow": ("127.0.0.1",), **settings})) as sources, new_store(root) as store:
        manifest = sources.list(asked["uri"], asked["parameters"], credentials).manifest
        told = asked["uri"], asked["parameters"], credentials, manifest.source_revision
        origin = await sources.origin(*told)
        streams, egress = sources.streams(*told), sources.egress(asked["uri"])
        acquire(store, manifest, origin, StopFlag(), limits=QUICK, streams=streams, egress=egress)
        return len(manifest.files)


def main() -> None:
    """Do it once."""
    asked = json.load(sys.stdin)
    if asked["authorities"]:
        trust_also(Path(asked["authorities"]))
    try:
        print("fetched", asyncio.run(fetch(Path(sys.argv[1]), asked)))
    except (ServiceError, InvalidValue) as error:
        print(error.message)


if __name__ == "__main__":
    main()

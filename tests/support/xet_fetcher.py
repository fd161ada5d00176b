"""A program that fetches a repository over Xet, to be watched and killed.

python -m tests.support.xet_fetcher ROOT ENDPOINT MODEL

The token comes by standard input, as it would from the controller. Prints the peak of its memory in KiB.
"""

import sys
from dataclasses import replace
from pathlib import Path

from services.fetcher.sources.hub.huggingface import list_revision
from services.fetcher.sources.hub.source import HubOrigin, HubSource, Transport
from services.fetcher.sources.hub.xet_streams import XetStreams
from services.fetcher.stop import StopFlag
from tests.support.transfers import QUICK, acquire, new_store


def main() -> None:
    """List, fetch, and say how much memory that took."""
    root, endpoint, model = sys.argv[1:]
    source = HubSource(model, "", endpoint, sys.stdin.readline().strip() or None, transport=Transport.XET)
    listing = list_revision(source)
    streams, origin = XetStreams(source, listing.commit), HubOrigin(source, listing.commit)
    with new_store(Path(root)) as store:
        acquire(
            store, listing.manifest, origin, StopFlag(), limits=replace(QUICK, range_bytes=256 << 10), streams=streams
        )
    # Not getrusage(2), which begins with the peak of the process that this one was started from.
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


if __name__ == "__main__":
    main()

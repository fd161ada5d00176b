"""A Pod that reads a model shard after shard, again and again, as a server does that loads it or swaps its parts.

python -m tests.support.shard_reader DIRECTORY. It follows a link at DIRECTORY once, as a container runtime does when it
mounts a volume, and prints one line per round: how many rounds, and a digest over all shards that it has read; or what
went wrong. A signal ends it.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

_PAUSE_SECONDS = 0.05


def read(directory: Path) -> str:
    """A digest over the names and bytes of all shards, each opened anew."""
    total = hashlib.sha256()
    shards = sorted(path for path in directory.iterdir() if path.suffix == ".safetensors")
    for shard in shards:
        total.update(shard.name.encode())
        total.update(shard.read_bytes())
        time.sleep(_PAUSE_SECONDS)
    return f"{len(shards)} shards {total.hexdigest()[:12]}"


def main() -> None:
    """Read until a signal comes."""
    mounted = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
    rounds = 0
    while True:
        rounds += 1
        try:
            print(rounds, read(Path(f"/proc/self/fd/{mounted}/")), flush=True)
        except OSError as error:
            print(rounds, "broken", error.strerror, flush=True)


if __name__ == "__main__":
    main()

"""What tests of the transfer engine and the artifact store share: small models, a store, limits that make faults quick.

Also a program that fetches one model, to be killed: python -m tests.support.transfers ROOT URL MANIFEST.
"""

import argparse
import hashlib
import json
import random
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.chassis.errors import ServiceError
from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from services.fetcher.store.scopes import Claimant
from services.fetcher.store.space import Reservations
from services.fetcher.transfer import acquire as acquiring
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location, Origin
from services.fetcher.transfer.sharing import Clock
from tests.support.origin import OriginServer
from tests.support.safetensors_files import whole_file

QUICK = Limits(
    connections=3,
    range_bytes=64 << 10,
    buffers=8,
    stall_seconds=0.6,
    connect_seconds=2.0,
    backoff_initial_seconds=0.01,
    backoff_cap_seconds=0.05,
    progress_seconds=0.05,
)
# For tests that count requests or connections: an answer that comes late on a busy machine is asked for again.
PATIENT = replace(QUICK, stall_seconds=30.0, overtake_seconds=30.0)
MODEL_UID = "0b2c1f4e-95b5-4e0f-8b0a-0d7f0e3c1a11"
# Of tests that are not about who may have what.
CLAIMANT = Claimant(MODEL_UID, ("everybody",))


@dataclass(frozen=True)
class UrlOrigin:
    """Files below one base URL, under the paths that the manifest gives them."""

    name: str
    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The base URL with the file's path behind it."""
        return Location(f"{self.base_url.rstrip('/')}/{quote(file.path)}", self.headers)


class CountedClock(Clock):
    """Waiting takes no time but is counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.seconds += seconds


def small_model(seed: int = 1, weights_bytes: int = 1_500_123) -> dict[str, bytes]:
    """Files as a model has them: some small ones, an empty one, one in a directory, and weights of many ranges."""
    source = random.Random(seed)
    return {
        "config.json": source.randbytes(700),
        "empty.txt": b"",
        "tokenizer/vocab.json": source.randbytes(40_000),
        "model.safetensors": whole_file(weights_bytes, source.randbytes(weights_bytes)),
    }


def manifest_of(contents: Mapping[str, bytes]) -> Manifest:
    """A manifest as the Hub's listing gives it: SHA-256 for large files, Git's blob hash for small ones."""
    files = []
    for path, content in contents.items():
        if len(content) > 1000:
            algorithm, checksum = ChecksumAlgorithm.SHA256, hashlib.sha256(content).hexdigest()
        else:
            blob = b"blob %d\0" % len(content) + content
            algorithm, checksum = ChecksumAlgorithm.GIT_SHA1, hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        files.append(ManifestFile(path, len(content), algorithm, checksum))
    return new_manifest("0123abcd", files)


def serve(server: OriginServer, contents: Mapping[str, bytes], prefix: str = "/model") -> UrlOrigin:
    """Put a model on a server and return the origin to fetch it from."""
    for path, content in contents.items():
        server.add(f"{prefix}/{path}", content)
    return UrlOrigin("test://model", server.url + prefix)


def acquire(store: Store, manifest: Manifest, origin: Origin, stop: StopFlag, *arguments: Any, **more: Any) -> None:
    """acquire on behalf of one claimant."""
    acquiring.acquire(store, manifest, origin, stop, CLAIMANT, *arguments, **more)


def new_store(directory: Path, name: str = "/models", release_time: Callable[[], float | None] = lambda: None) -> Store:
    """A store that is not opened yet."""
    return Store(directory, name, Reservations(), release_time)


def contents_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def leftovers(store: Store) -> list[str]:
    """What lies in staging and trash; empty when nothing leaked."""
    state = store.directory / ".ome"
    return [str(path) for part in ("staging", "trash") for path in (state / part).rglob("*")]


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest for the program below."""
    rows = [[file.path, file.size_bytes, file.algorithm.value, file.checksum] for file in manifest.files]
    path.write_text(json.dumps(rows))


def read_manifest(path: Path) -> Manifest:
    """Read what write_manifest has written."""
    rows = json.loads(path.read_text())
    return new_manifest("0123abcd", (ManifestFile(row[0], row[1], ChecksumAlgorithm(row[2]), row[3]) for row in rows))


def main() -> None:
    """Fetch and publish one model; print the error's reason and message and exit 1 when that fails."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("url")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--path", default="team/model", help="where the model is published")
    parser.add_argument("--scrub", action="store_true", help="read what is held before, and repair it")
    parser.add_argument("--remove", action="store_true", help="take the model away again")
    parser.add_argument("--collect", action="store_true", help="remove what nobody wants before anything else")
    parser.add_argument("--keep", action="store_true", help="keep what loses its name, as somebody may use it")
    parser.add_argument("--forget", action="store_true", help="remove what was kept after everything else")
    options = parser.parse_args()
    manifest = read_manifest(options.manifest)
    digest = manifest.digest
    try:
        with new_store(options.root, release_time=lambda: 1000.0 if options.keep else None) as store:
            if options.collect:
                store.collect(())
            if options.scrub:
                store.note_damage(digest, store.scrub(digest, StopFlag()))
            damaged = store.check(digest) if store.holds(digest) else ()
            origin = UrlOrigin("test://model", options.url)
            acquire(store, manifest, origin, StopFlag(), limits=PATIENT, damaged=damaged)
            store.publish(MODEL_UID, options.path, digest)
            if options.remove:
                store.unpublish(MODEL_UID)
            if options.forget:
                store.forget_releases(store.releases())
    except ServiceError as error:
        print(error.reason, error.message)
        sys.exit(1)


if __name__ == "__main__":
    main()

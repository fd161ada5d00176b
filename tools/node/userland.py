"""runc and nft for a node, from packages of Debian that `debian.lock` pins: unpacked into the user's cache."""

import hashlib
import shutil
from pathlib import Path

from tools.images import debian

LOCK = Path(__file__).parent / "debian.lock"
USE = "of the node in the end-to-end tests"
# nft with all its libraries, and runc, whose libseccomp every system that has apt or systemd has.
PACKAGES = (
    "libbsd0",
    "libc6",
    "libedit2",
    "libgmp10",
    "libjansson4",
    "libmd0",
    "libmnl0",
    "libnftables1",
    "libnftnl11",
    "libtinfo6",
    "libxtables12",
    "nftables",
    "runc",
)
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def obtain(cache: Path, mirror: str = debian.ARCHIVE) -> Path:
    """A folder with the programs runc and nft; fetched and unpacked once for each lock."""
    text = LOCK.read_text()
    root = cache / f"userland-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not root.exists():
        unfinished = root.with_name(f".{root.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        archive = debian.Archive(cache.parent / "debian", debian.snapshot_of(text), mirror)
        debian.unpack(((package, archive.fetch(package)) for package in debian.read_lock(text)), unfinished)
        _write_starters(unfinished / "bin-of-node", root)
        unfinished.rename(root)
    return root / "bin-of-node"


def _write_starters(folder: Path, root: Path) -> None:
    folder.mkdir()
    (folder / "runc").symlink_to("../usr/sbin/runc")
    libraries = root / _LIBRARIES
    starter = folder / "nft"
    # The libraries are of one release, and so is the loader that finds them: none of the machine's own is of use.
    starter.write_text(
        f'#!/bin/sh\nexec {libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {root}/usr/sbin/nft "$@"\n'
    )
    starter.chmod(0o755)

"""Debian's packages below our images: which ones, pinned by their SHA-256, fetched, verified and unpacked.

The packages are unpacked and not installed: no shell, no package manager, no script of a maintainer runs. What such a
script would have made and what our services need (the bundle of certificate authorities) is made here.
"""

import hashlib
import lzma
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

LOCK = Path(__file__).parents[2] / "deploy" / "images" / "debian.lock"
ARCHITECTURE = "amd64"
# What the lock's paths are relative to. A site without the internet names its mirror.
ARCHIVE = "https://deb.debian.org"
SNAPSHOT = "https://snapshot.debian.org/archive"
INDEXES = (
    ("debian", "dists/bookworm/main/binary-amd64/Packages.xz"),
    ("debian-security", "dists/bookworm-security/main/binary-amd64/Packages.xz"),
)
PACKAGES = (
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "media-types",
    "netbase",
    "python3.11-minimal",
    "zlib1g",
)
# Directories which are links since Debian merged /usr; packages may still name the old ones.
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# Nothing at run time reads these. Licences in /usr/share/doc stay, as they ask for.
LEFT_OUT = (
    "usr/share/man/*",
    "usr/share/locale/*",
    "usr/share/lintian/*",
    "usr/share/bug/*",
    "usr/share/doc/*/changelog*",
    "usr/share/doc/*/NEWS*",
    "usr/lib/x86_64-linux-gnu/gconv/*",
    "usr/lib/python3.11/pydoc_data/*",
    "usr/lib/python3.11/ensurepip/*",
    "usr/lib/python3.11/idlelib/*",
    "usr/lib/python3.11/lib2to3/*",
    "usr/lib/python3.11/turtledemo/*",
    # Extension modules whose libraries are not among PACKAGES; no service imports them.
    *(
        f"usr/lib/python3.11/lib-dynload/{module}.*"
        for module in ("_curses", "_curses_panel", "_dbm", "_sqlite3", "nis", "readline")
    ),
)


class PackagesUnavailable(RuntimeError):
    """A package could not be fetched as the lock names it; the message says which and what to do."""


@dataclass(frozen=True)
class Package:
    """One line of the lock: `path` is relative to an archive, `size` in bytes."""

    name: str
    version: str
    path: str
    size: int
    sha256: str

    def line(self) -> str:
        return f"{self.name} {self.version} {self.path} {self.size} {self.sha256}"


def read_lock(text: str) -> list[Package]:
    packages = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, version, path, size, sha256 = line.split()
            packages.append(Package(name, version, path, int(size), sha256))
    return packages


def snapshot_of(text: str) -> str:
    """The time, as snapshot.debian.org spells it, at which all packages of a lock were in Debian's archive."""
    match = re.search(r"^# snapshot (\d{8}T\d{6}Z)$", text, re.MULTILINE)
    if match is None:
        raise ValueError('the lock has no line "# snapshot <time>": make image-locks writes one')
    return match[1]


def lock(
    indexes: Iterable[tuple[str, bytes]], now: str, packages: Sequence[str] = PACKAGES, use: str = "below our images"
) -> str:
    """A lock of the newest version of each of `packages` in `indexes`: (archive, content of its Packages.xz).

    Its first line says what the packages are for.
    """
    newest: dict[str, Package] = {}
    for archive, index in indexes:
        for stanza in lzma.decompress(index).decode().split("\n\n"):
            fields = dict(re.findall(r"^(\w[\w-]*): (.*)$", stanza, re.MULTILINE))
            name = fields.get("Package", "")
            if name not in packages:
                continue
            found = Package(
                name,
                fields["Version"],
                f"{archive}/{fields['Filename']}",
                int(fields["Size"]),
                fields["SHA256"],
            )
            if name not in newest or _is_newer(found.version, newest[name].version):
                newest[name] = found
    missing = set(packages) - set(newest)
    if missing:
        raise PackagesUnavailable(f"Debian's indexes do not list {', '.join(sorted(missing))}")
    head = (
        f"# Made by make image-locks: Debian's packages {use}.",
        f"# snapshot {now}",
        "# name version path size sha256",
    )
    return "\n".join((*head, *(newest[name].line() for name in packages))) + "\n"


def _is_newer(one: str, other: str) -> bool:
    """Whether a version of a package is newer than another of the same release of Debian."""

    def key(version: str) -> list[tuple[int, int, str]]:
        # "~" sorts before everything, even the end; numbers sort as numbers (deb-version(7)).
        parts = re.findall(r"\d+|~|[^\d~]+", version)
        return [
            (-1, 0, "") if part == "~" else (1, int(part), "") if part.isdigit() else (1, 0, part) for part in parts
        ] + [(0, 0, "")]

    return key(one) > key(other)


class Archive:
    """Packages of a lock, each fetched once into `cache`, from a mirror or else from Debian's snapshot of that day."""

    def __init__(self, cache: Path, snapshot: str, mirror: str = ARCHIVE, snapshots: str = SNAPSHOT) -> None:
        self._cache = cache
        self._snapshot = snapshot
        self._mirror = mirror.rstrip("/")
        self._snapshots = snapshots.rstrip("/")

    def fetch(self, package: Package) -> bytes:
        cached = self._cache / f"{package.sha256}.deb"
        if cached.exists() and _matches(package, content := cached.read_bytes()):
            return content
        content = self._download(package)
        self._cache.mkdir(parents=True, exist_ok=True)
        temporary = cached.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(cached)
        return content

    def _download(self, package: Package) -> bytes:
        archive, _, rest = package.path.partition("/")
        addresses = (f"{self._mirror}/{package.path}", f"{self._snapshots}/{archive}/{self._snapshot}/{rest}")
        reasons = []
        for address in addresses:
            try:
                with urllib.request.urlopen(address, timeout=60) as answer:
                    content: bytes = answer.read(package.size + 1)
            except (OSError, urllib.error.URLError) as error:
                reasons.append(f"{address}: {error}")
                continue
            if _matches(package, content):
                return content
            reasons.append(f"{address}: the content does not match the lock")
        raise PackagesUnavailable(
            f"{package.name} {package.version} could not be fetched. {'; '.join(reasons)}. If Debian has replaced this "
            "version, run make image-locks."
        )


def _matches(package: Package, content: bytes) -> bool:
    return len(content) == package.size and hashlib.sha256(content).hexdigest() == package.sha256


def unpack(packages: Iterable[tuple[Package, bytes]], root: Path) -> None:
    """Make `root` a file system of the packages: (line of the lock, content of its .deb)."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package, content in packages:
        members = dict(_members(content))
        with _tar(members, "data.tar") as tar:
            for member in tar:
                member.name = _merged(member.name)
                if member.islnk():
                    member.linkname = _merged(member.linkname)
                if any(
                    PurePosixPath(member.name).match(pattern) or _below(member.name, pattern) for pattern in LEFT_OUT
                ):
                    continue
                if member.name != "." and not (member.isdir() and (root / member.name).is_dir()):
                    tar.extract(member, root, filter="tar")
        # Scanners of vulnerabilities look here for what an image without a package manager holds.
        records = root / "var" / "lib" / "dpkg" / "status.d"
        records.mkdir(parents=True, exist_ok=True)
        with _tar(members, "control.tar") as tar:
            control = tar.extractfile("./control")
            assert control is not None
            (records / package.name).write_bytes(control.read())
    _complete(root)


def _complete(root: Path) -> None:
    """Make what scripts of the packages would have made, and take the directories that only a whole system needs."""
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in authorities))
    etc = root / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/usr/sbin/nologin\nome:x:65532:65532:ome:/nonexistent:/usr/sbin/nologin\n"
    )
    (etc / "group").write_text("root:x:0:\nome:x:65532:\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for folder in ("boot", "home", "media", "mnt", "opt", "srv"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for folder in ("dev", "proc", "sys", "tmp"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _members(deb: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of a .deb, which is an archive of ar(5)."""
    if not deb.startswith(b"!<arch>\n"):
        raise ValueError("this is no .deb: it does not start as an ar archive does")
    at = 8
    while at < len(deb):
        header = deb[at : at + 60]
        size = int(header[48:58])
        yield header[:16].decode().rstrip(" /"), deb[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def _tar(members: dict[str, bytes], name: str) -> tarfile.TarFile:
    [found] = [content for member, content in members.items() if member.startswith(name)]
    return tarfile.open(fileobj=BytesIO(found))


def _merged(name: str) -> str:
    name = name.removeprefix("./").rstrip("/") or "."
    return f"usr/{name}" if name.partition("/")[0] in MERGED else name


def _below(name: str, pattern: str) -> bool:
    return pattern.endswith("/*") and "*" not in pattern[:-1] and name.startswith(pattern[:-1])

"""Makes small packages of Debian, and an index and a lock of them."""

import hashlib
import lzma
import tarfile
from collections.abc import Mapping
from io import BytesIO

from tools.images.debian import Package


def deb(files: Mapping[str, bytes], links: Mapping[str, str] | None = None, name: str = "example") -> bytes:
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": _tar({"control": f"Package: {name}\n".encode()}, {}),
        "data.tar.xz": _tar(files, links or {}),
    }
    content = b"!<arch>\n"
    for member, body in members.items():
        header = f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n"
        content += header.encode() + body + b"\n" * (len(body) % 2)
    return content


def _tar(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode = len(body), 0o644
            tar.addfile(info, BytesIO(body))
        for name, target in links.items():
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return lzma.compress(packed.getvalue())


def package(content: bytes, name: str = "example", version: str = "1.0") -> Package:
    path = f"debian/pool/main/{name}_{version}_amd64.deb"
    return Package(name, version, path, len(content), hashlib.sha256(content).hexdigest())


def index(packages: list[tuple[str, str]]) -> bytes:
    """A Packages.xz that lists (name, version)."""
    stanzas = [
        f"Package: {name}\nVersion: {version}\nFilename: pool/{name}_{version}.deb\nSize: 1\nSHA256: {'0' * 64}\n"
        for name, version in packages
    ]
    return lzma.compress("\n".join(stanzas).encode())

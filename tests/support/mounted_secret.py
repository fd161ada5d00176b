"""Certificates for the services of a test, in directories that change as the kubelet changes those of a Secret."""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc

from tools.localcluster.certificates import Authority, KeyPair

# All services of tests listen there.
_ADDRESSES = ("127.0.0.1",)


class MountedSecret:
    """A directory whose files are replaced all at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._generation = 0
        folder.mkdir()

    def fill(self, files: dict[str, bytes]) -> None:
        """Replace all files."""
        self._generation += 1
        data = self.folder / f"..{self._generation}"
        data.mkdir()
        for name, content in files.items():
            (data / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        pointer = self.folder / "..data_tmp"
        pointer.symlink_to(data.name)
        pointer.rename(self.folder / "..data")

    def fill_tls(self, pair: KeyPair, authority: Path) -> None:
        """Replace all files by those of a Secret of type kubernetes.io/tls."""
        certificate, key = pair.certificate.read_bytes(), pair.key.read_bytes()
        self.fill({"tls.crt": certificate, "tls.key": key, "ca.crt": authority.read_bytes()})


@dataclass(frozen=True)
class Sides:
    """Directories for a server on loopback and its callers, under one authority."""

    authority: Authority
    server: MountedSecret
    client: MountedSecret

    def renew(self, folder: Path) -> "Sides":
        """Another authority, in a new folder, for the same directories, which still hold the files of the old."""
        folder.mkdir()
        return Sides(Authority(folder), self.server, self.client)

    def fill_server(self) -> None:
        """Give the server a new certificate."""
        pair = self.authority.issue_server("server", ("localhost",), _ADDRESSES)
        self.server.fill_tls(pair, self.authority.certificate)

    def fill_client(self) -> None:
        """Give the callers a new certificate."""
        self.client.fill_tls(self.authority.issue_client("client"), self.authority.certificate)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What a caller shows and trusts."""
        names = ("ca.crt", "tls.key", "tls.crt")
        return grpc.ssl_channel_credentials(*((self.client.folder / name).read_bytes() for name in names))


def new_sides(folder: Path) -> Sides:
    """Both sides, with certificates of a new authority."""
    keys = folder / "keys"
    keys.mkdir()
    sides = Sides(Authority(keys), MountedSecret(folder / "server"), MountedSecret(folder / "client"))
    sides.fill_server()
    sides.fill_client()
    return sides


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    # Kept until the process ends.
    return tempfile.TemporaryDirectory(prefix="ome-tests-")


@cache
def usual_sides() -> Sides:
    """Those that every service of this process' tests uses, unless a test is about them."""
    return new_sides(Path(_folder().name))

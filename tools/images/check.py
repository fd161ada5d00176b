"""Looks into the archive of an image, and starts its program in the image's own file system."""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

# A service that refuses its settings has started, with everything that it imports.
REFUSED_SETTINGS = 2


class ImageBroken(RuntimeError):
    """The program of an image does not start; the message says what it printed."""


def manifest_bytes(archive: bytes) -> bytes:
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        [pointed] = json.loads(_file(tar, "index.json"))["manifests"]
        return _blob(tar, pointed["digest"])


def manifest(archive: bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(manifest_bytes(archive))
    return read


def config(archive: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        read: dict[str, Any] = json.loads(_blob(tar, manifest(archive)["config"]["digest"]))
        return read


def unpack(archive: bytes, root: Path) -> None:
    """The file system of the image, its layers one over the other."""
    for layer in layers(archive):
        layer.extractall(root, filter="tar")


def layers(archive: bytes) -> Iterator[tarfile.TarFile]:
    """The layers of the image, from below; each is closed when the next is asked for."""
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        for described in manifest(archive)["layers"]:
            with tarfile.open(fileobj=BytesIO(_blob(tar, described["digest"]))) as layer:
                yield layer


def starts(path: Path) -> str:
    """Start the image's program as the user and with the environment that it names, without any of its settings.

    The words that it refuses its settings with. Raises ImageBroken when it ends in another way.
    """
    archive = path.read_bytes()
    described = config(archive)["config"]
    user, _, group = described["User"].partition(":")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        unpack(archive, Path(folder))
        # The interpreter asks for randomness when it starts.
        (Path(folder) / "dev" / "urandom").touch()
        # The environment is the image's, so programs of this machine are named by their paths.
        unshare, shell, mount, chroot = (str(shutil.which(name)) for name in ("unshare", "sh", "mount", "chroot"))
        inside = f'{mount} --bind /dev/urandom "$0/dev/urandom" && exec {chroot} "$@"'
        ran = subprocess.run(
            [
                unshare,
                "--mount",
                shell,
                "-euc",
                inside,
                folder,
                f"--userspec={user}:{group}",
                folder,
                *described["Entrypoint"],
            ],
            env=dict(each.split("=", 1) for each in described["Env"]) | {"OME_HTTP_PORT": "none"},
            check=False,
            capture_output=True,
            text=True,
        )
    said = (ran.stdout + ran.stderr).strip()
    if ran.returncode != REFUSED_SETTINGS:
        raise ImageBroken(f"{path.name} ended with {ran.returncode} instead of {REFUSED_SETTINGS}:\n{said[-2000:]}")
    return said.splitlines()[0] if said else ""


def _blob(tar: tarfile.TarFile, digest: str) -> bytes:
    return _file(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}")


def _file(tar: tarfile.TarFile, name: str) -> bytes:
    found = tar.extractfile(name)
    assert found is not None
    return found.read()

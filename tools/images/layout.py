"""Writes OCI images: layers from folders, and an archive of the OCI image layout.

The same files give the same bytes: entries are sorted, owned by root and dated 1970, and gzip carries no time.
https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
GZIP_LEVEL = 6


@dataclass(frozen=True)
class Layer:
    """A compressed layer; `diff_id` is the digest of its tar before compression."""

    content: bytes
    diff_id: str
    unpacked_bytes: int
    made_by: str


def layer(folder: Path, made_by: str) -> Layer:
    """The content of `folder` as a layer; modes are kept but for what only an owner could do."""
    tar = BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
            # Hard links become files of their own: whether a tool made them must not change the layer.
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            status = path.lstat()
            info.mode = status.st_mode & 0o1777
            if path.is_symlink():
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
                archive.addfile(info)
            elif path.is_dir():
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = status.st_size
                with path.open("rb") as content:
                    archive.addfile(info, content)
    raw = tar.getvalue()
    return Layer(gzip.compress(raw, GZIP_LEVEL, mtime=0), digest(raw), len(raw), made_by)


def archive(layers: list[Layer], config: Mapping[str, Any], created: str, name: str, architecture: str) -> bytes:
    """A tar of the OCI layout that holds one image; `config` is its part of that name, `created` a time of RFC 3339."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes, media_type: str) -> dict[str, Any]:
        blobs[digest(content)] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content)}

    described = {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
        "history": [{"created": created, "created_by": each.made_by} for each in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(_json(described), CONFIG),
        "layers": [put(each.content, LAYER) for each in layers],
    }
    pointed = put(_json(manifest), MANIFEST)
    pointed["platform"] = {"architecture": architecture, "os": "linux"}
    # containerd takes the first annotation as the image's name, other tools the second as its tag.
    pointed["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [pointed]}),
        **{f"blobs/sha256/{name.removeprefix('sha256:')}": content for name, content in sorted(blobs.items())},
    }
    whole = BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, BytesIO(content))
    return whole.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

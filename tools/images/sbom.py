"""Writes what an image is made of, as a bill of materials in CycloneDX 1.5.

It is read from the layers, not from what was asked for: packages of Debian by their records, Python distributions by
their metadata. The same image gives the same bytes. https://cyclonedx.org/docs/1.5/json/
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from typing import Any
from urllib.parse import quote

from tools.images import check, debian, layout
from tools.images.licences import expression

_RECORD = re.compile(r"var/lib/dpkg/status\.d/[^/]+")
_METADATA = re.compile(r"app/.+\.dist-info/METADATA")
_RELEASE = "debian-12"


class Unrecorded(ValueError):
    """The image holds a package that is not as the lock pins it."""


def document(archive: bytes, name: str, packages: Iterable[debian.Package]) -> bytes:
    """The bill of an image in an OCI archive; `name` is the image's, `packages` what is pinned below it.

    Raises Unrecorded when the layers hold another package of Debian than that.
    """
    pinned = {package.name: package for package in packages}
    digest = layout.digest(check.manifest_bytes(archive))
    repository, _, version = name.rpartition(":")
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # Made from the digest, so that it is the same wherever the image is built.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{repository}@{digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": check.config(archive)["created"],
            "component": {
                "type": "container",
                "bom-ref": digest,
                "name": repository,
                "version": version,
                "hashes": [_sha256(digest.removeprefix("sha256:"))],
            },
        },
        "components": sorted(_components(archive, pinned), key=lambda component: str(component["bom-ref"])),
    }
    return json.dumps(bill, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _components(archive: bytes, pinned: Mapping[str, debian.Package]) -> Iterator[dict[str, Any]]:
    for layer in check.layers(archive):
        for member in layer:
            content = layer.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            if _RECORD.fullmatch(member.name):
                yield _package(message_from_bytes(content.read()), pinned)
            elif _METADATA.fullmatch(member.name):
                yield _distribution(content.read())


def _package(record: Message, pinned: Mapping[str, debian.Package]) -> dict[str, Any]:
    name, version = str(record["Package"]), str(record["Version"])
    package = pinned.get(name)
    if package is None or package.version != version:
        raise Unrecorded(f"the image holds {name} {version}, which deploy/images/debian.lock does not pin")
    where = f"arch={quote(str(record['Architecture']))}&distro={_RELEASE}"
    component = _component("deb/debian", name, version, where)
    return component | {"hashes": [_sha256(package.sha256)]}


def _distribution(content: bytes) -> dict[str, Any]:
    metadata = message_from_bytes(content)
    name = re.sub(r"[-_.]+", "-", str(metadata["Name"])).lower()
    component = _component("pypi", name, str(metadata["Version"]))
    stated = expression(metadata)
    return component | {"licenses": [{"expression": stated}]} if stated else component


def _component(kind: str, name: str, version: str, qualifiers: str = "") -> dict[str, Any]:
    """`kind` is the beginning of a package URL; https://github.com/package-url/purl-spec."""
    url = f"pkg:{kind}/{quote(name)}@{quote(version)}" + (f"?{qualifiers}" if qualifiers else "")
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def _sha256(content: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": content}

"""Holds that every image is pinned: built by us from locks, or named by the digest of its content."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tools.audit.finding import Finding
from tools.images import build, debian

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_HOW = "a tag can be moved: make image-locks adds the digest"


def is_pinned(image: str, registry: str = "") -> bool:
    """Whether an image is one of ours below the registry, or named by its digest."""
    ours = tuple(f"{registry}ome/{service}:" for service in build.SERVICES)
    return image.startswith(ours) or bool(_DIGEST.search(image))


def check_charts(objects: Iterable[Mapping[str, Any]], registry: str) -> list[Finding]:
    """A finding for each image that the rendered objects of the charts name and that is not pinned."""
    named = {
        (f"{item['kind']} {item['metadata']['name']}", image)
        for item in objects
        for image in re.findall(r'"image": "([^"]+)"', json.dumps(item))
    }
    return [
        Finding("pins", subject, f"{image}: {_HOW}")
        for subject, image in sorted(named)
        if not is_pinned(image, registry)
    ]


def check_dockerfile(subject: str, text: str) -> list[Finding]:
    """A finding for each image of a FROM that is not pinned; a stage of the same file needs no digest."""
    froms = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.MULTILINE)
    stages = {stage for _, stage in froms}
    foreign = sorted({image for image, _ in froms} - stages)
    return [Finding("pins", subject, f"{image}: {_HOW}") for image in foreign if not is_pinned(image)]


def check_debian(subject: str, text: str) -> list[Finding]:
    """A finding for each package below the images that its lock does not pin by SHA-256."""
    pinned = {package.name for package in debian.read_lock(text) if re.fullmatch("[0-9a-f]{64}", package.sha256)}
    return [
        Finding("pins", subject, f"{name} is not pinned by SHA-256: make image-locks does that")
        for name in sorted(set(debian.PACKAGES) - pinned)
    ]

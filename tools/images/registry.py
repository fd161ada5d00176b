"""Pins the images of others that charts and Dockerfiles name, by the digest that their registry has for the tag.

Speaks the protocol of https://github.com/opencontainers/distribution-spec, as far as asking for a digest takes.
"""

import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus

from tools.images import layout

# Where Docker's own short names are; a site without the internet names a registry that mirrors it.
HUB = "https://registry-1.docker.io"
_DIGEST = r"(?:@sha256:[0-9a-f]{64})?"
# What names an image of others: (what comes before, repository, what comes between, tag).
_FORMS = (
    re.compile(rf"^(FROM )([a-z0-9/._-]+)(:)([A-Za-z0-9._-]+){_DIGEST}", re.MULTILINE),
    re.compile(rf"^(image:\n  repository: )(nats)(\n  tag: )([A-Za-z0-9._-]+){_DIGEST}", re.MULTILINE),
)
# The digest of the index of all platforms comes first: it is what a tag stands for.
_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    layout.MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join(_TYPES)
_MOST_BYTES = 4 << 20
_TIMEOUT_SECONDS = 60


class DigestUnknown(RuntimeError):
    """A registry does not say which image a tag stands for; the message says which and why."""


def pinned(text: str, digest_of: Callable[[str, str], str]) -> str:
    """A Dockerfile, or the values of the chart of NATS, with the digest behind each image of others.

    digest_of is asked for repository and tag. A digest that is there already is replaced.
    """

    def pin(match: re.Match[str]) -> str:
        before, repository, between, tag = match.groups()
        return f"{before}{repository}{between}{tag}@{digest_of(repository, tag)}"

    for form in _FORMS:
        text = form.sub(pin, text)
    return text


def digest_of(repository: str, tag: str, registry: str = HUB) -> str:
    """The digest of the image that a tag stands for now. Raises DigestUnknown."""
    path = repository if "/" in repository else f"library/{repository}"
    address = f"{registry.rstrip('/')}/v2/{path}/manifests/{tag}"
    try:
        try:
            content = _get(address, {"Accept": _ACCEPT})
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.UNAUTHORIZED:
                raise
            token = _token(error.headers)
            content = _get(address, {"Accept": _ACCEPT, "Authorization": f"Bearer {token}"})
    except (OSError, ValueError, KeyError) as error:
        raise DigestUnknown(f"{repository}:{tag} cannot be pinned by its digest: {address}: {error}") from error
    # Not what a header says: the content is what is named.
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _token(headers: Message) -> str:
    """A token for whoever asks, as the registry says where to get one. Raises ValueError, KeyError or OSError."""
    scheme, _, rest = str(headers.get("WWW-Authenticate", "")).partition(" ")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if scheme.lower() != "bearer" or not fields.get("realm", "").startswith(("https://", "http://127.0.0.1:")):
        raise ValueError("the registry asks for a password")
    query = urllib.parse.urlencode({name: fields[name] for name in ("service", "scope") if name in fields})
    token: str = json.loads(_get(f"{fields['realm']}?{query}", {}))["token"]
    return token


def _get(address: str, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read(_MOST_BYTES)
    return content

"""Model URIs: what storage.storageUri may say, and what each part of it means.

Decides syntax only; whether the thing named exists is for the adapters. Must not do I/O.
"""

import re
from dataclasses import dataclass

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason

SCHEMES = ("hf", "oci", "pvc", "vendor", "local", "s3", "gs", "az")

# Repository names of the Hugging Face Hub: one or two parts of letters, digits, "-", "_" and ".".
_HF_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
# Git reference names: see git-check-ref-format(1); narrower here, as the name becomes a part of URLs.
_HF_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_OCI = re.compile(r"n/(?P<namespace>[^/]+)/b/(?P<bucket>[^/]+)/o(/(?P<prefix>.*))?")
# What the three clouds allow or once allowed; so no credentials before an "@", which the object would show to all.
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class HuggingFaceUri:
    """hf://{model-id}[@{branch}]; revision is empty when the URI names none."""

    repository: str
    revision: str


@dataclass(frozen=True)
class OracleUri:
    """oci://n/{namespace}/b/{bucket}/o/{object_path}; prefix may be empty: the whole bucket."""

    namespace: str
    bucket: str
    prefix: str


@dataclass(frozen=True)
class VolumeClaimUri:
    """pvc://[{namespace}:]{pvc-name}/{sub-path}; namespace is empty when the URI names none."""

    namespace: str
    claim: str
    sub_path: str


@dataclass(frozen=True)
class VendorUri:
    """vendor://{vendor-name}/{resource-type}/{resource-path}."""

    vendor: str
    resource_type: str
    resource_path: str


@dataclass(frozen=True)
class LocalUri:
    """local:///path: an absolute, normalised path on the node."""

    path: str


@dataclass(frozen=True)
class BucketUri:
    """s3://bucket/prefix, gs://bucket/prefix and az://container/prefix."""

    scheme: str
    bucket: str
    prefix: str


ModelUri = HuggingFaceUri | OracleUri | VolumeClaimUri | VendorUri | LocalUri | BucketUri


def parse_uri(text: str) -> ModelUri:
    """Understand a storage URI.

    Raises InvalidValue with reason InvalidUri; the message says what to write instead.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise _invalid(text, f"must begin with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise _invalid(text, "must not contain spaces or control characters")
    match scheme:
        case "hf":
            return _parse_hugging_face(text, rest)
        case "oci":
            return _parse_oracle(text, rest)
        case "pvc":
            return _parse_volume_claim(text, rest)
        case "vendor":
            return _parse_vendor(text, rest)
        case "local":
            return LocalUri(_absolute_path(text, rest))
        case _:
            bucket, _, prefix = rest.partition("/")
            if not _BUCKET.fullmatch(bucket):
                raise _invalid(text, f"must be {scheme}://<bucket>/<prefix>; credentials belong into a Secret")
            return BucketUri(scheme, bucket, _relative_path(text, prefix))


def _parse_hugging_face(text: str, rest: str) -> HuggingFaceUri:
    repository, separator, revision = rest.partition("@")
    if not _HF_ID.fullmatch(repository) or ".." in repository or "--" in repository:
        raise _invalid(
            text, "must be hf://<organisation>/<model>[@<revision>], as in hf://meta-llama/Llama-3.1-8B@main"
        )
    if separator and (not _HF_REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise _invalid(text, "names a revision that is no Git branch, tag or commit")
    return HuggingFaceUri(repository, revision)


def _parse_oracle(text: str, rest: str) -> OracleUri:
    match = _OCI.fullmatch(rest)
    if not match:
        raise _invalid(text, "must be oci://n/<namespace>/b/<bucket>/o/<object path>")
    return OracleUri(match["namespace"], match["bucket"], _relative_path(text, match["prefix"] or ""))


def _parse_volume_claim(text: str, rest: str) -> VolumeClaimUri:
    head, _, sub_path = rest.partition("/")
    namespace, colon, claim = head.rpartition(":")
    if not _DNS_SUBDOMAIN.fullmatch(claim) or (colon and not _DNS_LABEL.fullmatch(namespace)):
        raise _invalid(text, "must be pvc://<claim>/<path>, or pvc://<namespace>:<claim>/<path>")
    return VolumeClaimUri(namespace, claim, _relative_path(text, sub_path))


def _parse_vendor(text: str, rest: str) -> VendorUri:
    parts = rest.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise _invalid(text, "must be vendor://<vendor>/<resource type>/<resource path>")
    return VendorUri(parts[0], parts[1], _relative_path(text, parts[2]))


def _relative_path(text: str, path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise _invalid(text, "must not contain '.' or '..' in its path")
    return "/".join(parts)


def _absolute_path(text: str, path: str) -> str:
    if not path.startswith("/"):
        raise _invalid(text, "must name an absolute path with three slashes, as in local:///models/my-model")
    relative = _relative_path(text, path)
    if not relative:
        raise _invalid(text, "must name a directory below the root")
    return "/" + relative


def _invalid(text: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_URI, f"storageUri {text!r} {why}")

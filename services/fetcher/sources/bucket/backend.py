"""s3://, gs:// and az:// as a backend: prefixes of buckets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from libs.artifact.hosts import read_endpoint_host
from libs.artifact.uri import ModelUri
from services.fetcher.sources.backend import Asked, Backend, Listing, Opening
from services.fetcher.sources.bucket.source import BucketSource, bucket_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin


@dataclass(frozen=True)
class _Prefix:
    source: BucketSource

    def list(self) -> Listing:
        from services.fetcher.sources.bucket.buckets import list_prefix

        listing = list_prefix(self.source)
        return Listing(listing.manifest, listing.warnings)

    def origin(self, revision: str) -> Origin:
        from services.fetcher.sources.bucket.buckets import BucketOrigin

        return BucketOrigin(self.source)

    def streams(self, revision: str) -> None:
        return None


# Variables by which an operator tells the SDK where a cloud, and the identity of the Pod, are to be asked for.
_VARIABLES = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS", "AWS_METADATA_ENDPOINT", "AZURE_AUTHORITY_HOST", "AZURE_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT", "IDENTITY_ENDPOINT", "MSI_ENDPOINT",
)  # fmt: skip


def _open(asked: Asked, _stop: StopFlag) -> _Prefix:
    source = bucket_source(asked.uri, asked.parameters, asked.credentials)
    return _Prefix(replace(source, passage=asked.passage, egress=asked.egress))


def _endpoints(_: ModelUri) -> tuple[str, ...]:
    found = (os.environ.get(name, "") for name in _VARIABLES)
    return tuple(url for url in found if read_endpoint_host(url))


def _asks_for_identity(parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> bool:
    """Whether the SDK signs with the Pod's identity: then it alone says where it goes, or Amazon does."""
    if credentials or parameters.get("skip_signature", "").strip().lower() == "true":
        return False
    endpoint = parameters.get("endpoint", "").strip()
    host = read_endpoint_host(endpoint)
    return not endpoint or (host is not None and host.host.endswith(".amazonaws.com"))


BACKEND = Backend(
    ("s3", "gs", "az"), lambda settings: Opening(_open, endpoints=_endpoints, identity=_asks_for_identity)
)

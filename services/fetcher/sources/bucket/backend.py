"""s3://, gs:// and az:// as a backend: prefixes of buckets."""

from dataclasses import dataclass

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


def _open(asked: Asked, _stop: StopFlag) -> _Prefix:
    return _Prefix(bucket_source(asked.uri, asked.parameters, asked.credentials))


BACKEND = Backend(("s3", "gs", "az"), lambda settings: Opening(_open))

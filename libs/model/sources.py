"""Names a source by what decides where its requests and credentials go. Pure."""

import hashlib
import json

from ome.fetch.v1.fetch_pb2 import Source


def source_digest(source: Source) -> str:
    """ "sha256:" and the digest of a source's URI and parameters. Equal sources have equal digests in all services."""
    content = json.dumps([source.uri, sorted(source.parameters.items())], separators=(",", ":"))
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

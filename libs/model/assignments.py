"""By what node and gateway see that both know the same assignments, without saying them again. Pure."""

import hashlib
from collections.abc import Mapping

from ome.fetch.v1.fetch_pb2 import Assignment

_BYTES = 16


def check_of(revision: int, assignment: Assignment) -> bytes:
    """Stands for one assignment at its revision.

    Two versions of the services may write the same assignment differently; then it merely is said again.
    """
    content = assignment.SerializeToString(deterministic=True)
    return hashlib.blake2b(revision.to_bytes(8, "big") + content, digest_size=_BYTES).digest()


def check_of_all(checks: Mapping[str, bytes]) -> bytes:
    """Stands for all assignments of a node, of which checks has check_of by the uid of the model."""
    everything = hashlib.blake2b(digest_size=_BYTES)
    for uid in sorted(checks):
        everything.update(uid.encode() + b"\0" + checks[uid])
    return everything.digest()

"""Named points at which a test kills this process as a power cut would: SIGKILL, no clean-up.

Inert unless OME_FAILPOINT is set to "<name>" or "<name>:<n>" (die at the n-th passage). Must not do anything else.
"""

import functools
import itertools
import os
import signal

FAILPOINTS = (
    "chunk-written",
    "chunk-recorded",
    "file-verified",
    "file-flushed",
    "file-synced",
    "ingest-complete",
    "record-flushed",
    "manifest-written",
    "artifact-renamed",
    "release-written",
    "old-name-removed",
    "owner-written",
    "directory-made",
    "empty-directory-removed",
    "link-staged",
    "link-renamed",
    "link-removed",
    "owner-removed",
    "release-forgotten",
    "artifact-trashed",
    "leftover-trashed",
    "damage-recorded",
)

_passages = itertools.count(1)


def failpoint(name: str) -> None:
    """Die here when the environment asks for it."""
    armed, nth = _armed()
    if armed == name and next(_passages) >= nth:
        os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _armed() -> tuple[str, int]:
    # Looked up once: a transfer passes here for every range.
    name, _, nth = os.environ.get("OME_FAILPOINT", "").partition(":")
    return name, int(nth or 1)

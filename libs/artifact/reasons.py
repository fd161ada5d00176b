"""Why something is not as it should be: the closed list of words that errors, conditions and gRPC details share.

The list is that of ome.model.v1.Reason, which documents each word; a test holds the two against each other. It is here
a second time because this library needs the standard library alone.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A cause in CamelCase, as Kubernetes conditions and google.rpc.ErrorInfo spell it."""

    INVALID_URI = "InvalidUri"
    INVALID_PATH = "InvalidPath"
    INVALID_PLACEMENT = "InvalidPlacement"
    INVALID_LISTING = "InvalidListing"
    INVALID_PARAMETER = "InvalidParameter"
    UNSUPPORTED_BACKEND = "UnsupportedBackend"
    NOT_FOUND = "NotFound"
    FORBIDDEN = "Forbidden"
    GATED = "Gated"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 (the name of a reason)
    UNAVAILABLE = "Unavailable"
    RATE_LIMITED = "RateLimited"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    SOURCE_CHANGED = "SourceChanged"
    INSUFFICIENT_DISK = "InsufficientDisk"
    DISK_ERROR = "DiskError"
    PATH_OCCUPIED = "PathOccupied"
    ARTIFACT_DAMAGED = "ArtifactDamaged"
    PARSE_FAILED = "ParseFailed"
    NO_CONFIG = "NoConfig"
    NO_MATCHING_NODE = "NoMatchingNode"
    NO_STORAGE = "NoStorage"
    DISABLED = "Disabled"
    RESOLVING = "Resolving"
    DOWNLOADING = "Downloading"
    QUEUED = "Queued"
    NODE_UNREACHABLE = "NodeUnreachable"
    DELETING = "Deleting"
    INTERNAL = "Internal"
    VOLUME_NOT_READY = "VolumeNotReady"
    PATH_CONFLICT = "PathConflict"
    OVERLOADED = "Overloaded"
    CONFLICT = "Conflict"
    INVALID_REQUEST = "InvalidRequest"
    SECRET_REFUSED = "SecretRefused"  # noqa: S105
    IDENTITY_REFUSED = "IdentityRefused"
    EGRESS_REFUSED = "EgressRefused"
    INCOMPLETE = "Incomplete"
    IN_USE = "InUse"
    BASE_NOT_FOUND = "BaseNotFound"
    INCOMPATIBLE_BASE = "IncompatibleBase"
    EVICTED = "Evicted"
    BUDGET_EXCEEDED = "BudgetExceeded"


def reason_named(word: str) -> Reason | None:
    """The reason that a word from outside names; None for a word that is none, such as one of a newer service."""
    try:
        return Reason(word)
    except ValueError:
        return None

"""Reasons as conditions, events and labels spell them. Must not do I/O."""

from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_UNSPECIFIED,
    NodePhase,
    Reason,
)

# Words of the seed for the states of a model on a node; a node that holds nothing has none.
PHASE_WORDS: dict[NodePhase, str] = {
    NODE_PHASE_READY: "Ready",
    NODE_PHASE_UPDATING: "Updating",
    NODE_PHASE_FAILED: "Failed",
}


def reason_word(reason: Reason) -> str:
    """A Reason in CamelCase, such as "InsufficientDisk"; empty for none, "Internal" for one newer than this replica."""
    if reason == REASON_UNSPECIFIED:
        return ""
    if reason not in Reason.values():
        return "Internal"
    return "".join(part.capitalize() for part in Reason.Name(reason).removeprefix("REASON_").split("_"))

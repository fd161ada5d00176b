"""Which labels of a node say what models it holds: those that the status service writes and nobody places models by."""

import re

UID_PREFIX = "models.ome/"
READABLE_PREFIX = "models.ome.io/"

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# "models.ome.io/storage-tier" and its like belong to users: nothing but these forms is ever ours to remove.
_READABLE = re.compile(r"(clusterbasemodel|finetunedweight|[a-z0-9-]+\.basemodel)\..+")


def is_model_label(key: str) -> bool:
    """Whether a node's label is one that the status service writes, for whatever model."""
    if key.startswith(UID_PREFIX):
        return _UID.fullmatch(key.removeprefix(UID_PREFIX)) is not None
    return key.startswith(READABLE_PREFIX) and _READABLE.fullmatch(key.removeprefix(READABLE_PREFIX)) is not None

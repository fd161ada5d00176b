"""The labels of a node that the status service writes: which models it holds, and how much room it has.

Nobody places models by the former. By the latter people do, so they are told in few steps and seldom.
"""

import re

UID_PREFIX = "models.ome/"
READABLE_PREFIX = "models.ome.io/"

# "models.ome.io/storage-tier" and its like belong to users: nothing but these forms is ever ours to set or remove. The
# chart of the status service has the API server refuse others.
READABLE_NAME = "(clusterbasemodel|finetunedweight|[a-z0-9-]+[.]basemodel)[.].+"
MODEL_LABEL = f"models[.]ome/[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}|models[.]ome[.]io/{READABLE_NAME}"
_MODEL_LABEL = re.compile(MODEL_LABEL)
AVAILABLE_STORAGE_LABEL = f"{READABLE_PREFIX}available-storage"
RESERVED_STORAGE_LABEL = f"{READABLE_PREFIX}reserved-storage"
STORAGE_LABELS = frozenset({AVAILABLE_STORAGE_LABEL, RESERVED_STORAGE_LABEL})
# What these two may say: whole gibibytes.
STORAGE_VALUE = "[0-9]+Gi"
# Values between a power of two and the next.
_STEPS = 32


def is_model_label(key: str) -> bool:
    """Whether a node's label is one that the status service writes, for whatever model."""
    return _MODEL_LABEL.fullmatch(key) is not None


def coarse_storage(free: int) -> str:
    """Bytes as the value of a storage label: never more than there are, at most a thirty-second less or a gibibyte.

    Of so few values hardly one changes while models come that are small beside the disk.
    """
    gibibytes = free >> 30
    step = max(1, (1 << gibibytes.bit_length()) // (2 * _STEPS))
    return f"{gibibytes // step * step}Gi"

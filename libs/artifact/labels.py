"""Which labels of a node say what models it holds: those that the status service writes and nobody places models by."""

import re

UID_PREFIX = "models.ome/"
READABLE_PREFIX = "models.ome.io/"

# "models.ome.io/storage-tier" and its like belong to users: nothing but these forms is ever ours to set or remove. The
# chart of the status service has the API server refuse others.
READABLE_NAME = "(clusterbasemodel|finetunedweight|[a-z0-9-]+[.]basemodel)[.].+"
MODEL_LABEL = f"models[.]ome/[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}|models[.]ome[.]io/{READABLE_NAME}"
_MODEL_LABEL = re.compile(MODEL_LABEL)


def is_model_label(key: str) -> bool:
    """Whether a node's label is one that the status service writes, for whatever model."""
    return _MODEL_LABEL.fullmatch(key) is not None

"""Names that users find a model by on nodes and in ConfigMaps.

Decides spelling only. A name that Kubernetes would refuse as too long keeps a readable head and ends in a hash, and
stays recognisable as ours, so that a stale one can be told from a label of somebody else. Must not do I/O.
"""

import hashlib
import re

from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_CLUSTER_BASE_MODEL, ModelRef

UID_PREFIX = "models.ome/"
READABLE_PREFIX = "models.ome.io/"
CONFIG_MAP_LABEL = "models.ome/basemodel-status"

# The name part of a label key, and a key of a ConfigMap (k8s.io/apimachinery/pkg/util/validation).
_LABEL_NAME_LENGTH = 63
_DATA_KEY_LENGTH = 253
_HASH_LENGTH = 10
_SHORTENED_NAMESPACE_LENGTH = 16
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# "models.ome.io/storage-tier" and its like belong to users: nothing but these forms is ever ours to remove.
_READABLE = re.compile(r"(clusterbasemodel|finetunedweight|[a-z0-9-]+\.basemodel)\..+")


def uid_label(model_uid: str) -> str:
    """The label key of the seed's own command: kubectl get nodes -l models.ome/<uid>=Ready."""
    return UID_PREFIX + model_uid


def readable_label(model: ModelRef) -> str:
    """The label key that a person can write."""
    return READABLE_PREFIX + _readable_name(model, _LABEL_NAME_LENGTH)


def data_key(model: ModelRef) -> str:
    """The key of a model in a node's ConfigMap."""
    return _readable_name(model, _DATA_KEY_LENGTH)


def is_model_label(key: str) -> bool:
    """Whether a node's label is one that this service writes, for whatever model."""
    if key.startswith(UID_PREFIX):
        return _UID.fullmatch(key.removeprefix(UID_PREFIX)) is not None
    return key.startswith(READABLE_PREFIX) and _READABLE.fullmatch(key.removeprefix(READABLE_PREFIX)) is not None


def _readable_name(model: ModelRef, limit: int) -> str:
    head = _head(model, model.namespace)
    whole = head + model.name
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    head = _head(model, model.namespace[:_SHORTENED_NAMESPACE_LENGTH].rstrip("-"))
    # What is cut may end in a separator, which the hash supplies anyway.
    kept = (head + model.name)[: limit - _HASH_LENGTH - 1].rstrip(".-")
    return f"{kept}-{digest}"


def _head(model: ModelRef, namespace: str) -> str:
    if model.kind == MODEL_KIND_BASE_MODEL:
        return f"{namespace}.basemodel."
    return "clusterbasemodel." if model.kind == MODEL_KIND_CLUSTER_BASE_MODEL else "finetunedweight."

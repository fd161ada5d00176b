"""Names that users find a model by on nodes and in ConfigMaps.

Decides spelling only. A name that Kubernetes would refuse as too long keeps a readable head and ends in a hash, and
stays recognisable as ours, so that a stale one can be told from a label of somebody else. Must not do I/O.
"""

import hashlib

from libs.artifact.labels import READABLE_PREFIX, UID_PREFIX
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_CLUSTER_BASE_MODEL, ModelRef

CONFIG_MAP_LABEL = "models.ome/basemodel-status"

# The name part of a label key, and a key of a ConfigMap (k8s.io/apimachinery/pkg/util/validation).
_LABEL_NAME_LENGTH = 63
_DATA_KEY_LENGTH = 253
_HASH_LENGTH = 10
_SHORTENED_NAMESPACE_LENGTH = 16


def uid_label(model_uid: str) -> str:
    """The label key of the seed's own command: kubectl get nodes -l models.ome/<uid>=Ready."""
    return UID_PREFIX + model_uid


def readable_label(model: ModelRef) -> str:
    """The label key that a person can write."""
    return READABLE_PREFIX + _readable_name(model, _LABEL_NAME_LENGTH)


def data_key(model: ModelRef) -> str:
    """The key of a model in a node's ConfigMap."""
    return _readable_name(model, _DATA_KEY_LENGTH)


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

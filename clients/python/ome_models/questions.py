"""Requests from what people write. Pure."""

from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    MODEL_KIND_FINE_TUNED_WEIGHT,
    MODEL_KIND_UNSPECIFIED,
    ModelKind,
)

# The kinds as manifests spell them.
KINDS: dict[str, ModelKind] = {
    "BaseModel": MODEL_KIND_BASE_MODEL,
    "ClusterBaseModel": MODEL_KIND_CLUSTER_BASE_MODEL,
    "FineTunedWeight": MODEL_KIND_FINE_TUNED_WEIGHT,
}


def kind_of(kind: str | None, namespace: str) -> ModelKind:
    """The number of a kind; without one, a BaseModel in a namespace and a ClusterBaseModel otherwise."""
    if kind is None:
        return MODEL_KIND_BASE_MODEL if namespace else MODEL_KIND_CLUSTER_BASE_MODEL
    return _number(kind)


def kind_filter(kind: str | None) -> ModelKind:
    """The number of a kind that lists are restricted to; all kinds without one."""
    return MODEL_KIND_UNSPECIFIED if kind is None else _number(kind)


def _number(kind: str) -> ModelKind:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of model: write one of {', '.join(KINDS)}")
    return KINDS[kind]

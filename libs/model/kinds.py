"""The three kinds of model objects, and the reference that names one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    MODEL_KIND_FINE_TUNED_WEIGHT,
    ModelKind,
    ModelRef,
)

GROUP_VERSION = "ome.io/v1beta1"
FINE_TUNED_WEIGHT = "FineTunedWeight"
# What serves a model: not one of ours, but it may name one.
INFERENCE_SERVICE = "InferenceService"


@dataclass(frozen=True)
class Kind:
    """One kind: as Kubernetes spells it, as a path spells it, and as our messages number it."""

    name: str
    plural: str
    number: ModelKind


KINDS = (
    Kind("BaseModel", "basemodels", MODEL_KIND_BASE_MODEL),
    Kind("ClusterBaseModel", "clusterbasemodels", MODEL_KIND_CLUSTER_BASE_MODEL),
    Kind(FINE_TUNED_WEIGHT, "finetunedweights", MODEL_KIND_FINE_TUNED_WEIGHT),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
_BY_NUMBER = {kind.number: kind for kind in KINDS}


def kind_named(name: str) -> Kind:
    """The kind that a manifest calls name. Raises KeyError for any other."""
    return _BY_NAME[name]


def kind_numbered(number: ModelKind) -> Kind:
    """The kind that our messages number so. Raises KeyError for any other."""
    return _BY_NUMBER[number]


def shown_ref(ref: ModelRef) -> str:
    """A model as people name it, such as "BaseModel team-a/llama"."""
    kind = _BY_NUMBER.get(ref.kind)
    return f"{kind.name if kind else 'model'} {'/'.join(filter(None, (ref.namespace, ref.name)))}"


def model_ref(model: Mapping[str, Any]) -> ModelRef:
    """The reference of a model object."""
    metadata = model["metadata"]
    return ModelRef(
        kind=kind_named(model["kind"]).number,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
    )

"""A model object as planning reads it: typed, checked, and told apart from what only a person would read. Pure.

The last line of defence behind admission: an object that was stored under an older schema ends here with a reason.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.specification import FINALIZER, PRIORITY_ANNOTATION, planning_digest, skips_parsing
from libs.artifact.uri import HuggingFaceUri, LocalUri, ModelUri, VolumeClaimUri, parse_uri
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2

KINDS = {
    "BaseModel": model_pb2.MODEL_KIND_BASE_MODEL,
    "ClusterBaseModel": model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL,
    "FineTunedWeight": model_pb2.MODEL_KIND_FINE_TUNED_WEIGHT,
}
TOKEN_PARAMETER = "token"  # noqa: S105 (the name of a parameter)
SECRET_KEY_PARAMETER = "secretKey"  # noqa: S105
DEFAULT_SECRET_KEY = "token"  # noqa: S105
# Parameters that name where credentials are, or hold them: no part of what is fetched, never sent to a node.
_CREDENTIAL_PARAMETERS = (TOKEN_PARAMETER, SECRET_KEY_PARAMETER)


@dataclass(frozen=True)
class ModelSpec:
    """What planning needs of one model object."""

    ref: model_pb2.ModelRef
    generation: int
    spec_digest: str
    deleting: bool
    finalizers: tuple[str, ...]
    disabled: bool
    storage: Mapping[str, Any] | None
    skip_parsing: bool
    priority: int

    @property
    def has_finalizer(self) -> bool:
        """Whether our finalizer holds the object back."""
        return FINALIZER in self.finalizers


@dataclass(frozen=True)
class SecretRef:
    """A Secret and the one key of it that a backend uses; an empty key stands for all of them."""

    namespace: str
    name: str
    key: str


@dataclass(frozen=True)
class ModelSource:
    """Where a model's bytes come from, and the key under which its listing is found."""

    uri: ModelUri
    source: fetch_pb2.Source
    secret: SecretRef | None
    key: str

    @property
    def needs_listing(self) -> bool:
        """Whether the source is listed once for the fleet, rather than looked at on each node.

        The listing of a vendor's model may say that it is read in place: fetchers know which vendors have a driver.
        """
        return not isinstance(self.uri, LocalUri)


def read_model(item: Mapping[str, Any]) -> ModelSpec:
    """Read a model object of the API. Total: what is unusable is left to source_of and check_placement."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    return ModelSpec(
        ref=model_pb2.ModelRef(
            kind=KINDS[item["kind"]],
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            uid=metadata["uid"],
        ),
        generation=metadata.get("generation", 0),
        spec_digest=planning_digest(spec, annotations),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        disabled=bool(spec.get("disabled")),
        storage=spec.get("storage"),
        skip_parsing=skips_parsing(annotations),
        priority=_priority(annotations.get(PRIORITY_ANNOTATION, "")),
    )


def source_of(model: ModelSpec, operator_namespace: str) -> ModelSource | None:
    """Where nodes get the model's bytes from; None when they get none: it has no storage, or is read from a claim.

    Raises InvalidValue with reason InvalidUri or InvalidParameter.
    """
    if not model.storage or not model.storage.get("storageUri"):
        return None
    text = model.storage["storageUri"]
    uri = parse_uri(text)
    if isinstance(uri, VolumeClaimUri):
        return None
    parameters = dict(model.storage.get("parameters") or {})
    secret = _secret(model, uri, parameters, operator_namespace)
    has_secret = secret is not None or TOKEN_PARAMETER in parameters
    public = {name: value for name, value in parameters.items() if name not in _CREDENTIAL_PARAMETERS}
    identity = [text, sorted(public.items()), None if secret is None else [secret.namespace, secret.name, secret.key]]
    digest = hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()[:16]
    return ModelSource(
        uri=uri,
        source=fetch_pb2.Source(uri=text, parameters=public, has_secret=has_secret),
        secret=secret,
        key=f"{model.ref.uid}.{digest}",
    )


def _secret(
    model: ModelSpec, uri: ModelUri, parameters: Mapping[str, str], operator_namespace: str
) -> SecretRef | None:
    storage = model.storage or {}
    name = storage.get("storageKey") or storage.get("key")
    if not name or isinstance(uri, LocalUri):
        return None
    key = (parameters.get(SECRET_KEY_PARAMETER) or DEFAULT_SECRET_KEY) if isinstance(uri, HuggingFaceUri) else ""
    return SecretRef(model.ref.namespace or operator_namespace, name, key)


def _priority(text: str) -> int:
    try:
        # int32 on the wire; a number beyond it means "first" or "last" all the same.
        return max(-(2**31), min(2**31 - 1, int(text)))
    except ValueError:
        return 0

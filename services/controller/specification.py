"""A model object as planning reads it: typed, checked, and told apart from what only a person would read. Pure.

The last line of defence behind admission: an object that was stored under an older schema ends here with a reason.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.artifact.digest import is_digest
from libs.artifact.errors import InvalidValue
from libs.artifact.places import STATE_DIRECTORY, leads_into_state, namespace_folder
from libs.artifact.reasons import Reason
from libs.artifact.requests import NodeRequests, read_requests
from libs.artifact.specification import (
    EVICTABLE,
    EVICTED,
    FINALIZER,
    FOLLOW,
    RESIDENCY_ANNOTATION,
    REVISION_ANNOTATION,
    demand_of,
    in_use_grace_seconds,
    keeps_files,
    planning_digest,
    priority_of,
    skips_parsing,
)
from libs.artifact.uri import (
    CHOICE_PARAMETERS,
    CREDENTIAL_PARAMETERS,
    SECRET_KEY_PARAMETER,
    SECRET_NAMESPACE_PARAMETER,
    SECRET_WORDS,
    TOKEN_PARAMETER,
    BucketUri,
    Listing,
    ModelUri,
    OracleUri,
    Syntax,
    VendorUri,
    VolumeClaimUri,
    check_parameters,
    parse_uri,
    syntax_of,
)
from libs.model.bases import BaseReference, base_reference
from libs.model.kinds import model_ref
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.identities import check_identity

_SECRET_NAME = re.compile(SECRET_WORDS)
# The trust scope of all models that are in no namespace: whoever writes one may read them all.
_CLUSTER_SCOPE = "cluster"


@dataclass(frozen=True)
class SecretRules:
    """What the operator's settings say about the credentials of models: Secrets, and the identity of OME's Pods."""

    # Namespaces, besides the operator's own, in which a model that is in none may name a Secret.
    namespaces: tuple[str, ...] = ()
    # Secrets in the operator's namespace that are no model's: whoever may use one may send it to any endpoint.
    reserved: tuple[str, ...] = ()
    # Namespaces whose models may use the identity of OME's Pods, each with a pattern of buckets or without one.
    identity_namespaces: tuple[str, ...] = ()


_NO_RULES = SecretRules()


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
    # Whether its files stay on the nodes when it is deleted.
    reserve: bool = False
    # For how long Pods may hold what the model lets go of; None when the nodes' own setting counts.
    in_use_grace_seconds: int | None = None
    # What the nodes were last told to hold, as the object's status says, and the generation that this was said of.
    recorded: model_pb2.Artifact = field(default_factory=model_pb2.Artifact)
    recorded_generation: int = 0
    # The base that a FineTunedWeight names.
    base: BaseReference | None = None
    # The revisions that nodes were to hold, as the object's status says, the newest first.
    recorded_history: tuple[fetch_pb2.Revision, ...] = ()
    # The revision that a person has named; empty for what the source has.
    named_revision: str = ""
    # Whether nodes may give it up, or are to; and what names the last time that somebody asked for it.
    residency: fetch_pb2.Residency = fetch_pb2.RESIDENCY_UNSPECIFIED
    demand: str = ""
    # metadata.creationTimestamp, by which the older of two models is known.
    created: str = ""
    # What is asked of nodes one by one.
    requests: NodeRequests = field(default_factory=NodeRequests)

    @property
    def kept_revisions(self) -> int:
        """How many earlier revisions nodes keep."""
        return int((self.storage or {}).get("revisionHistoryLimit") or 0)

    @property
    def follows(self) -> bool:
        """Whether the model goes with its source."""
        return (self.storage or {}).get("revisionPolicy") == FOLLOW

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

    @property
    def place(self) -> tuple[str, str]:
        """Namespace and name of the Secret."""
        return self.namespace, self.name

    def version(self, state: str) -> str:
        """Name the credentials by where they are and the state that their Secret is in; empty where there is none."""
        return _digest([self.namespace, self.name, self.key, state])


@dataclass(frozen=True)
class ModelSource:
    """Where a model's bytes come from, and the key under which its listing is found."""

    uri: ModelUri
    source: fetch_pb2.Source
    secret: SecretRef | None
    key: str
    # Names the credentials that the spec itself holds; empty when it holds none.
    token_version: str = ""

    @property
    def needs_listing(self) -> bool:
        """Whether the source is listed once for the fleet, rather than looked at on each node.

        The listing of a vendor's model may say that it is read in place: fetchers know which vendors have a driver.
        """
        return syntax_of(self.source.uri).listing is not Listing.NODE


def read_model(item: Mapping[str, Any]) -> ModelSpec:
    """Read a model object of the API. Total: what is unusable is left to source_of and check_placement."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    annotations, status = metadata.get("annotations") or {}, item.get("status") or {}
    return ModelSpec(
        ref=model_ref(item),
        generation=metadata.get("generation", 0),
        spec_digest=planning_digest(spec, annotations),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        disabled=bool(spec.get("disabled")),
        storage=spec.get("storage"),
        skip_parsing=skips_parsing(annotations),
        reserve=keeps_files(metadata.get("labels") or {}),
        priority=priority_of(spec.get("storage") or {}, annotations),
        in_use_grace_seconds=in_use_grace_seconds(annotations),
        recorded=_recorded(status.get("update") or status.get("artifact") or {}),
        recorded_generation=status.get("observedGeneration", 0),
        base=base_reference(item),
        recorded_history=tuple(_revisions(status.get("history") or ())),
        residency=_residency(spec.get("storage") or {}, annotations),
        demand=demand_of(annotations),
        requests=read_requests(annotations),
        named_revision=annotations.get(REVISION_ANNOTATION, "").strip(),
        created=metadata.get("creationTimestamp", ""),
    )


def source_of(model: ModelSpec, operator_namespace: str, secrets: SecretRules = _NO_RULES) -> ModelSource | None:
    """Where nodes get the model's bytes from; None when they get none: it has no storage, or is read from a claim.

    Raises InvalidValue with reason InvalidUri, InvalidParameter or IdentityRefused.
    """
    if not model.storage or not model.storage.get("storageUri"):
        return None
    text = model.storage["storageUri"]
    uri = parse_uri(text)
    if isinstance(uri, VolumeClaimUri):
        return None
    parameters = dict(model.storage.get("parameters") or {})
    secret = _secret(model, syntax_of(text), parameters, operator_namespace, secrets)
    has_token = secret is None and TOKEN_PARAMETER in parameters
    # What is said of credentials is no part of what is fetched, and never sent to a node.
    public = {name: value for name, value in parameters.items() if name not in CREDENTIAL_PARAMETERS}
    _check_holds_no_secret(public)
    check_parameters(text, public)
    check_identity(model.ref.namespace, uri, public, secret is not None or has_token, secrets.identity_namespaces)
    identity = [text, sorted(public.items()), None if secret is None else [secret.namespace, secret.name, secret.key]]
    return ModelSource(
        uri=uri,
        source=fetch_pb2.Source(uri=text, parameters=public, has_secret=secret is not None or has_token),
        secret=secret,
        key=f"{model.ref.uid}.{_digest(identity)}",
        # Whatever was edited may have been the token, of which not even a digest leaves the controller.
        token_version=_digest([model.ref.uid, model.generation]) if has_token else "",
    )


def check_paths(model: ModelSpec, confines: bool) -> None:
    """Refuse paths on nodes that no model may name or, if the operator confines models, those outside their folder.

    Which folders are model roots is known on the nodes, which check again. Raises InvalidValue InvalidPath.
    """
    storage = model.storage or {}
    paths = [("storage.path", storage.get("path") or "")]
    if (uri := storage.get("storageUri") or "").startswith("local://"):
        paths = [("storage.storageUri", uri.removeprefix("local://"))]
    namespace = model.ref.namespace
    for field_name, path in paths:
        if leads_into_state(path):
            raise InvalidValue(
                Reason.INVALID_PATH,
                f"{field_name} leads into {STATE_DIRECTORY}, where OME keeps the files of all models: choose a "
                "directory beside it. No setting allows it",
            )
        if path and namespace and confines and f"/{namespace_folder(namespace)}/" not in path:
            raise InvalidValue(
                Reason.INVALID_PATH,
                f"{field_name} is {path!r}, but models with a namespace stay in their own folder here: leave "
                f"storage.path out, or name a directory below {namespace_folder(namespace)}/ of a model root. An "
                "administrator may allow other paths by namespacedPaths: any of the controller's chart",
            )


def trust_scopes(model: ModelSpec, source: ModelSource, secret_version: str) -> tuple[str, ...]:
    """Name the scopes in which nodes may give the model bytes that another model has brought: its own comes first.

    secret_version is that of the credentials which the source was listed with, empty without any. Models share a scope
    if the same host, or bucket, was asked in the same way with the same Secret in the same state: a source may show its
    checksums to more people than its files. Models that are in no namespace share one more.
    """
    syntax, known = syntax_of(source.source.uri), bool(secret_version) or not source.source.has_secret
    match source.uri:
        case VendorUri(vendor):
            place = vendor
        case BucketUri(_, bucket):
            place = bucket
        case OracleUri(namespace, bucket):
            place = f"{namespace}/{bucket}"
        case _:
            place = ""
    ways = sorted((name, value) for name, value in source.source.parameters.items() if name not in CHOICE_PARAMETERS)
    own = _digest([syntax.scheme, place, ways, secret_version] if known else ["model", model.ref.uid])
    return (own,) if model.ref.namespace else (own, _CLUSTER_SCOPE)


def _secret(
    model: ModelSpec, syntax: Syntax, parameters: Mapping[str, str], operator_namespace: str, secrets: SecretRules
) -> SecretRef | None:
    storage = model.storage or {}
    namespace = _secret_namespace(model, parameters, operator_namespace, secrets)
    name = storage.get("storageKey") or storage.get("key")
    if not name:
        return None
    if namespace == operator_namespace and name in secrets.reserved:
        raise InvalidValue(
            Reason.INVALID_PARAMETER,
            f"storage.storageKey {name!r} is a Secret of OME itself, which no model may use: "
            "put the model's credentials into another Secret",
        )
    if not syntax.reads_secret(parameters):
        return None
    key = syntax.secret_key and (parameters.get(SECRET_KEY_PARAMETER) or syntax.secret_key)
    return SecretRef(namespace, name, key)


def _secret_namespace(
    model: ModelSpec, parameters: Mapping[str, str], operator_namespace: str, secrets: SecretRules
) -> str:
    own = model.ref.namespace or operator_namespace
    named = parameters.get(SECRET_NAMESPACE_PARAMETER) or own
    if named == own or (not model.ref.namespace and named in secrets.namespaces):
        return named
    if model.ref.namespace:
        raise InvalidValue(
            Reason.INVALID_PARAMETER,
            f"storage.parameters.secretNamespace is {named!r}, but a BaseModel uses Secrets of its own namespace only: "
            f"remove the parameter and put the Secret into {own!r}",
        )
    permitted = " or ".join(map(repr, (own, *secrets.namespaces)))
    raise InvalidValue(
        Reason.INVALID_PARAMETER,
        f"storage.parameters.secretNamespace is {named!r}, where OME reads no Secrets of models: put the Secret "
        f"into {permitted}, or ask the administrator to add {named!r} to secretNamespaces of the controller's chart",
    )


def _check_holds_no_secret(parameters: Mapping[str, str]) -> None:
    for name, value in sorted(parameters.items()):
        if _SECRET_NAME.search(name) or (name == "endpoint" and "@" in value):
            raise InvalidValue(
                Reason.INVALID_PARAMETER,
                f"storage.parameters.{name} holds credentials, which everyone who may read the model can read: "
                "put them into a Secret and name the Secret in storage.storageKey",
            )


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:16]


def _residency(storage: Mapping[str, Any], annotations: Mapping[str, str]) -> fetch_pb2.Residency:
    if annotations.get(RESIDENCY_ANNOTATION) == EVICTED:
        return fetch_pb2.RESIDENCY_EVICTED
    evictable = storage.get("residency") == EVICTABLE
    return fetch_pb2.RESIDENCY_EVICTABLE if evictable else fetch_pb2.RESIDENCY_UNSPECIFIED


def _revisions(history: Sequence[Mapping[str, Any]]) -> Iterator[fetch_pb2.Revision]:
    for entry in history:
        artifact = _recorded(entry)
        if not artifact.digest:
            continue
        revision = fetch_pb2.Revision(artifact=artifact, source_key=str(entry.get("source", "")))
        # A time that cannot be read is no reason to forget the revision.
        with contextlib.suppress(ValueError):
            revision.since.FromJsonString(str(entry.get("since", "")))
        yield revision


def _recorded(artifact: Mapping[str, Any]) -> model_pb2.Artifact:
    if not is_digest(artifact.get("digest", "")):
        return model_pb2.Artifact()
    return model_pb2.Artifact(
        digest=artifact["digest"],
        source_revision=artifact.get("sourceRevision", ""),
        bytes=artifact.get("bytes", 0),
        files=artifact.get("files", 0),
    )

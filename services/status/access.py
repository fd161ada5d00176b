"""What a caller may see: the rights that it has on the model objects themselves, asked of the API server.

One rule: what a call names, the caller must have the right to, or the call is refused; of what a call leaves open, the
caller gets those models to which it has the right.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid
from libs.chassis.kube import KubeClient, Object
from libs.model.kinds import GROUP_VERSION, kind_numbered
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_UNSPECIFIED, ModelKind, ModelRef
from services.status.allowances import Remembered
from services.status.callers import Caller, TooMany, ask

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_DENIED_SECONDS = 10.0
_REMEMBERED = 50_000
_PARALLEL = 16
# No object has a longer name. Each question is remembered with it, so whoever makes names up would choose how much.
_NAME_CHARACTERS = 253
# Namespaces of which one call may have the API server asked. Whoever may see few of very many has to name one.
_MOST_NAMESPACES = 256


class Denied(Invalid):
    """The caller may not see what it names."""

    grpc_code = grpc.StatusCode.PERMISSION_DENIED.value[0]


@dataclass(frozen=True)
class Scope:
    """Objects that one right is about: of a resource, in one namespace or, if that is empty, in the whole cluster."""

    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{name} in namespace {self.namespace}" if self.namespace else f"{name} in the cluster"


NODES = Scope("", "nodes")


class Access(Protocol):
    """Says what a caller may do."""

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Whether a caller has a right on a scope, or on the one object of this name in it."""
        ...


class EveryAccess:
    """Lets everybody see everything, and do nothing: what somebody may do is known of nobody here."""

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Whatever reads."""
        return verb in ("get", "list", "watch")


class ReviewedAccess:
    """Lets callers see what the API server would show them."""

    def __init__(self, kube: KubeClient, permitted_seconds: float) -> None:
        """What was permitted is asked for again after permitted_seconds."""
        self._kube = kube
        self._permitted_seconds = permitted_seconds
        self._known: Remembered[tuple[Caller, str, Scope, str], bool] = Remembered(_REMEMBERED)
        self._reviewing = asyncio.Semaphore(_PARALLEL)

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Whether a caller has a right, remembered for a short time. Raises Unavailable."""
        if max(len(scope.namespace), len(name)) > _NAME_CHARACTERS:
            return False
        wider = [Scope(scope.group, scope.resource)] if scope.namespace else []
        asked = [*((each, "") for each in (*wider, scope)), *([(scope, name)] if name else [])]
        for each, named in asked:
            if await self._is_permitted((caller, verb, each, named)):
                return True
        return False

    async def _is_permitted(self, question: tuple[Caller, str, Scope, str]) -> bool:
        known = self._known.get(question, time.monotonic())
        if known is None:
            async with self._reviewing:
                known = self._known.get(question, time.monotonic())
                if known is None:
                    known = await self._review(*question)
                    seconds = self._permitted_seconds if known else _DENIED_SECONDS
                    self._known.put(question, known, time.monotonic() + seconds)
        return known

    async def _review(self, caller: Caller, verb: str, scope: Scope, name: str) -> bool:
        attributes = {"verb": verb, "group": scope.group, "resource": scope.resource}
        attributes |= {"namespace": scope.namespace, "name": name}
        spec: Object = {
            "user": caller.name,
            "uid": caller.uid,
            "groups": list(caller.groups),
            "extra": {key: list(values) for key, values in caller.extra},
            "resourceAttributes": attributes,
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return bool((await ask(self._kube, REVIEWS, body))["status"].get("allowed"))


def scope_of(ref: ModelRef) -> Scope:
    """The scope that a model belongs to."""
    return Scope(GROUP_VERSION.partition("/")[0], kind_numbered(ref.kind).plural, ref.namespace)


def named_scope(kind: ModelKind, namespace: str) -> Scope | None:
    """The one scope that a request for models names; None if it leaves open which."""
    if namespace:
        return scope_of(ModelRef(kind=MODEL_KIND_BASE_MODEL, namespace=namespace))
    if kind in (MODEL_KIND_UNSPECIFIED, MODEL_KIND_BASE_MODEL):
        return None
    return scope_of(ModelRef(kind=kind))


class Viewer:
    """One caller, and what it may do with one verb."""

    def __init__(self, access: Access, caller: Caller, verb: str) -> None:
        self._access = access
        self._caller = caller
        self._verb = verb

    async def require(self, scope: Scope, name: str = "") -> None:
        """Raises Denied unless the caller has the right on a scope, or on the object of this name in it."""
        if not await self._access.permits(self._caller, self._verb, scope, name):
            raise Denied(Reason.FORBIDDEN, f"{self._caller.name} may not {self._verb} {scope}")

    async def permitted(self, scopes: Iterable[Scope]) -> frozenset[Scope]:
        """Those of the scopes on which the caller has the right. Raises TooMany."""
        asked = set(scopes)
        whole = {Scope(scope.group, scope.resource) for scope in asked}
        everywhere = {scope for scope in whole if await self._access.permits(self._caller, self._verb, scope)}
        covered = {scope for scope in asked if Scope(scope.group, scope.resource) in everywhere}
        single = sorted(asked - covered - whole, key=str)
        if len(single) > _MOST_NAMESPACES:
            raise TooMany(Reason.RATE_LIMITED, f"there are models in more than {_MOST_NAMESPACES} namespaces; name one")
        answers = await asyncio.gather(*(self._access.permits(self._caller, self._verb, scope) for scope in single))
        return frozenset(covered | {scope for scope, answer in zip(single, answers, strict=True) if answer})

"""Decides which Pods use which model: by their hostPath volumes, and by the annotation with which they name one.

Pure. Keeps an index, so that what concerns one Pod, or one node, is found without a look at all others.
"""

import posixpath
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from libs.artifact.places import overlap
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2

# Names the model that a Pod uses, as NAME or NAMESPACE/NAME; empty for none.
MODEL_ANNOTATION = "models.ome.io/model"
# Pods that are told of by name, of one model on one node and of one model on all.
_MOST_USERS = 8
_ENDED = ("Succeeded", "Failed")
# What anybody may write is kept of a Pod no further than it can matter: a namespace, a slash and a name are no longer,
# nor is the path of a model. No Pod of this world has as many volumes.
_MODEL_CHARACTERS = 63 + 1 + 253
_PATH_CHARACTERS = 1024
_MOST_PATHS = 64

PodKey = tuple[str, str]
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class PodView:
    """A Pod that may use a model."""

    namespace: str
    name: str
    # Empty until it is bound to one.
    node: str
    # Directories of its hostPath volumes.
    paths: tuple[str, ...]
    # What the annotation says; None without one.
    model: str | None
    # Whole seconds of the time of day, by the kubelet's clock once it has begun with the Pod.
    since: int
    started: bool

    @property
    def key(self) -> PodKey:
        """Namespace and name."""
        return self.namespace, self.name


def named_model(metadata: Mapping[str, Any]) -> str | None:
    """What a Pod's annotation says; None without one, and empty for what can be no model's name."""
    said: str | None = (metadata.get("annotations") or {}).get(MODEL_ANNOTATION)
    return said if said is None or len(said) <= _MODEL_CHARACTERS else ""


def project_pod(pod: Mapping[str, Any], own_namespace: str) -> dict[str, Any] | None:
    """The parts of a Pod that are read here; None for one that can use no model, as most cannot.

    The Pods of OME's own namespace, fetchers among them, use none.
    """
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    annotation = named_model(metadata)
    paths = [volume["hostPath"].get("path", "") for volume in spec.get("volumes") or () if volume.get("hostPath")]
    if metadata["namespace"] == own_namespace or not (paths or annotation):
        return None
    if status.get("phase") in _ENDED:
        return None
    return {
        "metadata": {
            key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        },
        "node": spec.get("nodeName") or "",
        "paths": tuple(sorted({_cut(posixpath.normpath(path)) for path in paths if path})[:_MOST_PATHS]),
        "model": annotation,
        "startTime": status.get("startTime"),
    }


def _cut(path: str) -> str:
    """A path, or the deepest directory above it of which the path is not too long: what is in a model stays in it."""
    return path if len(path) <= _PATH_CHARACTERS else path[: _PATH_CHARACTERS + 1].rpartition("/")[0]


def view_pod(kept: Mapping[str, Any]) -> PodView:
    """What project_pod has kept, as it is judged."""
    metadata, started = kept["metadata"], kept["startTime"]
    since = datetime.fromisoformat(started or metadata["creationTimestamp"])
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=kept["node"],
        paths=kept["paths"],
        model=kept["model"],
        since=int(since.timestamp()),
        started=bool(started),
    )


def names_model(pod: PodView, ref: model_pb2.ModelRef) -> bool:
    """Whether a Pod's annotation names a model. One of another namespace it cannot hold by its word alone."""
    if not pod.model or (ref.namespace and ref.namespace != pod.namespace):
        return False
    namespace, slash, name = pod.model.rpartition("/")
    return name == ref.name and (not slash or namespace == ref.namespace)


def mounts(pod: PodView, ref: model_pb2.ModelRef | None, root: str, path: str) -> bool:
    """Whether a Pod has a model at a path by one of its volumes.

    One above the path counts from the model root on: many agents mount all of a node. It may be there for other models
    than this one, which the annotation tells; of a model of which there is no object any more nobody can tell.
    """
    for mounted in pod.paths:
        if mounted == path or mounted.startswith(f"{path}/"):
            return True
        inside = mounted != "/" and (mounted == root or mounted.startswith(f"{root}/"))
        named = pod.model is None or ref is None or names_model(pod, ref)
        if inside and path.startswith(f"{mounted}/") and named:
            return True
    return False


def users(
    pods: Iterable[PodView], ref: model_pb2.ModelRef | None, root: str, paths: Sequence[str], before: float | None
) -> list[PodView]:
    """Of a node's Pods, those that have a model by one of the paths and may have started before a time; None for any.

    A start is told in whole seconds, and of a Pod that the kubelet has not begun with nothing is known.
    """
    return [
        pod
        for pod in pods
        if (before is None or not pod.started or pod.since <= before)
        and ((ref and names_model(pod, ref)) or any(mounts(pod, ref, root, path) for path in paths))
    ]


def told_use(found: Sequence[PodView], ref: model_pb2.ModelRef | None, name_all: bool = True) -> fetch_pb2.Use:
    """What a node is told: the names of Pods only where those who see the model may know them.

    With name_all, whoever sees a cluster-scoped model may know the Pods of all namespaces that use it.
    """
    told = fetch_pb2.Use(pods=len(found))
    for pod in sorted(found, key=lambda each: (each.since, each.key))[:_MOST_USERS]:
        told.users.append(_told_pod(pod, ref, name_all))
    return told


def summary(found: Iterable[PodView], ref: model_pb2.ModelRef, name_all: bool = True) -> fetch_pb2.ModelUse | None:
    """Who uses a model, for its status, with names as told_use gives them; None when nobody does."""
    pods = sorted(found, key=lambda each: (each.since, each.node, each.key))
    if not pods:
        return None
    told = fetch_pb2.ModelUse(nodes=len({pod.node for pod in pods}), pods=len(pods))
    for pod in pods[:_MOST_USERS]:
        told.users.add(node=pod.node, pod=_told_pod(pod, ref, name_all))
    return told


def _told_pod(pod: PodView, ref: model_pb2.ModelRef | None, name_all: bool) -> fetch_pb2.PodUse:
    told = fetch_pb2.PodUse()
    told.since.FromSeconds(pod.since)
    if ref and (ref.namespace == pod.namespace or (name_all and not ref.namespace)):
        told.namespace, told.name = pod.namespace, pod.name
    return told


class UseIndex:
    """Pods by node, and which of them use which model."""

    def __init__(self) -> None:
        self._pods: defaultdict[str, dict[PodKey, PodView]] = defaultdict(dict)
        self._views: dict[PodKey, PodView] = {}
        # Keys of Pods by what they mount, and by the model that they name.
        self._mounting: _ByPath[PodKey] = _ByPath()
        self._naming: defaultdict[str, set[PodKey]] = defaultdict(set)
        self._models: dict[str, tuple[model_pb2.ModelRef, str]] = {}
        # Uids of models by path, and by name.
        self._lying: _ByPath[str] = _ByPath()
        self._named: defaultdict[str, set[str]] = defaultdict(set)
        self._users: defaultdict[str, dict[PodKey, PodView]] = defaultdict(dict)
        # Those of them for which no node has been chosen: each node that holds the model asks for them.
        self._waiting: defaultdict[str, dict[PodKey, PodView]] = defaultdict(dict)

    def pods_on(self, node: str) -> Iterable[PodView]:
        """The Pods of a node that may use models."""
        return self._pods.get(node, {}).values()

    def users_of(self, uid: str) -> Iterable[PodView]:
        """The Pods that use a model, on whatever nodes, and those that are about to."""
        return self._users.get(uid, {}).values()

    def waiting_for(self, uid: str) -> Collection[PodView]:
        """The Pods that are about to use a model, and for which no node has been chosen yet."""
        return self._waiting.get(uid, {}).values()

    def pod_changed(self, key: PodKey, pod: PodView | None) -> set[str]:
        """A Pod is as given now, None for one that is gone or uses nothing; uids of the models that this concerns."""
        before = self._views.get(key)
        if before == pod:
            return set()
        used_before, used = set(self._used_by(before)), set(self._used_by(pod))
        if before:
            self._forget(before)
            for uid in used_before:
                self._drop(uid, key)
        if pod:
            self._note(pod)
            for uid in used:
                self._add(uid, pod)
        if before and pod and (before.since, before.node) != (pod.since, pod.node):
            return used_before | used
        return used_before ^ used

    def model_changed(self, uid: str, ref: model_pb2.ModelRef | None, path: str) -> None:
        """A model has a path on nodes, empty if none is known; ref is None for one that is gone."""
        before = self._models.get(uid)
        if before == (ref, path):
            return
        if before:
            del self._models[uid]
            self._lying.discard(before[1], uid)
            _discard(self._named, before[0].name, uid)
            self._users.pop(uid, None)
            self._waiting.pop(uid, None)
        if ref is None:
            return
        self._models[uid] = ref, path
        self._named[ref.name].add(uid)
        candidates = set(self._naming.get(ref.name, ()))
        if path:
            self._lying.add(path, uid)
            candidates.update(self._mounting.around(path))
        for key in candidates:
            if self._uses(self._views[key], uid):
                self._add(uid, self._views[key])

    def _note(self, pod: PodView) -> None:
        self._views[pod.key] = self._pods[pod.node][pod.key] = pod
        for mounted in pod.paths:
            self._mounting.add(mounted, pod.key)
        if pod.model:
            self._naming[_name_in(pod.model)].add(pod.key)

    def _forget(self, pod: PodView) -> None:
        del self._views[pod.key], self._pods[pod.node][pod.key]
        if not self._pods[pod.node]:
            del self._pods[pod.node]
        for mounted in pod.paths:
            self._mounting.discard(mounted, pod.key)
        if pod.model:
            _discard(self._naming, _name_in(pod.model), pod.key)

    def _used_by(self, pod: PodView | None) -> Iterator[str]:
        if pod is None:
            return
        candidates = set(self._named.get(_name_in(pod.model or ""), ()))
        for mounted in pod.paths:
            candidates.update(self._lying.around(mounted))
        yield from (uid for uid in candidates if self._uses(pod, uid))

    def _uses(self, pod: PodView, uid: str) -> bool:
        ref, path = self._models[uid]
        if names_model(pod, ref):
            return True
        # The model root is the node's to know; for a person any directory above the model will do.
        return bool(path) and any(overlap(path, each) and mounts(pod, ref, each, path) for each in pod.paths)

    def _add(self, uid: str, pod: PodView) -> None:
        self._users[uid][pod.key] = pod
        if not pod.node:
            self._waiting[uid][pod.key] = pod

    def _drop(self, uid: str, key: PodKey) -> None:
        for index in (self._users, self._waiting):
            if uid in index:
                index[uid].pop(key, None)
                if not index[uid]:
                    del index[uid]


class _ByPath(Generic[M]):
    """Members by path. Keeps no more than the paths: those above each would be the square of a deep one."""

    def __init__(self) -> None:
        self._members: dict[str, set[M]] = {}
        self._sorted: list[str] = []

    def add(self, path: str, member: M) -> None:
        """A member is at a path."""
        if path not in self._members:
            self._members[path] = set()
            insort(self._sorted, path)
        self._members[path].add(member)

    def discard(self, path: str, member: M) -> None:
        """A member is not at a path any more. Idempotent."""
        if path not in self._members:
            return
        self._members[path].discard(member)
        if not self._members[path]:
            del self._members[path]
            del self._sorted[bisect_left(self._sorted, path)]

    def around(self, path: str) -> Iterator[M]:
        """The members at a path, above it and below it."""
        for directory in (path, *_above(path)):
            yield from self._members.get(directory, ())
        # "0" is what comes after "/" in the order of strings.
        begin, end = (bisect_left(self._sorted, path + sign) for sign in "/0")
        for below in self._sorted[begin:end]:
            yield from self._members[below]


def _above(path: str) -> Iterator[str]:
    """The directories above a path, without the root of the file system."""
    while path := path.rpartition("/")[0]:
        yield path


def _name_in(annotation: str) -> str:
    return annotation.rpartition("/")[2]


def _discard(index: dict[str, set[M]], key: str, member: M) -> None:
    members = index.get(key, set())
    members.discard(member)
    if not members:
        index.pop(key, None)

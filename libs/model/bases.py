"""Which base model another object means: a FineTunedWeight that adapts it, or an InferenceService that serves it.

Keeps an index over the objects as they come, change and go. What follows from it is decided by who asks. Pure.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from libs.model.kinds import FINE_TUNED_WEIGHT, INFERENCE_SERVICE

_Place = tuple[str, str]


@dataclass(frozen=True)
class BaseReference:
    """The base model that the field of an object names: a BaseModel or, if it does not exist, a ClusterBaseModel."""

    namespace: str
    name: str
    # BaseModel or ClusterBaseModel where only that one is meant.
    kind: str = ""
    field: str = "spec.baseModelRef"

    @property
    def places(self) -> tuple[_Place, ...]:
        """Where the base may be, as namespace and name; the first that exists is meant."""
        own, shared = (self.namespace, self.name), ("", self.name)
        if self.kind:
            return (shared,) if self.kind == "ClusterBaseModel" else (own,)
        return tuple(dict.fromkeys((own, shared)))

    @property
    def missing(self) -> str:
        """A sentence for the case that no base is there."""
        if len(self.places) > 1:
            return (
                f"neither BaseModel {self.namespace}/{self.name} nor ClusterBaseModel {self.name} exists, one of which "
                f"{self.field} must name"
            )
        [(namespace, _)] = self.places
        if namespace:
            return f"BaseModel {namespace}/{self.name}, which {self.field} names, does not exist"
        advice = "" if self.kind else "; for a BaseModel, write its namespace beside the name"
        return f"ClusterBaseModel {self.name}, which {self.field} names, does not exist{advice}"


def base_reference(item: Mapping[str, Any]) -> BaseReference | None:
    """The base that weights adapt; None for the other kinds, and for objects older than the rule of the field."""
    reference = (item.get("spec") or {}).get("baseModelRef") or {}
    if item["kind"] != FINE_TUNED_WEIGHT or not reference.get("name"):
        return None
    return BaseReference(reference.get("namespace") or "", reference["name"])


def served_reference(item: Mapping[str, Any]) -> BaseReference | None:
    """The model that an InferenceService serves; None for one that names none of ours."""
    model = (item.get("spec") or {}).get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("name"), str) or not model["name"]:
        return None
    kind = model.get("kind") or ""
    if kind not in ("", "BaseModel", "ClusterBaseModel"):
        return None
    return BaseReference(item["metadata"]["namespace"], model["name"], kind, "spec.model")


class Bases:
    """Base models by place, and the objects of one other kind that refer to each: weights, unless told otherwise."""

    def __init__(
        self,
        kind: str = FINE_TUNED_WEIGHT,
        reference_of: Callable[[Mapping[str, Any]], BaseReference | None] = base_reference,
    ) -> None:
        self._kind, self._reference_of = kind, reference_of
        self._bases: dict[_Place, str] = {}
        self._places: dict[str, _Place] = {}
        self._references: dict[str, BaseReference] = {}
        self._referring: defaultdict[_Place, set[str]] = defaultdict(set)

    def object_changed(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> set[str]:
        """Take a change of an object; returns the uids of bases and others that it newly ties or parts."""
        if before and after and before["metadata"]["uid"] != after["metadata"]["uid"]:
            return self.object_changed(before, None) | self.object_changed(None, after)
        item = after or before
        if item is None:
            return set()
        if item["kind"] == self._kind:
            return self._reference_changed(item["metadata"]["uid"], self._reference_of(after) if after else None)
        if item["kind"] in (FINE_TUNED_WEIGHT, INFERENCE_SERVICE):
            return set()
        return self._base_changed(item, exists=after is not None)

    def base_at(self, namespace: str, name: str) -> str | None:
        """The uid of the BaseModel of a namespace or, without one, of the ClusterBaseModel; None if there is none."""
        return self._bases.get((namespace, name))

    def base_of(self, uid: str) -> str | None:
        """The uid of the base that an object means; None if there is none."""
        reference = self._references.get(uid)
        places = reference.places if reference else ()
        return next((self._bases[place] for place in places if place in self._bases), None)

    def referring_to(self, base_uid: str) -> set[str]:
        """The uids of the objects that mean a base."""
        referring = self._referring.get(self._places.get(base_uid, ("", "")), ())
        return {uid for uid in referring if self.base_of(uid) == base_uid}

    def _reference_changed(self, uid: str, reference: BaseReference | None) -> set[str]:
        former = self._references.get(uid)
        if former == reference:
            return set()
        bases = {self.base_of(uid)}
        for place in former.places if former else ():
            self._referring[place].discard(uid)
            if not self._referring[place]:
                del self._referring[place]
        self._references.pop(uid, None)
        if reference:
            self._references[uid] = reference
            for place in reference.places:
                self._referring[place].add(uid)
        return {uid, *filter(None, bases | {self.base_of(uid)})}

    def _base_changed(self, item: Mapping[str, Any], *, exists: bool) -> set[str]:
        uid, metadata = item["metadata"]["uid"], item["metadata"]
        place = metadata.get("namespace", ""), metadata["name"]
        if exists == (self._bases.get(place) == uid):
            return set()
        others = set(self._referring.get(place, ()))
        former = {other: self.base_of(other) for other in others}
        if exists:
            self._places.pop(self._bases.get(place, ""), None)
            self._bases[place], self._places[uid] = uid, place
        else:
            self._places.pop(uid, None)
            self._bases.pop(place, None)
        parted = {other for other in others if former[other] != self.base_of(other)}
        return parted | {base for other in parted for base in (former[other], self.base_of(other)) if base}

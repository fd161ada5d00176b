"""Which base model each FineTunedWeight adapts: the BaseModel of the namespace that it names, else a ClusterBaseModel.

Keeps an index over the objects as they come, change and go. What follows from it is decided by who asks. Pure.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.model.kinds import FINE_TUNED_WEIGHT

_Place = tuple[str, str]


@dataclass(frozen=True)
class BaseReference:
    """spec.baseModelRef of a FineTunedWeight."""

    namespace: str
    name: str

    @property
    def places(self) -> tuple[_Place, ...]:
        """Where the base may be, as namespace and name; the first that exists is meant."""
        return tuple(dict.fromkeys(((self.namespace, self.name), ("", self.name))))

    @property
    def missing(self) -> str:
        """A sentence for the case that no base is there."""
        if self.namespace:
            return (
                f"neither BaseModel {self.namespace}/{self.name} nor ClusterBaseModel {self.name} exists, one of which "
                "spec.baseModelRef must name"
            )
        return (
            f"ClusterBaseModel {self.name}, which spec.baseModelRef names, does not exist; for a BaseModel, write its "
            "namespace beside the name"
        )


def base_reference(item: Mapping[str, Any]) -> BaseReference | None:
    """The base that an object names; None for the other kinds, and for objects older than the rule of the field."""
    reference = (item.get("spec") or {}).get("baseModelRef") or {}
    if item["kind"] != FINE_TUNED_WEIGHT or not reference.get("name"):
        return None
    return BaseReference(reference.get("namespace") or "", reference["name"])


class Bases:
    """Base models by place, and the weights that refer to each."""

    def __init__(self) -> None:
        self._bases: dict[_Place, str] = {}
        self._places: dict[str, _Place] = {}
        self._references: dict[str, BaseReference] = {}
        self._referring: defaultdict[_Place, set[str]] = defaultdict(set)

    def object_changed(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> set[str]:
        """Take a change of an object of any kind; returns the uids of bases and weights that it newly ties or parts."""
        if before and after and before["metadata"]["uid"] != after["metadata"]["uid"]:
            return self.object_changed(before, None) | self.object_changed(None, after)
        item = after or before
        if item is None:
            return set()
        if item["kind"] == FINE_TUNED_WEIGHT:
            return self._weight_changed(item["metadata"]["uid"], base_reference(after) if after else None)
        return self._base_changed(item, exists=after is not None)

    def base_at(self, namespace: str, name: str) -> str | None:
        """The uid of the BaseModel of a namespace or, without one, of the ClusterBaseModel; None if there is none."""
        return self._bases.get((namespace, name))

    def base_of(self, weight_uid: str) -> str | None:
        """The uid of the base that a weight adapts; None if there is none."""
        reference = self._references.get(weight_uid)
        places = reference.places if reference else ()
        return next((self._bases[place] for place in places if place in self._bases), None)

    def weights_of(self, base_uid: str) -> set[str]:
        """The uids of the weights that adapt a base."""
        referring = self._referring.get(self._places.get(base_uid, ("", "")), ())
        return {weight for weight in referring if self.base_of(weight) == base_uid}

    def _weight_changed(self, uid: str, reference: BaseReference | None) -> set[str]:
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
        weights = set(self._referring.get(place, ()))
        former = {weight: self.base_of(weight) for weight in weights}
        if exists:
            self._places.pop(self._bases.get(place, ""), None)
            self._bases[place], self._places[uid] = uid, place
        else:
            self._places.pop(uid, None)
            self._bases.pop(place, None)
        parted = {weight for weight in weights if former[weight] != self.base_of(weight)}
        return parted | {base for weight in parted for base in (former[weight], self.base_of(weight)) if base}

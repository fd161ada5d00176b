"""Whether a model may come to a tainted node: tolerations with the semantics of the Kubernetes scheduler.

A model without tolerations minds no taint, as files are no Pods: nodes with accelerators are tainted to keep other Pods
away, and are where models belong. Pure.
Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Others, such as PreferNoSchedule, only ask.
_KEEPING_AWAY = ("NoSchedule", "NoExecute")
# Kubernetes sets these by itself, for nodes that are cordoned, not ready or short of something: placement knows it
# better, and a model neither runs nor is evicted.
_OF_KUBERNETES = "node.kubernetes.io/"


@dataclass(frozen=True)
class Taint:
    """A taint of a node that keeps away what does not tolerate it."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        """As kubectl writes it."""
        return f"{self.key}{f'={self.value}' if self.value else ''}:{self.effect}"


def taints_of(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    """The taints of a Node that keep models away."""
    found = (node.get("spec") or {}).get("taints") or ()
    return tuple(
        Taint(each["key"], each.get("value") or "", each["effect"])
        for each in found
        if each["effect"] in _KEEPING_AWAY and not each["key"].startswith(_OF_KUBERNETES)
    )


def untolerated(storage: Mapping[str, Any], taints: Iterable[Taint]) -> Taint | None:
    """The first taint that keeps a model with this storage away; None if there is none."""
    tolerations = storage.get("tolerations")
    if tolerations is None:
        return None
    return next((each for each in taints if not any(_tolerates(toleration, each) for toleration in tolerations)), None)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if key and key != taint.key:
        return False
    return operator == "Exists" or (bool(key) and (toleration.get("value") or "") == taint.value)

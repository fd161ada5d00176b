"""Decides by whose selectors a model is placed: by its own or, for a FineTunedWeight that has none, by its base's.

Pure. Which object the base is, libs.model.bases knows.
"""

from collections.abc import Mapping
from typing import Any

from services.controller.specification import ModelSpec

_SELECTORS = ("nodeSelector", "nodeAffinity")


def selects_itself(model: ModelSpec) -> bool:
    """Whether a model's own storage says which nodes hold it: base models always do, even without a selector."""
    return model.base is None or any((model.storage or {}).get(name) for name in _SELECTORS)


def placement_of(model: ModelSpec, base: ModelSpec | None) -> Mapping[str, Any] | None:
    """The storage whose selectors place a model; None while it is to follow a base that does not exist.

    A base that lies in a claim, or that has no storage, is on no particular nodes: then every node gets the weight, as
    it would a base model without selectors.
    """
    storage = model.storage or {}
    if selects_itself(model):
        return storage
    if base is None:
        return None
    chosen = base.storage or {}
    if (chosen.get("storageUri") or "").startswith("pvc://"):
        return storage
    inherited = {name: chosen[name] for name in (*_SELECTORS, "tolerations") if name in chosen}
    own = {"tolerations": storage["tolerations"]} if "tolerations" in storage else {}
    return {**storage, **inherited, **own}

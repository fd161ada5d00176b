"""Decides by whose selectors a model is placed: by its own or, for a FineTunedWeight that has none, by its base's.

Pure. Which object the base is, libs.model.bases knows.
"""

from collections.abc import Mapping
from typing import Any

from libs.model.placement import placed_like, selects
from services.controller.specification import ModelSpec


def selects_itself(model: ModelSpec) -> bool:
    """Whether a model's own storage says which nodes hold it: base models always do, even without a selector."""
    return model.base is None or selects(model.storage or {})


def placement_of(model: ModelSpec, base: ModelSpec | None) -> Mapping[str, Any] | None:
    """The storage whose selectors place a model; None while it is to follow a base that does not exist."""
    storage = model.storage or {}
    if selects_itself(model):
        return storage
    return None if base is None else placed_like(storage, base.storage or {})

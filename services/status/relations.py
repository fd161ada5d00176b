"""What a model's status says of the models that it is tied to: of a FineTunedWeight its base, of a base its weights.

Decides which conditions and fields tell of a relation; whether weights fit is compatibility's. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.reasons import Reason
from libs.model.bases import base_reference
from libs.model.kinds import FINE_TUNED_WEIGHT
from services.status import wording
from services.status.compatibility import judge_fit, weights_word
from services.status.conditions import Judgement

# Weights of a base that its status names; the number beside them counts all.
NAMES_LIMIT = 16


@dataclass(frozen=True)
class Relations:
    """The object of the base that a FineTunedWeight adapts, and the names of the weights that adapt a base."""

    base: Mapping[str, Any] | None = None
    weights: tuple[str, ...] = ()


NO_RELATIONS = Relations()


def relation_conditions(
    model: Mapping[str, Any], relations: Relations, metadata: Mapping[str, Any]
) -> dict[str, Judgement]:
    """The conditions BaseFound and Compatible of a FineTunedWeight, and Referenced of a base that weights adapt.

    metadata is what the model's own files were parsed into.
    """
    if model["kind"] != FINE_TUNED_WEIGHT:
        return {"Referenced": _referenced(model, relations.weights)} if relations.weights else {}
    reference, base = base_reference(model), relations.base
    if base is None:
        missing = reference.missing if reference else "spec.baseModelRef names no base"
        unknown = "Unknown", "Pending", "There is no base to compare the weights with."
        return {"BaseFound": ("False", Reason.BASE_NOT_FOUND, wording.sentence(missing)), "Compatible": unknown}
    shown = shown_object(base)
    found: Judgement = "True", "Found", f"The weights adapt {shown}."
    if "deletionTimestamp" in base["metadata"]:
        found = "False", Reason.DELETING, f"{shown}, which the weights adapt, is being deleted."
    uri = ((base.get("spec") or {}).get("storage") or {}).get("storageUri") or ""
    facts = (base.get("status") or {}).get("metadata") or {}
    return {"BaseFound": found, "Compatible": judge_fit(metadata, facts, uri, shown)}


def relation_fields(model: Mapping[str, Any], relations: Relations, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of .status beside the conditions; admission reads fineTunedWeights when a base is deleted."""
    if model["kind"] != FINE_TUNED_WEIGHT:
        if not relations.weights:
            return {}
        names = sorted(relations.weights)
        return {"fineTunedWeights": {"count": len(names), "names": names[:NAMES_LIMIT]}}
    fields: dict[str, Any] = {}
    if relations.base:
        place = {
            key: relations.base["metadata"][key] for key in ("namespace", "name") if key in relations.base["metadata"]
        }
        fields["base"] = {"kind": relations.base["kind"], **place}
    if word := weights_word(metadata):
        fields["weights"] = word
    return fields


def matters_to_weights(base: Mapping[str, Any]) -> tuple[Any, ...]:
    """Of a base all that the status of its weights tells."""
    storage = (base.get("spec") or {}).get("storage") or {}
    facts = (base.get("status") or {}).get("metadata")
    return "deletionTimestamp" in base["metadata"], storage.get("storageUri"), facts


def shown_object(item: Mapping[str, Any]) -> str:
    """A model's object as people name it, such as "BaseModel team-a/llama"."""
    metadata = item["metadata"]
    return f"{item['kind']} {'/'.join(filter(None, (metadata.get('namespace'), metadata['name'])))}"


def _referenced(model: Mapping[str, Any], weights: tuple[str, ...]) -> Judgement:
    who = wording.weights_adapt(sorted(weights))
    if "deletionTimestamp" in model["metadata"]:
        return "True", Reason.DELETING, f"{who} this model, which is being deleted. They stay, without a base."
    return "True", "WeightsRefer", f"{who} this model."

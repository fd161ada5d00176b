"""What the status of an InferenceService says of the model that it names. Pure, the time is a parameter."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.model.bases import served_reference
from services.status import wording
from services.status.conditions import Judgement, made_condition
from services.status.relations import shown_object

NODES_LIMIT = 50
CONDITION = "ModelReady"


def service_status(service: Mapping[str, Any], model: Mapping[str, Any] | None, now: datetime) -> dict[str, Any] | None:
    """The fields of .status that are ours; None for a service that names no model of ours.

    model is the object that the service means, None if there is none.
    """
    reference = served_reference(service)
    if reference is None:
        return None
    if model is None:
        judgement: Judgement = "False", Reason.NOT_FOUND, wording.sentence(reference.missing)
    else:
        judgement = _judge(model)
    status: dict[str, Any] = {
        "observedGeneration": service["metadata"].get("generation", 0),
        "conditions": [made_condition(CONDITION, *judgement, service.get("status") or {}, now)],
    }
    if model:
        metadata, reported = model["metadata"], model.get("status") or {}
        place = {key: metadata[key] for key in ("namespace", "name") if key in metadata}
        path = {"path": reported["path"]} if reported.get("path") else {}
        nodes = {"nodes": reported["nodesReady"][:NODES_LIMIT]} if reported.get("nodesReady") else {}
        status["model"] = {"kind": model["kind"], **place, **path, **nodes}
    return status


def is_said(service: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether a service's status says all this already, beside what others say there."""
    present = service.get("status") or {}
    ours = [each for each in present.get("conditions") or [] if each.get("type") == CONDITION]
    return {**present, "conditions": ours} == {**present, **status}


def timeless(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status without the time of its condition, which is another one for each attempt to write it."""
    conditions = [
        {key: text for key, text in each.items() if key != "lastTransitionTime"} for each in status["conditions"]
    ]
    return {**status, "conditions": conditions}


def _judge(model: Mapping[str, Any]) -> Judgement:
    shown, status = shown_object(model), model.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    available = conditions.get("Available") or {}
    if "deletionTimestamp" in model["metadata"]:
        return "False", Reason.DELETING, f"{shown} is being deleted."
    if not available:
        return "Unknown", "Pending", f"Nothing has been reported of {shown} yet."
    why = one_line(f"{shown}: {available['message']}")
    return ("True" if status.get("state") == "Ready" else "False"), available["reason"], why

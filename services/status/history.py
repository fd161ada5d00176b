"""The revisions that the nodes of a model were to hold, as .status.history shows them: the newest first. Pure."""

from collections.abc import Mapping
from typing import Any

from ome.fetch.v1.fetch_pb2 import ModelPlan, Revision


def history_document(plan: ModelPlan | None, previous: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the plan tells; what was written before while there is no plan, as the controller reads it from there."""
    if plan is None:
        return list(previous.get("history") or ())
    return [_entry(revision) for revision in plan.history]


def _entry(revision: Revision) -> dict[str, Any]:
    artifact = revision.artifact
    entry = {
        "digest": artifact.digest,
        "sourceRevision": artifact.source_revision,
        "bytes": artifact.bytes,
        "files": artifact.files,
        "source": revision.source_key,
    }
    if revision.HasField("since"):
        entry["since"] = revision.since.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    return entry

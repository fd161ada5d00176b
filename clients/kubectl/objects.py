"""Reads what the API server shows of models and nodes: states, sizes and what an explanation needs. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.labels import UID_PREFIX
from libs.model.explanation import READY, NodeFacts, Standing

GROUP_VERSION = "ome.io/v1beta1"
# Kinds as manifests spell them, with their plurals and short names; only the first has a namespace.
PLURALS = {"BaseModel": "basemodels", "ClusterBaseModel": "clusterbasemodels", "FineTunedWeight": "finetunedweights"}
SHORT = {"bm": "BaseModel", "cbm": "ClusterBaseModel", "ftw": "FineTunedWeight"}
NAMESPACED = "BaseModel"
STATUS_LABEL = "models.ome/basemodel-status=true"


def kind_spelled(word: str) -> str | None:
    """The kind that a word names, as kubectl would read it: BaseModel, basemodel, basemodels or bm."""
    lower = word.lower()
    return next(
        (kind for kind, plural in PLURALS.items() if lower in (kind.lower(), plural) or SHORT.get(lower) == kind), None
    )


@dataclass(frozen=True)
class Entry:
    """What the ConfigMap of a node says of one model."""

    uid: str
    state: str
    reason: str
    path: str
    digest: str
    # How the node is with another copy that is to come in place of a good one.
    update: str = ""


def entries_of(config_map: Mapping[str, Any] | None) -> dict[str, Entry]:
    """The entries of a node's ConfigMap by uid of the model; what cannot be read is left out."""
    found = {}
    for text in ((config_map or {}).get("data") or {}).values():
        try:
            said = json.loads(text)
            words = [str(said.get(name, "")) for name in ("uid", "state", "reason", "path", "digest", "update")]
        except (ValueError, AttributeError):
            continue
        found[words[0]] = Entry(*words)
    return found


def node_facts(model: Mapping[str, Any], node: Mapping[str, Any], entry: Entry | None) -> NodeFacts:
    """What is known of a node, for explaining a model."""
    metadata, status = node["metadata"], model.get("status") or {}
    name, uid = metadata["name"], model["metadata"]["uid"]
    labels: Mapping[str, str] = metadata.get("labels") or {}
    failure = next((each for each in status.get("failures") or () if each["node"] == name), None)
    listed = name in (status.get("nodesReady") or ()) or name in (status.get("nodesFailed") or ())
    state = entry.state if entry else labels.get(UID_PREFIX + uid, "")
    closed = why_closed(node)
    return NodeFacts(
        name=name,
        labels=labels,
        closed=closed,
        reports=False if failure and failure["reason"] == "NodeUnreachable" else None,
        # Which nodes were told is not written down anywhere, but one that takes nothing new and has nothing was not.
        planned=True if listed or failure or state else (False if closed else None),
        standing=_standing(status, name, state, entry, failure) if state else None,
    )


def why_closed(node: Mapping[str, Any]) -> str:
    """Why a node gets no new models, as the end of a sentence; empty if it does."""
    conditions = {each["type"]: each["status"] for each in (node.get("status") or {}).get("conditions") or ()}
    if conditions.get("Ready") != "True":
        return "is not ready"
    return "is cordoned" if (node.get("spec") or {}).get("unschedulable") else ""


def silent_nodes(models: Iterable[Mapping[str, Any]]) -> set[str]:
    """Nodes whose fetcher does not report, as far as a model is meant for them and says so."""
    failures = (each for model in models for each in (model.get("status") or {}).get("failures") or ())
    return {each["node"] for each in failures if each["reason"] == "NodeUnreachable"}


def disk_by_model(entries: Mapping[str, Mapping[str, Entry]], sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes that each model takes on all nodes, by uid. Models of one digest share a copy: the first by uid has it.

    entries are those of each node, sizes the bytes of each model, both by uid.
    """
    taken = dict.fromkeys(sizes, 0)
    for on_node in entries.values():
        counted: set[str] = set()
        for uid, entry in sorted(on_node.items()):
            if entry.state != READY or uid not in sizes or (entry.digest and entry.digest in counted):
                continue
            counted.add(entry.digest)
            taken[uid] += sizes[uid]
    return taken


def size_of(model: Mapping[str, Any]) -> int:
    """Bytes of a model's files; 0 while they are not known."""
    return int(((model.get("status") or {}).get("artifact") or {}).get("bytes") or 0)


def shown_name(model: Mapping[str, Any]) -> str:
    """A model as kubectl names it, such as basemodel.ome.io/llama."""
    return f"{model['kind'].lower()}.ome.io/{model['metadata']['name']}"


def by_name(models: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Models in the order of their kinds, namespaces and names."""
    kinds = list(PLURALS)
    return sorted(
        models,
        key=lambda each: (
            kinds.index(each["kind"]),
            each["metadata"].get("namespace", ""),
            each["metadata"]["name"],
        ),
    )


def _standing(
    status: Mapping[str, Any], name: str, state: str, entry: Entry | None, failure: Mapping[str, str] | None
) -> Standing:
    figures: Mapping[str, Any] = next(
        (each for each in (status.get("progress") or {}).get("nodes") or () if each["node"] == name), {}
    )
    reason = entry.reason if entry and entry.reason else (failure or {}).get("reason", "")
    update = entry.update if entry else ""
    return Standing(
        state=state,
        reason=reason,
        message=(failure or {}).get("message", ""),
        path=entry.path if entry else "",
        bytes_done=figures.get("bytes", 0),
        bytes_total=((update and status.get("update")) or status.get("artifact") or {}).get("bytes", 0),
        bytes_per_second=figures.get("bytesPerSecond", 0),
        eta_seconds=figures.get("etaSeconds", 0),
        update=update,
    )

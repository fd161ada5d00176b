"""What a node's labels and its ConfigMap must say about the models on it, and what has to change for that.

Pure: the reports follow from what the node said and from which models exist. Must not do I/O.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.labels import (
    AVAILABLE_STORAGE_LABEL,
    RESERVED_STORAGE_LABEL,
    STORAGE_LABELS,
    coarse_storage,
    is_model_label,
)
from libs.artifact.specification import skips_parsing
from libs.model.kinds import model_ref
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import NodeHeartbeat, NodeModelState
from ome.model.v1.model_pb2 import (
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    ModelKind,
    ModelRef,
    NodePhase,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.status.labels import CONFIG_MAP_LABEL, data_key, readable_label, uid_label

# Labels with their new values, or with None those that go.
LabelChanges = dict[str, str | None]
CONFIG_MAP_LABELS = {CONFIG_MAP_LABEL: "true", "app.kubernetes.io/part-of": "ome"}

READY = "Ready"
UPDATING = "Updating"
# Nine tenths of what the API server takes as a ConfigMap.
_DATA_BYTES = 900 << 10
# A fleet has the same few models and states on all of its nodes.
_KEPT = 20_000
# Words of the labels for the states of a model on a node; a node that holds nothing has none.
_PHASE_WORDS: dict[NodePhase, str] = {
    NODE_PHASE_READY: READY,
    NODE_PHASE_UPDATING: UPDATING,
    NODE_PHASE_FAILED: "Failed",
    NODE_PHASE_EVICTED: "Evicted",
}


@dataclass(frozen=True)
class NodeReport:
    """labels are ours among the node's labels, data is that of its ConfigMap; both empty for a node without models."""

    labels: dict[str, str]
    data: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one state of a model comes to, beside what it follows from: a model with this uid has one name for ever."""

    state: NodeModelState
    without_facts: bool
    label: str
    readable_label: str
    key: str
    word: str
    entry: str
    namespace: str
    size: int


class Shown:
    """What states come to, remembered by state: all nodes of a fleet say the same of a model, in one message."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _Shown] = {}

    def of(self, uid: str, model: Mapping[str, Any], state: NodeModelState, word: str) -> _Shown:
        """What a state of a model comes to; word is that of its phase."""
        known = self._known.get((uid, id(state)))
        without_facts = skips_parsing(model["metadata"].get("annotations") or {})
        # An address may have been given to another object since.
        if known and known.state is state and known.without_facts == without_facts:
            return known
        if len(self._known) >= _KEPT:
            self._known.clear()
        ref = model_ref(model)
        readable, key = _names(ref.kind, ref.namespace, ref.name)
        entry = _entry(uid, word, state.SerializeToString(deterministic=True), without_facts)
        size = len(key.encode()) + len(entry.encode())
        shown = _Shown(state, without_facts, uid_label(uid), readable, key, word, entry, ref.namespace, size)
        self._known[uid, id(state)] = shown
        return shown


def node_report(
    models: Mapping[str, Mapping[str, Any]], states: Mapping[str, NodeModelState], shown: Shown | None = None
) -> NodeReport:
    """Report on one node. models are all that exist, by uid; states are the node's own, by the same.

    A model that is being deleted is left out at once, so that nothing is scheduled onto a copy that goes away. What
    shown remembers of other nodes saves the work to find it out again; states must not be changed then.
    """
    shown = shown or Shown()
    labels: dict[str, str] = {}
    reported: list[_Shown] = []
    for uid in sorted(states):
        model, state = models.get(uid), states[uid]
        word = _PHASE_WORDS.get(state.phase)
        if not word or not model or "deletionTimestamp" in model["metadata"]:
            continue
        each = shown.of(uid, model, state, word)
        labels[each.label] = labels[each.readable_label] = word
        reported.append(each)
    data = {each.key: each.entry for each in reported}
    if sum(each.size for each in reported) > _DATA_BYTES:
        data = _fitted(data, {each.key: each.namespace for each in reported})
    return NodeReport(labels, data)


def storage_labels(heartbeat: NodeHeartbeat) -> dict[str, str]:
    """How much room a node has for models: in the root that has the most, for a model lies in one. Empty without roots.

    What downloads under way have been promised is not available any more.
    """
    usable = [root for root in heartbeat.roots if not root.problem and root.total_bytes]
    if not usable:
        return {}
    roomy = max(usable, key=lambda root: root.free_bytes - root.reserved_bytes)
    return {
        AVAILABLE_STORAGE_LABEL: coarse_storage(max(0, roomy.free_bytes - roomy.reserved_bytes)),
        RESERVED_STORAGE_LABEL: coarse_storage(roomy.reserved_bytes),
    }


def label_changes(present: Mapping[str, str], wanted: Mapping[str, str]) -> LabelChanges:
    """The labels to set, and with None those to remove, for a node's labels to be as wanted. Others are not touched."""
    changes: LabelChanges = {key: None for key in present if key not in wanted and is_model_label(key)}
    changes.update({key: value for key, value in wanted.items() if present.get(key) != value})
    return changes


def storage_changes(present: Mapping[str, str], room: Mapping[str, str]) -> LabelChanges:
    """The labels to set or, with None, to remove for a node to tell how much room it has."""
    changes: LabelChanges = dict.fromkeys(STORAGE_LABELS & present.keys() - room.keys())
    return changes | {key: value for key, value in room.items() if present.get(key) != value}


def may_wait(present: Mapping[str, str], changes: Mapping[str, str | None]) -> bool:
    """Whether changes only say that fetching began: most models are Ready before anyone could have read that.

    A label that leaves Ready or goes away never waits, for a scheduler would go on to trust it.
    """
    return all(value == UPDATING and key not in present for key, value in changes.items())


def is_urgent(present: Mapping[str, str], changes: Mapping[str, str | None]) -> bool:
    """Whether a label leaves Ready or goes away, which a scheduler should hear of at once."""
    return any(present.get(key) == READY for key in changes)


def data_may_wait(present: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all that differs between two states of a ConfigMap is that fetching began."""
    if present.keys() - wanted.keys():
        return False
    changed = [key for key, value in wanted.items() if present.get(key) != value]
    return all(key not in present and json.loads(wanted[key])["state"] == UPDATING for key in changed)


def _fitted(data: dict[str, str], namespaces: Mapping[str, str]) -> dict[str, str]:
    """The entries that a ConfigMap has room for: the namespace that takes most of it gives up facts, then entries."""
    sizes = {key: len(key.encode()) + len(value.encode()) for key, value in data.items()}
    if sum(sizes.values()) <= _DATA_BYTES:
        return data
    fitted = dict(data)
    members: dict[str, list[str]] = {}
    for key in data:
        members.setdefault(namespaces[key], []).append(key)
    taken = {namespace: sum(sizes[key] for key in keys) for namespace, keys in members.items()}
    brief: set[str] = set()
    while sum(taken.values()) > _DATA_BYTES:
        richest = max(sorted(taken), key=taken.__getitem__)
        if richest not in brief:
            brief.add(richest)
            for key in members[richest]:
                fitted[key] = _without_facts(fitted[key])
                saved = sizes[key] - len(key.encode()) - len(fitted[key].encode())
                sizes[key] -= saved
                taken[richest] -= saved
        else:
            key = members[richest].pop()
            del fitted[key]
            taken[richest] -= sizes[key]
    return fitted


def _without_facts(entry: str) -> str:
    return json.dumps({key: value for key, value in json.loads(entry).items() if key != "facts"}, sort_keys=True)


@functools.lru_cache(maxsize=_KEPT)
def _names(kind: ModelKind, namespace: str, name: str) -> tuple[str, str]:
    ref = ModelRef(kind=kind, namespace=namespace, name=name)
    return readable_label(ref), data_key(ref)


@functools.lru_cache(maxsize=_KEPT)
def _entry(uid: str, word: str, said: bytes, without_facts: bool) -> str:
    """What a ConfigMap says of a model, given a serialised state, which most nodes of a fleet have in common."""
    state = NodeModelState.FromString(said)
    entry: dict[str, Any] = {"uid": uid, "state": word, "path": state.path}
    if state.problem.reason:
        entry["reason"] = word_of(state.problem.reason)
    if state.update:
        # Readers see a good copy, and another one is on its way or has failed.
        entry["update"] = _PHASE_WORDS.get(state.update)
    if state.artifact.digest:
        entry["digest"] = state.artifact.digest
    if state.HasField("facts") and not without_facts:
        entry["facts"] = _brief(state.facts)
    return json.dumps({key: value for key, value in entry.items() if value}, sort_keys=True)


def _brief(facts: ModelFacts) -> dict[str, Any]:
    brief = {
        "modelType": facts.model_type,
        "modelArchitecture": facts.architecture,
        "modelParameterSize": facts.parameter_size,
        "maxTokens": facts.usable_context_length or facts.context_length,
        "quantization": facts.quantization.spec_value,
    }
    return {key: value for key, value in brief.items() if value}

"""For each model the nodes that it is meant for, kept while both come, change and go. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Set
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.labels import STORAGE_LABELS
from libs.model.placement import check_placement, is_placed, selected_keys


class Placements:
    """For each model the nodes that it is meant for, kept while models and nodes come, change and go."""

    def __init__(self) -> None:
        self._labels: dict[str, Mapping[str, str]] = {}
        self._storages: dict[str, Mapping[str, Any]] = {}
        self._placed: dict[str, set[str]] = {}
        # Of models that select by room, the nodes on which they may stay.
        self._staying: dict[str, set[str]] = {}
        # Models by the labels that they select by.
        self._selecting: defaultdict[str, set[str]] = defaultdict(set)

    def nodes_of(self, uid: str) -> Set[str]:
        """The nodes that a model is meant for: none while its storage cannot be evaluated."""
        return self._placed.get(uid, set())

    def staying_of(self, uid: str) -> Set[str]:
        """The nodes that a model may stay on if they hold it: more than it is meant for where it selects by room."""
        return self._staying.get(uid) or self.nodes_of(uid)

    def model_changed(self, uid: str, storage: Mapping[str, Any] | None) -> bool:
        """A model has this storage now, or nothing places it; returns whether its selectors have changed."""
        before = self._storages.get(uid)
        if storage is before is None:
            return False
        if storage is not None and before is not None and _selection(storage) == _selection(before):
            return False
        for key in selected_keys(before or {}):
            self._selecting[key].discard(uid)
            if not self._selecting[key]:
                del self._selecting[key]
        self._storages.pop(uid, None)
        self._placed.pop(uid, None)
        self._staying.pop(uid, None)
        if storage is None:
            return True
        try:
            check_placement(storage)
        except InvalidValue:
            return True
        self._storages[uid] = storage
        self._placed[uid] = {node for node, labels in self._labels.items() if is_placed(storage, node, labels)}
        keys = selected_keys(storage)
        for key in keys:
            self._selecting[key].add(uid)
        if keys & STORAGE_LABELS:
            self._staying[uid] = {
                node for node, labels in self._labels.items() if is_placed(storage, node, labels, True)
            }
        return True

    def node_changed(self, node: str, labels: Mapping[str, str] | None) -> set[str]:
        """A node has these labels now, or is gone; returns the models that are newly meant for it or no longer are."""
        before = self._labels.get(node)
        if before is None or labels is None:
            concerned = set(self._storages)
        else:
            keys = (key for key in self._selecting if before.get(key) != labels.get(key))
            concerned = {uid for key in keys for uid in self._selecting[key]}
        if labels is None:
            self._labels.pop(node, None)
        else:
            self._labels[node] = labels
        changed = set()
        for uid in concerned:
            placed = labels is not None and is_placed(self._storages[uid], node, labels)
            known = [(self._placed[uid], placed)]
            if uid in self._staying:
                stays = labels is not None and is_placed(self._storages[uid], node, labels, True)
                known.append((self._staying[uid], stays))
            for nodes, belongs in known:
                if belongs != (node in nodes):
                    changed.add(uid)
                    (nodes.add if belongs else nodes.discard)(node)
        return changed


def _selection(storage: Mapping[str, Any]) -> tuple[Any, ...]:
    return storage.get("nodeSelector") or {}, storage.get("nodeAffinity") or {}, storage.get("tolerations")

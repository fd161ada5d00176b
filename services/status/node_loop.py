"""Reports one node: its labels and its ConfigMap. Only the leader writes.

Owns the number of writes: whatever has changed on a node since the last write goes into one patch. What is written is
decided by node_report, when by pacing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from libs.artifact.labels import AVAILABLE_STORAGE_LABEL
from libs.artifact.reasons import Reason
from libs.chassis.budget import Budget
from libs.chassis.errors import Missing
from libs.chassis.kube import Object
from services.status.cluster import CONFIG_MAPS, NODES, Cluster
from services.status.kube import Writer
from services.status.node_report import (
    CONFIG_MAP_LABELS,
    LabelChanges,
    NodeReport,
    Shown,
    data_may_wait,
    is_urgent,
    label_changes,
    may_wait,
    node_report,
    storage_changes,
)
from services.status.observations import Observations
from services.status.pacing import WAITING_SECONDS, Pacer, Spread, StoragePacer

# The labels are what a scheduler goes by; the ConfigMap is for people, and gathers what a burst of models brings.
_LABEL_INTERVAL_SECONDS = 0.03
_CONFIG_MAP_PATIENCE_SECONDS = 0.3
# Between two writes of one node, per node of the cluster: while more of its models are to come, and afterwards. Of a
# hundred models that come at once each would be written by itself otherwise, which is a hundred requests per node.
_LABEL_SPREAD = Spread(busy_seconds_per_node=0.1, settled_seconds_per_node=0.005, longest_seconds=30.0)
_CONFIG_MAP_SPREAD = Spread(busy_seconds_per_node=0.2, settled_seconds_per_node=0.01, longest_seconds=120.0)
# Reporting on all nodes may take this part of the time while everything changes.
_SHARE, _LONGEST_SECONDS = 0.03, 10.0


class NodeLoop:
    """Reconciles nodes by name, including those that exist no more."""

    def __init__(
        self,
        writer: Writer,
        cluster: Cluster,
        observations: Observations,
        leading: Callable[[], bool],
        namespace: str,
    ) -> None:
        self._writer = writer
        self._cluster = cluster
        self._observations = observations
        self._leading = leading
        self._namespace = namespace
        self._label_pacer: Pacer[str] = Pacer(_LABEL_INTERVAL_SECONDS)
        self._storage_pacer = StoragePacer()
        self._labels_written_at: dict[str, float] = {}
        self._data_written_at: dict[str, float] = {}
        self._data_pacer: Pacer[str] = Pacer()
        self._shown = Shown()
        self._budget: Budget[str] = Budget(_SHARE, _LONGEST_SECONDS)
        # What was asked for and what became of it where that differs, so that keys which somebody added do not make us
        # ask for ever.
        self._written: dict[str, tuple[Object, Object]] = {}

    def patience_seconds(self, name: str) -> float:
        """How long a node that has changed may wait for a look at it."""
        return self._budget.patience_seconds(name)

    async def reconcile(self, name: str) -> float | None:
        """Bring a node's labels and ConfigMap up to date; returns when to look again, in seconds."""
        if not self._leading():
            self._budget.forget(name)
            return None
        started = time.thread_time()
        node = self._cluster.node(name)
        report = NodeReport({}, {})
        if node:
            report = node_report(self._cluster.models, self._observations.states_of_node(name), self._shown)
        busy = self._observations.awaits_models(name)
        self._budget.spent(name, time.thread_time() - started)
        try:
            waits = (
                await self._write_labels(name, node, report.labels, busy) if node else None,
                await self._write_data(name, report.data, busy),
            )
        except Missing as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            # The node or the ConfigMap went while we wrote; the watch is about to say so.
            return None
        if not node:
            self._label_pacer.forget(name)
            self._storage_pacer.forget(name)
            self._labels_written_at.pop(name, None)
            self._data_written_at.pop(name, None)
        return min((wait for wait in waits if wait is not None), default=None)

    async def _write_labels(self, name: str, node: Object, wanted: dict[str, str], busy: bool) -> float | None:
        present = node["metadata"].get("labels") or {}
        changes = label_changes(present, wanted)
        now = asyncio.get_running_loop().time()
        room, room_wait = self._room_changes(name, present, now)
        if not changes:
            self._label_pacer.settled(name)
            if room:
                await self._write_label_changes(name, node, {}, room)
            return room_wait
        patience = WAITING_SECONDS if may_wait(present, changes) else 0.0
        remaining = self._label_pacer.remaining_seconds(name, patience, now)
        if not is_urgent(present, changes):
            remaining = max(remaining, self._spread(_LABEL_SPREAD, name, busy, self._labels_written_at, now))
        if remaining > 0:
            return remaining
        await self._write_label_changes(name, node, changes, room)
        self._labels_written_at[name] = asyncio.get_running_loop().time()
        self._label_pacer.written(name, now, self._labels_written_at[name])
        return room_wait

    def _room_changes(self, name: str, present: Mapping[str, str], now: float) -> tuple[LabelChanges, float | None]:
        """The labels of a node's room to write now, and in how many seconds to look again if they have to wait."""
        room = self._observations.room(name)
        changes = {} if room is None else storage_changes(present, room)
        if not changes:
            return {}, None
        remaining = self._storage_pacer.remaining_seconds(name, AVAILABLE_STORAGE_LABEL in present, now)
        return ({}, remaining) if remaining > 0 else (changes, None)

    async def _write_label_changes(self, name: str, node: Object, changes: LabelChanges, room: LabelChanges) -> None:
        written = await self._writer.label(NODES, name, node["metadata"]["uid"], changes | room)
        self._cluster.absorb_node(written)
        if room:
            self._storage_pacer.written(name, asyncio.get_running_loop().time())

    async def _write_data(self, name: str, wanted: dict[str, str], busy: bool) -> float | None:
        present = self._cluster.config_map(name)
        data = (present or {}).get("data") or {}
        unchanged = data == wanted or self._written.get(name) == (wanted, data)
        if unchanged and bool(present) == bool(wanted):
            self._data_pacer.settled(name)
            return None
        now = asyncio.get_running_loop().time()
        patience = WAITING_SECONDS if wanted and data_may_wait(data, wanted) else _CONFIG_MAP_PATIENCE_SECONDS
        if wanted and name not in self._data_written_at and busy:
            # Nobody waits for the first entries of a node to which more models are to come.
            patience = max(patience, _CONFIG_MAP_SPREAD.interval_seconds(self._cluster.nodes, busy))
        if wanted:
            # Of a burst, the labels of all nodes go first: what the API server takes at a time is shared by both.
            patience = max(patience, _CONFIG_MAP_SPREAD.interval_seconds(self._cluster.nodes, busy=False))
        remaining = self._data_pacer.remaining_seconds(name, patience, now)
        if wanted:
            remaining = max(remaining, self._spread(_CONFIG_MAP_SPREAD, name, busy, self._data_written_at, now))
        if remaining > 0:
            return remaining
        if present and not wanted:
            await self._writer.delete(CONFIG_MAPS, name, self._namespace, present["metadata"]["uid"])
            self._written.pop(name, None)
        else:
            body = {
                "metadata": {"name": name, "namespace": self._namespace, "labels": CONFIG_MAP_LABELS},
                "data": wanted,
            }
            applied = await self._writer.apply(CONFIG_MAPS, body, force=True)
            self._written.pop(name, None)
            if (became := applied.get("data") or {}) != wanted:
                self._written[name] = (wanted, became)
            self._cluster.absorb_config_map(applied)
        self._data_written_at[name] = asyncio.get_running_loop().time()
        self._data_pacer.written(name, now, self._data_written_at[name])
        return None

    def _spread(self, spread: Spread, name: str, busy: bool, written_at: dict[str, float], now: float) -> float:
        """How long a node waits because it was written a moment ago; busy while more models are to come to it."""
        if name not in written_at:
            return 0.0
        return written_at[name] + spread.interval_seconds(self._cluster.nodes, busy) - now

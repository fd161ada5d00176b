"""Reports one node: its labels and its ConfigMap. Only the leader writes.

Owns the number of writes: whatever has changed on a node since the last write goes into one patch. What is written is
decided by node_report, when by pacing.
"""

import asyncio
from collections.abc import Callable

from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing
from libs.chassis.kube import Object
from services.status.cluster import CONFIG_MAPS, NODES, Cluster
from services.status.kube import Writer
from services.status.node_report import (
    CONFIG_MAP_LABELS,
    NodeReport,
    data_may_wait,
    label_changes,
    may_wait,
    node_report,
)
from services.status.observations import Observations
from services.status.pacing import WAITING_SECONDS, Pacer

# The labels are what a scheduler goes by; the ConfigMap is for people, and gathers what a burst of models brings.
_LABEL_INTERVAL_SECONDS = 0.03
_CONFIG_MAP_PATIENCE_SECONDS = 0.3


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
        self._data_pacer: Pacer[str] = Pacer()
        # What was asked for and what became of it, so that keys which somebody added do not make us ask for ever.
        self._written: dict[str, tuple[Object, Object]] = {}

    async def reconcile(self, name: str) -> float | None:
        """Bring a node's labels and ConfigMap up to date; returns when to look again, in seconds."""
        if not self._leading():
            return None
        node = self._cluster.node(name)
        report = NodeReport({}, {})
        if node:
            report = node_report(self._cluster.models, self._observations.states_of_node(name))
        try:
            waits = (
                await self._write_labels(name, node, report.labels) if node else None,
                await self._write_data(name, report.data),
            )
        except Missing as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            # The node or the ConfigMap went while we wrote; the watch is about to say so.
            return None
        if not node:
            self._label_pacer.forget(name)
        return min((wait for wait in waits if wait is not None), default=None)

    async def _write_labels(self, name: str, node: Object, wanted: dict[str, str]) -> float | None:
        present = node["metadata"].get("labels") or {}
        changes = label_changes(present, wanted)
        if not changes:
            self._label_pacer.settled(name)
            return None
        now = asyncio.get_running_loop().time()
        patience = WAITING_SECONDS if may_wait(present, changes) else 0.0
        remaining = self._label_pacer.remaining_seconds(name, patience, now)
        if remaining > 0:
            return remaining
        written = await self._writer.label(NODES, name, node["metadata"]["uid"], changes)
        self._cluster.absorb_node(written)
        self._label_pacer.written(name, now, asyncio.get_running_loop().time())
        return None

    async def _write_data(self, name: str, wanted: dict[str, str]) -> float | None:
        present = self._cluster.config_map(name)
        data = (present or {}).get("data") or {}
        unchanged = data == wanted or self._written.get(name) == (wanted, data)
        if unchanged and bool(present) == bool(wanted):
            self._data_pacer.settled(name)
            return None
        now = asyncio.get_running_loop().time()
        patience = WAITING_SECONDS if wanted and data_may_wait(data, wanted) else _CONFIG_MAP_PATIENCE_SECONDS
        remaining = self._data_pacer.remaining_seconds(name, patience, now)
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
            self._written[name] = (wanted, applied.get("data") or {})
            self._cluster.absorb_config_map(applied)
        self._data_pacer.written(name, now, asyncio.get_running_loop().time())
        return None

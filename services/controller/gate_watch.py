"""Watches the Pods that wait for models, and lets them be scheduled once their model is on a node.

Owns their reflector and their queue. Which Pods wait and when they may start is decided in gates.
"""

from collections import defaultdict
from collections.abc import Callable

import structlog

from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector
from libs.chassis.work import KeyedQueue
from services.controller import gates
from services.controller.kube import PODS, lift_gate

_log = structlog.get_logger()


class GateWatch:
    """Waiting Pods by the model that they name."""

    def __init__(
        self,
        health: Health,
        model_at: Callable[[gates.Place], Object | None],
        demand_changed: Callable[[gates.Place], None],
    ) -> None:
        """demand_changed is called with a model for which a first Pod begins, or the last one ceases, to wait."""
        self.queue: KeyedQueue[tuple[str, str]] = KeyedQueue("gates")
        self._model_at = model_at
        self._demand_changed = demand_changed
        self._pods = Reflector(PODS, "waiting pods", health, gates.SELECTOR, project=gates.kept_of_pod)
        self._waiting: defaultdict[gates.Place, set[tuple[str, str]]] = defaultdict(set)

    def is_awaited(self, place: gates.Place) -> bool:
        """Whether a Pod waits for a model."""
        return place in self._waiting

    def model_changed(self, place: gates.Place) -> None:
        """The model at a place has come, changed or gone."""
        for pod in self._waiting.get(place, ()):
            self.queue.add(pod)

    def look_at_everything(self) -> None:
        """Look at all waiting Pods, as when this replica begins to lead."""
        for pods in self._waiting.values():
            for pod in pods:
                self.queue.add(pod)

    async def reconcile(self, kube: KubeClient, key: tuple[str, str]) -> None:
        """Let one Pod be scheduled if its model is on a node; for the leader alone."""
        pod = self._pods.objects.get(key)
        place = gates.place_of_model(pod) if pod else None
        if pod is None or place is None or not gates.is_waiting(pod) or not gates.may_start(self._model_at(place)):
            return
        await lift_gate(kube, pod)
        _log.info("pod_released", pod="/".join(key), model="/".join(filter(None, place)))

    async def synced(self) -> None:
        """Wait until all waiting Pods have been listed once."""
        await self._pods.synced()

    async def run(self, kube: KubeClient) -> None:
        """Keep the copies current until cancelled."""
        await self._pods.run(kube, self.pod_changed)

    def pod_changed(self, before: Object | None, after: Object | None) -> None:
        """A Pod that waits for a model was seen, changed or went."""
        metadata = (after or before or {})["metadata"]
        key = metadata["namespace"], metadata["name"]
        former, now = _awaited(before), _awaited(after)
        if former and former != now:
            self._waiting[former].discard(key)
            if not self._waiting[former]:
                del self._waiting[former]
                self._demand_changed(former)
        if now:
            is_first = now not in self._waiting
            self._waiting[now].add(key)
            self.queue.add(key)
            if is_first:
                self._demand_changed(now)


def _awaited(pod: Object | None) -> gates.Place | None:
    return gates.place_of_model(pod) if pod and gates.is_waiting(pod) else None

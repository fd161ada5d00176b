"""Watches the Pods that wait for models, tells them why, and lets them be scheduled once their model is on a node.

Owns their reflector and their queue. Which Pods wait, when they may start and what they are told is decided in gates,
and how often in pod_events.
"""

import time
from collections import defaultdict
from collections.abc import Callable

import structlog

from libs.chassis.errors import ServiceError
from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector
from libs.chassis.work import KeyedQueue
from services.controller import gates
from services.controller.kube import PODS, lift_gate, record_event
from services.controller.pod_events import Tellings

_log = structlog.get_logger()


class GateWatch:
    """Waiting Pods by the model that they name."""

    def __init__(
        self,
        health: Health,
        model_at: Callable[[gates.Place], Object | None],
        demand_changed: Callable[[gates.Place], None],
        instance: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """demand_changed is called with a model for which a first Pod begins, or the last one ceases, to wait. instance
        is who tells Pods something.
        """
        self.queue: KeyedQueue[tuple[str, str]] = KeyedQueue("gates")
        self._model_at = model_at
        self._demand_changed = demand_changed
        self._instance = instance
        self._clock = clock
        self._tellings = Tellings()
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
        self.queue.add_all(self._pods.objects)

    async def reconcile(self, kube: KubeClient, key: tuple[str, str]) -> float | None:
        """Let one Pod be scheduled if its model is there, else tell it why it waits; for the leader alone.

        Returns after how many seconds there may be something to tell.
        """
        pod = self._pods.objects.get(key)
        if pod is None or not gates.is_waiting(pod):
            return None
        place = gates.place_of_model(pod)
        model = self._model_at(place) if place else None
        if model is not None and gates.may_be_released(pod, model):
            await lift_gate(kube, pod)
            _log.info("pod_released", pod="/".join(key), model="/".join(filter(None, place or ())))
            await self._tell(kube, pod, gates.word_of_release(pod, model))
            return None
        word, now = gates.word_of_waiting(pod, model), self._clock()
        wait = self._tellings.wait_seconds(key, word, now)
        if wait == 0.0:
            self._tellings.told(key, word, now)
            await self._tell(kube, pod, word)
            return None
        return wait

    async def _tell(self, kube: KubeClient, pod: Object, word: gates.Word) -> None:
        try:
            await record_event(kube, pod, word, self._instance)
        except ServiceError as error:
            # A Pod is helped by being released, and not by being told so.
            _log.warning("event_not_recorded", pod=pod["metadata"]["name"], about=word.reason, message=error.message)

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
        if after and gates.is_waiting(after):
            # Also one that names no model, which is told so.
            self.queue.add(key)
        else:
            self._tellings.forget(key)
        former, now = _awaited(before), _awaited(after)
        if former and former != now:
            self._waiting[former].discard(key)
            if not self._waiting[former]:
                del self._waiting[former]
                self._demand_changed(former)
        if now:
            is_first = now not in self._waiting
            self._waiting[now].add(key)
            if is_first:
                self._demand_changed(now)


def _awaited(pod: Object | None) -> gates.Place | None:
    return gates.place_of_model(pod) if pod and gates.is_waiting(pod) else None

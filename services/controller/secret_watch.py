"""Looks at the Secrets of models that fail, so that a Secret that is made, rotated or deleted is acted upon at once.

Reads no value, no Secret that no failing model names, and nothing at all while no model fails.
docs/adr/0014-credentials.md says why it polls.
"""

from collections.abc import Callable

from libs.chassis.kube import KubeClient
from libs.chassis.work import KeyedQueue
from services.controller.kube import read_secret_state
from services.controller.specification import SecretRef

# However many models fail, the API server is asked no more often than this; each Secret is looked at less often then.
_MOST_PER_SECOND = 10.0

SecretName = tuple[str, str]


class SecretWatch:
    """Knows the state of every Secret that a model awaits a change of."""

    def __init__(self, interval_seconds: float, on_change: Callable[[str], None]) -> None:
        """on_change is called with the uid of each model whose Secret turns out to be in another state."""
        # By namespace and name; an empty state is that of a Secret that does not exist.
        self.states: dict[SecretName, str] = {}
        self._interval_seconds = interval_seconds
        self._on_change = on_change
        self._places: dict[str, SecretName] = {}
        self._uids: dict[SecretName, set[str]] = {}
        self._queue: KeyedQueue[SecretName] = KeyedQueue("secrets")

    def follow(self, uid: str, secret: SecretRef | None) -> None:
        """Look at a Secret on behalf of a model from now on, at once for the first time; None ends that."""
        before, after = self._places.get(uid), secret.place if secret else None
        if before == after:
            return
        if before:
            del self._places[uid]
            self._uids[before].discard(uid)
            if not self._uids[before]:
                # What it was then says nothing about the next failure.
                del self._uids[before]
                self.states.pop(before, None)
        if after:
            self._places[uid] = after
            self._uids.setdefault(after, set()).add(uid)
            self._queue.add(after)

    def follows(self, uid: str) -> bool:
        """Whether a Secret is looked at on behalf of a model."""
        return uid in self._places

    def clear(self) -> None:
        """Look at nothing any more, as when another replica leads."""
        for uid in tuple(self._places):
            self.follow(uid, None)

    async def run(self, kube: KubeClient) -> None:
        """Look until cancelled."""

        async def look(place: SecretName) -> float | None:
            if place not in self._uids:
                return None
            state = await read_secret_state(kube, *place)
            uids = self._uids.get(place)
            if not uids:
                return None
            if self.states.get(place) != state:
                self.states[place] = state
                for uid in uids:
                    self._on_change(uid)
            return max(self._interval_seconds, len(self._uids) / _MOST_PER_SECOND)

        await self._queue.run(look)

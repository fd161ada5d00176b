"""The models as StatusService tells them, and who is waiting to hear of changes.

Holds the latest view of each model. A subscriber has at most one pending entry per model, so that a slow reader gets
fewer messages and never an older state after a newer one. Must not do I/O.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ome.model.v1.model_pb2 import ModelRef
from ome.status.v1.status_pb2 import Model


class Subscription:
    """The models that one watcher has not been told of yet."""

    def __init__(self, matches: Callable[[ModelRef], bool], pending: dict[str, ModelRef]) -> None:
        self._matches = matches
        self._pending = pending
        self._changed = asyncio.Event()

    def notify(self, ref: ModelRef) -> None:
        """Have the watcher told of a model, unless that is pending already."""
        if self._matches(ref):
            self._pending.setdefault(ref.uid, ref)
            self._changed.set()

    async def next_change(self) -> ModelRef:
        """Wait for a model to tell of, in the order of first changes. Cancelling loses none."""
        while not self._pending:
            self._changed.clear()
            await self._changed.wait()
        return self._pending.pop(next(iter(self._pending)))

    def take_pending(self) -> list[ModelRef]:
        """All models to tell of now, for a watcher that asks at its own pace."""
        taken = list(self._pending.values())
        self._pending.clear()
        return taken


class Catalog:
    """The latest view of every model, by uid."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._subscriptions: set[Subscription] = set()

    def get(self, model_uid: str) -> Model | None:
        """The view of a model."""
        return self._models.get(model_uid)

    def find(self, matches: Callable[[ModelRef], bool]) -> Model | None:
        """Any model whose reference matches."""
        return next((model for model in self._models.values() if matches(model.ref)), None)

    def models(self) -> list[Model]:
        """All models, sorted by kind, namespace and name."""
        return sorted(self._models.values(), key=sort_key)

    def put(self, model: Model) -> None:
        """Take a new view of a model; one that is equal to the last is no change."""
        if self._models.get(model.ref.uid) != model:
            self._models[model.ref.uid] = model
            self.touch(model.ref.uid)

    def remove(self, model_uid: str) -> None:
        """Forget a model that is gone."""
        model = self._models.pop(model_uid, None)
        if model:
            self._notify(model.ref)

    def touch(self, model_uid: str) -> None:
        """Tell watchers of a model whose view says something new, such as the progress of a transfer."""
        model = self._models.get(model_uid)
        if model:
            self._notify(model.ref)

    @contextmanager
    def subscribe(self, matches: Callable[[ModelRef], bool]) -> Iterator[tuple[Subscription, int]]:
        """Subscribe to the models that match, beginning with those that exist; yields also how many these are."""
        existing = {model.ref.uid: model.ref for model in self.models() if matches(model.ref)}
        count = len(existing)
        subscription = Subscription(matches, existing)
        self._subscriptions.add(subscription)
        try:
            yield subscription, count
        finally:
            self._subscriptions.discard(subscription)

    def _notify(self, ref: ModelRef) -> None:
        for subscription in self._subscriptions:
            subscription.notify(ref)


def sort_key(model: Model) -> tuple[int, str, str, str]:
    """Order of lists: kind, namespace, name; the uid tells a model from a successor that has its name."""
    return model.ref.kind, model.ref.namespace, model.ref.name, model.ref.uid

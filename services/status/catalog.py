"""The models as StatusService tells them, and who is waiting to hear of changes.

Holds the latest view of each model. A subscriber has at most one pending entry per model, so that a slow reader gets
fewer messages and never an older state after a newer one. Changes are numbered, so that a subscriber that comes back
is told only what it has missed. Must not do I/O.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ome.model.v1.model_pb2 import ModelRef
from ome.status.v1.status_pb2 import Model
from services.status.listing import sort_key

# Of models that are gone so many are remembered, for subscribers that come back.
_GONE = 1000


class Subscription:
    """The models that one watcher has not been told of yet, each with the number of the first change of it."""

    def __init__(
        self, matches: Callable[[ModelRef], bool], pending: dict[str, tuple[ModelRef, int]], number: int
    ) -> None:
        """pending is in the order of the numbers; number is that of the last change of any model."""
        self._matches = matches
        self._pending = pending
        self._number = number
        self._changed = asyncio.Event()

    @property
    def told_to(self) -> int:
        """The last change up to which the watcher has been told all that concerns it."""
        if self._pending:
            return next(iter(self._pending.values()))[1] - 1
        return self._number

    def notify(self, ref: ModelRef, number: int) -> None:
        """Have the watcher told of a model, unless that is pending already."""
        self._number = number
        if self._matches(ref):
            self._pending.setdefault(ref.uid, (ref, number))
            self._changed.set()

    async def next_change(self) -> ModelRef:
        """Wait for a model to tell of, in the order of first changes. Cancelling loses none."""
        while not self._pending:
            self._changed.clear()
            await self._changed.wait()
        return self._pending.pop(next(iter(self._pending)))[0]

    def take_all(self) -> list[ModelRef]:
        """All models to tell of, without waiting for one."""
        refs = [ref for ref, _ in self._pending.values()]
        self._pending.clear()
        return refs


class Catalog:
    """The latest view of every model, by uid."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._subscriptions: set[Subscription] = set()
        # Number of the last change, of the last one of each model, and the models that went, with the numbers.
        self._number = 0
        self._changed_at: dict[str, int] = {}
        self._gone: deque[tuple[int, ModelRef]] = deque(maxlen=_GONE)

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
            del self._changed_at[model_uid]
            self._gone.append((self._number, model.ref))

    def touch(self, model_uid: str) -> None:
        """Tell watchers of a model whose view says something new, such as the progress of a transfer."""
        model = self._models.get(model_uid)
        if model:
            self._notify(model.ref)

    def remembers(self, number: int) -> bool:
        """Whether it is known what has changed since the change of this number."""
        forgotten = self._gone[0][0] - 1 if len(self._gone) == _GONE else 0
        return forgotten <= number <= self._number

    @contextmanager
    def subscribe(
        self, matches: Callable[[ModelRef], bool], after: int | None = None
    ) -> Iterator[tuple[Subscription, int]]:
        """Subscribe to the models that match, beginning with those that exist; yields also how many these are.

        after is the number of a change that is remembered: then it begins with what has changed or gone since.
        """
        if after is None:
            # Numbered so that nothing is taken for told before all of them are.
            pending = {model.ref.uid: (model.ref, 0) for model in self.models() if matches(model.ref)}
        else:
            changed = [(number, self._models[uid].ref) for uid, number in self._changed_at.items()]
            missed = sorted(
                ((number, ref) for number, ref in (*changed, *self._gone) if number > after and matches(ref)),
                key=lambda each: each[0],
            )
            pending = {ref.uid: (ref, number) for number, ref in missed}
        count = len(pending)
        subscription = Subscription(matches, pending, self._number)
        self._subscriptions.add(subscription)
        try:
            yield subscription, count
        finally:
            self._subscriptions.discard(subscription)

    def _notify(self, ref: ModelRef) -> None:
        self._number += 1
        self._changed_at[ref.uid] = self._number
        for subscription in self._subscriptions:
            subscription.notify(ref, self._number)

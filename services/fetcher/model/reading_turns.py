"""Which of the copies that people want read is read next, and when. Pure; times are seconds of any one clock.

Namespaces take turns. The first reading of a copy is for the asking; one that is read again costs its namespace a rest,
as whoever asks again and again would have the disks of all nodes busy for others.
"""

from collections import OrderedDict
from dataclasses import dataclass

# After a copy was read again, a namespace rests so many times as long before it has another read again.
_RESTS = 4.0
# Copies that are known to have been read, and namespaces that have had a turn.
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Wish:
    """Somebody wants a copy read for a model, by a request of this name. Cluster-scoped models are in no namespace."""

    request: str
    namespace: str
    root: str
    digest: str


class ReadingTurns:
    """The wishes that wait, by the uid of the model; each model has one."""

    def __init__(self) -> None:
        self._waiting: dict[str, Wish] = {}
        self._read: OrderedDict[tuple[str, str], None] = OrderedDict()
        # When a namespace had its last turn, and until when it rests.
        self._served: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def ask(self, model_uid: str, wish: Wish) -> None:
        """Wait for a turn; what the model wanted before is forgotten."""
        self._waiting[model_uid] = wish

    def withdraw(self, model_uid: str) -> None:
        """A model wants nothing any more."""
        self._waiting.pop(model_uid, None)

    def take(self, now: float) -> tuple[str, Wish] | None:
        """The next model and its wish, which waits no longer; None while there is none, or all of them rest."""
        ready = [uid for uid, wish in self._waiting.items() if self._ready_at(wish) <= now]
        if not ready:
            return None
        # Of one namespace the first that has asked: min keeps the order.
        uid = min(ready, key=lambda each: self._served.get(self._waiting[each].namespace, (0.0, 0.0))[0])
        return uid, self._waiting.pop(uid)

    def seconds_to_rest(self, now: float) -> float | None:
        """How long until a wish that waits may be taken; None when nothing waits."""
        return min((max(0.0, self._ready_at(wish) - now) for wish in self._waiting.values()), default=None)

    def ended(self, wish: Wish, began: float, now: float) -> None:
        """A copy was read, or could not be."""
        copy = wish.root, wish.digest
        again = wish.namespace and copy in self._read
        _, rests_until = self._served.pop(wish.namespace, (0.0, 0.0))
        self._served[wish.namespace] = now, (now + _RESTS * (now - began) if again else rests_until)
        self._read[copy] = None
        self._read.move_to_end(copy)
        while len(self._read) > _REMEMBERED:
            self._read.popitem(last=False)
        while len(self._served) > _REMEMBERED:
            self._served.popitem(last=False)

    def _ready_at(self, wish: Wish) -> float:
        if not wish.namespace or (wish.root, wish.digest) not in self._read:
            return 0.0
        return self._served.get(wish.namespace, (0.0, 0.0))[1]

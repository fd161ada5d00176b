"""Whose listing is next: one at a time per namespace, and namespaces in turn, whoever has asked more. Decisions only.

Cluster-scoped models are the operator's own and count as one namespace, the empty one, with all slots but one.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Turns(Generic[T]):
    """Tasks that wait and tasks that have a slot, by namespace."""

    def __init__(self, slots: int, most_waiting: int) -> None:
        self._slots = slots
        self._most_waiting = most_waiting
        # The namespace that was served longest ago is first.
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._running: dict[T, str] = {}

    def add(self, namespace: str, task: T) -> T | None:
        """Let a task wait for its turn; return one that must give up waiting for it, if there are too many.

        That is the last of the namespace which has most: who asks much makes no other namespace wait.
        """
        self._waiting.setdefault(namespace, deque()).append(task)
        if sum(map(len, self._waiting.values())) <= self._most_waiting:
            return None
        richest = max(self._waiting, key=lambda each: len(self._waiting[each]))
        return self._take(richest, last=True)

    def next(self) -> T | None:
        """A task whose turn it is now; it has a slot until it is done."""
        namespace = self._due()
        if namespace is None:
            return None
        task = self._take(namespace)
        if namespace in self._waiting:
            self._waiting.move_to_end(namespace)
        self._running[task] = namespace
        return task

    def done(self, task: T) -> None:
        """A task needs its slot no more, or waits no more. Idempotent."""
        if self._running.pop(task, None) is None:
            for namespace, tasks in tuple(self._waiting.items()):
                if task in tasks:
                    tasks.remove(task)
                    if not tasks:
                        del self._waiting[namespace]

    @property
    def wants_more(self) -> bool:
        """Whether a slot is free that no waiting task may have."""
        return len(self._running) < self._slots and self._due() is None

    def _due(self) -> str | None:
        if len(self._running) >= self._slots:
            return None
        return next((namespace for namespace in self._waiting if self._held(namespace) < self._most(namespace)), None)

    def _held(self, namespace: str) -> int:
        return sum(1 for each in self._running.values() if each == namespace)

    def _most(self, namespace: str) -> int:
        return 1 if namespace else max(1, self._slots - 1)

    def _take(self, namespace: str, last: bool = False) -> T:
        tasks = self._waiting[namespace]
        task = tasks.pop() if last else tasks.popleft()
        if not tasks:
            del self._waiting[namespace]
        return task

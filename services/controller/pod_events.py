"""Tells Pods that wait for a model why, by Events: which of the news, when, and how many in all.

Owns what each waiting Pod was told last, for as long as it waits. Pure, but for what it remembers: the clock is an
argument, and gate_watch writes what is due.
"""

from services.controller.gates import Word

# So long a Pod waits before it is told why: most models that come with their Pods are there by then.
FIRST_SECONDS = 2.0
# Between two Events of one Pod while it waits, however often its model changes.
BETWEEN_SECONDS = 60.0
# Between two Events of Pods of one namespace: a thousand that wait for one model are told one after the other, and
# those of other namespaces do not wait for them.
APART_SECONDS = 0.1

PodKey = tuple[str, str]


class Tellings:
    """What is told to which Pod, and when."""

    def __init__(self) -> None:
        self._seen: dict[PodKey, float] = {}
        self._told: dict[PodKey, tuple[tuple[str, str], float]] = {}
        # When a Pod has its turn, if it has been given one; and from when on there are turns for a namespace.
        self._turns: dict[PodKey, float] = {}
        self._free_at: dict[str, float] = {}

    def wait_seconds(self, pod: PodKey, word: Word, now: float) -> float | None:
        """In how many seconds a Pod is to be told a word; 0 for now, None if it knows it.

        A Pod keeps the turn that it was given: thousands that looked for a free one again and again would take all of
        the controller's time.
        """
        due = self._seen.setdefault(pod, now) + FIRST_SECONDS
        if told := self._told.get(pod):
            if told[0] == word.news:
                self._turns.pop(pod, None)
                return None
            due = told[1] + BETWEEN_SECONDS
        if due > now:
            return due - now
        turn = self._turns.get(pod)
        if turn is None:
            # Namespaces come and go for ever.
            self._free_at = {each: at for each, at in self._free_at.items() if at > now}
            turn = self._turns[pod] = self._free_at.get(pod[0], now)
            self._free_at[pod[0]] = turn + APART_SECONDS
        return max(0.0, turn - now)

    def told(self, pod: PodKey, word: Word, now: float) -> None:
        """A Pod is being told a word."""
        self._told[pod] = word.news, now
        self._turns.pop(pod, None)

    def forget(self, pod: PodKey) -> None:
        """A Pod no longer waits."""
        for remembered in (self._seen, self._told, self._turns):
            remembered.pop(pod, None)

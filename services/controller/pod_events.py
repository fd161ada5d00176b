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
        # When it is the turn of those of which it is time, each once: so none has to look whenever another was told.
        # By namespace, as the two that follow: when the turn after the last one is, and when another may be told.
        self._turns: dict[str, dict[PodKey, float]] = {}
        self._next_turn: dict[str, float] = {}
        self._free_at: dict[str, float] = {}

    def wait_seconds(self, pod: PodKey, word: Word, now: float) -> float | None:
        """In how many seconds a Pod is to be told a word; 0 for now, None if it knows it.

        A Pod keeps the turn that it was given: thousands that looked for a free one again and again would take all of
        the controller's time.
        """
        due = self._seen.setdefault(pod, now) + FIRST_SECONDS
        if told := self._told.get(pod):
            if told[0] == word.news:
                self._leave(pod)
                return None
            due = told[1] + BETWEEN_SECONDS
        if due > now:
            return due - now
        namespace = pod[0]
        turns = self._turns.setdefault(namespace, {})
        turn, free = turns.get(pod), self._free_at.get(namespace, now)
        # Whose turn has passed while others were told waits for another one.
        if turn is None or turn <= now < free:
            turn = turns[pod] = max(now, free, self._next_turn.get(namespace, now))
            self._next_turn[namespace] = turn + APART_SECONDS
        return max(0.0, turn - now)

    def told(self, pod: PodKey, word: Word, now: float) -> None:
        """A Pod is being told a word."""
        self._told[pod] = word.news, now
        # Namespaces come and go for ever.
        self._free_at = {each: at for each, at in self._free_at.items() if at > now}
        self._free_at[pod[0]] = now + APART_SECONDS
        self._leave(pod)

    def forget(self, pod: PodKey) -> None:
        """A Pod no longer waits."""
        self._seen.pop(pod, None)
        self._told.pop(pod, None)
        self._leave(pod)

    def _leave(self, pod: PodKey) -> None:
        turns = self._turns.get(pod[0], {})
        turns.pop(pod, None)
        if not turns:
            self._turns.pop(pod[0], None)
            self._next_turn.pop(pod[0], None)

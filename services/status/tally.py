"""How many models stand how, for metrics: kept while models change, so that reading it costs nothing. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_TIME = "%Y-%m-%dT%H:%M:%SZ"
# Within this time after its creation the first status of a model is written, even while a whole fleet comes.
_FIRST_WORD_SECONDS = 60.0


class Tally:
    """Counts models by state, and models' failures on nodes by reason."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[str, Mapping[str, int]]] = {}
        self._states: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def put(self, uid: str, state: str, failures: Sequence[str]) -> None:
        """A model stands so now: its state, and the reason of each node on which it has failed."""
        self.remove(uid)
        counts = Counter(failures)
        self._models[uid] = state, counts
        self._states[state] += 1
        self._failures.update(counts)

    def remove(self, uid: str) -> None:
        """A model is gone."""
        if known := self._models.pop(uid, None):
            state, counts = known
            self._states[state] -= 1
            self._failures.subtract(counts)

    def states(self) -> Iterator[tuple[str, int]]:
        """Each state that was ever seen, and how many models are in it."""
        yield from self._states.items()

    def failures(self) -> Iterator[tuple[str, int]]:
        """Each reason that was ever seen, and on how many nodes a model has failed for it."""
        yield from self._failures.items()


def waited_seconds(model: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """How long a model was not Ready until the status that is about to be written says that it is; None if it does not.

    Counted from the creation of the model, or from when its last copy was lost. Both times are of whole seconds.
    """
    conditions = [each for each in before.get("conditions") or () if each["type"] == "Available"]
    now = [each for each in after.get("conditions") or () if each["type"] == "Available"]
    if not now or now[0]["status"] != "True" or (conditions and conditions[0]["status"] == "True"):
        return None
    since = model["metadata"].get("creationTimestamp")
    if conditions and since:
        said = conditions[0]["lastTransitionTime"]
        # The first thing that is said of a model is said some moments after it was made; later it has lost a copy.
        since = said if (_time(said) - _time(since)).total_seconds() > _FIRST_WORD_SECONDS else since
    return max(0.0, (_time(now[0]["lastTransitionTime"]) - _time(since)).total_seconds()) if since else None


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)

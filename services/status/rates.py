"""Remembers how fast nodes have downloaded lately, for the question how long another download would take. Pure.

Kept in memory alone: a service that was started anew has seen no rate, and says so.
"""

from collections import OrderedDict

# What was seen longer ago says little about now.
_SECONDS = 86_400.0
# Of a node, so many downloads; of them the one that was seen last counts.
_MOST_MODELS, _MOST_NODES = 16, 10_000


class Rates:
    """The last rate of each download on each node, in bytes per second. Times are by any one clock."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, OrderedDict[str, tuple[int, float]]] = OrderedDict()

    def saw(self, node: str, model_uid: str, bytes_per_second: int, now: float) -> None:
        """A download goes at a rate; one that stands still tells nothing."""
        if bytes_per_second <= 0:
            return
        models = self._seen.setdefault(node, OrderedDict())
        self._seen.move_to_end(node)
        models[model_uid] = bytes_per_second, now
        models.move_to_end(model_uid)
        while len(models) > _MOST_MODELS:
            models.popitem(last=False)
        while len(self._seen) > _MOST_NODES:
            self._seen.popitem(last=False)

    def of_node(self, node: str, now: float) -> list[tuple[str, int]]:
        """Models by uid with the rate at which the node has downloaded each, the last first."""
        models = self._seen.get(node) or OrderedDict()
        return [(uid, rate) for uid, (rate, at) in reversed(models.items()) if now - at <= _SECONDS]

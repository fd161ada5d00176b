"""Whose transfer is next on a node, and whose makes room: fair between namespaces. Pure, but for who was served when.

A priority orders the models of one namespace. Between namespaces it counts as far as the operator permits, and in full
for models of the whole cluster, which are the operator's own; then the namespace with fewer slots goes first, then the
one that was served longest ago.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Claim:
    """What one model has to say for its transfer; the namespace of a cluster-scoped model is empty."""

    namespace: str
    priority: int


@dataclass(frozen=True)
class Pace:
    """How far priorities reach beyond their namespace, and from when on a transfer is too slow for its slot."""

    most_priority_across: int = 0
    # Over so many seconds; 0 lets a transfer be as slow as it is.
    least_bytes_per_second: float = 0.0
    slow_seconds: float = 300.0

    def across(self, claims: Iterable[Claim]) -> int:
        """The priority of a transfer beside those of other namespaces."""
        return max(
            (min(each.priority, self.most_priority_across) if each.namespace else each.priority for each in claims),
            default=0,
        )


# By which the lowest of several transfers is the next one.
Rank = tuple[int, int, int, int]


@dataclass
class Shares:
    """The namespaces that have slots, given the claims of each transfer that has one."""

    pace: Pace
    _served: dict[str, int] = field(default_factory=dict)
    _turns: int = 0

    def serve(self, claims: Iterable[Claim]) -> None:
        """A transfer has got a slot."""
        self._turns += 1
        self._served |= dict.fromkeys((claim.namespace for claim in claims), self._turns)

    def forget_all_but(self, namespaces: Collection[str]) -> None:
        """Only these have transfers."""
        self._served = {name: turn for name, turn in self._served.items() if name in namespaces}

    def rank(self, claims: Collection[Claim], running: Iterable[Collection[Claim]]) -> Rank:
        """Where a transfer stands beside others, while some run: by the model that serves it best."""
        held, across = _held(running), self.pace.across(claims)
        return min(
            (
                (-across, held[claim.namespace], self._served.get(claim.namespace, 0), -claim.priority)
                for claim in claims
            ),
            default=(-across, 0, 0, 0),
        )

    def makes_room(
        self, claims: Collection[Claim], waiting: Collection[Claim], running: Iterable[Collection[Claim]]
    ) -> bool:
        """Whether a running transfer with these claims should make room for one that waits."""
        ours, theirs = self.pace.across(claims), self.pace.across(waiting)
        if ours != theirs:
            return theirs > ours
        held = _held(running)
        if _least(waiting, held) + 2 <= _least(claims, held):
            # The exchange makes things more equal; with one less it would only turn them round.
            return True
        namespaces = {claim.namespace for claim in claims}
        return len(namespaces) == 1 and max(
            (claim.priority for claim in waiting if claim.namespace in namespaces), default=-(1 << 63)
        ) > max(claim.priority for claim in claims)


def _held(running: Iterable[Collection[Claim]]) -> Counter[str]:
    """Slots by namespace. A transfer for models of several counts for each."""
    return Counter(namespace for claims in running for namespace in {claim.namespace for claim in claims})


def _least(claims: Collection[Claim], held: Counter[str]) -> int:
    return min((held[claim.namespace] for claim in claims), default=0)

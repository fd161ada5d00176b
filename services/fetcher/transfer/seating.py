"""Who may hold how many of an origin's connections: a seat is the right to one. Decisions only; must not wait.

Seats go to the transfer that holds fewest. When all are taken, idle ones are called back first, then those of the
transfer that holds most, so that each comes to its share; with more transfers than seats they take turns.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(eq=False)
class Seat:
    """The right of a user to hold one connection."""

    user: Hashable
    # The connection carries no request: nothing is lost when it is closed.
    idle: bool = False
    # Somebody else is due: to be given back after what is under way, or at once when urgent.
    recalled: bool = False
    urgent: bool = False


class Table:
    """The seats at one origin; without a limit there is one for everybody. The caller serialises access."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._seats: list[Seat] = []
        self._waiting: Counter[Hashable] = Counter()
        self._turns = 0
        self._last_turn: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def deserted(self) -> bool:
        """Whether nobody sits or waits here."""
        return not self._seats and not self._waiting

    def take(self, user: Hashable) -> Seat | None:
        """A seat, unless all are taken or are due to others who wait."""
        if self._limit is not None:
            rank = self._rank(user)
            before = sum(1 for other in self._waiting if other != user and self._rank(other) < rank)
            if len(self._seats) + before >= self._limit:
                return None
        self._turns += 1
        self._last_turn[user] = self._turns
        seat = Seat(user)
        self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give a seat back."""
        self._seats.remove(seat)

    def begin_wait(self, user: Hashable) -> None:
        """A user wants a seat and takes one as soon as it can."""
        self._waiting[user] += 1

    def end_wait(self, user: Hashable) -> None:
        """The counterpart of begin_wait."""
        self._waiting[user] -= 1
        if not self._waiting[user]:
            del self._waiting[user]

    def forget(self, user: Hashable) -> None:
        """A user will not come again."""
        self._last_turn.pop(user, None)

    def recall(self, user: Hashable) -> Seat | None:
        """Choose the seat that should be given back for a user who waits, if any should; it is marked."""
        kept = [seat for seat in self._seats if not seat.recalled]
        if len(self._seats) - len(kept) >= len(self._waiting):
            # As many are on their way back as there are users to take them.
            return None
        seat = next((seat for seat in kept if seat.idle), None)
        if seat is None:
            seat = self._surplus(kept, self._held(user))
        if seat is not None:
            seat.recalled = True
        return seat

    def _surplus(self, kept: list[Seat], held: int) -> Seat | None:
        counts = Counter(seat.user for seat in kept)
        if not counts:
            return None
        richest = min(counts, key=lambda each: (-counts[each], self._last_turn.get(each, 0)))
        # Whoever has nothing gets the only seat of another in its turn; else the exchange must make things more equal.
        if counts[richest] < (1 if held == 0 else held + 2):
            return None
        seat = next(seat for seat in kept if seat.user == richest)
        seat.urgent = held == 0 and counts[richest] > 1
        return seat

    def _rank(self, user: Hashable) -> tuple[int, int]:
        return self._held(user), self._last_turn.get(user, 0)

    def _held(self, user: Hashable) -> int:
        return sum(1 for seat in self._seats if seat.user == user)

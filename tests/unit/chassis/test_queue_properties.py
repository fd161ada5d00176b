"""The keyed queue by a model clock: no order of changes, appointments, failures and pauses leaves a key undone."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Unavailable
from libs.chassis.work import KeyedQueue
from tests.support.model_time import ModelLoop

MAX_BACKOFF_SECONDS = 20.0
_SECONDS = st.sampled_from((0.0, 0.1, 1.0, 5.0, 30.0))


@dataclass(frozen=True)
class Fate:
    """What becomes of one reconcile: how long it takes, and what it ends with."""

    takes: float
    ends: Exception | float | None


_ERRORS = (Conflict(Reason.CONFLICT, "changed"), Unavailable(Reason.UNAVAILABLE, "away"), ZeroDivisionError())
_FATES = st.lists(st.builds(Fate, _SECONDS, st.one_of(st.none(), st.sampled_from(_ERRORS), _SECONDS)), max_size=20)
_STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abc"), st.just(0.0)),
    st.tuples(st.just("appoint"), st.sampled_from("abc"), _SECONDS),
    st.tuples(st.just("pass"), st.just(""), _SECONDS),
)


class Work:
    """A queue that works on keys as the fates want it, and what it owes."""

    def __init__(self, fates: Sequence[Fate]) -> None:
        self.queue: KeyedQueue[str] = KeyedQueue("test", MAX_BACKOFF_SECONDS)
        # By key: since when it has been wanted, and when a reconcile must have begun at the latest.
        self._wanted: dict[str, list[tuple[float, float]]] = {}
        self._fates = deque(fates)
        self._running: set[str] = set()

    def want(self, key: str, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._wanted.setdefault(key, []).append((now, now + seconds))

    async def reconcile(self, key: str) -> float | None:
        assert key not in self._running, f"{key} is worked on twice at a time"
        self._running.add(key)
        # All that was wanted until now is seen to by this attempt, if it succeeds.
        seen, self._wanted[key] = self._wanted.get(key, []), []
        fate = self._fates.popleft() if self._fates else Fate(0.1, None)
        await asyncio.sleep(fate.takes)
        self._running.discard(key)
        if isinstance(fate.ends, Exception):
            self._wanted[key] += seen
            raise fate.ends
        if fate.ends is not None:
            self.want(key, fate.ends)
        return fate.ends

    def owed(self, now: float) -> list[str]:
        """Keys that should have been worked on by now."""
        return sorted(key for key, wanted in self._wanted.items() if any(due <= now for _, due in wanted))


@settings(max_examples=100, deadline=None)
@given(st.lists(_STEPS, max_size=25), _FATES, st.integers(1, 3))
def test_every_key_is_worked_on_after_its_last_change_and_in_time(
    steps: list[tuple[str, str, float]], fates: list[Fate], workers: int
) -> None:
    async def follow() -> None:
        work, loop = Work(fates), asyncio.get_running_loop()
        working = asyncio.ensure_future(work.queue.run(work.reconcile, workers))
        for what, key, seconds in steps:
            if what == "pass":
                await asyncio.sleep(seconds)
                continue
            work.want(key, seconds)
            if what == "add":
                work.queue.add(key)
            else:
                work.queue.add_later(key, seconds)
        # All attempts there can be, one after the other, and the longest pause after each that fails.
        await asyncio.sleep(sum(fate.takes + MAX_BACKOFF_SECONDS + 30.0 for fate in fates) + 60.0)
        assert not work.owed(loop.time())
        assert not working.done()
        working.cancel()
        await asyncio.wait([working])

    with asyncio.Runner(loop_factory=lambda: ModelLoop(lambda: None, lambda: None)) as runner:
        runner.run(follow())

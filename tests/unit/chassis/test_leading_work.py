"""Work that only a leader does: no order of lapses, renewals and changes leaves a key undone."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.chassis.leadership import Term
from libs.chassis.work import KeyedQueue

TERM_SECONDS = 10.0
_STEPS = st.one_of(
    st.tuples(st.just("change"), st.sampled_from("abc")),
    st.tuples(st.just("pass"), st.sampled_from((0.5, 4.0, 9.0, 10.0, 25.0))),
    # A renewal counts from when it was asked for, which may be longer ago than a term lasts.
    st.tuples(st.just("renew"), st.sampled_from((0.0, 3.0, 9.9, 12.0))),
    st.tuples(st.just("lose"), st.just(0.0)),
    st.tuples(st.just("work"), st.integers(1, 4)),
)


class Leader:
    """A queue whose keys are dropped without leadership, as the controller's are, and what was done of each."""

    def __init__(self) -> None:
        self.now = 100.0
        self.changed: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.term = Term("lead", lambda: self.now)
        self.term.on_change = self._lead
        self.queue: KeyedQueue[str] = KeyedQueue("models")

    def change(self, key: str) -> None:
        self.changed[key] = self.changed.get(key, 0) + 1
        self.queue.add(key)

    async def reconcile(self, key: str) -> None:
        if not self.term.lasts:
            return
        seen = self.changed[key]
        # Others run meanwhile: the term may end, and the key may change.
        await asyncio.sleep(0)
        self.done[key] = seen

    def _lead(self, leading: bool) -> None:
        if leading:
            for key in self.changed:
                self.queue.add(key)


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, max_size=40))
def test_whatever_is_dropped_for_want_of_leadership_comes_back_with_it(steps: list[tuple[str, object]]) -> None:
    async def follow() -> None:
        leader = Leader()
        working = asyncio.ensure_future(leader.queue.run(leader.reconcile, workers=2))
        for step in (*steps, ("renew", 0.0), ("work", 50)):
            match step:
                case "change", str(key):
                    leader.change(key)
                case "pass", float(seconds):
                    leader.now += seconds
                case "renew", float(ago):
                    leader.term.extend(leader.now - ago + TERM_SECONDS)
                case "lose", _:
                    leader.term.end()
                case "work", int(turns):
                    for _ in range(turns):
                        await asyncio.sleep(0)
        leader.term.end()
        working.cancel()
        assert leader.done == leader.changed

    asyncio.run(follow())

"""Mirrors by a model clock: no order of cuts, losses, restarts, restores and writes leaves a key untold."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.chassis.nats_mirror import Mirror
from tests.support.bucket_model import BucketServer, Link
from tests.support.model_time import ModelLoop

BUCKET = "ome-test"
_KEYS = st.sampled_from(("n1.a", "n1.b", "n2.a", "n2.b", "n3.a"))
# Just after the last thing, within one request, beyond its end, beyond a comparison, beyond what markers live.
_PAUSES = st.sampled_from((0.005, 0.3, 7.0, 40.0, 400.0, 2000.0, 5000.0))
_STEPS = st.one_of(
    st.tuples(st.just("put"), _KEYS),
    st.tuples(st.just("put ourselves"), _KEYS),
    st.tuples(st.just("delete"), _KEYS),
    st.tuples(st.just("purge"), _KEYS),
    st.tuples(st.just("pass"), _PAUSES),
    st.tuples(st.just("cut"), _PAUSES),
    st.tuples(st.just("lose"), st.integers(1, 3)),
    st.tuples(st.sampled_from(("restart", "back up", "restore", "recreate", "reread")), st.none()),
)
# Every reading fails at most once for each message that is lost, and each is compared after 375 s at most.
_SETTLED_SECONDS = 3000.0


class Follower:
    """A mirror that runs, and what is known of the bucket from its calls alone."""

    def __init__(self, link: Link) -> None:
        self.mirror: Mirror[bytes] = Mirror(BUCKET, bytes, clock=asyncio.get_running_loop().time)
        self.known: dict[str, bytes] = {}
        self._running = asyncio.ensure_future(self.mirror.run(link, self._note))

    def write(self, server: BucketServer, key: str, value: bytes) -> None:
        """Write, and take note of it before its echo, as a service does whose own write was acknowledged."""
        self.mirror.remember(key, server.put(key, value), value)
        self.known[key] = value

    async def stop(self) -> None:
        assert not self._running.done()
        self._running.cancel()
        await asyncio.wait([self._running])

    def _note(self, key: str) -> None:
        value = self.mirror.get(key)
        if value is None:
            self.known.pop(key, None)
        else:
            self.known[key] = value


async def take(steps: Sequence[tuple[str, object]]) -> None:
    server = BucketServer(BUCKET)
    link = Link(server)
    follower = Follower(link)
    for number, step in enumerate((*steps, ("pass", _SETTLED_SECONDS))):
        value = str(number).encode()
        match step:
            case "put", str(key):
                server.put(key, value)
            case "put ourselves", str(key):
                follower.write(server, key, value)
            case "delete", str(key):
                server.delete(key)
            case "purge", str(key):
                server.purge(key)
            case "pass", float(seconds):
                await asyncio.sleep(seconds)
            case "cut", float(seconds):
                link.cut()
                await asyncio.sleep(seconds)
                link.mend()
            case "lose", int(messages):
                link.lose(messages)
            case "restart" | "restore" as what, _:
                link.cut()
                server.restart(restored=what == "restore")
                link.mend()
                # As services do at every reconnect.
                follower.mirror.reread()
            case "back up", _:
                server.back_up()
            case "recreate", _:
                server.recreate()
            case "reread", _:
                follower.mirror.reread()
    held = {key: (entry.revision, entry.value) for key, entry in follower.mirror.entries.items()}
    assert held == server.contents()
    assert follower.known == {key: value for key, (_, value) in server.contents().items()}
    assert follower.mirror.whole
    await follower.stop()
    await link.close()


def play(steps: Sequence[tuple[str, object]]) -> None:
    with asyncio.Runner(loop_factory=lambda: ModelLoop(lambda: None, lambda: None)) as runner:
        runner.run(take(steps))


def test_a_key_of_the_history_that_a_restore_undid_is_gone_although_as_many_messages_are_stored() -> None:
    play(
        [
            # Its marker stays in the stream, beside as many messages as there are keys.
            ("put", "n1.a"),
            ("delete", "n1.a"),
            ("put", "n1.b"),
            ("back up", None),
            ("put", "n2.a"),
            ("pass", 7.0),
            ("restore", None),
            # Nothing is stored at the sequence of the undone key any more: the second write has replaced the first.
            ("put", "n2.b"),
            ("put", "n2.b"),
        ]
    )


@pytest.mark.parametrize("undone", ["put", "delete"])
def test_a_change_that_a_restore_undid_is_undone_in_the_mirror_although_others_are_stored_behind_it(
    undone: str,
) -> None:
    play(
        [
            ("put", "n1.a"),
            ("put", "n1.b"),
            ("back up", None),
            (undone, "n1.a"),
            ("pass", 7.0),
            ("restore", None),
            ("put", "n2.b"),
            ("put", "n2.b"),
        ]
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(_STEPS, max_size=30))
def test_a_mirror_ends_as_the_bucket_whatever_happens_between_them(steps: list[tuple[str, object]]) -> None:
    play(steps)

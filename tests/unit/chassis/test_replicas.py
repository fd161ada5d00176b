"""Leadership, mirror and queue together, by a model clock: what replicas bring about is what the bucket holds.

Each of two replicas mirrors the bucket, works on the keys that change, and leaves them alone while it does not lead, as
controller and status service do. Requests for the Lease take long or get lost, connections to NATS break, messages get
lost, the server restarts, and machines stand still.
"""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.leadership import Leadership
from libs.chassis.nats_mirror import Mirror
from libs.chassis.work import KeyedQueue
from tests.support.bucket_model import BucketServer, Link
from tests.support.lease_model import LEASE_SECONDS, Fate, Line, Server
from tests.support.model_time import ModelLoop, pass_time

BUCKET = "ome-test"
_WORK_SECONDS = 0.7
# Everything that the steps can delay is over by then: six requests for the Lease, and the longest pause of the queue.
_SETTLED_SECONDS = 200.0
_KEYS = st.sampled_from(("n1.a", "n1.b", "n2.a"))
_PAUSES = st.sampled_from((0.005, 0.5, 6.0, 11.0, 17.0, 40.0))
_REPLICAS = st.integers(0, 1)
_STEPS = st.one_of(
    st.tuples(st.sampled_from(("put", "delete")), _KEYS),
    st.tuples(st.just("pass"), _PAUSES),
    st.tuples(st.just("stand still"), _PAUSES),
    st.tuples(st.sampled_from(("cut", "mend", "lose", "fail")), _REPLICAS),
    st.tuples(st.just("restart"), st.none()),
)
_FATES = st.lists(
    st.builds(Fate, _PAUSES, _PAUSES, st.booleans(), st.booleans()),
    max_size=6,
)


class Replica:
    """What a service is made of, and a world that it brings into agreement with the bucket."""

    def __init__(self, name: str, line: Line, link: Link, world: dict[str, bytes]) -> None:
        clock = asyncio.get_running_loop().time
        self.link = link
        self.leadership = Leadership(line, "ome", "lead", name, LEASE_SECONDS, clock)
        self.mirror: Mirror[bytes] = Mirror(BUCKET, bytes, clock=clock)
        self.failures = 0
        self._queue: KeyedQueue[str] = KeyedQueue(name)
        self._world = world

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.mirror.run(self.link, self._queue.add))
            group.create_task(self.leadership.run(self._lead))
            await self.mirror.synced()
            group.create_task(self._queue.run(self._reconcile, workers=2))

    def _lead(self, leading: bool) -> None:
        if leading:
            self._queue.add_all({*self.mirror.entries, *self._world})

    async def _reconcile(self, key: str) -> None:
        if not self.leadership.leading:
            return
        wanted = self.mirror.get(key)
        await pass_time(_WORK_SECONDS)
        if not self.leadership.leading:
            return
        if self.failures:
            self.failures -= 1
            raise Unavailable(Reason.UNAVAILABLE, "the world is away")
        if wanted is None:
            self._world.pop(key, None)
        else:
            self._world[key] = wanted


async def take(steps: Sequence[tuple[str, object]], fates: Sequence[Sequence[Fate]]) -> None:
    loop, bucket, lease, world = asyncio.get_running_loop(), BucketServer(BUCKET), Server(), dict[str, bytes]()
    assert isinstance(loop, ModelLoop)
    lines = [Line(lease, each) for each in fates]
    replicas = [Replica(f"replica-{number}", line, Link(bucket), world) for number, line in enumerate(lines)]
    running = [asyncio.create_task(replica.run()) for replica in replicas]
    for number, step in enumerate(steps):
        match step:
            case "put", str(key):
                bucket.put(key, str(number).encode())
            case "delete", str(key):
                bucket.delete(key)
            case "pass", float(seconds):
                await pass_time(seconds)
            case "stand still", float(seconds):
                loop.advance(seconds)
            case "cut", int(which):
                replicas[which].link.cut()
            case "mend", int(which):
                replicas[which].link.mend()
                replicas[which].mirror.reread()
            case "lose", int(which):
                replicas[which].link.lose(2)
            case "fail", int(which):
                replicas[which].failures += 2
            case "restart", _:
                for replica in replicas:
                    replica.link.cut()
                bucket.restart()
                for replica in replicas:
                    replica.link.mend()
                    replica.mirror.reread()
    for replica in replicas:
        # Without being told: a service may not hear of it.
        replica.link.mend()
    await pass_time(_SETTLED_SECONDS)
    assert world == {key: value for key, (_, value) in bucket.contents().items()}
    assert sum(replica.leadership.leading for replica in replicas) == 1
    assert not any(task.done() for task in running)
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    for line, replica in zip(lines, replicas, strict=True):
        await line.close()
        await replica.link.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(_STEPS, max_size=16), st.tuples(_FATES, _FATES))
def test_no_order_of_lapses_reconnects_and_changes_leaves_a_key_undone(
    steps: list[tuple[str, object]], fates: tuple[list[Fate], list[Fate]]
) -> None:
    with asyncio.Runner(loop_factory=lambda: ModelLoop(lambda: None, lambda: None)) as runner:
        runner.run(take(steps, fates))

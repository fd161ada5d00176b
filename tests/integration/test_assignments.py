"""How a node learns what it must hold: at once, wholly, and never an older word after a newer one."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.errors import ServiceError
from libs.chassis.nats_client import delete_key, put_if
from ome.fetch.v1.fetch_pb2 import (
    GOAL_ABSENT,
    GOAL_HOLD,
    Assignment,
    DesiredChange,
    DesiredRequest,
    DesiredSnapshot,
    Problem,
    Source,
    UseQuestion,
    UseReply,
)
from ome.model.v1.model_pb2 import REASON_UNAVAILABLE
from services.controller.gateway.desired import DesiredByNode
from services.controller.streams import ensure_streams
from services.fetcher.fleet.assignments import Assignments
from services.fetcher.fleet.gateway import Gateway
from services.fetcher.fleet.use import UseClient
from tests.support.fetcher_node import PASSWORD, nats_configuration, running_gateway
from tests.support.nats_server import NatsServer, running_nats

NODE = "node-1.example.org"
BUCKET = names.DESIRED_BUCKET
DEADLINE_SECONDS = 60


class Node:
    """The assignments of one node, and what was said of each of them."""

    def __init__(self, client: Client) -> None:
        self.assignments = Assignments(client, Gateway(client, NODE), NODE)
        self._news = asyncio.Event()

    def changed(self, key: str) -> None:
        self._news.set()

    async def until(self, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """Wait until the priorities of the assignments, by uid, are acceptable."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds(found := self.priorities()):
                self._news.clear()
                await self._news.wait()
        return found

    def priorities(self) -> dict[str, int]:
        entries = self.assignments.entries.items()
        return {names.split_node_key(key)[1]: entry.value.priority for key, entry in entries}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration(NODE)) as server:
        yield server


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await server.client(user="driver", password=PASSWORD)
    await ensure_streams(client.jetstream(), 1, 60)
    async with running_gateway(server, server.folder):
        yield client.jetstream()
    await client.close()


@asynccontextmanager
async def following(server: NatsServer) -> AsyncIterator[Node]:
    async def reconnected() -> None:
        # As the fetcher does: what was told before it was back, it has not heard.
        node.assignments.reread()

    client = await server.client(inbox_prefix=names.inbox_prefix(NODE), reconnected_cb=reconnected)
    node = Node(client)
    task = asyncio.create_task(node.assignments.run(node.changed))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await node.assignments.synced()
        yield node
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def assign(js: JetStreamContext, uid: str, priority: int, size: int = 0) -> int:
    hold = Assignment(goal=GOAL_HOLD, priority=priority, source=Source(uri="x" * size))
    return await put_if(js, BUCKET, names.node_key(NODE, uid), hold.SerializeToString(), None)


async def test_what_is_stored_is_read_in_pieces_and_what_changes_is_heard(
    server: NatsServer, js: JetStreamContext
) -> None:
    # More than a message of NATS may hold.
    wanted = {f"m{number:03}": number for number in range(300)}
    for uid, number in wanted.items():
        await assign(js, uid, number, size=8_000)
    async with following(server) as node:
        await node.until(lambda found: found == wanted)
        await assign(js, "m000", 7)
        await assign(js, "new", 8)
        await delete_key(js, BUCKET, names.node_key(NODE, "m001"))
        del wanted["m001"]
        await node.until(lambda found: found == {**wanted, "m000": 7, "new": 8})


async def test_an_older_word_is_not_heeded_after_a_newer_one_nor_after_the_last(
    server: NatsServer, js: JetStreamContext
) -> None:
    gateway = await server.client(user="gateway-nodes", password=PASSWORD)
    async with following(server) as node:
        first = await assign(js, "a", 1)
        await assign(js, "a", 2)
        await node.until(lambda found: found == {"a": 2})
        await delete_key(js, BUCKET, names.node_key(NODE, "a"))
        await node.until(lambda found: not found)

        late = DesiredChange(
            model_uid="a",
            revision=first,
            assignment=Assignment(goal=GOAL_ABSENT),
            epoch=node.assignments.epoch,
        )
        await gateway.publish(names.node_subject(NODE, names.DESIRED), late.SerializeToString())
        await gateway.flush()
        await assign(js, "marker", 3)

        assert await node.until(lambda found: "marker" in found) == {"marker": 3}
    await gateway.close()


async def test_what_was_missed_is_found_when_everything_is_read_again(server: NatsServer, js: JetStreamContext) -> None:
    async with following(server) as node:
        await assign(js, "a", 1)
        await node.until(lambda found: found == {"a": 1})
        # As if the message had been lost.
        key = names.node_key(NODE, "a")
        node.assignments.entries.pop(key)
        node.assignments.reread()
        await node.until(lambda found: found == {"a": 1})


async def test_a_stream_that_was_made_anew_is_believed_although_its_revisions_are_lower(
    server: NatsServer, js: JetStreamContext
) -> None:
    async with following(server) as node:
        for priority in range(20):
            await assign(js, "a", priority)
        await assign(js, "b", 1)
        await node.until(lambda found: found == {"a": 19, "b": 1})

        await js.delete_stream(f"KV_{BUCKET}")
        await ensure_streams(js, 1, 60)
        await assign(js, "a", 5)

        await node.until(lambda found: found == {"a": 5})
        await assign(js, "a", 6)
        await node.until(lambda found: found == {"a": 6})


async def test_a_node_that_asks_while_a_stream_made_anew_is_read_hears_what_comes_later(
    server: NatsServer, js: JetStreamContext
) -> None:
    async with following(server) as node:
        await assign_others(js, 12_000)
        await assign(js, "a", 1)
        await node.until(lambda found: found == {"a": 1})
        before = node.assignments.epoch

        await js.delete_stream(f"KV_{BUCKET}")
        await ensure_streams(js, 1, 60)
        asking = asyncio.create_task(ask_again_and_again(node, before))
        await assign_others(js, 10_000)
        await assign(js, "a", 2)

        await node.until(lambda found: found == {"a": 2})
        await asking
        await assign(js, "a", 3)
        await node.until(lambda found: found == {"a": 3})
        await delete_key(js, BUCKET, names.node_key(NODE, "a"))
        await node.until(lambda found: not found)


async def test_an_older_store_that_was_restored_is_believed(server: NatsServer, js: JetStreamContext) -> None:
    await assign(js, "a", 1)
    backup = server.folder / "backup"
    async with following(server) as node:
        await node.until(lambda found: found == {"a": 1})
        await server.stop()
        shutil.copytree(server.folder / "jetstream", backup)
        await server.start()
        for priority in range(2, 20):
            await assign_when_back(js, "a", priority)
        await node.until(lambda found: found == {"a": 19})

        await server.stop()
        shutil.rmtree(server.folder / "jetstream")
        shutil.copytree(backup, server.folder / "jetstream")
        await server.start()
        await assign_when_back(js, "a", 30)

        await node.until(lambda found: found == {"a": 30})
        await assign(js, "a", 31)
        await node.until(lambda found: found == {"a": 31})


async def test_what_was_deleted_goes_though_the_gateway_never_read_of_it_in_a_quiet_stream(server: NatsServer) -> None:
    client = await server.client(user="driver", password=PASSWORD)
    js = client.jetstream()
    await ensure_streams(js, 1, 60)
    await assign(js, "a", 1)
    await assign(js, "b", 2)
    async with contextlib.AsyncExitStack() as stack:
        async with running_gateway(server, server.folder):
            node = await stack.enter_async_context(following(server))
            await node.until(lambda found: found == {"a": 1, "b": 2})
        # As when the node was away for so long that the marker of the deletion has expired.
        await js.purge_stream(f"KV_{BUCKET}", subject=f"$KV.{BUCKET}.{names.node_key(NODE, 'b')}")
        async with running_gateway(server, server.folder):
            node.assignments.reread()
            await node.until(lambda found: found == {"a": 1})
    await client.close()


async def snapshots(node: Node, client: Client, known: bytes) -> DesiredSnapshot:
    request = DesiredRequest(epoch=node.assignments.epoch, known=known)
    return await Gateway(client, NODE).get(names.SNAPSHOT, request, DesiredSnapshot)


async def test_a_node_that_knows_everything_is_told_nothing_again(server: NatsServer, js: JetStreamContext) -> None:
    client = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    asked: list[DesiredRequest] = []
    watching = await server.client(user="gateway-nodes", password=PASSWORD)

    async def heard(message: Msg) -> None:
        asked.append(DesiredRequest.FromString(message.data))

    await watching.subscribe(names.node_subject(NODE, names.SNAPSHOT), cb=heard)
    await watching.flush()
    async with following(server) as node:
        for uid in ("a", "b"):
            await assign(js, uid, 1)
        await node.until(lambda found: found == {"a": 1, "b": 1})
        node.assignments.reread()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(asked) < 2:
                await client.flush()
        same = await snapshots(node, client, asked[-1].known)
        assert (same.unchanged, len(same.assignments)) == (True, 0)

        await assign(js, "b", 2)
        await node.until(lambda found: found == {"a": 1, "b": 2})
        changed = await snapshots(node, client, asked[-1].known)
        assert (changed.unchanged, [each.model_uid for each in changed.assignments]) == (False, ["a", "b"])
        await delete_key(js, BUCKET, names.node_key(NODE, "b"))
        await node.until(lambda found: found == {"a": 1})
        fewer = await snapshots(node, client, asked[-1].known)
        assert (fewer.unchanged, [each.model_uid for each in fewer.assignments]) == (False, ["a"])
    await watching.close()
    await client.close()


async def test_what_nodes_were_told_before_a_reconnect_is_told_again_only_if_it_may_be_lost(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await server.client(user="driver", password=PASSWORD)
    js = driver.jetstream()
    await ensure_streams(js, 1, 60)
    told: list[DesiredChange] = []
    nodes = await server.client(user="gateway-nodes", password=PASSWORD)
    own = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    fleet = await server.client(user="gateway", password=PASSWORD, inbox_prefix="_INBOX_gateway")

    async def heard(message: Msg) -> None:
        told.append(DesiredChange.FromString(message.data))

    await own.subscribe(names.node_subject(NODE, names.DESIRED), cb=heard)
    await own.flush()
    desired = DesiredByNode(nodes, fleet.jetstream())
    following = asyncio.create_task(desired.mirror.run(fleet, desired.changed))
    telling = asyncio.create_task(desired.run())
    await assign(js, "a", 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not told or desired.unconfirmed:
            await own.flush()
    monkeypatch.setattr("services.controller.gateway.desired._CONFIRM_SECONDS", 60)
    known = len(told)
    desired.tell_again()
    await assign(js, "b", 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while "b" not in {each.model_uid for each in told}:
            await own.flush()
    # Not confirmed yet, so that this is told once more.
    desired.tell_again()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while [each.model_uid for each in told].count("b") < 2:
            await own.flush()
    assert "a" not in {each.model_uid for each in told[known:]}
    for task in (following, telling):
        task.cancel()
    await asyncio.gather(following, telling, return_exceptions=True)
    for client in (driver, nodes, own, fleet):
        await client.close()


async def test_what_nodes_were_told_before_the_connection_broke_counts_as_lost(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await server.client(user="driver", password=PASSWORD)
    await ensure_streams(driver.jetstream(), 1, 60)
    nodes = await server.client(user="gateway-nodes", password=PASSWORD)
    fleet = await server.client(user="gateway", password=PASSWORD, inbox_prefix="_INBOX_gateway")
    killed, flush = asyncio.Event(), nodes.flush

    async def flush_of_a_dead_server(timeout: int) -> None:
        await killed.wait()
        await flush(timeout)

    monkeypatch.setattr(nodes, "flush", flush_of_a_dead_server)
    desired = DesiredByNode(nodes, fleet.jetstream())
    following = asyncio.create_task(desired.mirror.run(fleet, desired.changed))
    telling = asyncio.create_task(desired.run())
    await assign(driver.jetstream(), "a", 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not desired.unconfirmed:
            await driver.flush()
    await server.kill()
    killed.set()
    # Longer than until what was told is to be confirmed.
    done, _ = await asyncio.wait([following, telling], timeout=1.5, return_when=asyncio.FIRST_COMPLETED)
    assert not done
    assert list(desired.unconfirmed) == [names.node_key(NODE, "a")]
    for task in (following, telling):
        task.cancel()
    await asyncio.gather(following, telling, return_exceptions=True)
    for client in (driver, nodes, fleet):
        await client.close()


class Told:
    """A gateway that says what a test tells it to, one snapshot after another."""

    def __init__(self, client: Client, *snapshots: DesiredSnapshot) -> None:
        self._client = client
        self._snapshots = list(snapshots)
        self.asked: asyncio.Queue[DesiredRequest] = asyncio.Queue()

    async def listen(self) -> None:
        await self._client.subscribe(names.node_subject("*", names.SNAPSHOT), cb=self._answer)
        await self._client.flush()

    async def _answer(self, message: Msg) -> None:
        self.asked.put_nowait(DesiredRequest.FromString(message.data))
        if self._snapshots:
            await self._client.publish(message.reply, self._snapshots.pop(0).SerializeToString())


def piece(epoch: str, uid: str, priority: int, revision: int = 5, more: bool = False) -> DesiredSnapshot:
    hold = Assignment(goal=GOAL_HOLD, priority=priority)
    change = DesiredChange(model_uid=uid, revision=revision, assignment=hold)
    return DesiredSnapshot(epoch=epoch, sequence=revision, assignments=[change], more=more)


async def test_a_reading_that_another_epoch_cuts_short_is_not_taken_for_everything(server: NatsServer) -> None:
    client = await server.client(user="gateway-nodes", password=PASSWORD)
    told = Told(client, piece("one", "a", 1, more=True), piece("two", "b", 1))
    await told.listen()
    own = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    assignments = Assignments(own, Gateway(own, NODE), NODE)
    running = asyncio.create_task(assignments.run(lambda key: None))
    synced = asyncio.create_task(assignments.synced())
    async with asyncio.timeout(DEADLINE_SECONDS):
        for _ in range(3):
            request = await told.asked.get()
    assert not request.after_uid
    assert not synced.done()
    for task in (running, synced):
        task.cancel()
    await asyncio.gather(running, synced, return_exceptions=True)
    await own.close()
    await client.close()


async def test_another_assignment_of_the_same_revision_is_of_a_restored_store_and_believed(server: NatsServer) -> None:
    client = await server.client(user="gateway-nodes", password=PASSWORD)
    told = Told(client, piece("one", "a", 1), piece("one", "a", 2))
    await told.listen()
    async with following(server) as node:
        assert node.priorities() == {"a": 1}
        node.assignments.reread()
        await node.until(lambda found: found == {"a": 2})
        change = piece("one", "a", 3).assignments[0]
        change.epoch = "one"
        await client.publish(names.node_subject(NODE, names.DESIRED), change.SerializeToString())
        await node.until(lambda found: found == {"a": 3})
    await client.close()


async def test_a_gateway_that_answers_about_pods_is_one_that_tells_of_them_whatever_another_has_said(
    server: NatsServer,
) -> None:
    client = await server.client(user="gateway-nodes", password=PASSWORD)
    own = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    gateway = Gateway(own, NODE)
    assignments = Assignments(own, gateway, NODE)
    use = UseClient(gateway, assignments)
    with pytest.raises(ServiceError):
        await use.ask([UseQuestion(model_uid="a")])
    assert not use.tells

    async def refuse(message: Msg) -> None:
        problem = Problem(reason=REASON_UNAVAILABLE, message="Pods are being read")
        await client.publish(message.reply, UseReply(problem=problem).SerializeToString())

    await client.subscribe(names.node_subject("*", names.USE), cb=refuse)
    await client.flush()
    with pytest.raises(ServiceError):
        await use.ask([UseQuestion(model_uid="a")])
    assert use.tells
    await own.close()
    await client.close()


async def assign_others(js: JetStreamContext, count: int) -> None:
    """Assign models to another node, to give the gateway something to read and revisions a distance."""
    hold = Assignment(goal=GOAL_HOLD).SerializeToString()
    for number in range(0, count, 200):
        keys = [names.node_key("node-2", f"m{each}") for each in range(number, number + 200)]
        await asyncio.gather(*(js.publish(f"$KV.{BUCKET}.{key}", hold) for key in keys))


async def ask_again_and_again(node: Node, epoch: str) -> None:
    """Have everything read at short intervals, as nodes do that lose their connections, until it is of a new epoch."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while node.assignments.epoch == epoch:
            node.assignments.reread()
            await asyncio.sleep(0.002)


async def assign_when_back(js: JetStreamContext, uid: str, priority: int) -> None:
    """Assign a model as soon as the server that was started again takes it."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with contextlib.suppress(ServiceError):
                await assign(js, uid, priority)
                return
            await asyncio.sleep(0.05)

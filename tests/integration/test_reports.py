"""What a node has said of its models: read in one go, remembered, and asked for singly where that does not work."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.errors import Unavailable
from libs.chassis.nats_client import delete_key, put_if, read_key
from libs.chassis.nats_reading import read_page
from ome.fetch.v1.fetch_pb2 import NodeModelState, Problem, StateReply, StateRequest
from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY, REASON_INVALID_PARAMETER, NodePhase
from services.controller.streams import ensure_streams
from services.fetcher.fleet.gateway import Gateway, R
from services.fetcher.fleet.reports import Reports
from tests.support.fetcher_node import PASSWORD, nats_configuration, running_gateway
from tests.support.nats_server import NatsServer, running_nats

NODE, OTHER = "node-1.example.org", "node-2.example.org"
READY, FAILED = NodeModelState(phase=NODE_PHASE_READY), NodeModelState(phase=NODE_PHASE_FAILED)


class CountingGateway(Gateway):
    """Remembers what was asked."""

    def __init__(self, client: Client, node: str) -> None:
        super().__init__(client, node)
        self.asked: list[Message] = []

    async def ask(self, verb: str, request: Message, reply: type[R], timeout_seconds: float = 6.0) -> R:
        self.asked.append(request)
        return await super().ask(verb, request, reply, timeout_seconds)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration(NODE)) as server:
        yield server


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await server.client(user="driver", password=PASSWORD)
    await ensure_streams(client.jetstream(), 1, 60)
    yield client.jetstream()
    await client.close()


@pytest.fixture
async def gateway(server: NatsServer) -> AsyncIterator[CountingGateway]:
    client = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    yield CountingGateway(client, NODE)
    await client.close()


def told(uid: str, phase: NodePhase = NODE_PHASE_READY) -> NodeModelState:
    """As the gateway tells of a model among others."""
    state = NodeModelState(phase=phase)
    state.model.uid = uid
    return state


async def say(js: JetStreamContext, uid: str, state: NodeModelState, node: str = NODE) -> None:
    await put_if(js, names.OBSERVED_BUCKET, names.node_key(node, uid), state.SerializeToString(), None)


async def test_a_restart_costs_one_question_for_all_models_and_a_new_model_none(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    for uid in ("a", "b", "c", "gone"):
        await say(js, uid, READY)
    await say(js, "theirs", READY, OTHER)
    await delete_key(js, names.OBSERVED_BUCKET, names.node_key(NODE, "gone"))
    reports = Reports(gateway)

    async with running_gateway(server, server.folder):
        found = await asyncio.gather(*(reports.stored(uid) for uid in ("a", "b", "c")))
        new = [await reports.stored(uid) for uid in ("new", "gone", "theirs")]

    assert [state.phase if state else None for state in found] == [NODE_PHASE_READY] * 3
    assert new == [None, None, None]
    assert gateway.asked == [StateRequest(everything=True)]


async def test_more_than_fits_into_an_answer_comes_in_parts(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    for number in range(5):
        await say(js, f"model-{number}", NodeModelState(phase=NODE_PHASE_READY, path="x" * 200_000))
    reports = Reports(gateway)

    async with running_gateway(server, server.folder):
        found = [await reports.stored(f"model-{number}") for number in range(5)]

    assert [len(state.path) if state else 0 for state in found] == [200_000] * 5
    assert len(gateway.asked) == 3


async def test_what_cannot_be_read_counts_as_not_said_and_is_said_again(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    key = names.node_key(NODE, "broken")
    await put_if(js, names.OBSERVED_BUCKET, key, b"\xff\xff no message", None)
    await say(js, "whole", READY)
    reports = Reports(gateway)

    async with running_gateway(server, server.folder):
        assert await reports.stored("whole")
        assert await reports.write("broken", NodeModelState(phase=NODE_PHASE_READY))
        assert not await reports.write("whole", NodeModelState(phase=NODE_PHASE_READY))

    _, value = await read_key(js, names.OBSERVED_BUCKET, key)
    assert NodeModelState.FromString(value or b"").phase == NODE_PHASE_READY


@pytest.mark.parametrize(("status", "description"), [("404", "Message Not Found"), ("413", "Too Many Results")])
@pytest.mark.parametrize("found", [0, 1])
async def test_a_store_that_fails_while_it_lists_has_not_said_that_nothing_is_there(
    server: NatsServer, status: str, description: str, found: int
) -> None:
    store = await server.client(user="driver", password=PASSWORD)
    asking = await server.client(user="driver", password=PASSWORD)

    async def answer(message: Msg) -> None:
        for _ in range(found):
            await store.publish(message.reply, READY.SerializeToString(), headers={"Nats-Subject": "$KV.failing.n.a"})
        await store.publish(message.reply, headers={"Status": status, "Description": description})

    await store.subscribe("$JS.API.DIRECT.GET.KV_failing", cb=answer)
    await store.flush()
    with pytest.raises(Unavailable):
        await read_page(asking, "failing", "n.*", 0, 1 << 20, 5)
    await store.close()
    await asking.close()


async def test_what_somebody_deleted_is_said_again_after_everything_was_doubted(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    reports = Reports(gateway)

    async with running_gateway(server, server.folder):
        assert await reports.write("a", NodeModelState(phase=NODE_PHASE_READY))
        await delete_key(js, names.OBSERVED_BUCKET, names.node_key(NODE, "a"))
        assert not await reports.write("a", NodeModelState(phase=NODE_PHASE_READY))
        reports.forget_all()
        assert await reports.write("a", NodeModelState(phase=NODE_PHASE_READY))


async def test_what_was_stored_over_our_words_or_deleted_is_found_without_reading_everything(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    reports = Reports(gateway)
    async with running_gateway(server, server.folder):
        for uid in ("a", "b", "c"):
            assert await reports.write(uid, NodeModelState(phase=NODE_PHASE_READY))
        # One reading tells everything, the next ones what is newer than that.
        reports.forget_all()
        assert await reports.stored("a")
        # As by a gateway that was stopped for a moment.
        await say(js, "a", FAILED)
        await delete_key(js, names.OBSERVED_BUCKET, names.node_key(NODE, "b"))
        assert await reports.write("c", NodeModelState(phase=NODE_PHASE_FAILED))
        gateway.asked.clear()

        reports.look_again()
        # At one time: whoever comes second waits for the same reading.
        writes = (reports.write(uid, NodeModelState(phase=NODE_PHASE_READY)) for uid in ("a", "b"))
        written = await asyncio.gather(*writes)
        again = await reports.write("c", NodeModelState(phase=NODE_PHASE_FAILED))

    assert (written, again) == ([True, True], False)
    [asked] = [request for request in gateway.asked if isinstance(request, StateRequest)]
    assert asked.everything
    assert asked.after_sequence > 0


async def test_nothing_new_costs_one_question_and_a_stream_made_anew_is_read_as_a_whole(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    reports = Reports(gateway)
    async with running_gateway(server, server.folder):
        for uid in ("a", "b", "c"):
            await say(js, uid, READY)
        assert await reports.stored("a")
        for _ in range(3):
            gateway.asked.clear()
            reports.look_again()
            assert [await reports.stored(uid) for uid in ("b", "c", "new")] == [told("b"), told("c"), None]
            assert len(gateway.asked) == 1

        await js.delete_stream(f"KV_{names.OBSERVED_BUCKET}")
        await ensure_streams(js, 1, 60)
        reports.look_again()
        assert [await reports.stored(uid) for uid in ("a", "b", "c")] == [None] * 3
        await say(js, "c", FAILED)
        reports.look_again()
        found = await reports.stored("c")
    assert found
    assert found.phase == NODE_PHASE_FAILED


async def test_everything_is_read_now_and_then(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    """What is purged from a stream leaves no marker."""
    reports = Reports(gateway)
    async with running_gateway(server, server.folder):
        for uid in ("a", "b"):
            await say(js, uid, READY)
        assert await reports.stored("a")
        await js.purge_stream(f"KV_{names.OBSERVED_BUCKET}", subject=f"$KV.{names.OBSERVED_BUCKET}.*.a")
        looks = 0
        while await reports.stored("a"):
            reports.look_again()
            looks += 1
            assert looks < 20
        assert await reports.stored("b")
    assert looks > 1


async def test_what_is_said_while_news_are_read_is_not_taken_back(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    answering = await server.client(user="gateway-nodes", password=PASSWORD)
    asked, go_on = asyncio.Event(), asyncio.Event()
    old = told("a", NODE_PHASE_FAILED)

    async def answer(message: Msg) -> None:
        if StateRequest.FromString(message.data).after_sequence:
            asked.set()
            await go_on.wait()
        await answering.publish(message.reply, StateReply(states=[old], sequence=5).SerializeToString())

    async def take(message: Msg) -> None:
        await answering.publish(message.reply, StateReply().SerializeToString())

    await answering.subscribe(names.node_subject("*", names.RECALL), cb=answer)
    await answering.subscribe(names.node_subject("*", names.OBSERVED), cb=take)
    await answering.flush()
    reports = Reports(gateway)
    assert await reports.stored("a") == old
    writing = asyncio.create_task(reports.write("a", NodeModelState(phase=NODE_PHASE_READY)))
    await asyncio.sleep(0)
    reports.look_again()
    reading = asyncio.create_task(reports.stored("b"))
    async with asyncio.timeout(20):
        await asked.wait()
        await writing
        go_on.set()
        await reading
        found = await reports.stored("a")
    assert found
    assert found.phase == NODE_PHASE_READY
    await answering.close()


async def test_after_a_report_that_nobody_took_nothing_is_guessed(
    server: NatsServer, js: JetStreamContext, gateway: CountingGateway
) -> None:
    reports = Reports(gateway)
    async with running_gateway(server, server.folder):
        assert await reports.write("a", NodeModelState(phase=NODE_PHASE_READY))
    with pytest.raises(Unavailable):
        await reports.write("a", NodeModelState(phase=NODE_PHASE_FAILED))
    # As if it had been stored, and the answer been lost.
    await say(js, "a", FAILED)

    async with running_gateway(server, server.folder):
        stored = await reports.stored("a")

    assert stored
    assert stored.phase == NODE_PHASE_FAILED
    assert gateway.asked[-1] == StateRequest(model_uid="a")


async def test_a_gateway_of_an_earlier_version_is_asked_about_each_model(
    server: NatsServer, gateway: CountingGateway
) -> None:
    earlier = await server.client(user="gateway-nodes", password=PASSWORD)

    async def answer(message: Msg) -> None:
        if StateRequest.FromString(message.data).model_uid:
            reply = StateReply(state=READY)
        else:
            problem = Problem(reason=REASON_INVALID_PARAMETER, message="the message names no model")
            reply = StateReply(problem=problem)
        await earlier.publish(message.reply, reply.SerializeToString())

    await earlier.subscribe(names.node_subject("*", names.RECALL), cb=answer)
    await earlier.flush()
    reports = Reports(gateway)

    found = [await reports.stored(uid) for uid in ("a", "b")]

    assert found == [READY, READY]
    assert gateway.asked == [StateRequest(everything=True), StateRequest(model_uid="a"), StateRequest(model_uid="b")]
    await earlier.close()


async def test_a_question_that_was_lost_keeps_nobody_waiting_once_everything_is_doubted(
    server: NatsServer, gateway: CountingGateway
) -> None:
    """As when NATS is started anew: the node doubts everything after the reconnect, and asks again at once."""
    answering = await server.client(user="gateway-nodes", password=PASSWORD)
    asked = asyncio.Event()

    async def answer(message: Msg) -> None:
        if asked.is_set():
            await answering.publish(message.reply, StateReply(states=[told("a")]).SerializeToString())
        asked.set()

    await answering.subscribe(names.node_subject("*", names.RECALL), cb=answer)
    await answering.flush()
    reports = Reports(gateway)
    reading = asyncio.create_task(reports.stored("a"))
    async with asyncio.timeout(5):
        await asked.wait()
        reports.forget_all()
        found = await reading

    assert found
    assert gateway.asked == [StateRequest(everything=True)] * 2
    await answering.close()

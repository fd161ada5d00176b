"""What a node has said about its models, as it reads that again: all at once, and nothing older after it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_client import delete_key, put_if
from ome.fetch.v1.fetch_pb2 import NodeModelState, Problem, StateReply, StateRequest
from ome.model.v1.model_pb2 import NODE_PHASE_READY, NODE_PHASE_UPDATING, REASON_INVALID_PARAMETER
from services.controller.streams import ensure_streams
from services.fetcher.fleet.gateway import Gateway
from services.fetcher.fleet.reports import Reports
from tests.support.fetcher_node import PASSWORD, nats_configuration, running_gateway
from tests.support.nats_server import NatsServer

NODE, OTHER = "node-1.example.org", "node-2.example.org"
BUCKET = names.OBSERVED_BUCKET


class Asking(Gateway):
    """The node's own questions, and how many there were of each verb; pass_on lets a test hold one up."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, NODE)
        self.connection = client
        self.asked: list[tuple[str, str]] = []
        self.held: dict[str, asyncio.Event] = {}
        self.waits = asyncio.Event()

    async def ask(self, verb: str, request: Any, reply: Any, timeout_seconds: float = 6.0) -> Any:
        self.asked.append((verb, request.model_uid if verb == names.RECALL else request.model.uid))
        answer = await super().ask(verb, request, reply, timeout_seconds)
        if verb in self.held:
            self.waits.set()
            await self.held[verb].wait()
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path, nats_configuration(NODE))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await server.client(user="driver", password=PASSWORD)
    await ensure_streams(client.jetstream(), 1, 60)
    async with running_gateway(server, server.folder):
        yield client.jetstream()
    await client.close()


@pytest.fixture
async def gateway(server: NatsServer, js: JetStreamContext) -> AsyncIterator[Asking]:
    client = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    yield Asking(client)
    await client.close()


def ready(path: str = "") -> NodeModelState:
    return NodeModelState(phase=NODE_PHASE_READY, path=path)


async def store(js: JetStreamContext, node: str, uid: str, state: NodeModelState) -> None:
    await put_if(js, BUCKET, names.node_key(node, uid), state.SerializeToString(), None)


async def test_everything_is_read_by_one_question_and_what_nothing_was_said_about_needs_none(
    js: JetStreamContext, gateway: Asking
) -> None:
    for number in range(20):
        await store(js, NODE, f"m{number}", ready(f"/models/{number}"))
    await store(js, OTHER, "other", ready())
    await store(js, NODE, "gone", ready())
    await delete_key(js, BUCKET, names.node_key(NODE, "gone"))
    reports = Reports(gateway)
    await reports.reread()

    stored = {uid: await reports.stored(uid) for uid in ("m0", "m19", "gone", "other", "new")}

    assert {uid: state.path for uid, state in stored.items() if state} == {"m0": "/models/0", "m19": "/models/19"}
    assert gateway.asked == [(names.RECALL, "")]
    assert await reports.write("m0", ready("/models/elsewhere"))
    assert not await reports.write("m19", ready("/models/19"))


async def test_more_than_a_message_holds_is_read_piece_by_piece(js: JetStreamContext, gateway: Asking) -> None:
    for number in range(300):
        await store(js, NODE, f"m{number}", ready("/models/" + "x" * 4_000))
    reports = Reports(gateway)
    await reports.reread()
    pieces = len(gateway.asked)

    assert [uid for uid in (f"m{number}" for number in range(300)) if not await reports.stored(uid)] == []
    assert 1 < pieces < 20
    assert len(gateway.asked) == pieces


async def test_more_models_than_the_server_tells_at_once_are_read_one_by_one(
    js: JetStreamContext, gateway: Asking
) -> None:
    value = ready().SerializeToString()
    await asyncio.gather(*(put_if(js, BUCKET, names.node_key(NODE, f"m{n}"), value, None) for n in range(1_100)))
    reports = Reports(gateway)
    await reports.reread()

    assert await reports.stored("m1099") is not None
    assert await reports.stored("new") is None
    assert gateway.asked == [(names.RECALL, ""), (names.RECALL, "m1099"), (names.RECALL, "new")]


async def test_what_is_said_while_everything_is_read_counts_and_not_what_was_read(
    js: JetStreamContext, gateway: Asking
) -> None:
    await store(js, NODE, "a", NodeModelState(phase=NODE_PHASE_UPDATING))
    await store(js, NODE, "b", ready())
    reports = Reports(gateway)
    gateway.held[names.RECALL] = asyncio.Event()
    reading = asyncio.create_task(reports.reread())
    await gateway.waits.wait()
    writing = Reports(Asking(gateway.connection))
    await writing.write("a", ready())
    reports.forget("b")
    saying = asyncio.create_task(reports.write("a", ready("/models/a")))
    gateway.held.pop(names.RECALL).set()
    await asyncio.gather(reading, saying)

    said = await reports.stored("a")
    assert said is not None
    assert said.path == "/models/a"
    before = len(gateway.asked)
    assert await reports.stored("b") is not None
    assert gateway.asked[before:] == [(names.RECALL, "b")]


async def test_a_report_that_may_not_have_been_stored_is_read_before_the_next(
    server: NatsServer, js: JetStreamContext, gateway: Asking
) -> None:
    reports = Reports(gateway)
    await reports.reread()
    await js.delete_stream(f"KV_{BUCKET}")
    with pytest.raises(Exception, match="no stream takes"):
        await reports.write("a", ready())
    await ensure_streams(js, 1, 60)
    await store(js, NODE, "a", ready())

    assert not await reports.write("a", ready())


async def test_a_gateway_of_an_earlier_version_is_asked_about_each_model(server: NatsServer) -> None:
    client = await server.client(inbox_prefix=names.inbox_prefix(NODE))

    class Earlier(Asking):
        async def ask(self, verb: str, request: Any, reply: Any, timeout_seconds: float = 6.0) -> Any:
            self.asked.append((verb, request.model_uid))
            if not request.model_uid:
                # As check_uid of services/controller/gateway/checks.py refuses it.
                return StateReply(problem=Problem(reason=REASON_INVALID_PARAMETER, message="names no model"))
            return StateReply(state=ready()) if request.model_uid == "a" else StateReply()

    earlier = Earlier(client)
    reports = Reports(earlier)
    await reports.reread()

    assert await reports.stored("a") is not None
    assert await reports.stored("b") is None
    assert [uid for _, uid in earlier.asked] == ["", "a", "b"]
    await client.close()


async def test_a_node_reads_no_states_of_another_whose_name_begins_alike(js: JetStreamContext, gateway: Asking) -> None:
    await store(js, f"{NODE}-2", "a", ready())
    await store(js, NODE, "b", ready())
    piece = await gateway.get(names.RECALL, StateRequest(), StateReply)
    assert [state.model.uid for state in piece.states] == ["b"]


async def test_without_an_answer_nothing_is_believed(server: NatsServer) -> None:
    client = await server.client(inbox_prefix=names.inbox_prefix(NODE))
    reports = Reports(Asking(client))
    await reports.reread()
    with pytest.raises(Unavailable) as refused:
        await reports.stored("a")
    assert refused.value.reason is Reason.UNAVAILABLE
    await client.close()

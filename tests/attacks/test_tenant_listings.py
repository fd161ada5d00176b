"""A tenant names a hub of its own: listing it takes a bounded part of the resolver, and of others nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.nats_client import read_key
from libs.chassis.settings import load_settings
from ome.fetch.v1.fetch_pb2 import (
    CredentialsReply,
    ListingQuery,
    ListingReply,
    Resolution,
    ResolveTask,
    Source,
    TrialReply,
    TrialTask,
)
from ome.model.v1 import model_pb2
from services.controller.streams import ensure_pool, ensure_streams
from services.fetcher import resolver
from tests.attacks.hostile_hub import HostileHub
from tests.attacks.hostile_store import HostileStore
from tests.support.child_processes import child_processes
from tests.support.fetcher_node import PASSWORD, nats_configuration
from tests.support.nats_server import NatsServer, running_nats
from tests.support.own_loop import running

SECRET = "hf_a-token-that-nobody-else-may-see"
MEBIBYTE = 1 << 20
DEADLINE_SECONDS = 30.0


@dataclass
class Fleet:
    """A resolver, what asks it, and the hub that it is led to."""

    client: Client
    js: JetStreamContext
    hub: HostileHub
    # Keys of listings that are no longer asked for, as the controller says.
    withdrawn: set[str]

    async def ask(self, repository: str, namespace: str = "evil", uid: str = "", secret: bool = False) -> str:
        """Have a repository of the hub listed for a model of a namespace; the key of the answer."""
        source = Source(uri=f"hf://{repository}", parameters={"endpoint": self.hub.url}, has_secret=secret)
        return await self.ask_source(source, namespace, uid or f"{namespace}-{repository.replace('/', '-')}")

    async def ask_source(self, source: Source, namespace: str, uid: str) -> str:
        """Have a source listed for a model of a namespace; the key of the answer."""
        kind = model_pb2.MODEL_KIND_BASE_MODEL if namespace else model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL
        model = model_pb2.ModelRef(kind=kind, namespace=namespace, name=uid, uid=uid)
        task = ResolveTask(source_key=f"{uid}.0000000000000000", source=source, model=model, attempt=1)
        await self.js.publish(names.resolve_subject("default"), task.SerializeToString())
        return task.source_key

    async def attempt(self, repository: str, namespace: str = "evil") -> TrialReply:
        """Have a repository of the hub listed on trial, as the controller does for a plan."""
        source = Source(uri=f"hf://{repository}", parameters={"endpoint": self.hub.url}, has_secret=True)
        task = TrialTask(source=source, namespace=namespace, credentials=CredentialsReply(secret_version="v1"))
        task.credentials.values["token"] = SECRET.encode()
        message = await self.client.request(
            names.trial_subject("default"), task.SerializeToString(), timeout=DEADLINE_SECONDS
        )
        return TrialReply.FromString(message.data)

    async def answer(self, key: str) -> Resolution:
        """Wait for what a listing has found."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (value := (await read_key(self.js, names.RESOLVED_BUCKET, key))[1]):
                await asyncio.sleep(0.02)
        return Resolution.FromString(value)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration("node-1")) as server:
        yield server


@pytest.fixture
async def fleet(server: NatsServer) -> AsyncIterator[Fleet]:
    hub, withdrawn = HostileHub(), set[str]()
    client = await server.client(user="driver", password=PASSWORD)
    js = client.jetstream()
    await ensure_streams(js, 1, 60)
    await ensure_pool(js, "default")

    async def credentials(message: Msg) -> None:
        await message.respond(CredentialsReply(values={"token": SECRET.encode()}).SerializeToString())

    async def wanted(message: Msg) -> None:
        key = ListingQuery.FromString(message.data).source_key
        await message.respond(ListingReply(withdrawn=key in withdrawn).SerializeToString())

    await client.subscribe(names.LISTING_CREDENTIALS_SUBJECT, cb=credentials)
    await client.subscribe(names.LISTING_WANTED_SUBJECT, cb=wanted)
    async with hub.serving():
        yield Fleet(client, js, hub, withdrawn)
    await client.close()


@asynccontextmanager
async def resolving(server: NatsServer, **environ: str) -> AsyncIterator[None]:
    """A resolver in a thread of this process, under its own rights."""
    password = server.folder / "password"
    password.write_text(PASSWORD)
    environ = {
        "OME_NATS_URL": server.url,
        "OME_NATS_CA_FILE": str(server.authority),
        "OME_NATS_PASSWORD_FILE": str(password),
        # Where the hub of the tests is.
        "OME_EGRESS_ALLOW": "127.0.0.1",
        "OME_HTTP_PORT": "0",
        **environ,
    }
    settings = load_settings(resolver.Settings, environ)

    async def resolve(stop: asyncio.Event, started: Callable[[], None]) -> None:
        started()
        await resolver.main(settings, stop)

    async with running(resolve):
        yield


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def descendants(of: int | None = None) -> list[int]:
    try:
        children = child_processes(of)
    except OSError:
        return []
    return [*children, *(each for child in children for each in descendants(child))]


class Memory:
    """The most that this process and those that it has started take beyond what they took at first."""

    def __init__(self) -> None:
        self._first = resident_bytes(os.getpid())
        self._own = _command_line(os.getpid())
        self.most_bytes = 0

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            own = resident_bytes(os.getpid()) - self._first
            # One that runs no program of its own yet still shares this process' memory.
            started = [pid for pid in descendants() if _command_line(pid) != self._own]
            others = max(map(resident_bytes, started), default=0)
            self.most_bytes = max(self.most_bytes, own, others)
            await asyncio.sleep(0.01)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # It has ended.
        return b""


async def watched(memory: Memory, answer: "asyncio.Future[Resolution]") -> Resolution:
    watching = asyncio.create_task(memory.watch())
    try:
        return await answer
    finally:
        watching.cancel()


async def test_a_small_answer_that_decodes_to_gigabytes_takes_no_more_than_a_listing_may(
    server: NatsServer, fleet: Fleet
) -> None:
    fleet.hub.bomb_bytes = 1024 * MEBIBYTE
    async with resolving(server):
        await fleet.answer(await fleet.ask("org/good"))
        memory = Memory()
        key = await fleet.ask("org/bomb")
        resolution = await watched(memory, asyncio.ensure_future(fleet.answer(key)))
    assert "MiB" in resolution.problem.message
    assert memory.most_bytes < 400 * MEBIBYTE


async def test_what_takes_more_memory_than_a_listing_may_ends_with_a_sentence_and_nothing_else(
    server: NatsServer, fleet: Fleet
) -> None:
    async with resolving(server, OME_LISTING_MEMORY_BYTES=str(32 * MEBIBYTE), OME_LISTING_FILES="10000000"):
        memory = Memory()
        key = await fleet.ask("org/endless")
        resolution = await watched(memory, asyncio.ensure_future(fleet.answer(key)))
        assert (await fleet.answer(await fleet.ask("org/good", "good"))).artifact.files == 2
    assert "listingMemoryBytes" in resolution.problem.message
    assert memory.most_bytes < 250 * MEBIBYTE


async def test_a_listing_without_end_is_ended_at_the_most_files_that_a_model_may_have(
    server: NatsServer, fleet: Fleet
) -> None:
    async with resolving(server, OME_LISTING_FILES="5000"):
        resolution = await fleet.answer(await fleet.ask("org/endless"))
    assert "more than 5000 files" in resolution.problem.message
    assert fleet.hub.asked["org/endless"] < 10


@pytest.mark.parametrize(
    ("bucket", "sentence"),
    [("same", "more than 5000 files"), ("folder", "more than 5000 files"), ("wide", "says more than 64 MiB")],
)
async def test_a_bucket_without_end_is_ended_by_what_its_store_has_said(
    bucket: str, sentence: str, server: NatsServer, fleet: Fleet
) -> None:
    store = HostileStore()
    async with store.serving(), resolving(server, OME_LISTING_FILES="5000", OME_LISTING_SECONDS="25"):
        parameters = {"endpoint": store.url, "region": "any", "skip_signature": "true"}
        source = Source(uri=f"s3://{bucket}/models", parameters=parameters)
        resolution = await fleet.answer(await fleet.ask_source(source, "evil", bucket))
    assert sentence in resolution.problem.message
    assert store.asked[bucket] < 100


async def test_one_that_trickles_is_ended_after_the_seconds_that_a_listing_may_take(
    server: NatsServer, fleet: Fleet
) -> None:
    async with resolving(server, OME_LISTING_SECONDS="2"):
        resolution = await fleet.answer(await fleet.ask("org/slow"))
        assert "listingSeconds" in resolution.problem.message
        async with asyncio.timeout(DEADLINE_SECONDS):
            await fleet.hub.opened(0)


async def test_slow_listings_of_one_namespace_leave_others_their_turn(server: NatsServer, fleet: Fleet) -> None:
    async with resolving(server):
        for number in range(200):
            await fleet.ask(f"org/slow-{number}")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not fleet.hub.count():
                await asyncio.sleep(0.02)
        keys = [await fleet.ask("org/good", f"good-{number}") for number in range(10)]
        keys.append(await fleet.ask("org/good", ""))
        for key in keys:
            assert (await fleet.answer(key)).artifact.files == 2
        assert fleet.hub.count() == 1


async def test_trials_of_one_namespace_take_its_one_turn_and_are_stored_nowhere(
    server: NatsServer, fleet: Fleet
) -> None:
    async with resolving(server):
        async with asyncio.timeout(DEADLINE_SECONDS):
            # Until the resolver hears them.
            while True:
                try:
                    good = await fleet.attempt("org/good", "good")
                    break
                except nats.errors.NoRespondersError:
                    await asyncio.sleep(0.02)
        slow = [asyncio.create_task(fleet.attempt(f"org/slow-{number}")) for number in range(10)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            await fleet.hub.opened(1)
        key = await fleet.ask("org/good", "evil")
        again = await fleet.attempt("org/good", "another")
        assert [each.resolution.artifact.files for each in (good, again)] == [2, 2]
        assert again.files
        assert again.disk_bytes
        assert fleet.hub.count() == 1
        assert not any(each.done() for each in slow)
        assert (await read_key(fleet.js, names.RESOLVED_BUCKET, key))[1] is None, "it waits for its namespace's turn"
        for stream in (f"KV_{names.RESOLVED_BUCKET}", f"OBJ_{names.MANIFESTS_BUCKET}"):
            assert (await fleet.js.stream_info(stream)).state.messages == 0
    for each in slow:
        each.cancel()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await fleet.hub.opened(0)


async def test_a_listing_ends_when_its_model_has_gone(server: NatsServer, fleet: Fleet) -> None:
    async with resolving(server):
        key = await fleet.ask("org/slow")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await fleet.hub.opened(1)
            fleet.withdrawn.add(key)
            await fleet.hub.opened(0)
        # The next one of this namespace has its turn.
        assert (await fleet.answer(await fleet.ask("org/good"))).artifact.files == 2
        assert (await read_key(fleet.js, names.RESOLVED_BUCKET, key))[1] is None


async def test_nothing_goes_on_when_the_resolver_has_stopped(server: NatsServer, fleet: Fleet) -> None:
    before = set(descendants())
    async with resolving(server):
        await fleet.ask("org/slow")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await fleet.hub.opened(1)
    async with asyncio.timeout(30):
        await fleet.hub.opened(0)
    assert set(descendants()) - before - {server.pid} == set()


async def test_a_token_is_neither_among_the_arguments_nor_in_the_environment_of_what_lists(
    server: NatsServer, fleet: Fleet
) -> None:
    async with resolving(server):
        await fleet.ask("org/slow", secret=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await fleet.hub.opened(1)
        shown = [Path(f"/proc/{pid}/{what}").read_bytes() for pid in descendants() for what in ("cmdline", "environ")]
    assert shown
    assert not any(SECRET.encode() in each for each in shown)


async def test_what_a_vendors_program_leaves_behind_ends_with_the_listing(
    server: NatsServer, fleet: Fleet, tmp_path: Path
) -> None:
    marker = tmp_path / "pid"
    program = tmp_path / "driver"
    program.write_text(f"#!/bin/sh\nsetsid sh -c 'echo $$ > {marker}; exec sleep 600' &\nexec sleep 600\n")
    program.chmod(0o755)
    drivers = tmp_path / "drivers.json"
    drivers.write_text(f'{{"acme": {{"driver": "exec", "command": ["{program}"], "timeoutSeconds": 600}}}}')
    async with resolving(server, OME_VENDOR_DRIVERS_FILE=str(drivers), OME_LISTING_SECONDS="8"):
        task = ResolveTask(source_key="v.0000000000000000", source=Source(uri="vendor://acme/models/x"), attempt=1)
        task.model.uid = "v"
        await fleet.js.publish(names.resolve_subject("default"), task.SerializeToString())
        resolution = await fleet.answer(task.source_key)
        assert "listingSeconds" in resolution.problem.message
        async with asyncio.timeout(30):
            while Path(f"/proc/{int(marker.read_text())}").exists():
                await asyncio.sleep(0.02)


async def test_the_manifests_of_one_namespace_leave_room_for_those_of_others(server: NatsServer, fleet: Fleet) -> None:
    await ensure_streams(fleet.js, 1, 60, bucket_bytes=8 * MEBIBYTE)
    async with resolving(server):
        keys = [await fleet.ask(f"org/many-{number}") for number in range(9)]
        taken = [await fleet.answer(key) for key in keys]
        others = [await fleet.ask("org/many-good", "good"), await fleet.ask("org/many-cluster", "")]
        answers = [await fleet.answer(key) for key in others]
        # What is stored already takes nothing more.
        again = await fleet.answer(await fleet.ask("org/many-0", uid="again"))
    refused = [each.problem for each in taken if not each.artifact.digest]
    assert [each.artifact.files for each in (*answers, again)] == [1001, 1001, 1001]
    assert len(refused) == 6
    assert {each.reason for each in refused} == {model_pb2.REASON_UNAVAILABLE}
    assert all("nats.bucketBytes" in each.message and "evil" in each.message for each in refused)


def test_the_bounds_are_those_that_the_sentences_name() -> None:
    chart = Path(__file__).parents[2] / "deploy/helm/fetcher/values.yaml"
    lines = chart.read_text().splitlines()
    for named in ("  listingMemoryBytes:", "  listingSeconds:", "listingFiles:"):
        assert any(line.startswith(named) for line in lines)
    chart = Path(__file__).parents[2] / "deploy/helm/controller/values.yaml"
    assert any(line.startswith("  bucketBytes:") for line in chart.read_text().splitlines())

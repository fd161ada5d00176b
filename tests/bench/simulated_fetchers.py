"""Fetchers of many nodes in one process: what they hear and say is the real fetcher's, what they fetch is nothing.

Each node has its own mirror, reports and heartbeats, by the fetcher's own modules; transfers end at once, and facts are
made up. Sources are listed by a worker that makes up an artifact for each URI. Started by `fleet.py`.
"""

import argparse
import asyncio
import hashlib
import itertools
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import nats.errors
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError, Unavailable
from libs.chassis.health import Health
from libs.chassis.logs import configure_logs
from libs.chassis.nats_client import connect_nats, put_if
from libs.chassis.tasks import run_until
from libs.chassis.work import KeyedQueue
from ome.fetch.v1.fetch_pb2 import GOAL_ABSENT, Resolution, ResolveTask, RootCapacity
from ome.model.v1.model_pb2 import NODE_PHASE_READY, Artifact
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.fleet.assignments import Assignments
from services.fetcher.fleet.gateway import Gateway
from services.fetcher.fleet.heartbeat import send_heartbeats
from services.fetcher.fleet.reports import Reports
from services.fetcher.fleet.shared_facts import FactsExchange
from services.fetcher.model.observed import Copy, Desired, Observed, Parsing, PublishedName, Transfer, TransferPhase
from services.fetcher.model.planning import describe
from services.fetcher.model.triggers import REVISE_SECONDS

R = TypeVar("R", bound=Message)

NODES_PER_CONNECTION = 50
_HEARTBEAT_SECONDS = 10.0
_WORKERS_PER_CONNECTION = 32
_LISTING_WORKERS = 2
_FETCH_SECONDS, _PAUSE_SECONDS = 5.0, 0.2
_ROOT = "/models"
_VERSION = "bench"


def node_names(count: int) -> list[str]:
    """Names of the nodes, as the bench creates them."""
    return [f"node-{number:04}.bench" for number in range(count)]


class SharedConnectionGateway(Gateway):
    """Asks with the inbox of its node, although the connection is that of many."""

    def __init__(self, client: Client, node: str) -> None:
        super().__init__(client, node)
        self._connection, self._name = client, node
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()

    async def listen(self) -> None:
        """Hear the answers from now on."""

        async def answered(message: Msg) -> None:
            answer = self._answers.pop(message.subject, None)
            if answer is None or answer.done():
                return
            if (message.headers or {}).get(api.Header.STATUS) == api.StatusCode.SERVICE_UNAVAILABLE:
                # Otherwise an answer without a word, as after a report that was stored.
                answer.set_exception(nats.errors.NoRespondersError)
            else:
                answer.set_result(message.data)

        await self._connection.subscribe(f"{names.inbox_prefix(self._name)}.*", cb=answered)

    async def ask(self, verb: str, request: Message, reply: type[R], timeout_seconds: float = 6.0) -> R:
        inbox = f"{names.inbox_prefix(self._name)}.{next(self._numbers)}"
        answer = self._answers[inbox] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_seconds):
                subject = names.node_subject(self._name, verb)
                await self._connection.publish(subject, request.SerializeToString(), reply=inbox)
                return reply.FromString(await answer)
        except (TimeoutError, nats.errors.Error) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"no gateway answers: {type(error).__name__}") from error
        finally:
            self._answers.pop(inbox, None)


class SimulatedNode:
    """What one fetcher remembers."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self.gateway = SharedConnectionGateway(client, name)
        self.assignments = Assignments(client, self.gateway, name)
        self._reports = Reports(self.gateway)
        self._facts = FactsExchange(self.gateway, name, _VERSION)

    def forget_reports(self) -> None:
        """Read what was said anew, as the fetcher does after a reconnect."""
        self._reports.forget_all()

    def revise_reports(self) -> None:
        """Read what was said since, as the fetcher does every few minutes."""
        self._reports.look_again()

    async def reconcile(self, uid: str) -> None:
        """Say what a fetcher says about one model from its assignment to Ready, or that it is gone."""
        entry = self.assignments.entries.get(names.node_key(self.name, uid))
        if entry is None:
            self._reports.forget(uid)
            return
        desired, assignment = Desired(entry.revision, entry.value), entry.value
        if assignment.goal == GOAL_ABSENT:
            await self._reports.write(uid, describe(desired, Observed()))
            return
        stored = await self._reports.stored(uid)
        path = assignment.path or f"{_ROOT}/{assignment.model.name}"
        digest = assignment.artifact.digest
        if stored and stored.phase == NODE_PHASE_READY and stored.artifact.digest == digest:
            parsing = Parsing(facts_key=stored.facts_key)
        else:
            transfer = Transfer(_ROOT, digest, TransferPhase.RUNNING)
            await self._reports.write(uid, describe(desired, Observed(root=_ROOT, path=path, transfer=transfer)))
            facts = await self._facts.get(digest, assignment.schema_path, _parse)
            parsing = Parsing(facts.facts, facts.key)
        observed = Observed(
            root=_ROOT,
            path=path,
            copy=Copy(held=True, identity=digest),
            publications=(PublishedName(_ROOT, path, assignment.artifact, intact=True),),
            parsing=parsing,
        )
        await self._reports.write(uid, describe(desired, observed))


class Connection:
    """The nodes that share a connection; a fetcher has one of its own, of which a thousand are too many for a test."""

    def __init__(self) -> None:
        self._nodes: dict[str, SimulatedNode] = {}
        self._queue: KeyedQueue[tuple[str, str]] = KeyedQueue("models")

    def reconnected(self) -> None:
        for node in self._nodes.values():
            node.assignments.reread()
            node.forget_reports()
            self._look_at(node)

    async def run(self, client: Client, nodes: Sequence[str]) -> None:
        self._nodes = {name: SimulatedNode(client, name) for name in nodes}
        for node in self._nodes.values():
            await node.gateway.listen()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(self._reconcile, _WORKERS_PER_CONNECTION))
            for node in self._nodes.values():
                group.create_task(node.assignments.run(self._assignment_changed))
                group.create_task(self._beat(node))
                group.create_task(self._revise(node))

    async def _reconcile(self, key: tuple[str, str]) -> None:
        await self._nodes[key[0]].reconcile(key[1])

    def _assignment_changed(self, key: str) -> None:
        self._queue.add(names.split_node_key(key))

    def _look_at(self, node: SimulatedNode) -> None:
        for key in node.assignments.entries:
            self._queue.add(names.split_node_key(key))

    async def _revise(self, node: SimulatedNode) -> None:
        await asyncio.sleep(random.uniform(0, REVISE_SECONDS))
        while True:
            node.revise_reports()
            self._look_at(node)
            await asyncio.sleep(REVISE_SECONDS)

    async def _beat(self, node: SimulatedNode) -> None:
        # Fetchers do not start in one moment.
        await asyncio.sleep(random.uniform(0, _HEARTBEAT_SECONDS))
        await send_heartbeats(node.gateway, node.name, _VERSION, "default", _HEARTBEAT_SECONDS, _capacities, list)


async def list_sources(js: JetStreamContext) -> None:
    """Answer listings with an artifact that the URI alone decides, until cancelled."""
    subscription: JetStreamContext.PullSubscription | None = None
    while True:
        try:
            subscription = subscription or await js.pull_subscribe_bind("pool-default", stream=names.RESOLVE_STREAM)
            for message in await subscription.fetch(1, timeout=_FETCH_SECONDS):
                task = ResolveTask.FromString(message.data)
                digest = "sha256:" + hashlib.sha256(task.source.uri.encode()).hexdigest()
                artifact = Artifact(digest=digest, source_revision=digest[-40:], bytes=10**10, files=12)
                answer = Resolution(artifact=artifact, attempt=task.attempt)
                answer.resolved_at.FromMilliseconds(int(time.time() * 1000))
                await put_if(js, names.RESOLVED_BUCKET, task.source_key, answer.SerializeToString(), None)
                await message.ack()
        except TimeoutError:
            continue
        except (nats.errors.Error, nats.js.errors.Error, ServiceError):
            # The consumer is not there before the controller is.
            await asyncio.sleep(_PAUSE_SECONDS)


async def _parse() -> ModelFacts:
    """Facts as large as those of a usual model."""
    return ModelFacts(
        model_type="llama",
        architecture="LlamaForCausalLM",
        parameter_size="70B",
        context_length=131072,
        capabilities=["TEXT_GENERATION", "CHAT"],
        warnings=[f"something that the parser has to say about the model, number {number:02}" for number in range(12)],
    )


async def _capacities() -> list[RootCapacity]:
    return [RootCapacity(root=_ROOT, total_bytes=10**13, free_bytes=10**12)]


async def simulate(count: int, url: str, ca_file: Path, password_file: Path, resolver_password_file: Path) -> None:
    """Speak for so many nodes until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    nodes, loops = node_names(count), []
    async with AsyncExitStack() as stack:
        for start in range(0, count, NODES_PER_CONNECTION):
            connection = Connection()
            client = await stack.enter_async_context(
                connect_nats(
                    url,
                    Health(),
                    "fetchers",
                    user="fleet",
                    password_file=password_file,
                    ca_file=ca_file,
                    on_reconnect=connection.reconnected,
                )
            )
            loops.append(connection.run(client, nodes[start : start + NODES_PER_CONNECTION]))
        resolver = await stack.enter_async_context(
            connect_nats(
                url,
                Health(),
                "resolver",
                user="resolvers",
                password_file=resolver_password_file,
                ca_file=ca_file,
                inbox_prefix="_INBOX_resolver",
            )
        )
        loops += [list_sources(resolver.jetstream(prefix=names.FOREIGN_API)) for _ in range(_LISTING_WORKERS)]
        await run_until(stop, *loops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--nats-url", required=True)
    parser.add_argument("--nats-ca", type=Path, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--resolver-password-file", type=Path, required=True)
    arguments = parser.parse_args()
    configure_logs("fetchers", "warning", "json")
    passwords = (arguments.password_file, arguments.resolver_password_file)
    asyncio.run(simulate(arguments.nodes, arguments.nats_url, arguments.nats_ca, *passwords))


if __name__ == "__main__":
    main()

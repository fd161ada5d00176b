"""A fetcher process on a node of its own, and the driver that speaks to it over NATS as a controller would.

The fetcher is connected under exactly the permissions that the controller grants to its node; nothing is replaced.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, put_if, read_key
from libs.chassis.nats_mirror import Mirror
from libs.chassis.settings import SettingsError, load_settings
from libs.chassis.tasks import run_until
from ome.fetch.v1.fetch_pb2 import (
    GOAL_ABSENT,
    GOAL_HOLD,
    GOAL_KEEP,
    Assignment,
    CredentialsReply,
    CredentialsRequest,
    NodeHeartbeat,
    NodeModelState,
    PodUse,
    Resolution,
    ResolveTask,
    SharedFacts,
    Source,
    Use,
    UseQuestion,
    UseReply,
    UseRequest,
)
from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    Artifact,
    ModelRef,
    NodePhase,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.controller.gateway.gateway import Gateway
from services.controller.permissions import NODES, OME, USERS, accounts, node_permissions
from services.controller.streams import ensure_pool, ensure_streams
from services.fetcher import resolver
from services.fetcher.fleet.gateway import Gateway as NodeGateway
from tests.support.mounted_secret import usual_sides
from tests.support.nats_server import NatsServer
from tests.support.own_loop import running
from tools.localcluster.addresses import free_port
from tools.localcluster.controlplane import listens

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 20.0
PASSWORD = "secret"


def nats_configuration(node: str) -> dict[str, Any]:
    """The two accounts as they are, and the node's own rights for connections without a name; a driver may do all."""
    configured: dict[str, Any] = accounts(dict.fromkeys(USERS, PASSWORD))
    configured[OME]["users"].append({"user": "driver", "password": PASSWORD})
    fetcher = {"user": "fetcher", "password": PASSWORD, "permissions": node_permissions(node).document()}
    configured[NODES]["users"].append(fetcher)
    return {"accounts": configured, "system_account": "SYS", "no_auth_user": "fetcher"}


@asynccontextmanager
async def running_gateway(server: NatsServer, folder: Path) -> AsyncIterator[None]:
    """The gateway, in a thread of this process, under its own rights; folder takes the file with its password."""
    password = folder / "gateway.password"
    password.write_text(PASSWORD)

    async def serve(stop: asyncio.Event, opened: Callable[[], None]) -> None:
        gateways: list[Gateway] = []

        def fleet_reconnected() -> None:
            for gateway in gateways:
                gateway.fleet_reconnected()

        def nodes_reconnected() -> None:
            for gateway in gateways:
                gateway.nodes_reconnected()

        async with (
            connect_nats(
                server.url,
                Health(),
                "gateway",
                user="gateway",
                password_file=password,
                inbox_prefix="_INBOX_gateway",
                ca_file=server.authority,
                on_reconnect=fleet_reconnected,
            ) as ome,
            connect_nats(
                server.url,
                Health(),
                "gateway",
                user="gateway-nodes",
                password_file=password,
                ca_file=server.authority,
                on_reconnect=nodes_reconnected,
            ) as nodes,
        ):
            gateways.append(Gateway(ome, nodes))
            await run_until(stop, gateways[0].run(opened))

    async with running(serve):
        yield


@asynccontextmanager
async def asking_as(server: NatsServer, node: str) -> AsyncIterator[NodeGateway]:
    """What a fetcher of the node asks the gateway with."""
    client = await server.client(inbox_prefix=names.inbox_prefix(node))
    try:
        yield NodeGateway(client, node)
    finally:
        await client.close()


class Driver:
    """What the controller says and hears on the wire, without its decisions."""

    def __init__(self, client: Client, node: str) -> None:
        self.client = client
        self.js: JetStreamContext = client.jetstream()
        self.node = node
        self.history: list[tuple[str, NodeModelState]] = []
        self.secrets: dict[str, dict[str, bytes]] = {}
        # Pods by the path that they mount, as the controller tells of them; None for a controller that does not answer.
        self.pods: dict[str, list[PodUse]] | None = {}
        self.questions: list[UseQuestion] = []
        self._observed = Mirror(names.OBSERVED_BUCKET, NodeModelState.FromString)
        self._news = asyncio.Event()
        # What the node was last told to hold of each model.
        self._artifacts: dict[str, Artifact | None] = {}

    async def ensure(self) -> None:
        """Create the buckets and streams as the controller does."""
        await ensure_streams(self.js, 1, 30.0)
        await ensure_pool(self.js, "default")

    async def follow(self) -> None:
        """Take note of everything that the node says, until cancelled."""
        await self._observed.run(self.client, self._note)

    def reconnected(self) -> None:
        """The connection was lost and is there again."""
        self._observed.reread()

    async def answer_credentials(self) -> None:
        """Hand out self.secrets by model uid, until cancelled; other values are another version."""

        async def answer(message: Msg) -> None:
            uid = CredentialsRequest.FromString(message.data).model_uid
            values = self.secrets.get(uid, {})
            version = str(hash(tuple(sorted(values.items()))))
            await message.respond(CredentialsReply(values=values, secret_version=version).SerializeToString())

        for subject in (names.credentials_subject(self.node), names.LISTING_CREDENTIALS_SUBJECT):
            await self.client.subscribe(subject, cb=answer)
        await asyncio.Event().wait()

    async def answer_use(self) -> None:
        """Tell the node which of self.pods use what, until cancelled."""

        async def answer(message: Msg) -> None:
            questions = UseRequest.FromString(message.data).questions
            self.questions.extend(questions)
            if self.pods is not None:
                await message.respond(UseReply(uses=[self._use(each) for each in questions]).SerializeToString())

        await self.client.subscribe(names.use_subject(self.node), cb=answer)
        await asyncio.Event().wait()

    def _use(self, question: UseQuestion) -> Use:
        mounted = [pod for path in question.paths for pod in (self.pods or {}).get(path, ())]
        before = question.before.ToSeconds() if question.HasField("before") else None
        users = [pod for pod in mounted if before is None or pod.since.ToSeconds() <= before]
        return Use(pods=len(users), users=users)

    async def hold(
        self,
        uid: str,
        uri: str,
        artifact: Artifact | None = None,
        path: str = "",
        parameters: Mapping[str, str] | None = None,
        namespace: str = "",
        **fields: Any,
    ) -> int:
        """Assign a model to the node, a BaseModel if it has a namespace; the revision of the assignment."""
        source = Source(uri=uri, parameters=parameters, has_secret=uid in self.secrets)
        kind = MODEL_KIND_BASE_MODEL if namespace else MODEL_KIND_CLUSTER_BASE_MODEL
        model = ModelRef(kind=kind, namespace=namespace, name=uid, uid=uid)
        fields = {"generation": 1, "trust_scopes": ["driver"], **fields}
        self._artifacts[uid] = artifact
        return await self._assign(
            uid, Assignment(model=model, goal=GOAL_HOLD, source=source, artifact=artifact, path=path, **fields)
        )

    async def drop(self, uid: str, **fields: Any) -> int:
        """Ask the node to remove a model; the revision of the assignment."""
        model, artifact = ModelRef(uid=uid, name=uid), self._artifacts.get(uid)
        return await self._assign(uid, Assignment(model=model, goal=GOAL_ABSENT, artifact=artifact, **fields))

    async def keep(self, uid: str) -> int:
        """Tell the node to leave a model as it is; the revision of the assignment."""
        return await self._assign(uid, Assignment(model=ModelRef(uid=uid, name=uid), goal=GOAL_KEEP))

    async def forget(self, uid: str) -> None:
        """Delete the keys of a model, as the controller does when nothing is left of it."""
        for bucket in (names.DESIRED_BUCKET, names.OBSERVED_BUCKET):
            await (await self.js.key_value(bucket)).purge(names.node_key(self.node, uid))

    async def resolve(
        self, uri: str, uid: str = "resolver", attempt: int = 1, seconds: float = DEADLINE_SECONDS
    ) -> Resolution:
        """Have a source listed by a fetcher and return its answer."""
        bucket = await self.js.key_value(names.RESOLVED_BUCKET)
        watcher = await bucket.watch(_source_key(uri, uid))
        await self.ask(uri, uid, attempt)
        async with asyncio.timeout(seconds):
            async for entry in watcher:
                if entry is not None and entry.value:
                    resolution = Resolution.FromString(entry.value)
                    if resolution.attempt == attempt:
                        await watcher.stop()
                        return resolution
        raise AssertionError("the watch ended")

    async def ask(self, uri: str, uid: str = "resolver", attempt: int = 1) -> None:
        """Have a source listed by a fetcher, without waiting for its answer."""
        source = Source(uri=uri, has_secret=uid in self.secrets)
        task = ResolveTask(source_key=_source_key(uri, uid), source=source, model=ModelRef(uid=uid), attempt=attempt)
        await self.js.publish(names.resolve_subject("default"), task.SerializeToString())

    async def artifact(self, uri: str, uid: str = "resolver") -> Artifact:
        """The artifact that a source is now."""
        resolution = await self.resolve(uri, uid)
        assert not resolution.HasField("problem"), resolution
        return resolution.artifact

    async def state(
        self,
        uid: str,
        accept: "Callable[[NodeModelState], bool] | NodePhase",
        revision: int = 0,
        seconds: float = DEADLINE_SECONDS,
    ) -> NodeModelState:
        """Wait until the node says something acceptable about a model, in answer to that revision or a later one."""
        # A node that waits for a new revision beside a good copy is ready as well, and not with what it is to hold.
        accepts = accept if callable(accept) else lambda state: state.phase == accept and not state.update
        try:
            async with asyncio.timeout(seconds):
                while True:
                    state = self._observed.get(names.node_key(self.node, uid))
                    if state is not None and state.assignment_revision >= revision and accepts(state):
                        return state
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{uid} is not as expected but: {state}") from None

    async def facts(self, state: NodeModelState) -> ModelFacts:
        """The facts that a state refers to, as they are shared."""
        _, value = await read_key(self.js, names.FACTS_BUCKET, state.facts_key)
        return SharedFacts.FromString(value or b"").facts

    def phases(self, uid: str) -> list[NodePhase]:
        """Every phase that the node has said a model to be in, in order, without repetitions."""
        phases: list[NodePhase] = []
        for model, state in self.history:
            if model == uid and phases[-1:] != [state.phase]:
                phases.append(state.phase)
        return phases

    async def heartbeat(self) -> NodeHeartbeat:
        """The node's heartbeat, as it stands; waits for the first one."""
        watcher = await (await self.js.key_value(names.NODES_BUCKET)).watch(names.node_token(self.node))
        async with asyncio.timeout(DEADLINE_SECONDS):
            # None comes behind what is stored.
            while (entry := await anext(watcher)) is None:
                pass
        await watcher.stop()
        return NodeHeartbeat.FromString(entry.value or b"")

    async def heartbeats(self, count: int) -> None:
        """Wait for so many more heartbeats of the node."""
        watcher = await (await self.js.key_value(names.NODES_BUCKET)).watch(names.node_token(self.node))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while count >= 0:
                count -= (await anext(watcher)) is not None
        await watcher.stop()

    async def _assign(self, uid: str, assignment: Assignment) -> int:
        key = names.node_key(self.node, uid)
        return await put_if(self.js, names.DESIRED_BUCKET, key, assignment.SerializeToString(), None)

    def _note(self, key: str) -> None:
        state = self._observed.get(key)
        if state is not None:
            self.history.append((names.split_node_key(key)[1], state))
        # Whoever waits for news is woken by this event, and the next news come with another one.
        self._news.set()
        self._news = asyncio.Event()


def _source_key(uri: str, uid: str) -> str:
    return f"{uid}.{abs(hash(uri)) % 16**16:016x}"


class FetcherNode:
    """A node's folder and the fetcher process that serves it."""

    def __init__(self, folder: Path, nats_url: str, node: str, environ: dict[str, str]) -> None:
        self.host = folder / "host"
        self._http_port = free_port()
        # Two processes may serve one folder, as in the middle of a rollout.
        self._log = folder / f"fetcher-{self._http_port}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OME_NODE_NAME": node,
            "OME_NATS_URL": nats_url,
            "OME_NATS_CA_FILE": str(usual_sides().server.folder / "ca.crt"),
            "OME_HOST_ROOT": str(self.host),
            "OME_MODEL_ROOTS": "/models,/raid/models",
            "OME_PARSER_ADDRESS": "127.0.0.1:1",
            "OME_PARSER_TLS_DIR": str(usual_sides().client.folder),
            # Where the sources of tests are.
            "OME_EGRESS_ALLOW": "127.0.0.1",
            "OME_HTTP_PORT": str(self._http_port),
            "OME_HEARTBEAT_SECONDS": "0.5",
            "OME_RETRY_INITIAL_SECONDS": "0.1",
            "OME_RETRY_MAX_SECONDS": "0.5",
            # How full the disk of this machine is, is no matter of a test's.
            "OME_HIGH_WATERMARK_PERCENT": "100",
            "OME_LOW_WATERMARK_PERCENT": "100",
            **environ,
        }
        self.host.mkdir(exist_ok=True)
        (folder / "resolver.password").write_text(PASSWORD)
        # The resolver that lists for this node, in this process and under its own rights.
        self._listing = {
            "OME_NATS_USER": "resolvers",
            "OME_NATS_PASSWORD_FILE": str(folder / "resolver.password"),
            "OME_HTTP_PORT": "0",
        }
        self._resolver = AsyncExitStack()

    def path(self, node_path: str) -> Path:
        """Where a path of the node is for the test."""
        return self.host / node_path.lstrip("/")

    @property
    def log(self) -> str:
        """Everything that the fetcher has printed so far."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """Process id of the running fetcher."""
        assert self._process
        return self._process.pid

    def resident_bytes(self) -> int:
        """Memory that the running fetcher takes."""
        return int(Path(f"/proc/{self.pid}/status").read_text().split("VmRSS:")[1].split()[0]) << 10

    def descriptors(self) -> int:
        """Files and sockets that the running fetcher has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """Threads of the running fetcher."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    async def removed(self, node_path: str) -> None:
        """Wait until nothing stands at a path as the node sees it, not even a link that leads nowhere."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while os.path.lexists(self.path(node_path)):
                await asyncio.sleep(0.02)

    async def unready(self, why: str) -> None:
        """Wait until the fetcher says that it is not ready, and why; it may have another reason first."""
        async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self._http}/readyz") as response:
                        if response.status == HTTPStatus.SERVICE_UNAVAILABLE and why in await response.text():
                            return
                await asyncio.sleep(0.02)

    def processor_seconds(self) -> float:
        """Processor time that the running fetcher has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def start(self, *under: str, **environ: str) -> None:
        """Start the fetcher and wait until it is ready; under names a program of tests.support that runs it."""
        await self.launch(*under, **environ)
        await self.ready()

    async def launch(self, *under: str, **environ: str) -> None:
        """Start the fetcher without waiting for it."""
        command = [sys.executable, "-m", *under, "services.fetcher"]
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, env=self._environ | environ, stdout=log, stderr=log, cwd=ROOT
            )
        await self._resolver.aclose()
        settings = load_settings(resolver.Settings, self._environ | environ | self._listing)

        async def resolve(stop: asyncio.Event, started: Callable[[], None]) -> None:
            started()
            # What is wrong with the file of drivers, the fetcher says as well.
            with contextlib.suppress(SettingsError):
                await resolver.main(settings, stop)

        await self._resolver.enter_async_context(running(resolve))

    async def ready(self) -> None:
        """Wait until the fetcher says that it is ready."""
        assert self._process
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as session:
                while not await self._is_ready(session):
                    assert self._process.returncode is None, f"the fetcher ended:\n{self.log}"
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the fetcher is not ready:\n{self.log}") from None

    async def metrics(self) -> dict[str, float]:
        """The fetcher's metrics by name and labels, as Prometheus reads them."""
        async with aiohttp.ClientSession() as session, session.get(f"{self._http}/metrics") as response:
            lines = re.findall(r"^([^#\s]\S*) (\S+)$", await response.text(), re.MULTILINE)
        return {name: float(value) for name, value in lines}

    async def kill(self) -> None:
        """End the fetcher as a crash would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int | None:
        """End the fetcher in order; its exit code."""
        return await self._end(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for the fetcher to end by itself; its exit code, negative for a signal."""
        assert self._process
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._process.wait()

    def leftovers(self) -> list[str]:
        """Files of any kind below the model roots that belong to some model, published or not."""
        records = {"lock"}
        return sorted(
            str(path.relative_to(self.host))
            for path in self.host.rglob("*")
            if (path.is_symlink() or not path.is_dir()) and path.name not in records
        )

    @property
    def _http(self) -> str:
        return f"http://127.0.0.1:{self._http_port}"

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self._http}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def _end(self, number: signal.Signals) -> int | None:
        await self._resolver.aclose()
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"the fetcher does not end:\n{self.log}") from None


@asynccontextmanager
async def connected_driver(server: NatsServer, node: str) -> AsyncIterator[Driver]:
    """A driver that follows what the node says and answers its requests for secrets."""
    driver: Driver

    async def reconnected() -> None:
        driver.reconnected()

    client = await server.client(user="driver", password=PASSWORD, reconnected_cb=reconnected)
    driver = Driver(client, node)
    await driver.ensure()
    answering = (driver.follow(), driver.answer_credentials(), driver.answer_use())
    tasks = [asyncio.create_task(each) for each in answering]
    try:
        async with running_gateway(server, server.folder):
            yield driver
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


@asynccontextmanager
async def running_parser(folder: Path) -> AsyncIterator[str]:
    """A parser process; its address."""
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OME_LISTEN_HOST": "127.0.0.1",
        "OME_GRPC_PORT": str(port),
        "OME_GRPC_TLS_DIR": str(usual_sides().server.folder),
        "OME_HTTP_PORT": "0",
    }
    with (folder / "parser.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.parser", env=environ, stdout=log, stderr=log, cwd=ROOT
        )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await listens(port):
                assert process.returncode is None, f"the parser ended:\n{(folder / 'parser.log').read_text()}"
                await asyncio.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def running_node(folder: Path, nats_url: str, node: str, environ: dict[str, str]) -> AsyncIterator[FetcherNode]:
    """A started fetcher, which is stopped at the end; what it has said is printed for a test that fails."""
    fetcher = FetcherNode(folder, nats_url, node, environ)
    await fetcher.start()
    try:
        yield fetcher
    finally:
        await fetcher.stop()
        print(fetcher.log)

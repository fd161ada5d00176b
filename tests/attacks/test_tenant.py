"""A tenant writes BaseModels: what they name must not end what works for others, nor bring out what is others'."""

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.artifact.model_directory import read_model_directory
from libs.artifact.uri import BucketUri, parse_uri
from libs.chassis.errors import ServiceError
from libs.chassis.kube import open_kube
from libs.chassis.nats_client import read_key
from libs.chassis.settings import load_settings
from libs.model.sources import source_digest
from ome.fetch.v1.fetch_pb2 import CredentialsReply, CredentialsRequest, NodeModelState, Resolution, ResolveTask, Source
from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    Artifact,
)
from services.controller.credentials import CredentialsServer
from services.controller.specification import ModelSpec, SecretRules, read_model, source_of
from services.controller.streams import ensure_pool, ensure_streams
from services.fetcher import resolver
from services.fetcher.sources.bucket.buckets import list_prefix
from services.fetcher.sources.bucket.source import bucket_source
from tests.support.fetcher_node import PASSWORD, Driver, FetcherNode, connected_driver, nats_configuration, running_node
from tests.support.hub import Hub, generated_model
from tests.support.nats_server import NatsServer, running_nats
from tests.support.one_answer import answering
from tests.support.origin import OriginServer

KEY = "victim.0000000000000000"
NODE, URI = "node-1", "hf://org/model"
SECRET_MODEL, THIEF = "victim", "thief"
CANARY = b"hf_what-the-tenant-may-not-read"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration(NODE)) as server:
        yield server


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await server.client(user="driver", password=PASSWORD)
    await ensure_streams(client.jetstream(), 1, 60)
    await ensure_pool(client.jetstream(), "default")
    yield client.jetstream()
    await client.close()


async def test_a_listing_that_ends_whoever_takes_it_is_given_up_and_told(
    server: NatsServer, js: JetStreamContext, tmp_path: Path
) -> None:
    task = ResolveTask(source_key=KEY, source=Source(uri="local:///nowhere"), attempt=3)
    task.model.uid = "victim"
    await js.publish(names.resolve_subject("default"), task.SerializeToString())
    pull = await js.pull_subscribe_bind("pool-default", stream=names.RESOLVE_STREAM)
    for _ in range(5):
        # As if whoever has taken it had ended.
        [message] = await pull.fetch(1, timeout=5)
        await message.nak()
    await pull.unsubscribe()

    (tmp_path / "password").write_text(PASSWORD)
    environ = {
        "OME_NATS_URL": server.url,
        "OME_NATS_CA_FILE": str(server.authority),
        "OME_NATS_PASSWORD_FILE": str(tmp_path / "password"),
        "OME_HTTP_PORT": "0",
    }
    stop = asyncio.Event()
    running = asyncio.create_task(resolver.main(load_settings(resolver.Settings, environ), stop))
    async with asyncio.timeout(20):
        while not (value := (await read_key(js, names.RESOLVED_BUCKET, KEY))[1]):
            await asyncio.sleep(0.05)
    stop.set()
    await running

    resolution = Resolution.FromString(value)
    assert (resolution.attempt, resolution.problem.reason) == (3, model_pb2.REASON_UNAVAILABLE)
    assert "was begun 5 times, and no answer was stored" in resolution.problem.message


def base_model(uri: str, kind: str = "BaseModel", **parameters: str) -> ModelSpec:
    """A model of a tenant, who has named a Secret of the namespace that RBAC does not let the tenant read."""
    namespace = {"namespace": "team-a"} if kind == "BaseModel" else {}
    metadata = {"name": "m", "uid": "u", "generation": 1, **namespace}
    storage = {"storageUri": uri, "storageKey": "of-another", "parameters": parameters}
    return read_model({"kind": kind, "metadata": metadata, "spec": {"storage": storage}})


async def what_is_handed_out(
    server: NatsServer,
    model: ModelSpec,
    kind: str = "Opaque",
    annotations: Mapping[str, str] | None = None,
    data: Mapping[str, bytes] | None = None,
    sent_to: Source | None = None,
) -> CredentialsReply:
    """The answer that whoever lists the model's source gets from a controller, which reads the Secret in the API."""
    values = {"token": CANARY} if data is None else data
    secret: dict[str, Any] = {
        "metadata": {"uid": "s", "resourceVersion": "1", "annotations": dict(annotations or {})},
        "type": kind,
        "data": {name: base64.b64encode(value).decode() for name, value in values.items()},
    }
    with answering(lambda target: (200, {"Content-Type": "application/json"}, json.dumps(secret).encode())) as (url, _):
        async with open_kube(url, ssl.create_default_context()) as kube:
            client = await server.client(user="driver", password=PASSWORD)
            credentials = CredentialsServer(
                kube,
                client.jetstream(),
                lambda *_: None,
                lambda uid: model,
                lambda model: source_of(model, "ome"),
                lambda: True,
            )
            await credentials.serve(client)
            request = CredentialsRequest(model_uid="u", source_digest=source_digest(sent_to) if sent_to else "")
            answer = await client.request(names.LISTING_CREDENTIALS_SUBJECT, request.SerializeToString(), timeout=5)
            await client.close()
    return CredentialsReply.FromString(answer.data)


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("hf://org/model", "https://thief.example"),
        ("hf://org/model", "https://huggingface.co.thief.example"),
        ("hf://org/model", "https://thief.example/huggingface.co"),
        ("ms://org/model", "https://thief.example"),
        ("s3://bucket/model", "https://thief.example"),
        ("s3://bucket/model", "https://s3-1234.us-east-1.elb.amazonaws.com"),
        ("s3://bucket/model", "https://ec2-3-4-5-6.compute-1.amazonaws.com"),
        ("s3://bucket/model", r"https://thief.example\.s3.us-east-1.amazonaws.com"),
        ("gs://bucket/model", "https://thief.example/.googleapis.com"),
        ("az://container/model", "https://thief.example"),
        ("oci://n/ns/b/bucket/o/model", "https://thief.example"),
    ],
)
async def test_a_secret_of_the_namespace_is_not_sent_to_an_endpoint_of_the_tenants(
    server: NatsServer, js: JetStreamContext, uri: str, endpoint: str
) -> None:
    reply = await what_is_handed_out(server, base_model(uri, endpoint=endpoint))
    assert not reply.values
    assert CANARY not in reply.SerializeToString()


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("hf://org/model", ""),
        ("hf://org/model", "https://huggingface.co"),
        ("ms://org/model", "https://www.modelscope.ai"),
        ("s3://bucket/model", ""),
        ("s3://bucket/model", "https://s3.eu-central-1.amazonaws.com"),
        ("s3://bucket/model", "https://bucket.vpce-0a1b2c.s3.us-east-1.vpce.amazonaws.com"),
        ("gs://bucket/model", "https://storage.me-central2.rep.googleapis.com"),
        ("az://container/model", "https://account.blob.core.windows.net"),
        ("oci://n/ns/b/bucket/o/model", "https://ns.objectstorage.us-phoenix-1.oci.customer-oci.com"),
    ],
)
async def test_it_is_sent_to_the_sources_own_hosts(
    server: NatsServer, js: JetStreamContext, uri: str, endpoint: str
) -> None:
    model = base_model(uri, **({"endpoint": endpoint} if endpoint else {}))
    assert (await what_is_handed_out(server, model)).values["token"] == CANARY


async def test_nor_over_plain_http(server: NatsServer, js: JetStreamContext) -> None:
    for uri, endpoint in (
        ("hf://org/model", "http://huggingface.co"),
        ("s3://bucket/model", "http://s3.eu-central-1.amazonaws.com"),
    ):
        reply = await what_is_handed_out(server, base_model(uri, endpoint=endpoint))
        assert not reply.values
    named = {"models.ome.io/allowed-hosts": "minio.example"}
    model = base_model("s3://bucket/model", endpoint="http://minio.example:9000")
    reply = await what_is_handed_out(server, model, annotations=named)
    assert reply.problem.reason == model_pb2.REASON_SECRET_REFUSED
    assert "add 'minio.example' to credentials.insecureHosts of the controller's chart" in reply.problem.message


@pytest.mark.parametrize("hosts", ["minio.example", "other.example, minio.example", "*.example"])
async def test_whoever_may_write_the_secret_says_where_else_it_may_go(
    server: NatsServer, js: JetStreamContext, hosts: str
) -> None:
    model = base_model("s3://bucket/model", endpoint="https://minio.example:9000")
    refused = await what_is_handed_out(server, model)
    assert refused.problem.reason == model_pb2.REASON_SECRET_REFUSED
    assert "annotation models.ome.io/allowed-hosts" in refused.problem.message
    allowed = await what_is_handed_out(server, model, annotations={"models.ome.io/allowed-hosts": hosts})
    assert allowed.values["token"] == CANARY


@pytest.mark.parametrize(
    "kind",
    [
        "helm.sh/release.v1",
        "kubernetes.io/service-account-token",
        "kubernetes.io/tls",
        "kubernetes.io/dockerconfigjson",
        "bootstrap.kubernetes.io/token",
    ],
)
async def test_a_secret_that_was_not_made_for_a_model_is_handed_to_nobody(
    server: NatsServer, js: JetStreamContext, kind: str
) -> None:
    for model in (base_model("s3://bucket/model"), base_model("hf://org/model", "ClusterBaseModel")):
        reply = await what_is_handed_out(server, model, kind)
        assert reply.problem.reason == model_pb2.REASON_SECRET_REFUSED
        assert not reply.values
    assert (await what_is_handed_out(server, base_model("s3://bucket/m"), "kubernetes.io/basic-auth")).values


async def test_a_message_lists_no_keys_of_a_secret(server: NatsServer, js: JetStreamContext) -> None:
    model = base_model("hf://org/model", secretKey="guess")
    reply = await what_is_handed_out(server, model, data={"customer-acme": CANARY})
    assert reply.problem.reason == model_pb2.REASON_SECRET_NOT_FOUND
    assert "acme" not in reply.problem.message
    assert "storage.parameters.secretKey" in reply.problem.message


async def test_an_empty_secret_is_no_credentials(server: NatsServer, js: JetStreamContext) -> None:
    reply = await what_is_handed_out(server, base_model("s3://bucket/model"), data={})
    assert reply.problem.reason == model_pb2.REASON_SECRET_NOT_FOUND


async def test_an_edit_between_two_looks_sends_no_secret_where_the_model_does_not_lead_any_more(
    server: NatsServer, js: JetStreamContext
) -> None:
    # A task to list the thief's endpoint waits in the queue. By the time that credentials are asked for, the model
    # names a source that may have them.
    innocent = base_model("hf://org/model")
    task = Source(uri="hf://org/model", parameters={"endpoint": "https://thief.example"}, has_secret=True)
    reply = await what_is_handed_out(server, innocent, sent_to=task)
    assert reply.problem.reason == model_pb2.REASON_CONFLICT
    assert not reply.values
    same = Source(uri="hf://org/model", has_secret=True)
    assert (await what_is_handed_out(server, innocent, sent_to=same)).values["token"] == CANARY


def without_secret(uri: str, kind: str = "BaseModel", namespace: str = "team-a", **parameters: str) -> ModelSpec:
    """A model for which OME's Pods would sign with an identity of their own."""
    metadata = {"name": "m", "uid": "u", "generation": 1}
    if kind == "BaseModel":
        metadata["namespace"] = namespace
    return read_model(
        {"kind": kind, "metadata": metadata, "spec": {"storage": {"storageUri": uri, "parameters": parameters}}}
    )


ORACLE = "oci://n/mycompany/b/models/o/llama/"


@pytest.mark.parametrize(
    ("uri", "parameters"),
    [
        ("s3://of-another-team/model", {}),
        ("gs://of-another-team/model", {"skip_signature": "false"}),
        ("az://of-another-team/model", {"account_name": "acme"}),
        (ORACLE, {}),
        (ORACLE, {"auth_type": "InstancePrincipal"}),
        (ORACLE, {"auth": "oke_workload_identity"}),
        (ORACLE, {"auth_type": "ResourcePrincipal", "token": "a-token-is-no-credential-here"}),
    ],
)
def test_a_tenant_has_no_use_of_the_identity_of_the_pods(uri: str, parameters: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match=r"add 'team-a' to identity.namespaces of the controller's chart") as caught:
        source_of(without_secret(uri, **parameters), "ome")
    assert caught.value.reason == "IdentityRefused"
    assert source_of(without_secret(uri, "ClusterBaseModel", **parameters), "ome")


def test_the_identity_is_for_the_namespaces_and_buckets_that_the_operator_lists() -> None:
    rules = SecretRules(identity_namespaces=("team-a=s3://team-a-*", "team-a=oci://mycompany/models", "team-b"))

    def is_refused(uri: str, namespace: str, **parameters: str) -> bool:
        try:
            source_of(without_secret(uri, namespace=namespace, **parameters), "ome", rules)
        except InvalidValue as error:
            return error.reason == "IdentityRefused"
        return False

    assert not is_refused("s3://team-a-models/m", "team-a")
    assert not is_refused(ORACLE, "team-a")
    assert not is_refused("az://any/m", "team-b", account_name="acme")
    assert is_refused("s3://team-b-models/m", "team-a")
    assert is_refused("gs://team-a-models/m", "team-a")
    assert is_refused("s3://team-a-models/m", "team-c")
    assert is_refused("s3://any/m", "team-b", endpoint="https://thief.example"), "never with an endpoint of a tenant"
    assert not is_refused("s3://any/m", "team-c", skip_signature="true")


def test_a_bearer_token_of_azure_goes_to_azure_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def authority(_: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, b'{"access_token": "bearer-of-the-pod", "expires_in": 3600}'

    (tmp_path / "federated").write_text("token-of-the-pod")
    with answering(authority) as (login, _), answering(lambda _: (403, {}, b"")) as (thief, asked):
        for name, value in {
            "AUTHORITY_HOST": login,
            "TENANT_ID": "tenant",
            "CLIENT_ID": "client",
            "FEDERATED_TOKEN_FILE": str(tmp_path / "federated"),
        }.items():
            monkeypatch.setenv(f"AZURE_{name}", value)
        for endpoint in (thief, thief.replace("127.0.0.1", "localhost"), "https://thief.example"):
            uri = parse_uri("az://container/model")
            assert isinstance(uri, BucketUri)
            with pytest.raises((InvalidValue, ServiceError)) as caught:
                list_prefix(bucket_source(uri, {"account_name": "acme", "endpoint": endpoint}, {}))
            assert "storage.parameters.endpoint" in str(caught.value)
    assert asked == []


@pytest.mark.parametrize(
    ("uri", "parameters"),
    [
        ("az://container/model", {"account_name": "thief.example/"}),
        ("az://container/model", {"account_name": "thief.example#"}),
        ("s3://bucket/model", {"region": "x.thief.example/"}),
        ("s3://bucket/model", {"region": "x@thief.example/?"}),
    ],
)
def test_no_parameter_but_the_endpoint_says_to_which_host_a_cloud_is_asked(
    uri: str, parameters: dict[str, str]
) -> None:
    parsed = parse_uri(uri)
    assert isinstance(parsed, BucketUri)
    with pytest.raises(InvalidValue, match=next(iter(parameters))):
        bucket_source(parsed, parameters, {})


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(real_model=False) as hub:
        files = {"config.json": '{"model_type": "llama"}'}
        hub.add_model("org/model", files, generated=generated_model(8 << 20, 2))
        hub.forget_requests()
        yield hub


@pytest.fixture
async def driver(server: NatsServer) -> AsyncIterator[Driver]:
    async with connected_driver(server, NODE) as driver:
        yield driver


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    async with running_node(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint}) as node:
        yield node


async def hold_a_secret_model(driver: Driver, path: str = "/models/victim") -> Artifact:
    """Somebody else's model, on the node and Ready."""
    artifact = await driver.artifact(URI)
    revision = await driver.hold(SECRET_MODEL, URI, artifact, path, namespace="theirs", trust_scopes=["theirs"])
    await driver.state(SECRET_MODEL, NODE_PHASE_READY, revision)
    return artifact


def is_refused(state: NodeModelState) -> bool:
    """Whether the node says that it does not bring a model about, and shows nothing of it."""
    return state.HasField("problem") and state.phase == NODE_PHASE_FAILED


async def test_a_hub_that_lists_only_checksums_gets_nobodys_files(node: FetcherNode, driver: Driver) -> None:
    artifact = await hold_a_secret_model(driver)
    with OriginServer() as empty:
        revision = await driver.hold(
            THIEF,
            URI,
            artifact,
            "/models/thief",
            {"endpoint": empty.url},
            namespace="ours",
            trust_scopes=["ours"],
        )
        state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY, revision)
    assert is_refused(state), "it is Ready with files of somebody else"
    assert not os.path.lexists(node.path("/models/thief"))


async def hold_as_a_tenant(driver: Driver, artifact: Artifact, path: str, uri: str = URI, **fields: Any) -> int:
    """What a tenant asks for, of a source that anybody may have."""
    held = None if uri.startswith(("local:", "vendor:")) else artifact
    return await driver.hold(THIEF, uri, held, path, namespace="ours", **fields)


@pytest.mark.parametrize(
    "path",
    [
        "/models/clusterbasemodel",
        "/models/clusterbasemodel/llama",
        "/models/basemodel",
        "/models/basemodel/theirs/llama",
        "/models/basemodel/ours/another-name",
        "/raid/models/finetunedweight/llama",
        "/raid/models/basemodel/ours/thief/below",
    ],
)
async def test_the_folders_of_default_paths_belong_to_their_models(
    node: FetcherNode, driver: Driver, path: str
) -> None:
    revision = await hold_as_a_tenant(driver, await driver.artifact(URI), path)
    state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY, revision)
    assert is_refused(state), "it stands where another model belongs"
    assert state.problem.reason == model_pb2.REASON_INVALID_PATH
    assert not os.path.lexists(node.path(path))
    revision = await hold_as_a_tenant(driver, await driver.artifact(URI), "/raid/models/basemodel/ours/thief")
    await driver.state(THIEF, NODE_PHASE_READY, revision)


@pytest.mark.parametrize("squat", ["/models/llama", "/models/llama/deeper/still"])
async def test_a_path_that_a_cluster_scoped_model_names_is_given_up_to_it(
    node: FetcherNode, driver: Driver, squat: str
) -> None:
    artifact = await driver.artifact(URI)
    await driver.state(THIEF, NODE_PHASE_READY, await hold_as_a_tenant(driver, artifact, squat))
    revision = await driver.hold("llama", URI, artifact, "/models/llama")
    await driver.state("llama", NODE_PHASE_READY, revision)
    state = await driver.state(THIEF, is_refused)
    assert state.problem.reason == model_pb2.REASON_PATH_CONFLICT
    assert state.problem.message.startswith("ClusterBaseModel llama uses /models/llama")
    assert (node.path("/models/llama") / "config.json").exists()
    await driver.state("llama", NODE_PHASE_DELETED, await driver.drop("llama"))
    await driver.state(THIEF, NODE_PHASE_READY)


async def test_nor_does_a_tenant_take_the_folder_that_a_cluster_scoped_model_is_read_from(
    node: FetcherNode, driver: Driver
) -> None:
    await driver.hold("installed", "local:///models/vendor/llama")
    await driver.state("installed", NODE_PHASE_FAILED)
    await hold_as_a_tenant(driver, await driver.artifact(URI), "/models/vendor/llama")
    state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY)
    assert state.problem.reason == model_pb2.REASON_PATH_CONFLICT


async def test_names_of_other_namespaces_are_not_told(node: FetcherNode, driver: Driver) -> None:
    artifact = await hold_a_secret_model(driver, "/models/team/secret-name")
    for path in ("/models/team/secret-name", "/models/team"):
        revision = await hold_as_a_tenant(driver, artifact, path)
        state = await driver.state(THIEF, is_refused, revision)
        assert state.problem.reason == model_pb2.REASON_PATH_CONFLICT
        assert "victim" not in state.problem.message
        assert "theirs" not in state.problem.message
        assert path.endswith("secret-name") or "secret-name" not in state.problem.message


@pytest.mark.parametrize("path", ["/models/vendor/llama/evil", "/models/vendor/llama/1/evil", "/models/vendor/evil"])
async def test_nothing_is_placed_inside_a_model_that_somebody_else_has_put_there(
    node: FetcherNode, driver: Driver, path: str
) -> None:
    folder = node.path("/models/vendor/llama/1")
    folder.mkdir(parents=True)
    (folder / "model.plan").write_text("weights")
    revision = await hold_as_a_tenant(driver, await driver.artifact(URI), path)
    state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY, revision)
    assert is_refused(state), "a link stands inside somebody's model"
    assert state.problem.reason == model_pb2.REASON_PATH_OCCUPIED
    assert not os.path.lexists(node.path(path))


@pytest.mark.parametrize(
    "uri",
    [
        "local:///models/victim",
        "local:///models/.ome/artifacts/{digest}",
        "local:///models/shortcut",
        "local:///models/basemodel/theirs/by-hand",
        "local:///models/basemodel",
        "local:///models",
        "vendor://acme/models/victim",
    ],
)
async def test_no_model_of_somebody_else_is_read_in_place(node: FetcherNode, driver: Driver, uri: str) -> None:
    artifact = await hold_a_secret_model(driver)
    by_hand = node.path("/models/basemodel/theirs/by-hand")
    by_hand.mkdir(parents=True)
    (by_hand / "config.json").write_text("{}")
    node.path("/models/shortcut").symlink_to("victim")
    uri = uri.format(digest=artifact.digest.replace(":", "-"))
    revision = await hold_as_a_tenant(driver, artifact, "/models/victim", uri)
    state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY, revision)
    assert is_refused(state), "it reads the files of another model"
    assert state.problem.reason in (model_pb2.REASON_INVALID_PATH, model_pb2.REASON_INVALID_URI)


async def test_namespaces_that_read_one_installed_folder_have_no_part_in_each_others_models(
    node: FetcherNode, driver: Driver
) -> None:
    folder = node.path("/models/vendor/llama")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    uri = "local:///models/vendor/llama"
    await driver.hold("theirs", uri, namespace="theirs")
    await driver.state("theirs", NODE_PHASE_READY)
    await driver.hold(THIEF, uri, namespace="ours")
    await driver.state(THIEF, NODE_PHASE_READY)
    # Neither a model that stands there nor the end of one touches the folder, or the other reader.
    revision = await hold_as_a_tenant(driver, await driver.artifact(URI), "/models/vendor/llama")
    state = await driver.state(THIEF, is_refused, revision)
    assert state.problem.reason == model_pb2.REASON_PATH_OCCUPIED
    assert "theirs" not in state.problem.message
    await driver.state(THIEF, NODE_PHASE_DELETED, await driver.drop(THIEF))
    assert (folder / "config.json").exists()
    assert driver.phases("theirs")[-1] == NODE_PHASE_READY


async def test_links_in_a_folder_lead_to_no_model_of_somebody_else(node: FetcherNode, driver: Driver) -> None:
    await hold_a_secret_model(driver)
    folder = node.path("/models/mine")
    folder.mkdir()
    (folder / "config.json").symlink_to("../victim/config.json")
    (folder / "own.json").write_text("{}")
    assert [name for name, *_ in read_files(folder, node.path("/models"))] == ["own.json"]


def read_files(folder: Path, boundary: Path) -> list[tuple[str, int, bytes]]:
    files = read_model_directory(str(folder), "", str(boundary))
    return [(file.path, file.size_bytes, file.data) for file in files]


@pytest.mark.parametrize("uri", [URI, "local:///models/free"])
async def test_tenants_who_are_strangers_stay_in_their_own_folder(node: FetcherNode, driver: Driver, uri: str) -> None:
    node.path("/models/free").mkdir()
    (node.path("/models/free") / "config.json").write_text("{}")
    artifact = await driver.artifact(URI)
    path = "/models/elsewhere" if uri == URI else ""
    revision = await hold_as_a_tenant(driver, artifact, path, uri, confined=True)
    state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY, revision)
    assert is_refused(state)
    assert state.problem.reason == model_pb2.REASON_INVALID_PATH
    assert "namespacedPaths" in state.problem.message
    await driver.state(THIEF, NODE_PHASE_READY, await hold_as_a_tenant(driver, artifact, "", confined=True))


async def test_a_write_into_a_published_file_is_told_at_once_and_undone(
    tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub
) -> None:
    environ = {"HF_ENDPOINT": hub.endpoint, "OME_RECHECK_SECONDS": "0.3"}
    async with running_node(tmp_path, server.url, NODE, environ) as node:
        await hold_a_secret_model(driver)
        config = node.path("/models/victim/config.json")
        right = config.read_bytes()
        with config.open("r+b") as content:
            content.write(b"!")
        state = await driver.state(SECRET_MODEL, lambda state: state.phase == NODE_PHASE_UPDATING)
        assert state.problem.reason == model_pb2.REASON_ARTIFACT_DAMAGED
        assert "config.json" in state.problem.message
        assert not state.HasField("artifact"), "nobody is told that it can be read"
        await driver.state(SECRET_MODEL, NODE_PHASE_READY)
        assert config.read_bytes() == right

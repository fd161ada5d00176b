"""Anybody in the cluster network calls StatusService: without a valid token they get nothing, with one what is theirs.

A real replica asks a real API server; what that was asked stands in its audit log.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    MODEL_KIND_FINE_TUNED_WEIGHT,
)
from ome.status.v1.status_pb2 import (
    GetModelRequest,
    ListModelsRequest,
    ListNodesRequest,
    ListNodesResponse,
    WatchModelsRequest,
)
from tests.support.mounted_secret import usual_sides
from tests.support.status_process import Replica, StatusCluster, eventually, path_of, running_status_cluster, stub
from tools.localcluster.status_client import AUDIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_ALL = {"secret-plan", "public", "of-team-a", "of-team-b"}
CALLS: list[tuple[str, Any]] = [
    ("GetModel", GetModelRequest(kind=MODEL_KIND_BASE_MODEL, namespace="team-b", name="of-team-b")),
    ("ListModels", ListModelsRequest()),
    ("WatchModels", WatchModelsRequest()),
    ("ListNodes", ListNodesRequest()),
]


async def may_read(cluster: StatusCluster, account: str, namespace: str = "", *, name: str = "", **rule: Any) -> str:
    """Give an account of namespace team-a a right, in one namespace or everywhere; the name of its binding."""
    binding = f"{account}-{namespace or 'everywhere'}-{name or 'all'}"
    rules = [{"apiGroups": ["ome.io"], "verbs": ["get", "list", "watch"], "resources": ["basemodels"], **rule}]
    if name:
        rules[0]["resourceNames"] = [name]
    scope, kind = (f"/namespaces/{namespace}", "Role") if namespace else ("", "ClusterRole")
    role = {"metadata": {"name": binding}, "rules": rules}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "team-a"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": binding}
    bound = {"metadata": {"name": binding}, "roleRef": reference, "subjects": [subject]}
    await cluster.kube.request("POST", f"{_RBAC}{scope}/{kind.lower()}s", role)
    await cluster.kube.request("POST", f"{_RBAC}{scope}/{kind.lower()}bindings", bound)
    granted = {"verb": rules[0]["verbs"][0], "group": rules[0]["apiGroups"][0], "resource": rules[0]["resources"][0]}
    user = f"system:serviceaccount:team-a:{account}"
    asked = {"user": user, "resourceAttributes": {**granted, "namespace": namespace, "name": name}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}

    async def holds() -> bool:
        found = await cluster.kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(found["status"]["allowed"])

    await eventually(holds, "the right is known to the API server")
    return f"{_RBAC}{scope}/{kind.lower()}bindings/{binding}"


async def account(cluster: StatusCluster, name: str) -> str:
    """A new account of namespace team-a without any right, and its token for the service."""
    path = "/api/v1/namespaces/team-a/serviceaccounts"
    await cluster.kube.request("POST", path, {"metadata": {"name": name}})
    return await cluster.token_of(name, "team-a", AUDIENCE)


def refusal(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """Code and reason of a refusal."""
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()  # type: ignore[arg-type]
    if status is not None:
        assert status.details[0].Unpack(info)
    return error.code(), info.reason


async def answer(replica: Replica, method: str, request: Any, token: str = "") -> Any:
    """The answer to a call, the first of a stream; or code and reason of a refusal."""
    async with stub(replica, token) as service:
        try:
            call = getattr(service, method)(request, timeout=20)
            return await (call.read() if method == "WatchModels" else call)
        except grpc.aio.AioRpcError as error:
            return refusal(error)


async def listed(replica: Replica, token: str, **wanted: Any) -> set[str]:
    """Names of the models that a caller gets."""
    found = await answer(replica, "ListModels", ListModelsRequest(**wanted), token)
    return {model.ref.name for model in found.models}


def reviews(cluster: StatusCluster, resource: str) -> int:
    """How often the service had something reviewed."""
    return sum(item["objectRef"]["resource"] == resource for item in cluster.requests())


UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "Forbidden")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "Forbidden")
LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RateLimited")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StatusCluster]:
    async with running_status_cluster(tmp_path_factory.mktemp("status")) as running:
        await running.node("node-1")
        for namespace in ("team-a", "team-b"):
            await running.kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
            await running.model(f"of-{namespace}", "basemodels", namespace)
        await running.model("public")
        await running.model("secret-plan", "finetunedweights", baseModelRef={"name": "public"})
        await account(running, "stranger")
        replica = await running.start_replica("status-a")
        token = await running.reader_token()

        async def answers() -> bool:
            found = await answer(replica, "ListModels", ListModelsRequest(), token)
            return not isinstance(found, tuple) and {model.ref.name for model in found.models} == _ALL

        await eventually(answers, "the service knows all models")
        yield running


@pytest.fixture
def replica(cluster: StatusCluster) -> Replica:
    return cluster.replicas[0]


@pytest.mark.parametrize(("method", "request_"), CALLS, ids=[method for method, _ in CALLS])
async def test_who_shows_no_token_gets_no_answer(replica: Replica, method: str, request_: Any) -> None:
    assert await answer(replica, method, request_) == UNAUTHENTICATED


@pytest.mark.parametrize(("method", "request_"), CALLS, ids=[method for method, _ in CALLS])
async def test_a_token_that_is_meant_for_the_api_server_is_not_taken(
    cluster: StatusCluster, replica: Replica, method: str, request_: Any
) -> None:
    # Whoever took over the service could use it there with all its rights.
    token = await cluster.token_of("stranger", "team-a")
    assert await answer(replica, method, request_, token) == UNAUTHENTICATED


async def test_junk_costs_the_api_server_no_review(cluster: StatusCluster, replica: Replica) -> None:
    before = reviews(cluster, "tokenreviews")

    def forged(**claims: Any) -> str:
        parts = ({"alg": "RS256"}, claims)
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return ".".join([*encoded, "c2lnbmF0dXJl"])

    later = time.time() + 3600
    junk = [
        "x",
        "a.b.c",
        "..",
        "x" * 7000,
        forged(aud=[AUDIENCE]),
        forged(exp=later),
        forged(aud=["nats"], exp=later),
        forged(aud=7, exp=later),
        forged(aud=[AUDIENCE], exp=time.time() - 3600),
        forged(aud=[AUDIENCE], exp="soon"),
        await cluster.token_of("stranger", "team-a"),
    ]
    for token in junk:
        assert await answer(replica, "ListModels", ListModelsRequest(), token) == UNAUTHENTICATED
    assert reviews(cluster, "tokenreviews") == before


async def test_who_has_no_right_sees_nothing(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "nobody")
    assert await listed(replica, token) == set()
    for kind in (MODEL_KIND_CLUSTER_BASE_MODEL, MODEL_KIND_FINE_TUNED_WEIGHT):
        assert await answer(replica, "ListModels", ListModelsRequest(kind=kind), token) == DENIED
        assert await answer(replica, "WatchModels", WatchModelsRequest(kind=kind), token) == DENIED
        assert await answer(replica, "GetModel", GetModelRequest(kind=kind, name="public"), token) == DENIED
    assert await answer(replica, "ListModels", ListModelsRequest(namespace="team-b"), token) == DENIED
    assert await answer(replica, "WatchModels", WatchModelsRequest(namespace="team-b"), token) == DENIED
    assert await answer(replica, "ListNodes", ListNodesRequest(), token) == DENIED
    watched = await answer(replica, "WatchModels", WatchModelsRequest(), token)
    assert watched.synced.models == 0


async def test_whether_a_model_exists_is_told_to_nobody_who_may_not_see_it(
    cluster: StatusCluster, replica: Replica
) -> None:
    token = await account(cluster, "prober")
    for name in ("of-team-b", "no-such-model"):
        request = GetModelRequest(kind=MODEL_KIND_BASE_MODEL, namespace="team-b", name=name)
        assert await answer(replica, "GetModel", request, token) == DENIED


async def test_a_member_of_one_team_sees_the_models_of_this_team(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "member")
    await may_read(cluster, "member", "team-a")

    assert await listed(replica, token) == {"of-team-a"}
    assert await listed(replica, token, namespace="team-a") == {"of-team-a"}
    assert await answer(replica, "ListModels", ListModelsRequest(namespace="team-b"), token) == DENIED
    # A page begins where the caller says, and is no way to what it may not see.
    first = await answer(replica, "ListModels", ListModelsRequest(page_size=1), await cluster.reader_token())
    assert await listed(replica, token, page_token=first.next_page_token) <= {"of-team-a"}


async def test_a_right_to_one_model_shows_this_model(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "named")
    await may_read(cluster, "named", "team-b", name="of-team-b")
    for name, expected in (("of-team-b", "of-team-b"), ("another", "")):
        request = GetModelRequest(kind=MODEL_KIND_BASE_MODEL, namespace="team-b", name=name)
        found = await answer(replica, "GetModel", request, token)
        assert found == DENIED if not expected else found.model.ref.name == expected


@pytest.mark.parametrize("verb", ["get", "list", "watch"])
async def test_each_call_needs_its_own_verb(cluster: StatusCluster, replica: Replica, verb: str) -> None:
    token = await account(cluster, f"may-{verb}")
    await may_read(cluster, f"may-{verb}", "team-b", verbs=[verb])
    calls: dict[str, tuple[str, Any]] = {
        "get": CALLS[0],
        "list": ("ListModels", ListModelsRequest(namespace="team-b")),
        "watch": ("WatchModels", WatchModelsRequest(namespace="team-b")),
    }
    answered = {each for each, call in calls.items() if await answer(replica, *call, token) != DENIED}
    assert answered == {verb}


async def test_nodes_are_told_to_those_who_may_list_nodes(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "operator")
    await may_read(cluster, "operator", apiGroups=[""], resources=["nodes"], verbs=["list"])
    found = await answer(replica, "ListNodes", ListNodesRequest(), token)
    assert isinstance(found, ListNodesResponse)
    assert await listed(replica, token) == set()


async def test_a_watch_tells_nothing_of_another_team(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "watcher")
    await may_read(cluster, "watcher", "team-a")
    async with stub(replica, token) as service, asyncio.timeout(20):
        watch = service.WatchModels(WatchModelsRequest())
        assert (await watch.read()).updated.ref.name == "of-team-a"
        assert (await watch.read()).synced.models == 1
        foreign = await cluster.model("hidden", "basemodels", "team-b")
        await cluster.kube.request("DELETE", path_of(foreign))
        await cluster.model("second", "basemodels", "team-a")
        # What is known already may be told again, as its status moves on.
        told = "of-team-a"
        while told == "of-team-a":
            told = (await watch.read()).updated.ref.name
        assert told == "second"


async def test_a_caller_opens_so_many_watches_and_no_more(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "hoarder")
    async with stub(replica, token) as service, asyncio.timeout(60):
        watches = [service.WatchModels(WatchModelsRequest()) for _ in range(32)]
        for watch in watches:
            assert (await watch.read()).HasField("synced")
        assert await answer(replica, "WatchModels", WatchModelsRequest(), token) == LIMITED
        other = await answer(replica, "WatchModels", WatchModelsRequest(), await cluster.reader_token())
        assert not isinstance(other, tuple)
        watches[0].cancel()

        async def free() -> bool:
            return bool(await answer(replica, "WatchModels", WatchModelsRequest(), token) != LIMITED)

        await eventually(free, "the place of a watch that ended can be had")


async def test_what_was_reviewed_is_not_reviewed_again_at_once(cluster: StatusCluster, replica: Replica) -> None:
    token = await account(cluster, "frequent")
    await may_read(cluster, "frequent", "team-a")
    await listed(replica, token)
    before = [reviews(cluster, resource) for resource in ("tokenreviews", "subjectaccessreviews")]
    for _ in range(50):
        await listed(replica, token)
    assert [reviews(cluster, resource) for resource in ("tokenreviews", "subjectaccessreviews")] == before


async def test_forged_tokens_get_few_reviews_and_keep_no_known_caller_out(cluster: StatusCluster) -> None:
    # A replica of its own, as all callers here have one address.
    replica, honest = await cluster.start_replica("status-forged"), await cluster.reader_token()

    async def known() -> bool:
        return not isinstance(await answer(replica, "ListModels", ListModelsRequest(), honest), tuple)

    await eventually(known, "the replica knows the honest caller")
    before = reviews(cluster, "tokenreviews")
    # Right but for the signature.
    head, payload, _ = honest.split(".")
    forged = [f"{head}.{payload}.{base64.urlsafe_b64encode(f'signature {n}'.encode()).decode()}" for n in range(100)]
    answers = [await answer(replica, "ListModels", ListModelsRequest(), token) for token in forged]

    assert set(answers) == {UNAUTHENTICATED, LIMITED}
    assert reviews(cluster, "tokenreviews") - before < 30
    assert await listed(replica, honest) >= _ALL


async def test_health_is_told_to_everybody(replica: Replica) -> None:
    async with grpc.aio.secure_channel(replica.grpc_address, usual_sides().channel_credentials()) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        found = await health.Check(health_pb2.HealthCheckRequest(service="ome.status.v1.StatusService"))
    assert found.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_caller_that_asks_without_end_is_told_to_wait_and_others_are_answered(
    cluster: StatusCluster,
) -> None:
    slow = await cluster.start_replica("status-slow", OME_CALLS_PER_SECOND="1")
    token, other = await account(cluster, "endless"), await cluster.reader_token()

    async def ready() -> bool:
        return not isinstance(await answer(slow, "ListModels", ListModelsRequest(), other), tuple)

    await eventually(ready, "the replica answers")
    answers = [await answer(slow, "ListModels", ListModelsRequest(), token) for _ in range(30)]
    assert LIMITED in answers
    await eventually(ready, "another caller is answered")


async def test_a_watch_ends_when_the_right_is_withdrawn(cluster: StatusCluster) -> None:
    forgetful = await cluster.start_replica("status-forgetful", OME_PERMITTED_SECONDS="2")
    token = await account(cluster, "leaver")
    binding = await may_read(cluster, "leaver", "team-b")

    async def answers() -> bool:
        found = await answer(forgetful, "ListModels", ListModelsRequest(namespace="team-b"), token)
        return not isinstance(found, tuple)

    await eventually(answers, "the replica shows the caller what it may see")
    async with stub(forgetful, token) as service, asyncio.timeout(60):
        watch = service.WatchModels(WatchModelsRequest(namespace="team-b"))
        while not (await watch.read()).HasField("synced"):
            pass
        await cluster.kube.request("DELETE", binding)
        # They stay until the watch has ended: of what goes at once, a busy service may never hear.
        later: list[dict[str, Any]] = []
        reading = asyncio.ensure_future(watch.read())
        while not (reading.done() and reading.exception()):
            if reading.done():
                reading = asyncio.ensure_future(watch.read())
            later.append(await cluster.model(f"later-{len(later)}", "basemodels", "team-b"))
            await asyncio.wait([reading], timeout=0.5)
    for model in later:
        await cluster.kube.request("DELETE", path_of(model))
    ended = reading.exception()
    assert isinstance(ended, grpc.aio.AioRpcError)
    assert refusal(ended) == DENIED


async def test_anyone_is_answered_where_the_operator_says_so(cluster: StatusCluster) -> None:
    # Where a mesh or a NetworkPolicy decides who reaches the port.
    trusting = await cluster.start_replica("status-trusting", OME_CALLERS="anyone")

    async def answers() -> bool:
        found = await answer(trusting, "ListModels", ListModelsRequest())
        return not isinstance(found, tuple) and {model.ref.name for model in found.models} >= _ALL

    await eventually(answers, "the replica answers without a token")

"""What each ServiceAccount of the charts may do: asked of the API server, which decides it, and tried."""

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from libs.chassis.errors import ServiceError
from libs.chassis.kube import JSON, MERGE_PATCH
from ome.model.v1 import model_pb2
from services.controller.inspection_jobs import job_manifest
from services.controller.volumes import ClaimDirectory, CreateJob
from tests.support.apiserver import ApiServer, policies_enforced, running_api_server
from tests.support.programs import CHARTS, image_values, run

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

_FOLLOW = {"list", "watch"}
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_MODELS = ("basemodels", "clusterbasemodels", "finetunedweights")

# (group, resource, namespace, name) → verbs. Nothing else of what is asked below may be allowed.
Grants = dict[tuple[str, str, str, str], set[str]]
GRANTED: dict[str, Grants] = {
    "ome-controller": {
        **{("ome.io", model, "", ""): _FOLLOW | {"patch"} for model in _MODELS},
        ("ome.io", "inferenceservices", "team-a", ""): _FOLLOW,
        ("", "nodes", "", ""): _FOLLOW,
        ("", "persistentvolumeclaims", "team-a", ""): _FOLLOW,
        ("", "pods", "ome", ""): _FOLLOW | {"patch"},
        ("batch", "jobs", "team-a", ""): _FOLLOW | {"get", "create", "delete"},
        ("events.k8s.io", "events", "team-a", ""): {"create"},
        ("", "secrets", "team-a", "hf-token"): {"get"},
        # By name only: it cannot look around.
        ("", "secrets", "ome", "ome-nats-issuer"): {"get"},
        ("authentication.k8s.io", "tokenreviews", "", ""): {"create"},
        ("coordination.k8s.io", "leases", "ome", "ome-controller"): {*_FOLLOW, "create", "update"},
        ("coordination.k8s.io", "leases", "ome", "ome-status"): {"create"},
    },
    "ome-status": {
        **{("ome.io", model, "", ""): _FOLLOW | {"patch"} for model in _MODELS},
        **{("ome.io", f"{model}/status", "", ""): {"patch"} for model in _MODELS},
        ("ome.io", "inferenceservices", "team-a", ""): _FOLLOW,
        ("ome.io", "inferenceservices/status", "team-a", ""): {"patch"},
        ("", "nodes", "", ""): _FOLLOW | {"patch"},
        ("", "configmaps", "ome", "node-1"): _FOLLOW | {"create", "patch", "delete"},
        ("events.k8s.io", "events", "team-a", ""): {"create"},
        ("authentication.k8s.io", "tokenreviews", "", ""): {"create"},
        ("authorization.k8s.io", "subjectaccessreviews", "", ""): {"create"},
        ("coordination.k8s.io", "leases", "ome", "ome-status"): {*_FOLLOW, "create", "update"},
        ("coordination.k8s.io", "leases", "ome", "ome-controller"): {"create"},
    },
    "ome-fetcher": {},
    "ome-parser": {},
}
_ASKED = sorted(
    {target for grants in GRANTED.values() for target in grants}
    | {
        ("", "secrets", "ome", "ome-nats-issuer"),
        ("", "configmaps", "team-a", "settings"),
        ("", "nodes/status", "", "node-1"),
        ("", "serviceaccounts/token", "ome", "ome-controller"),
        ("apps", "daemonsets", "ome", "ome-fetcher"),
        ("rbac.authorization.k8s.io", "clusterroles", "", ""),
        ("apiextensions.k8s.io", "customresourcedefinitions", "", ""),
    }
)


_COLLECTION = "/apis/ome.io/v1beta1/clusterbasemodels"
_JOBS = "/apis/batch/v1/namespaces/default/jobs"
_PATHS = {"llama": f"{_COLLECTION}/llama", "node-1": "/api/v1/nodes/node-1"}
_MODEL = {
    "apiVersion": "ome.io/v1beta1",
    "kind": "ClusterBaseModel",
    "metadata": {"name": "llama", "finalizers": ["example.com/keep"]},
    "spec": {"vendor": "meta"},
}
_UID = "0b6f7f1e-2f0a-4a55-9b3c-3f3d6f4b6a11"
_DEADLINE_SECONDS = 20
_PARSER_IMAGE = f"ome/parser:{yaml.safe_load((CHARTS / 'controller' / 'Chart.yaml').read_text())['appVersion']}"
_REF = model_pb2.ModelRef(kind=model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL, name="llama", uid="u")
_INSPECTION = job_manifest(
    CreateJob(_REF, ClaimDirectory("default", "storage", "llama"), "config.json", True, "subject", 1, ""), _PARSER_IMAGE
)


async def _refusal(server: ApiServer, account: str, target: str, patch: dict[str, Any]) -> str:
    """What the API server says against a patch by a service; empty when it is permitted. Nothing is stored."""
    return await _refused(server, account, "PATCH", _PATHS[target], patch, MERGE_PATCH)


async def _job_refusal(server: ApiServer, method: str, manifest: dict[str, Any]) -> str:
    """What the API server says against a Job that the controller creates or deletes; empty when it is permitted."""
    if method == "DELETE":
        return await _refused(server, "ome-controller", method, f"{_JOBS}/{manifest['metadata']['name']}")
    return await _refused(server, "ome-controller", method, _JOBS, manifest)


async def _refused(
    server: ApiServer, account: str, method: str, path: str, body: dict[str, Any] | None = None, content: str = JSON
) -> str:
    async with server.as_account(account) as kube:
        try:
            await kube.request(method, path, body, {"dryRun": "All"}, content)
        except ServiceError as error:
            return error.message
    return ""


_EVENTS = "/apis/events.k8s.io/v1/namespaces/ome/events"


def _event(**changes: Any) -> dict[str, Any]:
    about = {"apiVersion": "v1", "kind": "Pod", "name": "server", "namespace": "ome"}
    said = {"reportingController": "ome.io/controller", "reportingInstance": "controller-a", "action": "AwaitModel"}
    event = {"metadata": {"name": "server.1", "namespace": "ome"}, "eventTime": "2026-01-01T00:00:00.000000Z"}
    return event | said | {"type": "Normal", "reason": "WaitingForModel", "note": "n", "regarding": about} | changes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with running_api_server(tmp_path_factory.mktemp("apiserver")) as running:
        await running.kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ome"}})
        for chart in ("crds", "controller", "fetcher", "parser", "status"):
            arguments = ("install", f"ome-{chart}", str(CHARTS / chart), "--namespace", "ome", *image_values(chart))
            await asyncio.to_thread(run, "helm", *arguments, KUBECONFIG=str(running.kubeconfig))
        await running.kube.request("POST", "/api/v1/nodes", {"metadata": {"name": "node-1", "labels": {"gpu": "true"}}})
        await running.kube.request("POST", _COLLECTION, _MODEL)
        # A policy is enforced a moment after it was created.
        async with asyncio.timeout(_DEADLINE_SECONDS):
            for account in ("ome-controller", "ome-status"):
                while not await _refusal(running, account, "llama", {"metadata": {"labels": {"a": "b"}}}):
                    await asyncio.sleep(0.1)
            while "denied" not in await _job_refusal(running, "POST", _changed(("metadata", "labels"), {"a": "b"})):
                await asyncio.sleep(0.1)
            foreign = _event(reportingController="kubelet")
            while "denied" not in await _refused(running, "ome-controller", "POST", _EVENTS, foreign):
                await asyncio.sleep(0.1)
        await policies_enforced(running.kube)
        yield running


async def _allowed(server: ApiServer, account: str, target: tuple[str, str, str, str]) -> set[str]:
    group, path, namespace, name = target
    resource, _, subresource = path.partition("/")

    async def is_allowed(verb: str) -> bool:
        attributes = {
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:ome:{account}",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:ome", "system:authenticated"],
                "resourceAttributes": {**attributes, "verb": verb},
            },
        }
        answer = await server.kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    answers = await asyncio.gather(*(is_allowed(verb) for verb in _VERBS))
    return {verb for verb, answer in zip(_VERBS, answers, strict=True) if answer}


@pytest.mark.parametrize("account", GRANTED)
async def test_a_service_may_do_what_it_needs_and_nothing_else(account: str, server: ApiServer) -> None:
    allowed = {target: verbs for target in _ASKED if (verbs := await _allowed(server, account, target))}

    assert allowed == GRANTED[account]


PERMITTED = {
    "a label by uid": ("ome-status", "node-1", {"metadata": {"labels": {f"models.ome/{_UID}": "Ready"}}}),
    "a readable label": (
        "ome-status",
        "node-1",
        {"metadata": {"labels": {"models.ome.io/clusterbasemodel.llama": "Ready"}}},
    ),
    "a fact": ("ome-status", "llama", {"spec": {"modelType": "llama"}}),
    "the finalizer": (
        "ome-controller",
        "llama",
        {"metadata": {"finalizers": ["example.com/keep", "models.ome.io/finalizer"]}},
    ),
}
FORBIDDEN = {
    "a foreign label of a node": ("ome-status", "node-1", {"metadata": {"labels": {"zone": "a"}}}),
    "removing a foreign label of a node": ("ome-status", "node-1", {"metadata": {"labels": {"gpu": None}}}),
    "cordoning a node": ("ome-status", "node-1", {"spec": {"unschedulable": True}}),
    "an annotation of a node": ("ome-status", "node-1", {"metadata": {"annotations": {"a": "b"}}}),
    "an annotation of a model": ("ome-status", "llama", {"metadata": {"annotations": {"a": "b"}}}),
    "releasing a model": ("ome-status", "llama", {"metadata": {"finalizers": None}}),
    "the spec of a model": ("ome-controller", "llama", {"spec": {"disabled": True}}),
    "a label of a model": ("ome-controller", "llama", {"metadata": {"labels": {"a": "b"}}}),
    "the finalizer of another": ("ome-controller", "llama", {"metadata": {"finalizers": None}}),
}


@pytest.mark.parametrize(("account", "target", "patch"), PERMITTED.values(), ids=PERMITTED)
async def test_a_patch_may_change(account: str, target: str, patch: dict[str, Any], server: ApiServer) -> None:
    assert await _refusal(server, account, target, patch) == ""


@pytest.mark.parametrize(("account", "target", "patch"), FORBIDDEN.values(), ids=FORBIDDEN)
async def test_a_patch_may_not_change(account: str, target: str, patch: dict[str, Any], server: ApiServer) -> None:
    assert "denied request: the " in await _refusal(server, account, target, patch)


def _changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    manifest = copy.deepcopy(_INSPECTION)
    place: Any = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return manifest


_POD = ("spec", "template", "spec")
_FIRST = (*_POD, "containers", 0)
_CONTAINER = _INSPECTION["spec"]["template"]["spec"]["containers"][0]
OTHER_JOBS = {
    "a Job without our label": (("metadata", "labels"), {"a": "b"}),
    "a Job of no model": (("metadata", "ownerReferences"), []),
    "another image": ((*_FIRST, "image"), "ome/fetcher:1"),
    "a command": ((*_FIRST, "command"), ["sh"]),
    "another task of the parser": ((*_FIRST, "args"), ["inspect", "/"]),
    "variables": ((*_FIRST, "env"), [{"name": "A", "value": "b"}]),
    "a Secret as variables": ((*_FIRST, "envFrom"), [{"secretRef": {"name": "s"}}]),
    "a second container": ((*_POD, "containers"), [_CONTAINER, {**_CONTAINER, "name": "second"}]),
    "an initializer": ((*_POD, "initContainers"), [{"name": "a", "image": _PARSER_IMAGE}]),
    "a writable claim": ((*_POD, "volumes", 0, "persistentVolumeClaim", "readOnly"), False),
    "a directory of the node": ((*_POD, "volumes", 0), {"name": "model", "hostPath": {"path": "/"}}),
    "a Secret as files": ((*_POD, "volumes", 0), {"name": "model", "secret": {"secretName": "s"}}),
    "a token": ((*_POD, "automountServiceAccountToken"), True),
    "another identity": ((*_POD, "serviceAccountName"), "admin"),
    "the network of the node": ((*_POD, "hostNetwork"), True),
    "a node of its choice": ((*_POD, "nodeName"), "node-1"),
    "every node": ((*_POD, "tolerations"), [{"operator": "Exists"}]),
    "root": ((*_FIRST, "securityContext", "runAsUser"), 0),
    "root for the Pod": ((*_POD, "securityContext", "runAsUser"), 0),
    "a capability": ((*_FIRST, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    "no seccomp profile": ((*_POD, "securityContext", "seccompProfile"), {"type": "Unconfined"}),
}


async def test_the_controller_may_have_volumes_inspected(server: ApiServer) -> None:
    assert await _job_refusal(server, "POST", _INSPECTION) == ""


@pytest.mark.parametrize(("path", "value"), OTHER_JOBS.values(), ids=OTHER_JOBS)
async def test_the_controller_may_not_create(path: tuple[str | int, ...], value: object, server: ApiServer) -> None:
    assert "denied request: " in await _job_refusal(server, "POST", _changed(path, value))


async def test_the_controller_may_delete_its_own_jobs_and_no_others(server: ApiServer) -> None:
    others = _changed(("metadata", "labels"), {"a": "b"})
    others["metadata"]["name"] = "others"
    for job in (_INSPECTION, others):
        await server.kube.request("POST", _JOBS, job)

    assert await _job_refusal(server, "DELETE", _INSPECTION) == ""
    assert "denied request: " in await _job_refusal(server, "DELETE", others)


@pytest.mark.parametrize(
    "changes",
    [
        {"regarding": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs", "namespace": "ome"}},
        {"regarding": {"apiVersion": "v1", "kind": "Secret", "name": "theirs", "namespace": "ome"}},
        {"reportingController": "kubelet"},
    ],
    ids=str,
)
async def test_the_controller_may_record_events_of_pods_alone_and_in_its_own_name(
    changes: dict[str, Any], server: ApiServer
) -> None:
    denied = await _refused(server, "ome-controller", "POST", _EVENTS, _event(**changes))
    assert "denied request: the controller may record events of Pods only" in denied
    assert await _refused(server, "ome-controller", "POST", _EVENTS, _event()) == ""

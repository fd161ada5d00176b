"""What kube-apiserver admits and refuses under the shipped definitions, and what it says to the one who wrote it."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import yaml

from libs.artifact.errors import InvalidValue
from libs.artifact.uri import parse_uri
from libs.chassis.errors import Invalid, Missing, ServiceError
from libs.chassis.kube import APPLY_PATCH, MERGE_PATCH
from tests.support.apiserver import ApiServer, policies_enforced, running_api_server
from tests.support.programs import CHARTS, ROOT, run
from tools.localcluster.kube import apply

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

GROUP = "/apis/ome.io/v1beta1"
_NAMESPACE = "research"
_PATHS = {
    "BaseModel": f"{GROUP}/namespaces/{_NAMESPACE}/basemodels",
    "ClusterBaseModel": f"{GROUP}/clusterbasemodels",
    "FineTunedWeight": f"{GROUP}/finetunedweights",
}
KINDS = tuple(_PATHS)
DRY_RUN = {"dryRun": "All"}
_DEADLINE_SECONDS = 20


@dataclass(frozen=True)
class Admission:
    """Asks the API server without storing anything, as strictly as kubectl apply does."""

    server: ApiServer

    async def refusal(self, manifest: dict[str, Any], validation: str = "Strict") -> str:
        """What the API server says against a manifest; empty when it is admitted."""
        try:
            query = {**DRY_RUN, "fieldValidation": validation}
            await self.server.kube.request("POST", _PATHS[manifest["kind"]], manifest, query)
        except ServiceError as error:
            return error.message
        return ""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with running_api_server(tmp_path_factory.mktemp("apiserver")) as running:
        await running.kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
        await asyncio.to_thread(
            run, "helm", "install", "ome-crds", str(CHARTS / "crds"), KUBECONFIG=str(running.kubeconfig)
        )
        # A kind is served, and a policy enforced, a moment after it was created.
        async with asyncio.timeout(_DEADLINE_SECONDS):
            for kind in KINDS:
                refused = model(kind, annotations={"ome.io/skip-config-parsing": "perhaps"})
                while "skip-config-parsing" not in await Admission(running).refusal(refused):
                    await asyncio.sleep(0.1)
        await policies_enforced(running.kube)
        yield running


@pytest.fixture
def admission(server: ApiServer) -> Admission:
    return Admission(server)


def model(kind: str = "ClusterBaseModel", *, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A manifest with this spec; a FineTunedWeight gets the reference that it must have."""
    if kind == "FineTunedWeight":
        spec = {"baseModelRef": {"name": "llama"}, **spec}
    metadata = {"name": "subject", "annotations": annotations or {}}
    return {"apiVersion": "ome.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}


def stored(kind: str = "ClusterBaseModel", **storage: Any) -> dict[str, Any]:
    """A manifest with this storage."""
    return model(kind, storage={"storageUri": "hf://meta-llama/Llama-3.1-8B", **storage})


def affine(**requirement: Any) -> dict[str, Any]:
    """A manifest with one condition on a label."""
    return _required([{"matchExpressions": [{"key": "zone", **requirement}]}])


def on_field(**requirement: Any) -> dict[str, Any]:
    """A manifest with one condition on a field."""
    return _required(
        [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"], **requirement}]}]
    )


def _required(terms: list[dict[str, Any]]) -> dict[str, Any]:
    return stored(nodeAffinity={"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}})


REFUSED = {
    "a toleration without a key": (stored(tolerations=[{"value": "x"}]), "must have a key, or the operator Exists"),
    "a toleration of any value that names one": (
        stored(tolerations=[{"key": "gpu", "operator": "Exists", "value": "x"}]),
        "operator Exists takes no value",
    ),
    "a URI without a scheme": (stored(storageUri="meta-llama/Llama"), "must begin with a known scheme; write hf://"),
    "a URI of an unknown scheme": (
        stored(storageUri="ftp://host/model"),
        "must begin with a known scheme; write hf://",
    ),
    "a URI with one slash": (stored(storageUri="hf:/meta-llama/Llama"), "must begin with a known scheme"),
    "a URI with a space": (stored(storageUri="s3://bucket/my model"), "write %20 for a space in a path"),
    "a URI with half a character": (stored(storageUri="s3://bucket/100%"), "two digits from 0 to F behind each '%'"),
    "a URI with another spelling of ..": (
        stored(storageUri="local:///models/%2e%2e/etc"),
        "'.' and '/' stand for themselves",
    ),
    "an hf:// URI with three parts": (
        stored(storageUri="hf://a/b/c"),
        "must be hf://<organisation>/<model>[@<revision>]",
    ),
    "an hf:// URI with ..": (stored(storageUri="hf://a/b..c"), "must be hf://<organisation>/<model>[@<revision>]"),
    "an hf:// URI with a bad revision": (
        stored(storageUri="hf://a/b@x..y"),
        "must name a Git branch, tag or commit after the @",
    ),
    "an hf:// URI with an empty revision": (
        stored(storageUri="hf://a/b@"),
        "must name a Git branch, tag or commit after the @",
    ),
    "an ms:// URI without an owner": (
        stored(storageUri="ms://Qwen2.5-7B-Instruct"),
        "must be ms://<owner>/<model>[@<revision>], as in ms://Qwen/Qwen2.5-7B-Instruct@master",
    ),
    "an ms:// URI with a bad revision": (
        stored(storageUri="ms://Qwen/Qwen2.5-7B-Instruct@a//b"),
        "must name a Git branch, tag or commit after the @",
    ),
    "a revision parameter of an ms:// model that is none": (
        stored(storageUri="ms://Qwen/Qwen2.5-7B-Instruct", parameters={"revision": "a b"}),
        "parameters.revision of an ms:// model must be a Git branch, tag or commit",
    ),
    "an oci:// URI without its letters": (
        stored(storageUri="oci://mycompany/models/llama"),
        "must be oci://n/<namespace>/b/<bucket>/o/<object path>",
    ),
    "a pvc:// URI with capitals": (
        stored("BaseModel", storageUri="pvc://Model_Storage/llama"),
        "must be pvc://<claim>/<path> or pvc://<namespace>:<claim>/<path>",
    ),
    "a pvc:// URI without namespace in a ClusterBaseModel": (
        stored(storageUri="pvc://model-storage/llama"),
        "write pvc://<namespace>:model-storage/llama",
    ),
    "a pvc:// URI without namespace in a FineTunedWeight": (
        stored("FineTunedWeight", storageUri="pvc://model-storage/llama"),
        "write pvc://<namespace>:model-storage/llama",
    ),
    "a pvc:// URI into another namespace in a BaseModel": (
        stored("BaseModel", storageUri="pvc://team-b:model-storage/llama"),
        "reads only claims of namespace research: write pvc://<claim>/<path>, or make it a ClusterBaseModel",
    ),
    "a vendor:// URI without a path": (
        stored(storageUri="vendor://nvidia/models"),
        "must be vendor://<vendor>/<resource type>/<resource path>",
    ),
    "a local:// URI with two slashes": (
        stored(storageUri="local://models/x"),
        "must name an absolute path with three slashes",
    ),
    "a local:// URI of the root": (stored(storageUri="local:///"), "must name an absolute path with three slashes"),
    "an s3:// URI without bucket": (stored(storageUri="s3:///llama"), "must name a bucket"),
    "a URI with .. in its path": (stored(storageUri="s3://bucket/a/../b"), "must not contain '.' or '..'"),
    "a relative path": (stored(path="models/llama"), "must be an absolute path on the node: write /models/llama"),
    "the root as path": (stored(path="/"), "must name a directory below a model root"),
    "a path of slashes": (stored(path="//"), "must name a directory below a model root"),
    "a path with ..": (stored(path="/models/../etc"), "must not contain '.' or '..'"),
    "a path with .": (stored(path="/models/./llama"), "must not contain '.' or '..'"),
    "a path into the fetcher's own folder": (stored(path="/models/.ome/artifacts/x"), "must not lead into .ome"),
    "a local:// URI into it": (stored(storageUri="local:///models/.ome/artifacts/x"), "must not lead into .ome"),
    "a path with a control character": (stored(path="/models/a\x00b"), "must not contain control characters"),
    "an absolute schemaPath": (stored(schemaPath="/etc/passwd"), "must be relative to the model's directory"),
    "a schemaPath that leaves": (stored(schemaPath="../config.json"), "must stay in the model's directory"),
    "both storageKey and key": (stored(storageKey="a", key="a"), "keep storageKey and remove key"),
    "a storageKey that is no name": (stored(storageKey="HF_Token"), "must be the name of a Secret"),
    "a key that is no name": (stored(key="hf token"), "must be the name of a Secret"),
    "a secretNamespace that is no name": (
        stored(parameters={"secretNamespace": "../ome"}),
        "secretNamespace must be the name of a namespace",
    ),
    "a BaseModel with a Secret of another namespace": (
        stored("BaseModel", storageKey="hf", parameters={"secretNamespace": "ome"}),
        f"this BaseModel uses only Secrets of namespace {_NAMESPACE}: remove the parameter and put the Secret there",
    ),
    "a key among the parameters": (
        stored(storageUri="s3://b/m", parameters={"aws_secret_access_key": "x"}),
        "put them into a Secret and name the Secret in storageKey",
    ),
    "a password in the endpoint": (
        stored(parameters={"endpoint": "https://me:canary@mirror"}),
        "endpoint must not contain a user or password",
    ),
    "a secretKey that is no key": (stored(parameters={"secretKey": "a/b"}), "secretKey must be a key of the Secret"),
    "a revision parameter that is none": (
        stored(parameters={"revision": "a b"}),
        "must be a Git branch, tag or commit",
    ),
    "an unknown auth_type": (
        stored(storageUri="oci://n/a/b/c/o/d", parameters={"auth_type": "Password"}),
        "must be InstancePrincipal, UserPrincipal, ResourcePrincipal or OkeWorkloadIdentity",
    ),
    "a nodeSelector with a bad key": (stored(nodeSelector={"a b": "c"}), "must have label keys"),
    "a nodeSelector with a bad value": (stored(nodeSelector={"a": "b c"}), "must be a label value"),
    "an unknown operator": (
        affine(operator="Equals", values=["a"]),
        'supported values: "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"',
    ),
    "a bad label key": (
        _required([{"matchExpressions": [{"key": "a b", "operator": "Exists"}]}]),
        "must be a label key",
    ),
    "In without values": (affine(operator="In"), "operator In needs at least one value"),
    "NotIn with no values": (affine(operator="NotIn", values=[]), "operator NotIn needs at least one value"),
    "Exists with a value": (
        affine(operator="Exists", values=["a"]),
        "operator Exists takes no values; remove them, or write In",
    ),
    "DoesNotExist with a value": (affine(operator="DoesNotExist", values=["a"]), "remove them, or write NotIn"),
    "Gt with two values": (affine(operator="Gt", values=["1", "2"]), "operator Gt needs exactly one value"),
    "Lt without values": (affine(operator="Lt"), "operator Lt needs exactly one value"),
    "Gt with a word": (affine(operator="Gt", values=["large"]), 'a number or a quantity, as in values: ["500Gi"]'),
    "no terms": (_required([]), "must hold at least one term; remove nodeAffinity to allow every node"),
    "a field that is not compared": (on_field(key="spec.unschedulable"), 'supported values: "metadata.name"'),
    "an operator for labels on a field": (on_field(operator="Exists", values=[]), 'supported values: "In", "NotIn"'),
    "two names in one field condition": (on_field(values=["a", "b"]), "needs exactly one value, the name of a node"),
    "no tokens": (model(maxTokens=0), "should be greater than or equal to 1"),
    "a list as modelConfiguration": (
        model(modelConfiguration=[1]),
        "spec.modelConfiguration must be an object, or a string",
    ),
    "a number as modelConfiguration": (
        model(modelConfiguration=7),
        "spec.modelConfiguration must be an object, or a string",
    ),
    "prose as modelConfiguration": (
        model(modelConfiguration="hot"),
        "spec.modelConfiguration must be an object, or a string",
    ),
    "prose as hyperParameters": (
        model("FineTunedWeight", hyperParameters="rank 16"),
        "spec.hyperParameters must be an object, or a string that holds a JSON object",
    ),
    "a flag as configuration": (
        model("FineTunedWeight", configuration=True),
        "spec.configuration must be an object, or a string that holds a JSON object",
    ),
    "a priority that is no number": (
        model(annotations={"models.ome.io/priority": "high"}),
        "annotation models.ome.io/priority must be a whole number",
    ),
    "an undecided skip-config-parsing": (
        model(annotations={"ome.io/skip-config-parsing": "yes"}),
        'annotation ome.io/skip-config-parsing must be "true" or "false"',
    ),
    "an undecided skip-config-parsing in the older spelling": (
        model(annotations={"ome.oracle.com/skip-config-parsing": "yes"}),
        "as must its older spelling ome.oracle.com/skip-config-parsing",
    ),
    "two words for the skipping that contradict each other": (
        model(annotations={"ome.io/skip-config-parsing": "true", "ome.oracle.com/skip-config-parsing": "False"}),
        "keep ome.io/skip-config-parsing and remove the other",
    ),
    "both auth_type and auth": (
        stored(storageUri="oci://n/a/b/c/o/d", parameters={"auth_type": "UserPrincipal", "auth": "user_principal"}),
        "parameters.auth_type and parameters.auth are two spellings of one setting: keep auth_type and remove auth",
    ),
    "a download priority in small letters": (
        stored(downloadPriority="high"),
        'supported values: "Background", "Standard", "High"',
    ),
    "more earlier revisions than are remembered": (stored(revisionHistoryLimit=5), "should be less than or equal to 4"),
    "a revision policy in small letters": (stored(revisionPolicy="follow"), 'supported values: "Pinned", "Follow"'),
    "an interval for a model that is pinned": (
        stored(followIntervalSeconds=600),
        "followIntervalSeconds has no effect without revisionPolicy: Follow; add that or remove the interval",
    ),
    "an interval of a second": (
        stored(revisionPolicy="Follow", followIntervalSeconds=1),
        "should be greater than or equal to 30",
    ),
    "a claim that is to be followed": (
        stored(storageUri="pvc://ns:claim/a", revisionPolicy="Follow"),
        "remove it for pvc:// and local://, which are read in place as they are",
    ),
    "a pause after no node": (
        stored(rollout={"pauseSeconds": 60}),
        "pauseSeconds is the pause after the first nodes; say by canary how many these are",
    ),
    "a rollout to fewer than no nodes": (
        stored(rollout={"maxConcurrentNodes": -1}),
        "should be greater than or equal to 0",
    ),
    "empty storage": (model(storage={}), "spec.storage needs a storageUri, which says where the model comes from"),
    "storage without a source": (
        model("BaseModel", storage={"nodeSelector": {"disk": "ssd"}}),
        "for a model that OME must not fetch, remove spec.storage",
    ),
    "a baseModelRef without name": (
        model("FineTunedWeight", baseModelRef={"namespace": "x"}),
        "spec.baseModelRef.name: Required",
    ),
    "a trainingJobRef without name": (
        model("FineTunedWeight", trainingJobRef={}),
        "spec.trainingJobRef.name: Required",
    ),
}
MISSPELT = {
    "of storage, in other letters": (
        stored(storageURI="hf://a/b"),
        "spec.storage.storageURI does not exist: write spec.storage.storageUri",
    ),
    "of spec": (model(tier="gold"), "spec.tier does not exist: remove it, or write one that kubectl explain lists"),
    "of spec, in other letters": (model(Storage={}), "spec.Storage does not exist: write spec.storage"),
    "of a format": (
        model(modelFormat={"name": "onnx", "Version": "1"}),
        "spec.modelFormat.Version does not exist: write spec.modelFormat.version",
    ),
    "of an affinity": (stored(nodeAffinity={"required": {}}), "spec.storage.nodeAffinity.required does not exist"),
    "of required terms": (
        stored(
            nodeAffinity={"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}], "terms": []}}
        ),
        "requiredDuringSchedulingIgnoredDuringExecution.terms does not exist",
    ),
    "of a term": (
        _required([{"matchLabels": {"a": "b"}}]),
        "nodeSelectorTerms has a member with a field that does not exist; there are matchExpressions and matchFields",
    ),
    "of a condition": (
        affine(operator="In", values=["a"], value="a"),
        "matchExpressions has a member with a field that does not exist; there are key, operator and values",
    ),
    "of a condition on a field": (on_field(value="x"), "matchFields has a member with a field that does not exist"),
    "of a preference": (
        stored(
            nodeAffinity={
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists", "not": "b"}]}}
                ]
            }
        ),
        "preference.matchExpressions has a member with a field that does not exist",
    ),
    "of a part of a pipeline": (
        model(diffusionPipeline={"vae": {"lib": "diffusers"}}),
        "spec.diffusionPipeline.vae.lib does not exist",
    ),
    "of another part of a pipeline": (
        model(diffusionPipeline={"additionalComponents": {"a": {"type": "B"}, "c": {"class": "D"}}}),
        "additionalComponents has a member with a field that does not exist; there are library and type",
    ),
    "of weights": (model("FineTunedWeight", modelFormat={"name": "x"}), "spec.modelFormat does not exist"),
    "of a reference": (
        model("FineTunedWeight", baseModelRef={"name": "a", "kind": "BaseModel"}),
        "spec.baseModelRef.kind does not exist",
    ),
}


@pytest.mark.parametrize(("manifest", "message"), REFUSED.values(), ids=REFUSED)
async def test_refused_with_a_sentence_that_says_what_to_write(
    manifest: dict[str, Any], message: str, admission: Admission
) -> None:
    assert message in await admission.refusal(manifest)


@pytest.mark.parametrize("validation", ["Strict", "Warn", "Ignore"])
@pytest.mark.parametrize(("manifest", "message"), MISSPELT.values(), ids=MISSPELT)
async def test_a_field_that_does_not_exist_is_refused_however_lenient_the_client(
    manifest: dict[str, Any], message: str, validation: str, admission: Admission
) -> None:
    assert message in await admission.refusal(manifest, validation)


async def test_a_field_that_does_not_exist_is_refused_in_a_server_side_apply(server: ApiServer) -> None:
    path = f"{_PATHS['ClusterBaseModel']}/misspelt"
    manifest = stored(storageURI="hf://a/b") | {"metadata": {"name": "misspelt"}}

    with pytest.raises(Invalid, match=r"storageURI does not exist: write spec\.storage\.storageUri"):
        await server.kube.request("PATCH", path, manifest, {"fieldManager": "argocd"}, APPLY_PATCH)


async def test_a_fine_tuned_weight_needs_its_base_model(admission: Admission) -> None:
    manifest = {"apiVersion": "ome.io/v1beta1", "kind": "FineTunedWeight", "metadata": {"name": "x"}, "spec": {}}

    assert "spec.baseModelRef: Required value" in await admission.refusal(manifest)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_shares_the_rules_of_storage(kind: str, admission: Admission) -> None:
    assert "must be an absolute path" in await admission.refusal(stored(kind, path="models"))
    assert "keep storageKey" in await admission.refusal(stored(kind, storageKey="a", key="b"))


ADMITTED = {
    "nothing but a name": model(),
    "every field of a base model": model(
        vendor="meta",
        version="3.1",
        disabled=True,
        displayName="Llama",
        compartmentID="ocid1.compartment",
        modelType="llama",
        modelArchitecture="LlamaForCausalLM",
        modelParameterSize="70B",
        maxTokens=8192,
        modelCapabilities=["text-to-text", "TEXT_TO_TEXT", "CHAT"],
        apiCapabilities=["OPENAI_V1_CHAT_COMPLETIONS"],
        modelFormat={"name": "safetensors", "version": "1", "operator": "Equal", "weight": 1},
        modelFramework={"name": "transformers", "version": "4.36.0"},
        quantization="fbgemm_fp8",
        servingMode=["On-demand"],
        diffusionPipeline={
            "className": "FluxPipeline",
            "vae": {"library": "diffusers", "type": "AutoencoderKL"},
            "additionalComponents": {"textEncoder2": {"library": "transformers", "type": "T5EncoderModel"}},
        },
        modelConfiguration={"architectures": ["LlamaForCausalLM"], "rope_scaling": None, "nested": {"a": [1.5, None]}},
        additionalMetadata={"license": "any"},
    ),
    "every field of storage": stored(
        path="/raid/models/llama",
        schemaPath="sub/config.json",
        storageKey="hf-token",
        parameters={"revision": "v1.0", "cache_dir": "/tmp/hf_cache", "secretKey": "access-token", "anything": "else"},
        nodeSelector={"node.kubernetes.io/instance-type": "GPU.A100.4", "empty": ""},
        downloadPolicy="ReuseIfExists",
        downloadPriority="Background",
        residency="Evictable",
        revisionPolicy="Follow",
        followIntervalSeconds=600,
        revisionHistoryLimit=4,
        rollout={"maxConcurrentNodes": 2, "canary": 1, "pauseSeconds": 300},
    ),
    "a packing of the weights that is young": model(quantization="nvfp4"),
    "a packing of the weights that is written with a hyphen": model(quantization="compressed-tensors"),
    "the annotation of earlier versions": model(annotations={"ome.oracle.com/skip-config-parsing": "True"}),
    "both annotations, of one mind": model(
        annotations={"ome.io/skip-config-parsing": "true", "ome.oracle.com/skip-config-parsing": "TRUE"}
    ),
    "a vendor with parameters of its own": stored(
        storageUri="vendor://acme/models/llama", parameters={"auth": "a", "auth_type": "b"}
    ),
    "a Secret of a shared namespace": stored(storageKey="hf", parameters={"secretNamespace": "model-secrets"}),
    "a BaseModel that names its own namespace": stored(
        "BaseModel", storageKey="hf", parameters={"secretNamespace": _NAMESPACE}
    ),
    "key instead of storageKey": stored(key="hf-token"),
    "a model of ModelScope": stored(
        storageUri="ms://Qwen/Qwen2.5-7B-Instruct",
        storageKey="modelscope",
        parameters={"revision": "v1.0", "endpoint": "https://www.modelscope.ai", "secretKey": "access-token"},
    ),
    "an identity at Oracle in the words of OME": stored(
        storageUri="oci://n/a/b/c/o/d", parameters={"auth": "instance_principal", "region": "eu-frankfurt-1"}
    ),
    "an empty key, as templates write it": stored(key=""),
    "an empty term, which matches nothing": _required([{}]),
    "a condition on the node's name": on_field(),
    "a bound that is a fraction": affine(operator="Lt", values=["1.5"]),
    "a bound that is a quantity": affine(operator="Gt", values=["500Gi"]),
    "preferences, which have no effect": stored(
        nodeAffinity={
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
            ]
        }
    ),
    "a claim of its own namespace": stored("BaseModel", storageUri="pvc://research:model-storage/llama"),
    "a claim without namespace": stored("BaseModel", storageUri="pvc://model-storage"),
    "a claim of a cluster model": stored(storageUri="pvc://research:model-storage/llama"),
    "JSON in a string": model("FineTunedWeight", hyperParameters='{"rank": 16}', configuration="\n {}\n"),
    "JSON as an object": model("FineTunedWeight", hyperParameters={"rank": 16}, configuration={}),
    "a negative priority": model(annotations={"models.ome.io/priority": "-5"}),
}


@pytest.mark.parametrize("manifest", ADMITTED.values(), ids=ADMITTED)
async def test_admitted(manifest: dict[str, Any], admission: Admission) -> None:
    assert await admission.refusal(manifest) == ""


# Manifests in the spelling of OME's own collection of models.
OME_MANIFESTS = """
{apiVersion: ome.io/v1beta1, kind: ClusterBaseModel, metadata: {name: qwen-image}, spec: {
  modelCapabilities: [TEXT_TO_IMAGE], vendor: Qwen, displayName: qwen.qwen-image, disabled: false, version: "1.0.0",
  storage: {storageUri: "hf://Qwen/Qwen-Image", path: /raid/models/Qwen/Qwen-Image, key: hf-token}}}
---
{apiVersion: ome.io/v1beta1, kind: ClusterBaseModel, metadata: {name: minimax}, spec: {
  modelCapabilities: [TEXT_TO_TEXT], modelArchitecture: MiniMaxM2ForCausalLM, modelParameterSize: 229B,
  quantization: fp8, modelFormat: {name: safetensors, version: "1.0.0"},
  modelFramework: {name: transformers, version: "4.46.1"},
  storage: {storageUri: "hf://MiniMaxAI/MiniMax-M2.5", path: /raid/models/MiniMaxAI/MiniMax-M2.5, key: hf-token}}}
---
{apiVersion: ome.io/v1beta1, kind: ClusterBaseModel, metadata: {name: gpt, labels: {managed: "true"},
  annotations: {models.ome.io/runtime: "", models.ome.io/experimental: "False"}}, spec: {
  modelCapabilities: [CHAT], maxTokens: 128000, storage: {storageUri: "vendor://openai/models/gpt-2025-08-07"}}}
---
{apiVersion: ome.io/v1beta1, kind: ClusterBaseModel, metadata: {name: phi}, spec: {
  compartmentID: ocid1.compartment, modelConfiguration: {num_hidden_layers: 32, rope_scaling: {type: su, n: [1.05]}},
  additionalMetadata: {shapes: "compatible:\\n  - SMALL\\n"},
  storage: {storageUri: "oci://n/idlsnvn0f2is/b/model-store/o/microsoft/phi-3", path: /raid/models/microsoft/phi-3}}}
---
{apiVersion: ome.io/v1beta1, kind: BaseModel, metadata: {name: kept, namespace: research,
  labels: {models.ome/reserve-model-artifact: "true"}, annotations: {ome.oracle.com/skip-config-parsing: "true"}},
  spec: {modelFormat: {name: safetensors}, quantization: nvfp4, disabled: false, storage: {
  storageUri: "oci://n/ns/b/models/o/llama", path: /raid/models/llama, downloadPolicy: ReuseIfExists,
  downloadPriority: High, parameters: {auth: instance_principal, region: us-ashburn-1}}}}
"""


@pytest.mark.parametrize(
    "manifest", list(yaml.safe_load_all(OME_MANIFESTS)), ids=lambda item: str(item["metadata"]["name"])
)
async def test_manifests_of_ome_are_admitted(manifest: dict[str, Any], admission: Admission) -> None:
    assert await admission.refusal(manifest) == ""


URIS = (
    "hf://gpt2",
    "hf://meta-llama/Llama-3.3-70B-Instruct",
    "hf://meta-llama/Llama-3.3-70B-Instruct@main",
    "hf://org/model@refs/pr/1",
    "hf://org/model@0123456789abcdef0123456789abcdef01234567",
    "hf://org/model@-x",
    "hf://org/model@a@b",
    "hf://org/model@a//b",
    "hf://org/mo--del",
    "hf://org/.hidden",
    "hf://org/",
    "hf:///model",
    "hf://",
    "HF://org/model",
    "ms://Qwen/Qwen2.5-7B-Instruct",
    "ms://damo/nlp_structbert_word--segmentation@v1.0.2",
    "ms://Qwen/Qwen2.5-7B-Instruct@a//b",
    "ms://Qwen/Qwen2.5-7B-Instruct@",
    "ms://Qwen/Qwen2..5",
    "ms://Qwen",
    "ms://Qwen/a/b",
    "ms:///a",
    "oci://n/../b/bucket/o/x",
    "vendor://../models/x",
    "vendor://acme/./x",
    "s3://../x",
    "oci://n/ns/b/bucket/o/path/to/model/",
    "oci://n/ns/b/bucket/o",
    "oci://n/ns/b/bucket/o/",
    "oci://n/ns/b/bucket",
    "oci://n//b/bucket/o/x",
    "oci://n/ns/b/bucket/o/a/../b",
    "pvc://ns:claim/path",
    "pvc://ns:claim",
    "pvc://ns:claim/",
    "pvc://ns:claim/a/./b",
    "pvc://a:b:claim/x",
    "pvc://-ns:claim/x",
    "pvc://ns:/x",
    "pvc://ns:claim.with.dots/x",
    f"pvc://{'n' * 64}:claim/x",
    "vendor://nvidia/models/llama",
    "vendor://nvidia/models/a/b",
    "vendor://nvidia//x",
    "vendor://nvidia/models/",
    "vendor://nvidia/models/../x",
    "local:///models/x",
    "local:///models/x/",
    "local:////",
    "local://models/x",
    "local:///models/../x",
    "s3://bucket",
    "s3://bucket/prefix",
    "s3://bucket/my%20models/100%25",
    "s3://bucket/100%",
    "s3://bucket/%2e%2e/x",
    "gs://bucket/a%0ab",
    "az://container/m%C3%B6del",
    "pvc://team:claim/my%20models",
    "local:///models/my%20model",
    "gs://bucket/a/b/",
    "az://container/x",
    "s3://",
    "s3:///x",
    "s3://AKIA:secret@bucket/x",
    "gs://under_score.and.Dots/x",
    "gs://bucket/..",
    "s3://bucket/a\tb",
    "s3://bucket/a\u00a0b",
    "s3://bucket/a\u200bb",
    "s3://bucket/über",
    "file:///models/x",
    "models/x",
    "",
)


@pytest.mark.parametrize("uri", URIS)
async def test_admission_understands_a_uri_exactly_when_the_services_do(uri: str, admission: Admission) -> None:
    try:
        parse_uri(uri)
        understood = True
    except InvalidValue:
        understood = False

    assert (await admission.refusal(stored(storageUri=uri)) == "") is understood


async def test_what_is_free_form_is_kept_as_it_was_written(server: ApiServer) -> None:
    configuration = {"temperature": 0.7, "nested": {"list": [1, {"a": None}]}, "empty": {}}
    for value in (configuration, '{"temperature": 0.7}\n'):
        manifest = model(modelConfiguration=value)

        answer = await server.kube.request("POST", _PATHS["ClusterBaseModel"], manifest, DRY_RUN)

        assert answer["spec"]["modelConfiguration"] == value


async def test_disabled_is_false_unless_said(server: ApiServer) -> None:
    answer = await server.kube.request("POST", _PATHS["ClusterBaseModel"], model(vendor="meta"), DRY_RUN)

    assert answer["spec"]["disabled"] is False


async def test_kubectl_warns_of_what_is_probably_not_meant(server: ApiServer) -> None:
    manifest = stored(
        parameters={"token": "hf_x"},
        nodeAffinity={"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]},
    )

    found = await kubectl(server, "apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(manifest))

    assert "put it into a Secret and name the Secret in spec.storage.storageKey" in found.stderr
    assert "has no effect: a model is on every node that matches" in found.stderr


STATUS: dict[str, Any] = {
    "state": "Ready",
    "lifecycle": "Ready",
    "reason": "InsufficientDisk",
    "nodesReady": ["node-1", "node-2"],
    "nodesFailed": ["node-3"],
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Available",
            "status": "True",
            "reason": "NodesReady",
            "message": "2 of 3 nodes hold the model",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
    ],
    "nodes": {"summary": "2/3", "desired": 3, "ready": 2, "updating": 0, "failed": 1},
    "artifact": {"digest": "sha256:" + "0" * 64, "sourceRevision": "main", "bytes": 2**40, "files": 9},
    "path": "/models/llama",
    "progress": {
        "percent": "37%",
        "bytes": 37,
        "totalBytes": 100,
        "bytesPerSecond": 1,
        "etaSeconds": 63,
        "slowestNode": "node-3",
        "startedAt": "2026-01-01T00:00:00Z",
        "nodes": [
            {
                "node": "node-3",
                "bytes": 37,
                "bytesPerSecond": 1,
                "etaSeconds": 63,
                "files": [{"path": "a/b", "bytes": 3, "totalBytes": 9, "bytesPerSecond": 1, "etaSeconds": 6}],
            }
        ],
    },
    "download": {"bytes": 2**41, "seconds": 3600, "finishedAt": "2026-01-01T00:00:00Z"},
    "failures": [{"node": "node-3", "reason": "InsufficientDisk", "message": "needs 10 GB, has 1 GB"}],
    "metadata": {
        "modelType": "llama",
        "architecture": "LlamaForCausalLM",
        "parameters": {"count": 70_553_706_496, "source": "headers", "exact": True},
        "bytesByDtype": {"BF16": 141_107_412_992},
        "components": [{"name": "vae", "architecture": "AutoencoderKL", "parameters": {"count": 1}}],
        "quantization": {"method": "gptq", "bits": 4, "groupSize": 128},
        "capabilities": ["TEXT_GENERATION"],
        "notInThisVersion": {"of": ["the schema"]},
    },
}


async def test_a_full_status_is_stored_and_shown_in_columns(server: ApiServer) -> None:
    path = f"{_PATHS['ClusterBaseModel']}/shown"
    manifest = model(modelParameterSize="70B", storage={"storageUri": "hf://a/b"}, modelArchitecture="LlamaForCausalLM")
    await server.kube.request("POST", _PATHS["ClusterBaseModel"], manifest | {"metadata": {"name": "shown"}})
    try:
        body = {"apiVersion": "ome.io/v1beta1", "kind": "ClusterBaseModel", "status": STATUS}
        answer = await apply(server.kube, f"{path}/status", body)
        narrow = (await kubectl(server, "get", "cbm", "shown")).stdout
        wide = (await kubectl(server, "get", "cbm", "-o", "wide", "--field-selector", "status.state=Ready")).stdout
        none = (await kubectl(server, "get", "cbm", "--field-selector", "status.state=Failed")).stdout
    finally:
        await server.kube.request("DELETE", path)

    assert answer["status"] == STATUS
    assert narrow.split("\n")[0].split() == [
        "NAME",
        "STATE",
        "READY",
        "PROGRESS",
        "PARAMETERS",
        "ARCHITECTURE",
        "AGE",
    ]
    assert narrow.split("\n")[1].split()[:6] == ["shown", "Ready", "2/3", "37%", "70B", "LlamaForCausalLM"]
    assert wide.split("\n")[1].split()[-3:] == ["InsufficientDisk", "hf://a/b", "/models/llama"]
    assert none == ""


async def test_kubectl_warns_when_a_base_is_deleted_that_weights_adapt(server: ApiServer) -> None:
    status = {"state": "Ready", "fineTunedWeights": {"count": 18, "names": ["lora-a", "lora-b"]}}
    for name, given in (("adapted", status), ("alone", {"state": "Ready"})):
        manifest = model() | {"metadata": {"name": name}}
        await server.kube.request("POST", _PATHS["ClusterBaseModel"], manifest)
        body = {"apiVersion": "ome.io/v1beta1", "kind": "ClusterBaseModel", "status": given}
        await apply(server.kube, f"{_PATHS['ClusterBaseModel']}/{name}/status", body)

    warned = await kubectl(server, "delete", "cbm", "adapted")
    quiet = await kubectl(server, "delete", "cbm", "alone")

    assert "18 FineTunedWeights (lora-a, lora-b, …) adapt this model; what stays has no base" in warned.stderr
    assert "Warning" not in quiet.stderr


async def test_the_status_of_weights_is_stored_and_shown(server: ApiServer) -> None:
    path = f"{_PATHS['FineTunedWeight']}/lora"
    await server.kube.request(
        "POST", _PATHS["FineTunedWeight"], model("FineTunedWeight") | {"metadata": {"name": "lora"}}
    )
    compatible = {**STATUS["conditions"][0], "type": "Compatible", "status": "Unknown"}
    status = {
        "base": {"kind": "BaseModel", "namespace": "team-a", "name": "llama"},
        "weights": "Adapter",
        "conditions": [compatible],
        "metadata": {"modules": [{"name": "q_proj", "inputs": 4096, "outputs": 4096}]},
    }
    try:
        body = {"apiVersion": "ome.io/v1beta1", "kind": "FineTunedWeight", "status": status}
        answer = await apply(server.kube, f"{path}/status", body)
        wide = (await kubectl(server, "get", "ftw", "lora", "-o", "wide")).stdout
    finally:
        await server.kube.request("DELETE", path)

    assert answer["status"] == status
    assert "COMPATIBLE" in wide.split("\n")[0]
    assert "Unknown" in wide.split("\n")[1]


async def test_status_is_no_part_of_what_users_apply(server: ApiServer) -> None:
    manifest = model() | {"status": {"state": "Ready"}}

    answer = await server.kube.request("POST", _PATHS["ClusterBaseModel"], manifest, DRY_RUN)

    assert "status" not in answer


@pytest.mark.parametrize(
    ("short", "kind"), [("bm", "BaseModel"), ("cbm", "ClusterBaseModel"), ("ftw", "FineTunedWeight")]
)
async def test_kubectl_knows_the_short_names(short: str, kind: str, server: ApiServer) -> None:
    assert f"KIND:       {kind}" in (await kubectl(server, "explain", short)).stdout


async def test_kubectl_explains_storage(server: ApiServer) -> None:
    explained = " ".join((await kubectl(server, "explain", "basemodel.spec.storage")).stdout.split())

    for form in ("hf://<organisation>/<model>[@<revision>]", "oci://n/<namespace>/b/<bucket>/o/<object path>"):
        assert form in explained
    assert "an absolute path below one of the model roots" in explained


async def test_a_model_from_before_a_rule_can_still_be_released_and_deleted(server: ApiServer) -> None:
    """Rules that come later must not keep a finalizer from being removed."""
    policy = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/models.ome.io"
    path = f"{_PATHS['ClusterBaseModel']}/old"
    binding = await server.kube.get(policy)
    manifest = model(modelConfiguration="prose") | {
        "metadata": {"name": "old", "finalizers": ["models.ome.io/finalizer"]}
    }
    await server.kube.request("DELETE", policy)
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while await Admission(server).refusal(model(modelConfiguration="prose")):
                await asyncio.sleep(0.1)
        await server.kube.request("POST", _PATHS["ClusterBaseModel"], manifest)
    finally:
        metadata = {"name": "models.ome.io", "labels": binding["metadata"]["labels"]}
        await server.kube.request("POST", policy.rpartition("/")[0], {**binding, "metadata": metadata})
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while not await Admission(server).refusal(model(modelConfiguration="prose")):
            await asyncio.sleep(0.1)

    await merge(server, path, {"metadata": {"labels": {"team": "a"}}})
    with pytest.raises(Invalid, match="modelConfiguration must be an object"):
        await merge(server, path, {"spec": {"vendor": "meta"}})
    await server.kube.request("DELETE", path)
    await merge(server, path, {"metadata": {"finalizers": None}})

    with pytest.raises(Missing, match="not found"):
        await server.kube.get(path)


async def test_facts_fill_empty_fields_and_leave_the_users_own(server: ApiServer) -> None:
    """The status service applies facts with a field manager of its own, and may withdraw them."""
    path = f"{_PATHS['ClusterBaseModel']}/filled"

    async def applied(manager: str, spec: dict[str, Any]) -> dict[str, Any]:
        query = {"fieldManager": manager}
        return await server.kube.request("PATCH", path, {**head, "spec": spec}, query, APPLY_PATCH)

    head = {"apiVersion": "ome.io/v1beta1", "kind": "ClusterBaseModel", "metadata": {"name": "filled"}}
    await applied("kubectl", {"modelFormat": {"name": "onnx"}})
    try:
        found = {"modelFormat": {"version": "1"}, "modelCapabilities": ["TEXT_GENERATION"], "maxTokens": 512}
        filled = await applied("ome-status", found)
        changed = await applied("ome-status", {"maxTokens": 1024})
    finally:
        await server.kube.request("DELETE", path)

    assert filled["spec"]["modelFormat"] == {"name": "onnx", "version": "1"}
    assert changed["spec"] == {"disabled": False, "modelFormat": {"name": "onnx"}, "maxTokens": 1024}


def documents(text: str) -> list[dict[str, Any]]:
    """The model manifests of a YAML text; a lone storage section becomes one."""
    found = []
    for document in yaml.safe_load_all(text):
        if isinstance(document, dict) and set(document) == {"storage"}:
            found.append(model("BaseModel", **document))
        elif isinstance(document, dict) and document.get("kind") in KINDS:
            found.append(document)
    return found


def guide_examples() -> list[dict[str, Any]]:
    """Every model manifest and storage section of the guide, in order."""
    blocks = (ROOT / "docs" / "guides" / "base-models.md").read_text().split("```yaml\n")[1:]
    return [document for block in blocks for document in documents(block.split("```")[0])]


@pytest.mark.parametrize("manifest", guide_examples(), ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
async def test_every_example_of_the_guide_is_admitted(manifest: dict[str, Any], admission: Admission) -> None:
    assert await admission.refusal(copy.deepcopy(manifest)) == ""


async def test_the_guide_has_examples_of_every_kind() -> None:
    assert {example["kind"] for example in guide_examples()} == set(KINDS)


async def test_the_samples_apply_as_a_folder(server: ApiServer) -> None:
    found = await kubectl(server, "apply", "-R", "-f", str(ROOT / "deploy" / "samples"))

    assert "Warning" not in found.stderr
    assert "clusterbasemodel.ome.io/all-minilm-l6-v2 created" in found.stdout


async def test_models_that_were_saved_as_the_guide_says_can_be_applied_again(server: ApiServer) -> None:
    await kubectl(server, "apply", "-f", "-", stdin=json.dumps(model(storage={"storageUri": "hf://a/b"})))
    kinds = "basemodels,clusterbasemodels,finetunedweights"
    saved = (await kubectl(server, "get", kinds, "-A", "-o", "yaml")).stdout
    names = [item["metadata"]["name"] for item in yaml.safe_load(saved)["items"]]
    await kubectl(server, "delete", kinds, "--all", "-A")

    await kubectl(server, "apply", "-f", "-", stdin=saved)

    again = yaml.safe_load((await kubectl(server, "get", kinds, "-A", "-o", "yaml")).stdout)["items"]
    assert names
    assert [item["metadata"]["name"] for item in again] == names
    assert [item["spec"] for item in again] == [item["spec"] for item in yaml.safe_load(saved)["items"]]


async def test_one_version_of_each_kind_is_served_and_stored(server: ApiServer) -> None:
    found = json.loads((await kubectl(server, "get", "crds", "-o", "json")).stdout)["items"]
    stored = {item["metadata"]["name"]: item["status"]["storedVersions"] for item in found}

    assert set(map(tuple, stored.values())) == {("v1beta1",)}
    assert all(len(item["spec"]["versions"]) == 1 for item in found)


async def kubectl(server: ApiServer, *arguments: str, stdin: str = "") -> Any:
    return await asyncio.to_thread(run, "kubectl", *arguments, stdin=stdin, KUBECONFIG=str(server.kubeconfig))


async def merge(server: ApiServer, path: str, body: dict[str, Any]) -> Any:
    return await server.kube.request("PATCH", path, body, content_type=MERGE_PATCH)


async def test_the_service_of_the_guide_is_admitted(server: ApiServer) -> None:
    blocks = (ROOT / "docs" / "guides" / "using-models.md").read_text().split("```yaml\n")[1:]
    documents = [yaml.safe_load(block.split("```")[0]) for block in blocks if "kind: InferenceService" in block]
    assert documents
    for document in documents:
        path = f"{GROUP}/namespaces/{_NAMESPACE}/inferenceservices"
        answer = await server.kube.request("POST", path, document, {**DRY_RUN, "fieldValidation": "Strict"})
        assert answer["spec"] == document["spec"]


async def test_the_kind_of_another_product_is_left_as_it_is(server: ApiServer) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.ome.io"
    unmarked = {"metadata": {"labels": {"models.ome.io/minimal": None, "by": "others"}}}
    await server.kube.request("PATCH", path, unmarked, content_type=MERGE_PATCH)
    try:
        arguments = ("upgrade", "ome-crds", str(CHARTS / "crds"), "--dry-run=server")
        shown = await asyncio.to_thread(run, "helm", *arguments, KUBECONFIG=str(server.kubeconfig))
        assert "name: clusterbasemodels.ome.io" in shown.stdout
        assert "name: inferenceservices.ome.io" not in shown.stdout
    finally:
        marked = {"metadata": {"labels": {"models.ome.io/minimal": "true", "by": None}}}
        await server.kube.request("PATCH", path, marked, content_type=MERGE_PATCH)
    again = await asyncio.to_thread(run, "helm", *arguments, KUBECONFIG=str(server.kubeconfig))
    assert "name: inferenceservices.ome.io" in again.stdout

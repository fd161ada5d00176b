"""Secrets of models on a whole cluster: a change is acted upon at once, whoever may not use one is told so.

Retries are minutes away, so that nothing but the change itself explains another attempt.
"""

import asyncio
import json
from collections.abc import Iterator

import pytest

from libs.artifact import names
from tests.support.fleet import LATE_RETRIES, Fleet, Object, model, secret, started_fleet
from tests.support.hub import Fault, generated_model
from tests.support.nats_server import connect_trusting
from tools.localcluster.charts import merged

pytestmark = pytest.mark.cluster

GOOD, BAD = "hf_" + "g" * 34, "hf_" + "b" * 34
PRIVATE = "org/private"
FIRST, SECOND = {"kubernetes.io/hostname": "node-1"}, {"kubernetes.io/hostname": "node-2"}
VALUES = merged(LATE_RETRIES, {"controller": {"secretNamespaces": ["model-secrets"], "secretCheckSeconds": 0.5}})


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started_fleet(2, VALUES) as fleet:
        for namespace in ("model-secrets", "team-a", "team-b"):
            fleet.cluster.kubectl("create", "namespace", namespace)
        yield fleet


@pytest.fixture(autouse=True)
def clean(fleet: Fleet) -> Iterator[None]:
    """A private repository that one token opens; models and Secrets of models are gone afterwards."""
    fleet.hub.clear_faults()
    fleet.hub.add_model(PRIVATE, {"README.md": "# private\n"}, generated=generated_model(1 << 20), private=True)
    fleet.hub.add_token(GOOD, [PRIVATE])
    yield
    fleet.hub.clear_faults()
    for kind in ("clusterbasemodels", "basemodels", "finetunedweights"):
        fleet.cluster.kubectl("delete", kind, "--all", "--all-namespaces", "--wait=true")
    for namespace in ("model-secrets", "team-a", "team-b"):
        fleet.cluster.kubectl("delete", "secrets", "-n", namespace, "--all")
    fleet.cluster.kubectl("delete", "secret", "-n", "ome", "hf", "--ignore-not-found")


def private(name: str = "m", kind: str = "ClusterBaseModel", namespace: str = "", **parameters: str) -> Object:
    return model(
        name,
        f"hf://{PRIVATE}",
        kind,
        namespace,
        path=f"/models/{name}",
        storageKey="hf",
        parameters=parameters,
        nodeSelector=FIRST,
    )


def assignments(fleet: Fleet) -> dict[str, int]:
    """Revision of each assignment by its key."""

    async def read() -> dict[str, int]:
        password = fleet.cluster.nats_identities.passwords["controller"]
        cluster = fleet.cluster
        client = await connect_trusting(cluster.nats_authority, cluster.nats_url, user="controller", password=password)
        try:
            bucket = await client.jetstream().key_value(names.DESIRED_BUCKET)
            return {key: (await bucket.get(key)).revision or 0 for key in await bucket.keys()}
        finally:
            await client.close()

    return asyncio.run(read())


def test_a_secret_that_is_made_rotated_and_completed_is_noticed_at_once(fleet: Fleet) -> None:
    manifest = private(secretKey="access")
    fleet.apply(manifest)
    fleet.await_failure(manifest, "SecretNotFound")
    assert "ome/hf does not exist" in fleet.describe(manifest)
    fleet.apply(secret("hf", "ome", token=GOOD))
    fleet.until("the missing key is named", lambda: "has no key 'access': name the key" in fleet.describe(manifest))
    fleet.apply(secret("hf", "ome", access=BAD))
    fleet.await_failure(manifest, "Forbidden")
    fleet.cluster.kubectl("delete", "secret", "-n", "ome", "hf")
    fleet.await_failure(manifest, "SecretNotFound")
    fleet.apply(secret("hf", "ome", access=GOOD))
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_an_edit_that_names_another_key_or_secret_is_acted_upon_at_once(fleet: Fleet) -> None:
    fleet.apply(secret("hf", "ome", token=BAD, better=GOOD))
    manifest = private()
    fleet.apply(manifest)
    fleet.await_failure(manifest, "Forbidden")
    manifest["spec"]["storage"]["parameters"] = {"secretKey": "better"}
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_a_token_in_the_parameters_is_replaced_by_an_edit(fleet: Fleet) -> None:
    manifest = private(token=BAD)
    del manifest["spec"]["storage"]["storageKey"]
    fleet.apply(manifest)
    fleet.await_failure(manifest, "Forbidden")
    manifest["spec"]["storage"]["parameters"] = {"token": GOOD}
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_a_node_whose_transfer_was_refused_tries_again_and_those_that_are_ready_are_left_alone(fleet: Fleet) -> None:
    fleet.apply(secret("hf", "ome", token=GOOD))
    ready, widened = private("ready"), private("widened")
    fleet.apply(ready, widened)
    fleet.await_state(ready, "Ready", {"node-1"})
    fleet.await_state(widened, "Ready", {"node-1"})
    refusal = fleet.hub.inject(Fault("status", path="*/resolve/*/model.safetensors", status=401))
    widened["spec"]["storage"].pop("nodeSelector")
    fleet.apply(widened)
    fleet.until("node-2 is refused", lambda: "Forbidden" in json.dumps((fleet.get(widened) or {}).get("status", {})))
    assert refusal.fired
    refusal.remove()
    before = assignments(fleet)
    fleet.hub.forget_requests()
    fleet.cluster.kubectl("annotate", "secret", "-n", "ome", "hf", "rotated=yes")
    item = fleet.await_state(widened, "Ready", {"node-1", "node-2"})
    fetched = [request.path for request in fleet.hub.requests("*.safetensors", "GET", "cdn")]
    assert len(fetched) == len(set(fetched)), "one node fetched, once"
    uid = item["metadata"]["uid"]
    changed = {key for key, revision in assignments(fleet).items() if before[key] != revision}
    assert changed == {names.node_key("node-2", uid)}
    assert (fleet.get(ready) or {})["status"]["nodesReady"] == ["node-1"]


def test_no_secret_is_looked_at_while_nothing_fails(fleet: Fleet) -> None:
    fleet.apply(secret("hf", "ome", token=BAD))
    manifest = private()
    fleet.apply(manifest)
    fleet.await_failure(manifest, "Forbidden")
    looked = looks(fleet)
    fleet.until("the Secret is looked at again and again", lambda: looks(fleet) > looked + 2)
    fleet.apply(secret("hf", "ome", token=GOOD))
    fleet.await_state(manifest, "Ready", {"node-1"})
    calm = private("calm")
    calm["spec"]["storage"] = {"storageUri": "local:///models/nothing", "storageKey": "hf", "nodeSelector": FIRST}
    looked = looks(fleet)
    fleet.apply(calm)
    fleet.await_failure(calm, "NotFound")
    fleet.delete(manifest)
    fleet.await_gone(manifest)
    after = looks(fleet)
    # The last look may have been under way.
    assert after <= looked + 1


def looks(fleet: Fleet) -> int:
    """How often the controller has asked for the Secret of the models."""
    with fleet.cluster.audit_log.open() as log:
        events = [json.loads(line) for line in log]
    return sum(
        event["objectRef"].get("name") == "hf" and event["user"]["username"].endswith(":ome-controller")
        for event in events
        if event.get("objectRef", {}).get("resource") == "secrets"
    )


@pytest.mark.parametrize("kind", ["ClusterBaseModel", "FineTunedWeight"])
def test_a_model_in_no_namespace_may_name_a_secret_where_the_settings_permit_it(fleet: Fleet, kind: str) -> None:
    fleet.apply(secret("hf", "model-secrets", token=GOOD), secret("hf", "team-a", token=GOOD))
    manifest = private(kind=kind, secretNamespace="team-a")
    if kind == "FineTunedWeight":
        manifest["spec"]["baseModelRef"] = {"name": "base"}
    fleet.apply(manifest)
    fleet.await_failure(manifest, "InvalidParameter")
    said = fleet.describe(manifest)
    assert (
        "put the Secret into 'ome' or 'model-secrets', or ask the administrator to add 'team-a' to secretNamespaces"
        in said
    )
    manifest["spec"]["storage"]["parameters"] = {"secretNamespace": "model-secrets"}
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_a_base_model_uses_the_secret_of_its_own_namespace_and_may_name_no_other(fleet: Fleet) -> None:
    fleet.apply(secret("hf", "team-a", token=GOOD), secret("hf", "ome", token=BAD))
    foreign = private("foreign", "BaseModel", "team-b", secretNamespace="team-a")
    refusal = fleet.cluster.kubectl("apply", "-f", "-", input=json.dumps(foreign), check=False)
    assert (
        "this BaseModel uses only Secrets of namespace team-b: remove the parameter and put the Secret there" in refusal
    )
    assert fleet.get(foreign) is None
    ours = private("ours", "BaseModel", "team-a", secretNamespace="team-a")
    theirs = private("theirs", "BaseModel", "team-b")
    fleet.apply(ours, theirs)
    fleet.await_state(ours, "Ready", {"node-1"})
    fleet.await_failure(theirs, "SecretNotFound")


def test_the_operators_own_secrets_are_no_models(fleet: Fleet) -> None:
    with_seed = private(secretKey="seed")
    with_seed["spec"]["storage"]["storageKey"] = "ome-nats-issuer"
    fleet.hub.forget_requests()
    fleet.apply(with_seed)
    fleet.await_failure(with_seed, "InvalidParameter")
    assert "is a Secret of OME itself" in fleet.describe(with_seed)
    assert not fleet.hub.requests()

"""A tenant's models on a whole cluster: what is refused is told on the object, with who can permit it."""

import json
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, Object, model, secret, started_fleet
from tests.support.hub import generated_model

pytestmark = pytest.mark.cluster

TEAM = "team-a"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started_fleet(1) as fleet:
        fleet.cluster.kubectl("create", "namespace", TEAM)
        fleet.hub.add_model("org/one", {"README.md": "# one\n"}, generated=generated_model(1 << 20))
        yield fleet


def of_the_team(name: str, uri: str, **storage: object) -> Object:
    return model(name, uri, "BaseModel", TEAM, path=f"/models/{name}", **storage)


def test_the_pods_of_the_cluster_are_no_source(fleet: Fleet) -> None:
    # The gateway's metrics: a port that every Pod can reach, and that answers whoever asks.
    [controller] = fleet.cluster.pods("controller")
    for name, uri, parameters in (
        ("bucket", "s3://metrics/x", {"skip_signature": "true"}),
        ("hub", "hf://org/one", {}),
        ("scope", "ms://org/one", {}),
    ):
        manifest = of_the_team(name, uri, parameters={**parameters, "endpoint": f"http://{controller.address}:8080"})
        fleet.apply(manifest)
        fleet.await_failure(manifest, "EgressRefused")
        said = json.dumps((fleet.get(manifest) or {})["status"])
        assert "no model may reach" in said
        assert "ome_controller" not in said


def test_a_secret_and_the_identity_of_the_pods_are_not_the_tenants_to_send(fleet: Fleet) -> None:
    release = secret("release", TEAM, release="canary-of-helm") | {"type": "helm.sh/release.v1"}
    foreign = secret("foreign", TEAM, token="canary-of-a-team")
    fleet.apply(release, foreign)
    elsewhere = {"endpoint": "https://thief.example"}
    stolen = of_the_team("stolen", "hf://org/one", storageKey="foreign", parameters=elsewhere)
    helm = of_the_team("helm", "s3://bucket/x", storageKey="release")
    signed = of_the_team("signed", "s3://bucket/x")
    fleet.apply(stolen, helm, signed)
    fleet.await_failure(stolen, "SecretRefused")
    assert "annotation models.ome.io/allowed-hosts: thief.example" in fleet.describe(stolen)
    fleet.await_failure(helm, "SecretRefused")
    fleet.await_failure(signed, "IdentityRefused")
    assert "add 'team-a' to identity.namespaces of the controller's chart" in fleet.describe(signed)
    for service in ("controller", "fetcher", "status"):
        assert "canary-of" not in fleet.cluster.logs(service)


def test_what_the_operator_has_set_is_reached(fleet: Fleet) -> None:
    ours = of_the_team("ours", "hf://org/one")
    fleet.apply(ours)
    fleet.await_state(ours, "Ready", {"node-1"})

"""A model from Oracle's Object Storage on a whole cluster, with the key in a Secret that only the controller reads."""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, content, model, started_fleet
from tests.support.oracle_store import BUCKET, NAMESPACE, OracleStore
from tests.support.safetensors_files import whole_file

pytestmark = pytest.mark.cluster

FILES = {
    "config.json": json.dumps({"model_type": "llama"}).encode(),
    "model.safetensors": whole_file(10_240_000, bytes(range(256))),
}


@pytest.fixture
def oracle() -> Iterator[OracleStore]:
    with OracleStore() as store:
        for name, data in FILES.items():
            store.put(f"tiny/{name}", data, multipart=len(data) > 1000)
        yield store


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with started_fleet(1) as fleet:
        yield fleet


def test_a_model_of_an_object_store_becomes_ready_and_says_what_is_wrong_until_then(
    fleet: Fleet, oracle: OracleStore
) -> None:
    tiny = model(
        "tiny",
        f"oci://n/{NAMESPACE}/b/{BUCKET}/o/tiny/",
        "BaseModel",
        "team-a",
        path="/models/tiny",
        storageKey="oci-user",
        parameters={"auth_type": "UserPrincipal", "endpoint": oracle.endpoint},
    )
    fleet.cluster.kubectl("create", "namespace", "team-a")
    fleet.apply(tiny)
    fleet.await_failure(tiny, "SecretNotFound")
    fleet.apply(secret_of(oracle.secret() | {"user": b"ocid1.user.oc1..another"}))
    fleet.await_failure(tiny, "Forbidden")
    fleet.apply(secret_of(oracle.secret()))
    fleet.await_state(tiny, "Ready", {"node-1"})
    assert fleet.files("node-1", "/models/tiny") == content(FILES)
    assert "artifact" in (fleet.get(tiny) or {})["status"]


def secret_of(data: dict[str, bytes]) -> dict[str, object]:
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    allowed = {"models.ome.io/allowed-hosts": "127.0.0.1"}
    metadata = {"name": "oci-user", "namespace": "team-a", "annotations": allowed}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}

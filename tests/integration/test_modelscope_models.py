"""A model from ModelScope on a whole cluster, with the token in a Secret that only the controller reads."""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, content, model, started_fleet
from tests.support.modelscope import ModelScope
from tests.support.safetensors_files import whole_file

pytestmark = pytest.mark.cluster

FILES = {
    "config.json": json.dumps({"model_type": "llama"}).encode(),
    "model.safetensors": whole_file(10_240_000, bytes(range(256))),
}
NAME, TOKEN = "acme/tiny", "ms-of-a-reader"


@pytest.fixture
def hub() -> Iterator[ModelScope]:
    with ModelScope() as hub:
        hub.push(NAME, FILES, private=True)
        hub.add_token(TOKEN, [NAME])
        yield hub


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with started_fleet(1) as fleet:
        yield fleet


def test_a_model_of_modelscope_becomes_ready_and_says_what_is_wrong_until_then(fleet: Fleet, hub: ModelScope) -> None:
    def tiny(**parameters: str) -> dict[str, object]:
        return model(
            "tiny",
            f"ms://{NAME}",
            "BaseModel",
            "team-a",
            path="/models/tiny",
            storageKey="modelscope",
            parameters={"endpoint": hub.endpoint, "secretKey": "access-token", **parameters},
        )

    fleet.cluster.kubectl("create", "namespace", "team-a")
    fleet.apply(tiny(revison="master"))
    fleet.await_failure(tiny(), "InvalidParameter")
    assert "write 'revision' if that is meant" in fleet.describe(tiny())
    fleet.delete(tiny())
    fleet.await_gone(tiny())
    fleet.apply(tiny(revision="master"))
    fleet.await_failure(tiny(), "SecretNotFound")
    fleet.apply(secret_of("ms-of-nobody"))
    fleet.await_failure(tiny(), "Forbidden")
    fleet.apply(secret_of(TOKEN))
    item = fleet.await_state(tiny(), "Ready", {"node-1"})
    assert fleet.files("node-1", "/models/tiny") == content(FILES)
    assert len(item["status"]["artifact"]["sourceRevision"]) == 40


def secret_of(token: str) -> dict[str, object]:
    allowed = {"models.ome.io/allowed-hosts": "127.0.0.1"}
    metadata = {"name": "modelscope", "namespace": "team-a", "annotations": allowed}
    data = {"access-token": base64.b64encode(token.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}

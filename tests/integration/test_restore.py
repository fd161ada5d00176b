"""What docs/guides/operations.md says of a backup: the objects of models are enough, all else comes back by itself."""

import json

import pytest

from tests.support.fleet import LLAMA_CONFIG, model, started_fleet
from tests.support.hub import generated_model

pytestmark = pytest.mark.cluster

FILES = {"config.json": json.dumps(LLAMA_CONFIG).encode()}
KINDS = "basemodels,clusterbasemodels,finetunedweights"


def test_models_come_back_from_a_file_on_a_cluster_that_has_nothing() -> None:
    with started_fleet(1) as before:
        before.hub.add_model("org/kept", FILES, generated=generated_model(1 << 20))
        before.cluster.kubectl("create", "namespace", "team")
        wanted = [
            model("shared", "hf://org/kept", path="/models/shared"),
            model("own", "hf://org/kept", "BaseModel", "team"),
        ]
        before.apply(*wanted)
        uids = {before.await_state(each, "Ready", {"node-1"})["metadata"]["uid"] for each in wanted}
        # The first command of the guide.
        saved = before.cluster.kubectl("get", KINDS, "-A", "-o", "yaml")
        files = before.files("node-1", "/models/shared")

    with started_fleet(1) as after:
        after.hub.add_model("org/kept", FILES, generated=generated_model(1 << 20))
        after.cluster.kubectl("create", "namespace", "team")
        after.cluster.kubectl("apply", "-f", "-", input=saved)
        restored = [after.await_state(each, "Ready", {"node-1"}) for each in wanted]
        assert not uids & {each["metadata"]["uid"] for each in restored}
        assert after.files("node-1", "/models/shared") == files
        assert [each["status"]["metadata"]["architecture"] for each in restored] == ["LlamaForCausalLM"] * 2
        for each in wanted:
            after.delete(each)
        for each in wanted:
            after.await_gone(each)

"""Records into `data` what an earlier commit says and keeps: `python -m tests.contract.versions.record`.

Runs a local cluster in which everything is of `tools.node.earlier.COMMIT`, until one model is Ready and another has
failed. Then `buckets.json` has each value in NATS, as it is stored and as that commit itself reads it, and
`models.tar.gz` has the model root of a node.
"""

import asyncio
import base64
import json
import tarfile
import tempfile
from pathlib import Path

from libs.artifact import names
from tests.support.earlier import asked, images, install
from tests.support.fleet import LLAMA_CONFIG, Fleet, model
from tests.support.hub import GeneratedFile
from tests.support.nats_server import connect_trusting
from tools.localcluster.cluster import ALL_CHARTS, LocalCluster
from tools.node import earlier

DATA = Path(__file__).parent / "data"
# What the values of each bucket are.
MESSAGES = {
    names.DESIRED_BUCKET: "Assignment",
    names.OBSERVED_BUCKET: "NodeModelState",
    names.NODES_BUCKET: "NodeHeartbeat",
    names.PLANS_BUCKET: "ModelPlan",
    names.RESOLVED_BUCKET: "Resolution",
    names.FACTS_BUCKET: "SharedFacts",
}
_READING = """
import base64, json, sys
from google.protobuf.json_format import MessageToDict
from ome.fetch.v1 import fetch_pb2
messages, values = json.load(sys.stdin)
read = lambda bucket, value: getattr(fetch_pb2, messages[bucket]).FromString(base64.b64decode(value))
json.dump({bucket: {key: MessageToDict(read(bucket, value)) for key, value in of.items()}
           for bucket, of in values.items() if bucket in messages}, sys.stdout)
"""

Values = dict[str, dict[str, str]]
Fields = dict[str, dict[str, object]]


def main() -> None:
    """Write both files anew."""
    with tempfile.TemporaryDirectory() as name:
        checkout = Path(name)
        earlier.check_out(checkout)
        with LocalCluster(nodes=1, charts=(), images=images(checkout)) as cluster:
            install(cluster, checkout, ALL_CHARTS)
            _fill(Fleet(cluster))
            values = asyncio.run(_values(cluster))
            _pack(cluster.node_root("node-1"), DATA / "models.tar.gz")
        read: Fields = asked(checkout, _READING, [MESSAGES, values])
    said = {
        bucket: {key: {"bytes": value, "fields": read.get(bucket, {}).get(key)} for key, value in sorted(of.items())}
        for bucket, of in sorted(values.items())
    }
    (DATA / "buckets.json").write_text(json.dumps({"commit": earlier.COMMIT, "values": said}, indent=1) + "\n")


def _fill(fleet: Fleet) -> None:
    small = GeneratedFile("model.safetensors", 4096, 1)
    fleet.hub.add_model("org/recorded", {"config.json": json.dumps(LLAMA_CONFIG)}, generated=[small])
    good, bad = model("recorded", "hf://org/recorded", path="/models/recorded"), model("nowhere", "hf://org/nowhere")
    fleet.apply(good, bad)
    fleet.await_state(good, "Ready", {"node-1"})
    fleet.await_failure(bad, "NotFound")
    fleet.until("facts are known", lambda: (fleet.get(good) or {})["status"].get("metadata"))


async def _values(cluster: LocalCluster) -> Values:
    password = cluster.nats_identities.passwords["controller"]
    client = await connect_trusting(cluster.nats_authority, cluster.nats_url, user="controller", password=password)
    try:
        js = client.jetstream()
        values: Values = {}
        for name in MESSAGES:
            bucket = await js.key_value(name)
            values[name] = {key: _text((await bucket.get(key)).value or b"") for key in await bucket.keys()}
        manifests = await js.object_store(names.MANIFESTS_BUCKET)
        values[names.MANIFESTS_BUCKET] = {
            str(entry.name): _text((await manifests.get(str(entry.name))).data or b"")
            for entry in await manifests.list()
        }
        return values
    finally:
        await client.close()


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _pack(root: Path, archive: Path) -> None:
    def owned_by_nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "models", "models", filter=owned_by_nobody)


if __name__ == "__main__":
    main()

"""Models on a real node: what lies on its disk, and what Pods that mount them read."""

import json
import os
import stat

from tests.support.consumer import claim_consumer, consumer, read_again, said
from tests.support.fleet import condition, model
from tests.support.hub import GeneratedFile, Hub
from tests.support.installation import CONFIG, Installation, add_small_model, checksums


def test_a_model_lies_on_the_node_read_only_and_owned_by_root(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/plain")
    wanted = model("plain", "hf://acme/plain", path="/models/plain")
    ome.cluster.apply(wanted)

    found = ome.await_ready(wanted)

    assert found["status"]["nodesReady"] == ["node-1"]
    folder = ome.target("/models/plain")
    entries = [folder, *folder.rglob("*")]
    assert {(entry.lstat().st_uid, entry.lstat().st_gid) for entry in entries} == {(0, 0)}
    modes = {(entry.is_dir(), stat.S_IMODE(entry.lstat().st_mode)) for entry in entries}
    assert modes == {(True, 0o755), (False, 0o444)}
    labels = ome.cluster.get("node", "node-1")["metadata"]["labels"]
    assert labels["models.ome.io/clusterbasemodel.plain"] == "Ready"


def test_a_pod_without_rights_reads_the_model_that_it_waited_for(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/read", seed=1)
    wanted = model("read", "hf://acme/read", path="/models/read")
    pod = consumer(
        "reader",
        "/models/read",
        nodeSelector={"models.ome.io/clusterbasemodel.read": "Ready"},
    )
    ome.cluster.apply(pod)
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)

    [printed] = said(ome.cluster, pod)

    assert printed == {"uid": 1000, "sums": checksums(ome.target("/models/read"))}
    assert "model.safetensors" in printed["sums"]


def test_a_revision_is_swapped_under_a_pod_that_keeps_the_old_one_until_it_ends(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/moving", seed=2)
    wanted = model("moving", "hf://acme/moving@main", path="/models/moving")
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)
    folder = ome.target("/models/moving")
    first = checksums(folder)
    old = consumer("old-reader", "/models/moving", stays=True)
    ome.cluster.apply(old)
    said(ome.cluster, old)

    hub.push("acme/moving", {}, generated=[GeneratedFile("model.safetensors", 200_000, 3)])
    hub.tag("acme/moving", "next")
    changed = model("moving", "hf://acme/moving@next", path="/models/moving")
    ome.cluster.apply(changed)
    ome.cluster.until("the link leads elsewhere", lambda: ome.target("/models/moving") != folder)
    ome.await_ready(changed)
    new = consumer("new-reader", "/models/moving")
    ome.cluster.apply(new)
    [fresh] = said(ome.cluster, new)
    read_again(ome.cluster, old)

    _, again = said(ome.cluster, old, lines=2)
    assert again["sums"] == first
    assert fresh["sums"] == checksums(ome.target("/models/moving"))
    assert fresh["sums"]["model.safetensors"] != first["model.safetensors"]
    ome.cluster.kubectl("delete", "pod", "old-reader")
    ome.cluster.until("the old copy is gone", lambda: not folder.exists())


def test_a_restricted_namespace_reads_a_model_through_a_claim(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/claimed", seed=4)
    wanted = model("claimed", "hf://acme/claimed", path="/models/claimed")
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)
    ome.cluster.kubectl("create", "namespace", "team-r")
    ome.cluster.kubectl("label", "namespace", "team-r", "pod-security.kubernetes.io/enforce=restricted")
    size = {"storage": "1Gi"}
    volume = {
        "capacity": size,
        "accessModes": ["ReadOnlyMany"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "claimRef": {"namespace": "team-r", "name": "claimed"},
        "hostPath": {"path": "/models/claimed", "type": "Directory"},
    }
    claim = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "",
        "volumeName": "team-r-claimed",
        "resources": {"requests": size},
    }
    pod = claim_consumer("reader", "team-r", "claimed")
    ome.cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "team-r-claimed"}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "claimed", "namespace": "team-r"},
            "spec": claim,
        },
        pod,
    )

    [printed] = said(ome.cluster, pod)

    assert printed["sums"] == checksums(ome.target("/models/claimed"))


def test_an_empty_directory_that_a_kubelet_made_gives_way(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/late", seed=5)
    early = consumer("early", "/models/late")
    early["spec"]["volumes"][0]["hostPath"]["type"] = "DirectoryOrCreate"
    ome.cluster.apply(early)
    assert said(ome.cluster, early) == [{"uid": 1000, "sums": {}}]
    wanted = model("late", "hf://acme/late", path="/models/late")
    ome.cluster.apply(wanted)

    ome.await_ready(wanted)

    assert "model.safetensors" in checksums(ome.target("/models/late"))


def test_a_directory_with_files_of_somebody_else_stays_and_is_named(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/barred", seed=6)
    folder = ome.on_disk("node-1", "/models/barred")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for path in (folder, folder / "notes.txt"):
        os.chown(path, 4711, 4711)
    wanted = model("barred", "hf://acme/barred", path="/models/barred")
    ome.cluster.apply(wanted)

    def refused() -> str:
        found = ome.model(wanted)
        failures = found.get("status", {}).get("failures", [])
        return next((each["message"] for each in failures if each["reason"] == "PathOccupied"), "")

    message = ome.cluster.until("barred failed with PathOccupied", refused)
    assert "/models/barred" in message
    assert (folder / "notes.txt").read_text() == "mine"
    # Out of the way, it is tried again without anybody's doing.
    folder.rename(folder.with_name("of-somebody"))
    ome.await_ready(wanted)


def deleted(ome: Installation, name: str) -> None:
    ome.cluster.kubectl("delete", "clusterbasemodel", name, "--timeout=60s")


def test_a_cache_of_somebody_else_in_a_model_ends_no_deletion(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/cached", seed=7)
    wanted = model("cached", "hf://acme/cached", path="/models/cached")
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)
    cache = ome.target("/models/cached") / "cache"
    cache.mkdir()
    (cache / "blob").write_text("compiled")
    for path in (cache / "blob", cache):
        os.chown(path, 4711, 4711)

    deleted(ome, "cached")

    assert not ome.on_disk("node-1", "/models/cached").is_symlink()
    left = [path for path in ome.on_disk("node-1", "/models/.ome/trash").rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == ["compiled"]
    [pod] = ome.pods("fetcher")
    logged = ome.cluster.kubectl("logs", "-n", "ome", pod["metadata"]["name"], "--tail=200")
    assert [line for line in logged.splitlines() if "4711" in line]


def test_a_model_that_was_given_to_somebody_else_can_be_deleted(ome: Installation, hub: Hub) -> None:
    add_small_model(hub, "acme/given", seed=8)
    wanted = model("given", "hf://acme/given", path="/models/given")
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)
    folder = ome.target("/models/given")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 4711, 4711)

    deleted(ome, "given")

    assert not ome.on_disk("node-1", "/models/given").is_symlink()


def test_a_model_in_a_claim_is_inspected_by_a_job(ome: Installation) -> None:
    folder = ome.on_disk("node-1", "/var/volumes/claim")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(CONFIG)
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    ome.cluster.kubectl("create", "namespace", "team-v")
    ome.cluster.kubectl("label", "namespace", "team-v", "pod-security.kubernetes.io/enforce=restricted")
    size = {"storage": "1Gi"}
    ome.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "team-v-claim"},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "hostPath": {"path": "/var/volumes/claim", "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "claim", "namespace": "team-v"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": "team-v-claim",
                "resources": {"requests": size},
            },
        },
    )
    wanted = model("inside", "pvc://claim", kind="BaseModel", namespace="team-v")
    ome.cluster.apply(wanted)

    found = ome.await_ready(wanted)

    assert condition(found, "Ready")["status"] == "True"
    assert found["spec"]["modelArchitecture"] == "LlamaForCausalLM"
    events = ome.cluster.get("events", "-n", "team-v")["items"]
    # The Job itself is removed when the controller has its answer.
    jobs = {event["involvedObject"]["name"] for event in events if event["involvedObject"]["kind"] == "Job"}
    assert [name for name in jobs if name.startswith("ome-inspect-")]

"""What the controller knows: which models a change of a node concerns, and how little of the fleet's words it keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from libs.artifact import names
from libs.artifact.labels import AVAILABLE_STORAGE_LABEL as ROOM
from libs.chassis.health import Health
from libs.chassis.nats_mirror import Entry
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.observations import Observations, decode_assignment, decode_state, project_node
from services.controller.planning import Assign, Report
from services.controller.settings import Settings
from services.controller.use import PodView

UID = "0b0b0b0b-0000-4000-8000-000000000001"
OWN_LABELS = {f"models.ome/{UID}": "Ready", "models.ome.io/clusterbasemodel.m": "Ready"}


class Known:
    """Observations, and the models that were reported as changed since the last look."""

    def __init__(self, budgets: tuple[str, ...] = ()) -> None:
        settings = Settings(
            namespace="ome",
            pod_name="p",
            nats_url="",
            nats_password_file=Path(),
            parser_image="parser",
            namespace_budgets=budgets,
        )
        self._changed: set[str] = set()
        add = self._changed.add
        self.observations = Observations(settings, Health(), add, lambda uid, seconds: None, add)
        self._nodes: dict[str, dict[str, Any]] = {}

    def model(self, uid: str, **storage: Any) -> None:
        spec = {"storage": {"storageUri": "hf://org/model", **storage}}
        metadata = {"name": uid, "uid": uid, "generation": 1}
        self.observations.model_changed(None, {"kind": "ClusterBaseModel", "metadata": metadata, "spec": spec})

    def weight(self, uid: str, base: str, **storage: Any) -> None:
        spec = {"baseModelRef": {"name": base}, "storage": {"storageUri": "hf://org/lora", **storage}}
        metadata = {"name": uid, "uid": uid, "generation": 1}
        self.observations.model_changed(None, {"kind": "FineTunedWeight", "metadata": metadata, "spec": spec})

    def placed(self, uid: str) -> set[str] | None:
        """Where a model is to go, as planning is told."""
        nodes = self.observations.observed_of(uid).placed
        return None if nodes is None else set(nodes)

    def node(self, name: str, labels: dict[str, str], ready: bool = True) -> None:
        metadata = {"name": name, "uid": name, "resourceVersion": "1", "labels": labels}
        conditions = [{"type": "Ready", "status": str(ready)}, {"type": "MemoryPressure", "status": "False"}]
        node = project_node({"metadata": metadata, "status": {"conditions": conditions, "images": ["large"]}})
        self.observations.node_changed(self._nodes.get(name), node)
        self._nodes[name] = node

    def heartbeat(self, name: str) -> None:
        token = names.node_token(name)
        self.observations.heartbeats.entries[token] = Entry(1, fetch_pb2.NodeHeartbeat(node=name))
        self.observations.heartbeat_changed(token)

    def holds(self, node: str, uid: str, goal: fetch_pb2.Goal = fetch_pb2.GOAL_HOLD) -> None:
        self.observations.assigned(node, uid, 1, fetch_pb2.Assignment(goal=goal))

    def listed(self, uid: str) -> None:
        self.observations.resolved.entries[f"{uid}.s"] = Entry(1, fetch_pb2.Resolution())
        self.observations.listing_changed(f"{uid}.s")

    def changes(self) -> set[str]:
        """Models reported since the last call."""
        changed = set(self._changed)
        self._changed.clear()
        return changed


def fleet() -> Known:
    known = Known()
    known.model("everywhere")
    known.model("in-a", nodeSelector={"zone": "a"})
    for number in range(3):
        known.node(f"n{number}", {"zone": "b"})
        known.heartbeat(f"n{number}")
        known.holds(f"n{number}", "everywhere")
    for uid in ("everywhere", "in-a"):
        known.listed(uid)
    known.changes()
    return known


def test_label_of_a_node_concerns_the_models_that_select_by_it_and_match_no_longer_or_newly() -> None:
    known = fleet()
    known.node("n0", {"zone": "a"})
    assert known.changes() == {"in-a"}
    known.node("n0", {"zone": "a", "unrelated": "x"})
    assert known.changes() == set()


def test_room_that_changes_on_all_nodes_concerns_only_models_that_select_by_it_where_they_begin_or_cease_to_match() -> (
    None
):
    known = fleet()
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": ROOM, "operator": "Gt", "values": ["500Gi"]}]}]}
    known.model("roomy", nodeAffinity={"requiredDuringSchedulingIgnoredDuringExecution": required})
    known.changes()
    replanned = []
    for gibibytes in range(496, 640, 16):
        for number in range(3):
            known.node(f"n{number}", {"zone": "b", ROOM: f"{gibibytes}Gi"})
            replanned += sorted(known.changes())
    assert replanned == ["roomy"] * 3


def test_labels_that_the_status_service_writes_concern_no_model() -> None:
    known = fleet()
    known.node("n0", {"zone": "b", **OWN_LABELS})
    assert known.changes() == set()
    assert (
        project_node({"metadata": {"name": "n", "uid": "u", "resourceVersion": "1", "labels": OWN_LABELS}})["metadata"][
            "labels"
        ]
        == {}
    )


def test_node_that_is_cordoned_unready_new_or_gone_concerns_what_is_placed_there_or_held() -> None:
    known = fleet()
    known.node("n0", {"zone": "b"}, ready=False)
    assert known.changes() == {"everywhere"}
    known.node("n3", {"zone": "a"})
    assert known.changes() == {"everywhere", "in-a"}
    known.observations.node_changed({"metadata": {"name": "n1"}}, None)
    assert known.changes() == {"everywhere"}


def test_fetcher_that_falls_silent_concerns_models_that_wait_for_it_to_let_go_or_to_list() -> None:
    known = fleet()
    known.model("unlisted")
    known.holds("n0", "leaving", fetch_pb2.GOAL_ABSENT)
    known.changes()
    del known.observations.heartbeats.entries["n0"]
    known.observations.heartbeat_changed("n0")
    assert known.changes() == {"unlisted", "leaving"}


def test_a_node_that_falls_silent_concerns_a_model_that_is_being_rolled_out() -> None:
    known = fleet()
    rolling = fetch_pb2.ModelPlan(rollout=fetch_pb2.Rollout(staying_nodes=["n1"]))
    known.observations.plans.entries["everywhere"] = Entry(1, rolling)
    del known.observations.heartbeats.entries["n0"]
    known.observations.heartbeat_changed("n0")
    assert known.changes() == {"everywhere"}


def test_values_that_a_fleet_shares_are_kept_once() -> None:
    data = fetch_pb2.Assignment(generation=3, path="/models/m").SerializeToString()
    assert decode_assignment(data) is decode_assignment(bytes(data))
    ready = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY, content_digest="c", path="/models/m")
    first, second = fetch_pb2.NodeModelState(), fetch_pb2.NodeModelState()
    for number, state in enumerate((first, second), 1):
        state.CopyFrom(ready)
        state.assignment_revision = number
        state.phase_since.FromMilliseconds(number)
    assert decode_state(first.SerializeToString()) is decode_state(second.SerializeToString())


def test_what_readers_see_on_a_node_is_kept_by_its_digest_alone() -> None:
    artifact = model_pb2.Artifact(digest="sha256:" + "a" * 64, source_revision="r" * 40, bytes=5, files=1)
    ready = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY, artifact=artifact)
    kept = decode_state(ready.SerializeToString())
    assert kept.artifact == model_pb2.Artifact(digest=artifact.digest)
    assert not decode_state(fetch_pb2.NodeModelState().SerializeToString()).HasField("artifact")


def test_what_a_node_answers_to_a_deletion_keeps_the_revision_that_it_answers() -> None:
    gone = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_DELETED, assignment_revision=7)
    assert decode_state(gone.SerializeToString()).assignment_revision == 7


def test_weights_are_placed_when_their_base_comes_and_follow_its_edits_and_its_end() -> None:
    known = fleet()
    known.node("n3", {"zone": "a"})
    known.weight("lora", "base")
    assert known.placed("lora") == set()
    known.changes()
    known.model("base", nodeSelector={"zone": "a"})
    assert known.changes() == {"base", "lora"}
    assert known.placed("lora") == {"n3"}
    before = known.observations.item("base")
    after: dict[str, Any] = {**(before or {}), "spec": {"storage": {"storageUri": "hf://org/model"}}}
    known.observations.model_changed(before, after)
    assert known.changes() == {"base", "lora"}
    assert known.placed("lora") == {"n0", "n1", "n2", "n3"}
    known.observations.model_changed(after, {**after, "status": {"state": "Ready"}})
    assert known.changes() == {"base"}
    known.observations.model_changed(after, None)
    assert known.changes() == {"base", "lora"}
    assert known.placed("lora") == set()


def test_weights_with_selectors_of_their_own_do_not_mind_their_base() -> None:
    known = fleet()
    known.weight("lora", "base", nodeSelector={"zone": "b"})
    known.changes()
    known.model("base", nodeSelector={"zone": "a"})
    assert known.changes() == {"base"}
    assert known.placed("lora") == {"n0", "n1", "n2"}


def test_a_model_is_wanted_while_a_service_names_it() -> None:
    known = Known()
    known.model("llama")
    assert not known.observations.observed_of("llama").demanded
    metadata = {"uid": "s", "name": "s", "namespace": "team-a"}
    service = {"kind": "InferenceService", "metadata": metadata, "spec": {"model": {"name": "llama"}}}
    known.changes()
    known.observations.services.object_changed(None, service)
    assert "llama" in known.changes()
    assert known.observations.observed_of("llama").demanded
    known.observations.services.object_changed(service, None)
    assert not known.observations.observed_of("llama").demanded


def test_a_model_that_no_node_has_is_wanted_while_a_pod_that_names_it_finds_no_node() -> None:
    """Such a Pod may select the nodes that have the model, and wait for ever for one that all have given up."""
    known = Known()
    known.model("llama")
    waiting = PodView("serving", "p", "", (), "llama", 1, started=False)
    known.observations.pods.index.pod_changed(waiting.key, waiting)
    observed = known.observations.observed_of("llama")
    assert (observed.demanded, observed.use) == (True, None)
    before = known.observations.item("llama")
    known.observations.model_changed(before, {**(before or {}), "status": {"nodesReady": ["n1"]}})
    assert not known.observations.observed_of("llama").demanded
    known.observations.model_changed(known.observations.item("llama"), before)
    assert known.observations.observed_of("llama").demanded
    known.observations.pods.index.pod_changed(waiting.key, replace(waiting, paths=("/models",), model=None))
    assert not known.observations.observed_of("llama").demanded


def test_who_lists_may_have_the_secret_of_a_model_that_follows_its_source_as_long_as_it_does() -> None:
    known = Known()
    for uid, policy in (("follows", {"revisionPolicy": "Follow"}), ("pinned", {})):
        known.model(uid, storageKey="token", **policy)
        model = known.observations.model(uid)
        assert model is not None
        source = known.observations.source_of(model)
        assert source is not None
        found = fetch_pb2.Resolution(artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
        known.observations.resolved.entries[source.key] = Entry(1, found)
        known.observations.listing_changed(source.key)
    assert known.observations.model_for_listing("follows") is not None
    assert known.observations.model_for_listing("pinned") is None


def test_what_a_node_says_matters_while_a_revision_comes_to_the_nodes_in_steps() -> None:
    known = fleet()
    key = names.node_key("n0", "everywhere")
    known.observations.observed.entries[key] = Entry(1, fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY))
    known.observations.state_changed(key)
    assert known.changes() == set()
    staged = fetch_pb2.ModelPlan(rollout=fetch_pb2.Rollout(stage=fetch_pb2.ROLLOUT_STAGE_CANARY))
    known.observations.plans.entries["everywhere"] = Entry(1, staged)
    known.observations.state_changed(key)
    assert known.changes() == {"everywhere"}


def test_manifests_of_revisions_that_one_may_go_back_to_are_kept() -> None:
    known = Known()
    earlier = fetch_pb2.Revision(artifact=model_pb2.Artifact(digest="sha256:" + "b" * 64))
    known.observations.plans.entries["m"] = Entry(1, fetch_pb2.ModelPlan(history=[earlier]))
    assert known.observations.referenced_digests() == {earlier.artifact.digest}
    assert known.observations.names_artifact(earlier.artifact.digest)
    assert not known.observations.names_artifact("sha256:" + "c" * 64)


def test_a_fetcher_that_is_heard_of_for_the_first_time_concerns_the_models_of_its_node() -> None:
    known = fleet()
    known.node("n9", {"zone": "b"})
    known.changes()
    known.heartbeat("n9")
    assert known.changes() == {"everywhere"}


def test_a_taint_of_a_node_concerns_the_models_that_are_meant_for_it() -> None:
    known = fleet()
    before = known.observations.observed_of("everywhere").nodes["n1"]
    metadata = {"name": "n1", "uid": "n1", "resourceVersion": "2", "labels": {"zone": "b"}}
    taints = [{"key": "gpu", "effect": "NoSchedule"}]
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    node = project_node({"metadata": metadata, "spec": {"taints": taints}, "status": ready})
    known.observations.node_changed(None, node)
    assert known.changes() == {"everywhere"}
    after = known.observations.observed_of("everywhere").nodes["n1"]
    assert (len(before.taints), len(after.taints)) == (0, 1)


def of_team(known: Known, uid: str) -> None:
    metadata = {"name": uid, "namespace": "team", "uid": uid, "generation": 1}
    spec = {"storage": {"storageUri": "hf://org/model"}}
    known.observations.model_changed(None, {"kind": "BaseModel", "metadata": metadata, "spec": spec})


def has_room(known: Known, uid: str, size: int, node: str = "n") -> bool:
    account = known.observations.observed_of(uid).budget
    assert account is not None
    return account.shortage(model_pb2.Artifact(digest=f"of {uid}", bytes=size), [node]) is None


def test_what_was_decided_takes_room_whatever_a_node_says_until_it_is_written() -> None:
    known = Known(("team=10",))
    of_team(known, "a")
    of_team(known, "b")
    hold = fetch_pb2.Assignment(
        model=model_pb2.ModelRef(namespace="team"),
        goal=fetch_pb2.GOAL_HOLD,
        artifact=model_pb2.Artifact(digest="of a", bytes=10),
    )
    known.observations.decided(known.observations.observed_of("a"), [Assign("n", hold, 0, "")])
    assert not has_room(known, "b", 1)
    key = names.node_key("n", "a")
    known.observations.observed.entries[key] = Entry(1, fetch_pb2.NodeModelState())
    known.observations.state_changed(key)
    assert not has_room(known, "b", 1)
    known.observations.assigned("n", "a", 1, hold)
    assert not has_room(known, "b", 1)


def test_a_model_that_has_got_its_room_holds_none_back_whenever_its_object_changes() -> None:
    known = Known(("team=10",))
    for uid in ("a", "b"):
        of_team(known, uid)
    waiting = fetch_pb2.ModelPlan(awaited_bytes=8)
    known.observations.plans.entries["a"] = Entry(1, waiting)
    known.observations.plan_changed("a")
    assert not has_room(known, "b", 5)
    known.observations.decided(known.observations.observed_of("a"), [Report(fetch_pb2.ModelPlan(), "")])
    assert has_room(known, "b", 5)
    # Before the report is written, the object changes: its status is one of those that change it.
    of_team(known, "a")
    known.observations.plans.remember("a", 2, fetch_pb2.ModelPlan())
    known.observations.decided(known.observations.observed_of("a"), [])
    assert has_room(known, "b", 5)


def test_planning_is_told_of_every_node_where_pods_use_a_model_and_of_no_other() -> None:
    known = Known()
    known.model("m", path="/mnt/models/m")
    nodes = [f"n{number}" for number in range(20)]
    for number, node in enumerate(nodes):
        pod = PodView("team", f"pod-{number}", node, ("/mnt/models/m",), None, number, True)
        known.observations.pods.index.pod_changed(pod.key, pod)
    for node in nodes[:12]:
        known.holds(node, "m")
    observed = known.observations.observed_of("m")
    assert observed.used == set(nodes[:12])
    assert observed.use is not None
    assert (observed.use.pods, len(observed.use.users)) == (12, 8)

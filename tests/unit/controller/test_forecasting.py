"""What would come of a model on the nodes that get it."""

import pytest

from libs.model.eviction import Resident
from libs.model.tolerations import Taint
from ome.fetch.v1.fetch_pb2 import NodeHeartbeat, RootCapacity
from ome.model.v1.model_pb2 import (
    ROOM_VERDICT_EVICTS,
    ROOM_VERDICT_FITS,
    ROOM_VERDICT_HELD,
    ROOM_VERDICT_LACKS,
    ROOM_VERDICT_UNSPECIFIED,
    Artifact,
    Forecast,
    ForecastNode,
    ModelRef,
)
from services.controller.forecasting import NodeRoom, add_nodes, misses
from services.controller.planning import NodeView

DIGEST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
GIB = 1 << 30
REF = ModelRef(name="old", uid="uid-old")


def root(name: str = "/models", total: int = 100, free: int = 20, reserved: int = 0, problem: str = "") -> RootCapacity:
    return RootCapacity(
        root=name,
        total_bytes=total * GIB,
        free_bytes=free * GIB,
        reserved_bytes=reserved * GIB,
        problem=problem,
        high_watermark_percent=85,
        low_watermark_percent=75,
    )


def resident(size: int, evictable: bool = True, used: bool | None = False, digest: str = OTHER) -> Resident:
    return Resident(digest, (REF.uid,), size * GIB, 0.0, evictable, used)


def forecast(
    *roots: RootCapacity, residents: tuple[Resident, ...] = (), needed: int = 10, path: str = "", old_path: str = ""
) -> ForecastNode:
    whole = Forecast(artifact=Artifact(digest=DIGEST, bytes=needed * GIB), disk_bytes=needed * GIB)
    paths = {REF.uid: old_path} if old_path else {}
    room = NodeRoom("node-1", NodeHeartbeat(node="node-1", roots=roots) if roots else None, residents, paths)
    add_nodes(whole, [room], path, {REF.uid: REF})
    return whole.nodes[0]


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (forecast(root()), ROOM_VERDICT_FITS),
        (forecast(root(free=10)), ROOM_VERDICT_FITS),
        (forecast(root(free=9)), ROOM_VERDICT_LACKS),
        (forecast(root(free=15, reserved=6)), ROOM_VERDICT_LACKS),
        (forecast(root(free=5), residents=(resident(5),)), ROOM_VERDICT_EVICTS),
        (forecast(root(free=5), residents=(resident(4),)), ROOM_VERDICT_LACKS),
        (forecast(root(free=5), residents=(resident(5, evictable=False),)), ROOM_VERDICT_LACKS),
        (forecast(root(free=5), residents=(resident(5, used=True),)), ROOM_VERDICT_LACKS),
        (forecast(root(free=5), residents=(resident(5, used=None),)), ROOM_VERDICT_LACKS),
        (forecast(root(free=1), residents=(resident(5, digest=DIGEST),)), ROOM_VERDICT_HELD),
        (forecast(), ROOM_VERDICT_UNSPECIFIED),
        (forecast(root(problem="is read-only"), root("/raid")), ROOM_VERDICT_UNSPECIFIED),
        (forecast(root(), path="/elsewhere/m"), ROOM_VERDICT_UNSPECIFIED),
    ],
)
def test_a_model_fits_by_the_rules_of_the_node(told: ForecastNode, verdict: int) -> None:
    assert told.room == verdict


def test_the_root_is_the_one_that_the_path_is_in_and_only_its_copies_make_room() -> None:
    roots = (root(free=50), root("/models/fast", free=5))
    told = forecast(*roots, path="/models/fast/m", residents=(resident(5),))
    assert (told.root, told.room) == ("/models/fast", ROOM_VERDICT_LACKS), "the copy is in the other root"
    told = forecast(*roots, path="/models/fast/m", residents=(resident(5),), old_path="/models/fast/old")
    assert told.room == ROOM_VERDICT_EVICTS
    assert [ref.name for ref in told.evictable] == ["old"]
    assert forecast(*roots, path="/models/faster").root == "/models"


def test_what_goes_above_the_high_watermark_is_told() -> None:
    assert not forecast(root(free=26)).over_watermark
    assert forecast(root(free=20)).over_watermark
    assert forecast(root(free=30, reserved=6)).over_watermark


def test_costs_count_nodes_that_fetch_and_name_those_that_lack_room_first() -> None:
    whole = Forecast(artifact=Artifact(digest=DIGEST, bytes=10 * GIB), disk_bytes=10 * GIB)
    heartbeats = {name: NodeHeartbeat(node=name, roots=[root(free=free)]) for name, free in (("a", 50), ("b", 1))}
    rooms = [NodeRoom(name, heartbeat, (), {}) for name, heartbeat in heartbeats.items()]
    rooms.append(NodeRoom("c", heartbeats["b"], (), {}, digest=DIGEST))
    add_nodes(whole, rooms, "", {})
    assert [node.node for node in whole.nodes] == ["b", "a", "c"]
    assert (whole.node_count, whole.lacking_nodes, whole.fetching_nodes) == (3, 1, 2)
    assert whole.egress_bytes == 20 * GIB


def test_nodes_that_would_not_get_the_model_are_told_with_the_rule_that_keeps_them() -> None:
    views = [
        NodeView("cordoned", {"gpu": "H100"}, accepts_new=False, unreachable_since=None),
        NodeView("tainted", {"gpu": "H100"}, True, None, taints=(Taint("gpu", "yes", "NoSchedule"),)),
        NodeView("silent", {"gpu": "H100"}, True, 1.0),
        NodeView("other", {"gpu": "T4"}, True, None),
        NodeView("chosen", {"gpu": "H100"}, True, None),
    ]
    storage = {"nodeSelector": {"gpu": "H100"}, "tolerations": []}
    assert list(misses(storage, views, ["chosen"], with_labels=True)) == [
        "Node cordoned matches, but is cordoned or not ready.",
        "Node silent matches, but no fetcher reports from it.",
        "Node tainted matches, but has the taint gpu=yes:NoSchedule, which storage.tolerations does not tolerate.",
        "Not chosen: node other lacks gpu=H100 (node other has gpu=T4).",
    ]


@pytest.mark.parametrize(
    ("holder", "verdict"), [("", ROOM_VERDICT_HELD), ("team-a", ROOM_VERDICT_HELD), ("team-b", ROOM_VERDICT_FITS)]
)
def test_a_list_of_checksums_does_not_tell_which_nodes_hold_these_files_for_another_namespace(
    holder: str, verdict: int
) -> None:
    artifact = Artifact(digest=DIGEST, bytes=GIB)
    whole = Forecast(model=ModelRef(namespace="team-a", name="m"), artifact=artifact, disk_bytes=GIB)
    heartbeat = NodeHeartbeat(node="node-1", roots=[root()])
    room = NodeRoom("node-1", heartbeat, (resident(1, digest=DIGEST),), {})
    add_nodes(whole, [room], "", {REF.uid: ModelRef(namespace=holder, name="old", uid=REF.uid)})
    assert whole.nodes[0].room == verdict
    assert whole.fetching_nodes == (verdict != ROOM_VERDICT_HELD)

"""Which transfers a watcher of progress is told of: those that changed, and the end of each once."""

from ome.fetch.v1.fetch_pb2 import FileProgress, Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_QUEUED,
    ModelRef,
    Reason,
)
from ome.status.v1.status_pb2 import Model, NodeStatus
from services.status.transfers import Told


def model(*nodes: NodeStatus) -> Model:
    return Model(ref=ModelRef(name="m", uid="u"), nodes=nodes)


def node(name: str, reason: Reason = REASON_DOWNLOADING, done: int = 0) -> NodeStatus:
    phase = NODE_PHASE_UPDATING if reason else NODE_PHASE_READY
    return NodeStatus(node=name, phase=phase, reason=reason, bytes_done=done, bytes_total=100)


def test_a_transfer_is_told_when_it_changes_and_once_when_it_has_ended() -> None:
    figures = {"a": Progress(bytes_done=10, bytes_total=100, files_done=1, files_total=2, bytes_per_second=5)}
    told = Told(lambda name, uid: figures.get(name))
    both = model(node("a"), node("b", done=3), node("c", REASON_QUEUED))
    first = told.changes("u", both)
    assert [(each.node, each.bytes_done, each.files_total) for each in first] == [("a", 10, 2), ("b", 3, 0)]
    assert told.changes("u", both) == []
    figures["a"] = Progress(bytes_done=20, bytes_total=100)
    assert [(each.node, each.bytes_done) for each in told.changes("u", both)] == [("a", 20)]
    [ended] = told.changes("u", model(node("a", Reason.REASON_UNSPECIFIED), node("b", done=3)))
    assert (ended.node, ended.ended, ended.bytes_per_second) == ("a", True, 0)
    assert [each.node for each in told.changes("u", None)] == ["b"]
    assert told.changes("u", None) == []


def test_files_are_told_while_they_come_and_not_of_a_transfer_that_has_ended() -> None:
    file = FileProgress(path="w.safetensors", bytes_done=9, bytes_total=90, bytes_per_second=3, eta_seconds=27)
    figures = {"a": Progress(bytes_done=10, bytes_total=100, files=[file])}
    told = Told(lambda name, uid: figures.get(name))
    [moving] = told.changes("u", model(node("a")))
    [said] = moving.files
    assert (said.path, said.bytes_done, said.bytes_total) == ("w.safetensors", 9, 90)
    assert (said.bytes_per_second, said.eta_seconds) == (3, 27)
    figures["a"].files[0].bytes_done = 12
    assert len(told.changes("u", model(node("a")))) == 1
    [ended] = told.changes("u", None)
    assert (ended.ended, len(ended.files)) == (True, 0)


def test_a_watcher_of_one_node_is_told_of_no_other() -> None:
    told = Told(lambda name, uid: None, "b")
    assert [each.node for each in told.changes("u", model(node("a"), node("b")))] == ["b"]

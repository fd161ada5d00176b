"""What the plugin shows: tables for people, documents for programs, and figures that add up."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from clients.kubectl import views
from clients.kubectl.objects import PLURALS, Entry, disk_by_model, entries_of, kind_spelled, node_facts, shown_name
from clients.kubectl.tables import Column, bar, documents, harmless, painted, table
from libs.model.kinds import GROUP_VERSION, KINDS

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
COMPLETE = {
    "type": "Complete",
    "status": "True",
    "reason": "AllNodesReady",
    "lastTransitionTime": "2026-11-28T11:00:00Z",
}


def model(name: str, kind: str = "ClusterBaseModel", size: int = 2**30, **status: Any) -> dict[str, Any]:
    namespace = {"namespace": "team-a"} if kind == "BaseModel" else {}
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-11-28T09:00:00Z", "generation": 1}
    artifact = {"bytes": size, "sourceRevision": "c0ffee"} if size else {}
    said = {"state": "Ready", "lifecycle": "Ready", "artifact": artifact, "conditions": [COMPLETE], **status}
    spec = {"storage": {"storageUri": f"hf://org/{name}"}}
    return {"kind": kind, "metadata": {**metadata, **namespace}, "spec": spec, "status": said}


def node(name: str, ready: str = "True", unschedulable: bool = False, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": unschedulable},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def entry(uid: str, state: str = "Ready", reason: str = "", digest: str = "") -> Entry:
    return Entry(uid, state, reason, f"/models/{uid}", digest)


def test_models_are_listed_in_columns_and_wide_has_more() -> None:
    rows = views.model_rows([model("b", nodes={"summary": "2/3"}), model("a", "BaseModel", 0, reason="Gated")], NOW)
    narrow = table(rows, views.MODEL_COLUMNS, wide=False, colour=False).splitlines()
    assert narrow == [
        "KIND               NAMESPACE   NAME   STATE   NODES   SIZE    PROGRESS   REASON   AGE",
        "BaseModel          team-a      a      Ready   -       -       -          Gated    3h",
        "ClusterBaseModel   -           b      Ready   2/3     1 GiB   -          -        3h",
    ]
    assert "hf://org/b" in table(rows, views.MODEL_COLUMNS, wide=True, colour=False)


def test_colours_say_the_state_and_change_no_width() -> None:
    rows = [{"state": "Ready"}, {"state": "Failed"}]
    plain, painted = (table(rows, [Column("STATE", "state")], False, colour) for colour in (False, True))
    assert "\x1b[31mFailed\x1b[0m" in painted
    assert painted.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[0m", "") == plain.replace(
        "Ready\n", "Ready \n"
    )


def test_documents_are_what_they_are_called() -> None:
    rows: list[dict[str, Any]] = [{"id": "node/a", "name": 'a: "b"', "ready": 1}, {"id": "node/c", "models": ["x"]}]
    assert json.loads(documents(rows, "json")) == rows
    assert yaml.safe_load(documents(rows, "yaml")) == rows
    assert documents(rows, "name") == "node/a\nnode/c"
    assert yaml.safe_load(documents([], "yaml")) == []


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 10, "[>         ]   0%"),
        (5, 10, "[=====>    ]  50%"),
        (999, 1000, "[=========>]  99%"),
        (10, 10, "[==========] 100%"),
        (20, 10, "[==========] 100%"),
        (-1, 10, "[>         ]   0%"),
        (5, 0, "[>         ]   0%"),
    ],
)
def test_a_bar_is_full_only_when_all_is_there(done: int, total: int, shown: str) -> None:
    assert bar(done, total, 10) == shown


def test_models_of_one_digest_share_a_copy() -> None:
    entries = {
        "n1": {"a": entry("a", digest="d"), "b": entry("b", digest="d"), "c": entry("c")},
        "n2": {"b": entry("b", digest="d"), "c": entry("c", "Updating")},
    }
    assert disk_by_model(entries, {"a": 10, "b": 10, "c": 7}) == {"a": 10, "b": 10, "c": 7}


def test_nodes_are_listed_with_what_they_hold() -> None:
    entries = {"n1": {"uid-a": entry("uid-a"), "uid-b": entry("uid-b", "Failed")}}
    nodes = [node("n2", ready="False"), node("n1"), node("n3", unschedulable=True)]
    silent = model("b", failures=[{"node": "n4", "reason": "NodeUnreachable", "message": "It does not report."}])
    rows = views.node_rows([*nodes, node("n4")], entries, [model("a"), silent])
    assert [(row["name"], row["status"], row["ready"], row["failed"], row["disk"]) for row in rows] == [
        ("n1", "Ready", 1, 1, "1 GiB"),
        ("n2", "Not ready", 0, 0, "0 bytes"),
        ("n3", "Cordoned", 0, 0, "0 bytes"),
        ("n4", "Silent", 0, 0, "0 bytes"),
    ]


def test_those_that_take_most_are_at_the_top() -> None:
    moving = model("moving", progress={"bytesPerSecond": 2**20})
    rows = views.top_rows([model("idle"), moving, model("held")], {"n1": {"uid-held": entry("uid-held")}})
    assert [(row["name"], row["disk"], row["traffic"]) for row in rows] == [
        ("held", "1 GiB", ""),
        ("moving", "0 bytes", "1 MiB/s"),
        ("idle", "0 bytes", ""),
    ]


def test_history_tells_which_nodes_have_a_revision_to_go_back_to() -> None:
    known: list[dict[str, object]] = [
        {
            "digest": "sha256:b",
            "sourceRevision": "b" * 40,
            "bytes": 2**30,
            "since": "2026-11-28T10:02:00Z",
            "nodes": 12,
        },
        {"digest": "sha256:a", "bytes": 2**20, "since": "2026-11-28T10:01:00Z", "nodes": 1, "onNodes": ["n1"]},
        {"digest": "sha256:0", "since": "2026-11-28T10:00:00Z"},
    ]
    known[0] |= {"onNodes": [f"n{number}" for number in range(10)]}
    rows = [row for row in views.history_rows(model("a", history=known), []) if row["what"] == "Revision"]
    assert [row["message"] for row in rows] == [
        "sha256:0, unknown size: on no node",
        "sha256:a, 1 MiB: on n1",
        f"{'b' * 40}, 1 GiB: on n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more",
    ]


def test_history_is_in_the_order_of_time() -> None:
    download = {"bytes": 2**30, "seconds": 60, "finishedAt": "2026-11-28T10:30:00Z"}
    event = {"eventTime": "2026-11-28T10:00:00.123456Z", "reason": "Resolved", "message": "The source has 9 files."}
    event["metadata"] = {}  # type: ignore[assignment]
    rows = views.history_rows(model("a", download=download), [event])
    assert [(row["time"], row["what"]) for row in rows] == [
        ("2026-11-28T09:00:00Z", "Created"),
        ("2026-11-28T10:00:00Z", "Event Resolved"),
        ("2026-11-28T10:30:00Z", "Downloaded"),
        ("2026-11-28T11:00:00Z", "Complete=True"),
    ]


def test_a_model_is_shown_with_a_bar_for_each_node_and_those_in_trouble_first() -> None:
    item = model(
        "a",
        state="Creating",
        lifecycle="Creating",
        conditions=[{"type": "Complete", "status": "False", "reason": "Downloading", "message": "Waiting for n2."}],
        nodes={"summary": "1/3"},
        nodesFailed=["n3"],
        failures=[{"node": "n3", "reason": "DiskError", "message": "The disk is read-only."}],
        progress={"nodes": [{"node": "n2", "bytes": 2**29, "bytesPerSecond": 2**20, "etaSeconds": 512}]},
    )
    states = {"n1": entry("uid-a"), "n2": entry("uid-a", "Updating", "Downloading"), "n3": entry("uid-a", "Failed")}
    facts = [node_facts(item, node(name), each) for name, each in states.items()]
    assert views.status_lines(item, [*facts, node_facts(item, node("n4"), None)], colour=False) == [
        "clusterbasemodel.ome.io/a  Creating  nodes 1/3  1 GiB",
        "  Complete: Downloading. Waiting for n2.",
        "  n3  Failed  DiskError. The disk is read-only.",
        "  n2  [===============>              ]  50%  Updating  Downloading  1 MiB/s  9 minutes left",
        "  n1  [==============================] 100%  Ready",
    ]


def test_files_on_their_way_are_shown_below_their_node_if_they_are_asked_for() -> None:
    files = [
        {"path": "w-1.safetensors", "bytes": 2**28, "totalBytes": 2**29, "bytesPerSecond": 2**20, "etaSeconds": 256},
        {"path": "w-2.safetensors", "bytes": 0, "totalBytes": 2**28, "bytesPerSecond": 0},
    ]
    item = model("a", progress={"nodes": [{"node": "n1", "bytes": 2**29, "bytesPerSecond": 2**20, "files": files}]})
    facts = [node_facts(item, node("n1"), entry("uid-a", "Updating", "Downloading"))]
    assert len(views.status_lines(item, facts, colour=False)) == 2
    assert views.status_lines(item, facts, colour=False, wide=True)[2:] == [
        "    [===============>              ]  50%  w-1.safetensors  256 MiB of 512 MiB  1 MiB/s  4 minutes left",
        "    [>                             ]   0%  w-2.safetensors  0 bytes of 256 MiB",
    ]


def test_a_node_that_says_nothing_is_shown_all_the_same() -> None:
    failure = {"node": "n1", "reason": "NodeUnreachable", "message": "The node's fetcher does not report."}
    item = model("a", failures=[failure])
    for said in (None, entry("uid-a")):
        lines = views.status_lines(item, [node_facts(item, node("n1"), said)], colour=False)
        assert lines[-1] == "  n1  Silent  NodeUnreachable. The node's fetcher does not report."


def test_a_config_map_that_somebody_spoiled_is_read_as_far_as_it_can_be() -> None:
    data = {"a": '{"uid": "u", "state": "Ready"}', "b": "{", "c": "[1]", "d": '"text"'}
    assert entries_of({"data": data}) == {"u": Entry("u", "Ready", "", "", "")}
    assert entries_of(None) == {}


@pytest.mark.parametrize("word", ["BaseModel", "basemodel", "basemodels", "bm"])
def test_kinds_are_spelled_as_kubectl_takes_them(word: str) -> None:
    assert kind_spelled(word) == "BaseModel"
    assert kind_spelled(f"{word}x") is None


def test_the_plugin_knows_the_kinds_that_there_are() -> None:
    assert {kind.name: kind.plural for kind in KINDS} == PLURALS
    assert shown_name(model("a")).endswith(f".{GROUP_VERSION.partition('/')[0]}/a")


def result(node: str, request: str = "noon", **more: Any) -> dict[str, Any]:
    return {"node": node, "request": request, "bytes": 2**30, "damaged": 0, **more}


def test_what_each_node_has_found_is_a_line_and_an_earlier_answer_is_none() -> None:
    results = [
        result("n1", damaged=3, files=["a", "b"]),
        result("n2", problem="no such file"),
        result("n3"),
        result("n4", request="dawn"),
    ]
    verified = {"request": "noon", "nodes": 4, "nodesDone": 3, "results": results}
    assert list(views.verified_lines(verified, "noon", "").values()) == [
        "n1  Damaged  a, b and 1 more: the node fetches them again",
        "n2  Unreadable  no such file",
        "n3  Ok  1 GiB read",
    ]
    assert list(views.verified_lines(verified, "noon", "n3")) == ["n3"]
    assert not views.is_verified(verified, "noon")
    assert views.is_verified({**verified, "nodesDone": 4}, "noon")
    assert not views.is_verified({**verified, "nodesDone": 4}, "dusk")
    assert views.found_damage(verified, "noon")
    assert not views.found_damage({"results": [result("n3")]}, "noon")


def test_before_the_status_has_the_request_nothing_is_verified() -> None:
    assert not views.is_verified({}, "noon")
    assert not views.is_verified({"request": "noon", "nodes": 0, "nodesDone": 0}, "noon")


def test_nodes_that_have_not_answered_are_named_up_to_a_number() -> None:
    many = model("m", nodesReady=[f"n{number:02}" for number in range(30)])
    lines = views.unverified_lines(many, {"n00"}, "")
    assert lines[0] == "n01  has not answered yet"
    assert lines[-1] == "and 9 more nodes"
    assert views.unverified_lines(many, set(), "n07") == ["n07  has not answered yet"]


def test_what_others_have_written_is_no_command_to_the_terminal() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\x9b31mred\u202eback\x7f"
    event = {"metadata": {}, "eventTime": "2026-11-28T12:00:00Z", "reason": "Told", "message": f"one{hostile}\ntwo"}
    rows = views.history_rows(model("m"), [event])
    shown = table(rows, views.HISTORY_COLUMNS, wide=False, colour=True)
    documented = [documents(rows, form) for form in ("json", "yaml")]
    told = harmless(f"{painted('Ready')} {hostile}\n")
    assert told.startswith("\x1b[32mReady\x1b[0m ")
    texts = [shown, *documented, told.replace(painted("Ready"), "")]
    assert all(each.isprintable() or each == "\n" for text in texts for each in text)
    assert len(shown.splitlines()) == len(rows) + 1
    assert all(yaml.safe_load(text)[-1]["message"] == event["message"] for text in documented)

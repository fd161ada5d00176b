"""Why a model is where it is: sentences about one node and about a cluster, from objects alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.artifact import requests, specification
from libs.artifact.findings import Finding
from libs.artifact.reasons import Reason
from libs.model.annotated import SENTENCES, annotation_details
from libs.model.explanation import Explanation, NodeFacts, Standing, explain_model, explain_node, foremost_cause
from libs.model.remedies import Retry, Who, remedy_of

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
H100 = {"gpu": "H100"}
TOLD = NodeFacts("n1", H100, reports=True, planned=True)


def condition(kind: str, status: str, reason: str = "Because", message: str = "A sentence.") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def model(*conditions: dict[str, str], metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    storage = {"storageUri": "hf://org/m", "nodeSelector": {"gpu": "H100"}}
    return {
        "kind": "ClusterBaseModel",
        "metadata": {"name": "m", "uid": "u", **(metadata or {})},
        "spec": {"storage": storage, **spec},
        "status": {"conditions": list(conditions)},
    }


LISTED = condition("Resolved", "True")
ROOM = "models.ome.io/available-storage"
NOT_FOUND = remedy_of("NotFound") or pytest.fail("there is a remedy")


def roomy() -> dict[str, Any]:
    """A model that asks for room, as the promised example does."""
    needed = {"key": ROOM, "operator": "Gt", "values": ["500Gi"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [needed]}]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    return model(LISTED, storage={"storageUri": "hf://org/m", "nodeAffinity": affinity})


def about(explained: Explanation) -> str:
    return " | ".join(explained.lines())


CASES: dict[str, tuple[dict[str, Any], NodeFacts, str]] = {
    "a node that holds a copy": (
        model(LISTED),
        replace(TOLD, standing=Standing("Ready", path="/models/m")),
        (
            "Node n1 holds a verified copy at /models/m. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | "
            "OME reads the files again from time to time and mends what is damaged. | Nobody needs to do anything."
        ),
    ),
    "a node that gets another revision beside a good copy": (
        model(LISTED),
        replace(
            TOLD,
            standing=Standing("Ready", "Downloading", path="/models/m", bytes_done=1, bytes_total=4, update="Updating"),
        ),
        (
            "Node n1 holds a good copy at /models/m, and gets another that is to come in its place: Downloading. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | It has 25% (1 byte of 4 bytes). | "
            "OME goes on by itself. | Nobody needs to do anything."
        ),
    ),
    "a node that cannot get another revision": (
        model(LISTED),
        replace(TOLD, standing=Standing("Ready", "NotFound", "it is gone", path="/models/m", update="Failed")),
        (
            "Node n1 holds a good copy at /models/m, and cannot get another that is to come in its place: NotFound. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | it is gone. | "
            "The node tries again by itself, with pauses of at most 5 minutes. | "
            f"To do, by the model's owner: {NOT_FOUND.what}"
        ),
    ),
    "a node that keeps a model although its room has gone": (
        roomy(),
        NodeFacts("n1", {ROOM: "100Gi"}, reports=True, planned=True, standing=Standing("Ready", path="/models/m")),
        (
            "Node n1 holds a verified copy at /models/m. | "
            f"storage.nodeAffinity, term 1 asks for {ROOM} > 500Gi: no, it has {ROOM}=100Gi. | "
            "How much room a node has decides whether it gets a model, and not whether it keeps one. | "
            "OME reads the files again from time to time and mends what is damaged. | Nobody needs to do anything."
        ),
    ),
    "a matching node without a fetcher": (
        model(LISTED),
        NodeFacts("n1", H100, reports=False, planned=False),
        (
            "Node n1 matches, but has not been told to hold the model: no fetcher reports from it. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | "
            "OME notices by itself when the fetcher reports again. | To do, by the cluster's administrator: "
            "Look whether a fetcher's Pod runs on the node, or exclude the node by the model's selectors."
        ),
    ),
    "a node that a taint may keep the model from": (
        model(LISTED, storage={"storageUri": "hf://org/m", "tolerations": []}),
        NodeFacts("n1", {}, reports=True, planned=False),
        (
            "Node n1 matches, but has not been told to hold the model: it is cordoned or not ready, or has a taint "
            "that storage.tolerations does not tolerate. | OME sees the change at once. | "
            "To do, by the cluster's administrator: Look at the node: kubectl describe node n1"
        ),
    ),
    "a node with another label": (
        model(LISTED),
        NodeFacts("n1", {"gpu": "T4"}, reports=True, planned=False),
        (
            "Node n1 is not meant to hold the model: it lacks gpu=H100. | "
            "storage.nodeSelector asks for gpu=H100: no, it has gpu=T4. | OME sees the change at once. | "
            "To have it here: kubectl label node n1 --overwrite gpu=H100"
        ),
    ),
    "a copy on a node that no longer matches": (
        model(LISTED),
        NodeFacts("n1", {}, reports=True, planned=False, standing=Standing("Ready")),
        (
            "Node n1 is not meant to hold the model: it lacks gpu=H100. | "
            "storage.nodeSelector asks for gpu=H100: no, it has no label gpu. | "
            "The node still has a copy in state Ready. | "
            "The node lets go of its copy. | To have it here: kubectl label node n1 --overwrite gpu=H100"
        ),
    ),
    "a failure with the time of the next attempt": (
        model(LISTED),
        replace(
            TOLD,
            standing=Standing(
                "Failed", "InsufficientDisk", "needs 2 GiB, has 1 GiB", retry_at=NOW + timedelta(seconds=150)
            ),
        ),
        (
            "Node n1 is meant to hold the model and has failed: InsufficientDisk. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | needs 2 GiB, has 1 GiB. | "
            "The node tries again at 12:02:30 UTC, in 2 minutes. | To do, by the cluster's administrator: "
            "Remove models from the node, enlarge its disk, or choose a path below another model root."
        ),
    ),
    "a node that has given its copy up": (
        model(LISTED),
        replace(TOLD, standing=Standing("Evicted", "Evicted", "evicted to make room")),
        (
            "Node n1 is meant for the model and has given up its copy. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | evicted to make room. | "
            "OME goes on by itself. | To do, by the model's owner: Have a Pod use the model, give it another "
            "ome.io/artifact-rehydration-id, or set storage.residency: Always."
        ),
    ),
    "a download under way": (
        model(LISTED),
        replace(
            TOLD,
            standing=Standing(
                "Updating",
                "Downloading",
                bytes_done=2**30,
                bytes_total=2**32,
                bytes_per_second=2**20,
                eta_seconds=180,
            ),
        ),
        (
            "Node n1 is fetching the model. | storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | "
            "It has 25% (1 GiB of 4 GiB), at 1 MiB/s. | It is expected to be Ready in about 3 minutes. | "
            "Nobody needs to do anything."
        ),
    ),
    "a node whose fetcher is silent": (
        model(LISTED),
        replace(TOLD, reports=False, standing=Standing("Ready")),
        (
            "Node n1 is meant to hold the model, but its fetcher does not report. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | It was Ready when it was last heard of. | "
            "OME notices by itself when the fetcher reports again. | To do, by the cluster's administrator: "
            "Look whether a fetcher's Pod runs on the node, or exclude the node by the model's selectors."
        ),
    ),
    "a cordoned node": (
        model(LISTED),
        NodeFacts("n1", H100, closed="is cordoned", reports=True, planned=False),
        (
            "Node n1 matches, but is cordoned: such a node keeps what it has and gets nothing new. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | OME sees the change at once. | "
            "To do, by the cluster's administrator: Make the node ready and schedulable again: kubectl uncordon n1"
        ),
    ),
    "a source that refuses the token": (
        model(condition("Degraded", "True", "Gated", "The terms were not accepted."), condition("Resolved", "False")),
        TOLD,
        (
            "Node n1 is meant to hold the model, and has not begun. | "
            "storage.nodeSelector asks for gpu=H100: yes, it has gpu=H100. | The terms were not accepted. | "
            "OME lists the source again by itself, with pauses of at most 10 minutes. | To do, by the model's owner: "
            "Accept the terms on the repository's page, with the account that owns the token."
        ),
    ),
    "a weight whose base does not exist": (
        {
            **model(condition("Stalled", "True", "BaseNotFound", "ClusterBaseModel llama does not exist.")),
            "kind": "FineTunedWeight",
        },
        NodeFacts("n1", {}),
        (
            "The base of this weight does not exist: ClusterBaseModel llama does not exist. | "
            "OME sees the change at once. | "
            "To do, by the model's owner: Create the base model, or correct the reference to it."
        ),
    ),
    "a disabled model with a copy": (
        model(LISTED, disabled=True),
        replace(TOLD, standing=Standing("Ready")),
        (
            "The model is disabled (spec.disabled): no download starts; existing copies stay. | "
            "Node n1 has a copy in state Ready. | OME sees the change at once. | To do, by the model's owner: "
            "Set spec.disabled to false to have the model fetched."
        ),
    ),
    "a model in a claim": (
        model(LISTED, storage={"storageUri": "pvc://claim/m"}),
        TOLD,
        (
            "The model is used in its PersistentVolumeClaim: no node is meant to hold a copy. | "
            "Nobody needs to do anything."
        ),
    ),
    "a URI of no known form": (
        model(storage={"storageUri": "ftp://x"}),
        TOLD,
        "To do, by the model's owner: Write storage.storageUri in one of the forms that OME knows.",
    ),
    "a node that does not exist": (
        model(LISTED),
        NodeFacts("n9", {}, exists=False),
        "There is no node n9. | Check the name of the node.",
    ),
    "a model that is being deleted": (
        model(
            condition("Complete", "False", "Deleting", "Waiting for n1 to delete the model."),
            metadata={"deletionTimestamp": "2026-11-28T11:00:00Z"},
        ),
        TOLD,
        (
            "The model is being deleted. | Waiting for n1 to delete the model. | OME goes on by itself. | "
            "Nobody needs to do anything."
        ),
    ),
}


@pytest.mark.parametrize(("item", "node", "said"), CASES.values(), ids=CASES.keys())
def test_a_node_is_explained(item: dict[str, Any], node: NodeFacts, said: str) -> None:
    assert about(explain_node(item, node, NOW)).endswith(said)


def test_a_cluster_is_explained_by_the_cause_and_by_what_keeps_each_node() -> None:
    nodes = [
        replace(TOLD, name="a", standing=Standing("Ready")),
        replace(TOLD, name="b", standing=Standing("Failed", "DiskError", "the disk is read-only")),
        replace(TOLD, name="c", standing=Standing("Failed", "DiskError", "the disk is read-only")),
        NodeFacts("d", H100, closed="is cordoned", planned=False),
        *(NodeFacts(f"t{number}", {"gpu": "T4"}) for number in range(5)),
    ]
    failed = condition("Degraded", "True", "DiskError", "2 of 3 nodes failed.")
    assert explain_model(model(LISTED, failed), nodes).lines() == (
        "1 of 9 nodes holds the model; 4 are chosen by its rules.",
        "Nodes b, c: each has failed (DiskError). On b: the disk is read-only.",
        "Node d is cordoned.",
        "Not chosen: 5 nodes, among them t0, t1, t2, lack gpu=H100 (node t0 has gpu=T4).",
        "Degraded says DiskError: 2 of 3 nodes failed.",
        Retry.NODE,
        "To do, by the cluster's administrator: Repair or mount the disk of the node, or correct who owns the root.",
    )


def test_a_model_that_is_complete_says_how_to_have_it_on_more_nodes() -> None:
    nodes = [replace(TOLD, standing=Standing("Ready")), NodeFacts("n2", {})]
    explained = explain_model(model(LISTED, condition("Complete", "True")), nodes)
    assert explained.lines()[0] == "1 of 2 nodes holds the model; 1 is chosen by its rules."
    assert explained.todo == "To have it on more nodes, label them as the rules ask, or change the rules."
    assert explained.who == ""


def test_what_the_nodes_have_told_is_not_told_again() -> None:
    silent = replace(TOLD, reports=False)
    said = condition("Degraded", "True", "NodeUnreachable", "The fetcher on node n1 does not report.")
    assert explain_model(model(LISTED, said), [silent]).lines()[1:3] == (
        "Node n1 does not report.",
        "Degraded says NodeUnreachable.",
    )
    full = replace(TOLD, standing=Standing("Failed", "InsufficientDisk", "/models has 1 GiB free"))
    said = condition("Degraded", "True", "InsufficientDisk", "1 of 1 nodes failed. On n1: /models has 1 GiB free.")
    assert explain_model(model(LISTED, said), [full]).last == "Degraded says InsufficientDisk."


def test_the_secret_that_has_to_be_changed_is_named() -> None:
    refused = condition("Degraded", "True", "Forbidden", "The hub does not accept the token.")
    private = model(refused, storage={"storageUri": "hf://org/m", "storageKey": "hub-token"})
    wanted = "Put a valid credential into Secret hub-token, which the model names."
    assert explain_model(private, [TOLD]).todo == wanted
    assert explain_node(private, TOLD, NOW).todo == wanted
    open_to_nobody = model(refused, storage={"storageUri": "hf://org/m"})
    wanted = "Put a valid credential into a Secret, and name it in storage.storageKey."
    assert explain_model(open_to_nobody, [TOLD]).todo == wanted


def test_a_weight_goes_by_the_rules_of_its_base_where_these_are_given() -> None:
    weight = model(LISTED, storage={"storageUri": "hf://org/lora"})
    there = {"nodeSelector": {"gpu": "H100"}}
    assert explain_node(weight, NodeFacts("n1", {}, planned=False), NOW, there).rules[0].requirement == "gpu=H100"


def test_what_is_said_of_a_fleet_stays_short() -> None:
    nodes = [NodeFacts(f"n{number}", {"rack": str(number)}, planned=False) for number in range(3000)]
    chosen = [replace(TOLD, name=f"m{number}", standing=Standing("Updating", "Queued")) for number in range(3000)]
    explained = explain_model(model(condition("Complete", "False", "Queued")), [*nodes, *chosen])
    assert len("\n".join(explained.lines())) < 2000


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_somebody_who_can_end_it(reason: Reason) -> None:
    remedy = remedy_of(reason)
    assert remedy
    assert remedy.what.endswith(".")
    assert remedy.who in Who


@pytest.mark.parametrize("finding", list(Finding))
def test_every_finding_about_files_is_told_with_who_can_do_what(finding: Finding) -> None:
    item = model(LISTED)
    item["status"]["warnings"] = [{"reason": str(finding), "message": "Two files are odd."}] * 4
    told = explain_model(item, [TOLD]).details
    remedy = remedy_of(finding)
    assert remedy
    assert f"{finding}: Two files are odd. For {remedy.who}: {remedy.what}" in told
    assert told[-1] == "1 more warning: see .status.warnings."


def test_a_source_that_can_no_longer_be_followed_is_told_although_all_nodes_hold_the_model() -> None:
    followed = condition("Following", "False", "NotFound", "The source could not be listed 3 times in a row.")
    ready = replace(TOLD, standing=Standing("Ready"))
    explained = explain_model(model(LISTED, condition("Complete", "True"), followed), [ready])
    assert explained.last == "Following says NotFound: The source could not be listed 3 times in a row."
    assert explained.next == Retry.LISTING
    assert (explained.who, explained.todo) == (Who.OWNER, NOT_FOUND.what)


def test_every_annotation_is_told_with_how_to_take_it_back() -> None:
    words = {name: value for place in (specification, requests) for name, value in vars(place).items()}
    known = {value for name, value in words.items() if name.endswith("_ANNOTATION") and not name.startswith("_")}
    assert set(SENTENCES) == known
    asked = dict.fromkeys(known, "word") | {specification.SKIP_PARSING_ANNOTATION: "true"}
    asked[specification.RESIDENCY_ANNOTATION] = specification.EVICTED
    told = explain_model(model(LISTED, metadata={"annotations": asked}), [TOLD]).details
    for name, sentence in SENTENCES.items():
        assert (sentence is None) != any(each.startswith(f"Annotation {name}: ") for each in told)
    assert not list(annotation_details({"annotations": dict.fromkeys(known, "")}))
    [line] = annotation_details({"annotations": {specification.PRIORITY_ANNOTATION: "1\n" * 999}})
    assert len(line) < 200
    [line] = annotation_details({"annotations": {specification.REVISION_ANNOTATION: "main\x1b[2J\u202e"}})
    assert line.isprintable()


def test_a_reason_that_is_newer_than_this_program_is_told_all_the_same() -> None:
    item = model(LISTED, condition("Degraded", "True", "NotInventedYet", "Something else."))
    assert "Degraded says NotInventedYet: Something else." in explain_model(item, [TOLD]).lines()


def test_a_model_without_conditions_is_explained_from_its_nodes() -> None:
    assert foremost_cause({}) is None
    assert explain_model({**model(), "status": {}}, [TOLD]).lines()[0].startswith("0 of 1 node hold the model")


def test_a_rollout_that_waits_is_told_in_its_own_words_and_not_by_a_condition_that_names_it() -> None:
    named = condition(
        "Complete", "False", "RollingOut", "Not every node does: the condition RolledOut tells the cause."
    )
    rollout = condition("RolledOut", "False", "RollingOut", "n1 goes first.")
    assert foremost_cause({"conditions": [named, rollout]}) == ("RolledOut", "RollingOut", "n1 goes first.")

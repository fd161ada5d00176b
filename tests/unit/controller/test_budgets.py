"""Budgets of namespaces: what counts, who waits for room, and who gets it."""

from dataclasses import replace

import pytest

from libs.artifact.specification import FINALIZER
from libs.chassis.settings import SettingsError, load_settings
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.budgets import Budgets, Charge, limits_of
from services.controller.planning import Assign, Held, NodeView, Observed, Rules, plan
from services.controller.settings import Settings
from services.controller.specification import read_model, source_of

RULES = Rules("ome", node_unreachable_seconds=300, retry_initial_seconds=4, retry_max_seconds=60)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SIZE = 10


def artifact(digest: str = OLD, size: int = SIZE) -> model_pb2.Artifact:
    return model_pb2.Artifact(digest=digest, bytes=size, files=1)


def fits(budgets: Budgets, uid: str, nodes: str, digest: str = OLD, size: int = SIZE, created: str = "") -> bool:
    return budgets.shortage(uid, "team", created, artifact(digest, size), nodes.split()) is None


def charge(budgets: Budgets, uid: str, nodes: str, digest: str = OLD, size: int = SIZE) -> None:
    for node in nodes.split():
        budgets.charge(uid, "team", node, Charge(digest, size))


def seen(budgets: Budgets, *nodes: str, digest: str = OLD, namespace: str = "team") -> Observed:
    metadata = {"name": "m", "namespace": namespace, "uid": "m", "generation": 1, "finalizers": [FINALIZER]}
    item = {"kind": "BaseModel", "metadata": metadata, "spec": {"storage": {"storageUri": "hf://org/model"}}}
    model = read_model(item)
    source = source_of(model, "ome")
    assert source is not None
    return Observed(
        uid="m",
        model=model,
        nodes={node: NodeView(node, {}, True, None) for node in nodes},
        held={},
        states={},
        resolutions={source.key: fetch_pb2.Resolution(attempt=1, artifact=artifact(digest))},
        asked={},
        plan=None,
        budget=budgets.account("m", namespace, "2026-01-01T00:00:00Z"),
    )


def holding(observed: Observed, budgets: Budgets, *nodes: str) -> Observed:
    """The model holds the artifact that was listed on these nodes."""
    made = {
        each.node: Held(1, each.assignment) for each in plan(observed, RULES, 0.0).actions if isinstance(each, Assign)
    }
    for node in nodes:
        budgets.charge("m", "team", node, Charge(made[node].assignment.artifact.digest, SIZE))
    return replace(observed, held={node: made[node] for node in nodes})


def assigned(observed: Observed) -> dict[str, str]:
    actions = plan(observed, RULES, 0.0).actions
    return {each.node: each.assignment.artifact.digest for each in actions if isinstance(each, Assign)}


def reported(observed: Observed) -> fetch_pb2.ModelPlan:
    return next(each.plan for each in plan(observed, RULES, 0.0).actions if hasattr(each, "plan"))


@pytest.mark.parametrize(
    ("entry", "limits"),
    [
        ("team=10", {"team": 10}),
        ("team=2Ti", {"team": 2 << 40}),
        ("*=1.5G", {"*": 1_500_000_000}),
        ("team=0", {"team": 0}),
        ("team", {}),
        ("team=lots", {}),
        ("team=-1", {}),
    ],
)
def test_an_entry_is_a_namespace_and_a_quantity(entry: str, limits: dict[str, int]) -> None:
    assert limits_of([entry]) == limits


def test_the_controller_does_not_start_with_a_budget_that_it_cannot_read() -> None:
    environment = {
        "OME_NAMESPACE": "ome",
        "OME_POD_NAME": "p",
        "OME_NATS_URL": "nats://nats",
        "OME_NATS_PASSWORD_FILE": "/p",
        "OME_PARSER_IMAGE": "parser",
    }
    good = load_settings(Settings, {**environment, "OME_NAMESPACE_BUDGETS": "team-a=2Ti, *=500Gi"})
    assert good.namespace_budgets == ("team-a=2Ti", "*=500Gi")
    with pytest.raises(SettingsError, match="'team-b=2TB', which cannot be understood"):
        load_settings(Settings, {**environment, "OME_NAMESPACE_BUDGETS": "team-a=2Ti,team-b=2TB"})


def test_bytes_count_on_each_node_and_one_artifact_once_per_node() -> None:
    budgets = Budgets({"team": 40})
    charge(budgets, "one", "a b")
    assert fits(budgets, "other", "a b")
    assert fits(budgets, "other", "a b c d")
    assert not fits(budgets, "other", "a b c d e")
    assert not fits(budgets, "other", "a b c", digest=NEW)
    charge(budgets, "other", "a b")
    budgets.charge("one", "", "a", None)
    assert fits(budgets, "third", "a b c d")


def test_each_namespace_has_its_own_budget_and_models_in_none_have_no_budget() -> None:
    budgets = Budgets({"team": 5, "*": 20})
    assert budgets.account("m", "", "") is None
    assert Budgets({"team": 5}).account("m", "other", "") is None
    for namespace, fitting in (("other", True), ("third", True), ("team", False)):
        assert (budgets.shortage(f"of-{namespace}", namespace, "", artifact(), ["a", "b"]) is None) is fitting
        budgets.charge(f"of-{namespace}", namespace, "a", Charge(OLD, SIZE))


def test_a_new_revision_needs_only_what_it_is_larger() -> None:
    budgets = Budgets({"team": 25})
    charge(budgets, "one", "a b")
    assert fits(budgets, "one", "a b", digest=NEW, size=12)
    assert not fits(budgets, "one", "a b", digest=NEW, size=13)
    charge(budgets, "other", "a b")
    assert not fits(budgets, "one", "a b", digest=NEW, size=12)


def test_the_older_of_two_models_that_wait_comes_first_unless_it_does_not_fit_anyway() -> None:
    budgets = Budgets({"team": 30})
    charge(budgets, "there", "a b c")
    budgets.wait("older", "team", "2026-01-01", 20)
    assert budgets.wait("younger", "team", "2026-01-02", 10) == {"older"}
    assert budgets.charge("there", "team", "a", None) == {"older", "younger"}
    assert fits(budgets, "younger", "d", digest=NEW, created="2026-01-02")
    assert budgets.charge("there", "team", "b", None)
    assert fits(budgets, "older", "d e", digest=NEW, created="2026-01-01")
    assert not fits(budgets, "younger", "d", digest=NEW, created="2026-01-02")
    assert budgets.wait("older", "team", "2026-01-01", 0) == {"younger"}
    assert fits(budgets, "younger", "d", digest=NEW, created="2026-01-02")


def test_a_model_over_the_budget_waits_and_says_who_can_do_what() -> None:
    budgets = Budgets({"team": 15})
    charge(budgets, "other", "a", digest=NEW)
    report = reported(seen(budgets, "a", "b"))
    assert assigned(seen(budgets, "a", "b")) == {}
    assert (report.problem.reason, report.awaited_bytes) == (model_pb2.REASON_BUDGET_EXCEEDED, 20)
    assert report.problem.message == (
        "the model needs 20 bytes on 2 nodes, but models of namespace team may take 15 bytes on all nodes together, "
        "and take 10 bytes: delete models of the namespace or have them select fewer nodes, or ask an administrator "
        "to raise namespaceBudgets of the controller's chart"
    )
    assert not report.history


def test_a_model_that_waits_is_assigned_when_there_is_room_again() -> None:
    budgets = Budgets({"team": 20})
    charge(budgets, "other", "a", digest=NEW)
    waiting = replace(seen(budgets, "a", "b"), plan=reported(seen(budgets, "a", "b")))
    budgets.wait("m", "team", "2026-01-01T00:00:00Z", 20)
    assert assigned(waiting) == {}
    assert budgets.charge("other", "", "a", None) == {"m"}
    assert assigned(waiting) == {"a": OLD, "b": OLD}
    assert not reported(waiting).HasField("problem")
    assert reported(waiting).awaited_bytes == 0


def test_a_lower_budget_takes_nothing_from_a_node_and_gives_nothing_to_a_new_one() -> None:
    there = holding(seen(Budgets({"team": 20}), "a", "b"), lower := Budgets({"team": 5}), "a", "b")
    there = replace(there, budget=lower.account("m", "team", ""))
    assert not reported(there).HasField("problem")
    assert [each for each in plan(there, RULES, 0.0).actions if isinstance(each, Assign)] == []
    joined = replace(there, nodes={**there.nodes, "c": NodeView("c", {}, True, None)})
    assert assigned(joined) == {}
    assert reported(joined).problem.reason == model_pb2.REASON_BUDGET_EXCEEDED
    assert reported(joined).awaited_bytes == SIZE


def test_nodes_keep_the_revision_that_they_have_while_the_next_is_over_the_budget() -> None:
    budgets = Budgets({"team": 25})
    there = holding(seen(budgets, "a", "b"), budgets, "a", "b")
    charge(budgets, "other", "a b", size=SIZE)
    after = seen(budgets, "a", "b", digest=NEW)
    moved = replace(there, resolutions=after.resolutions)
    assert assigned(moved) == {}
    assert reported(moved).artifact.digest == NEW


def test_what_a_node_serves_already_needs_no_room_though_nothing_tells_it_to() -> None:
    ready = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY, artifact=artifact())
    assert assigned(replace(seen(Budgets({"team": 0}), "a"), states={"a": ready})) == {"a": OLD}


def test_an_artifact_of_which_two_models_tell_different_sizes_frees_what_it_took() -> None:
    # A status that an earlier version wrote has no sizes.
    budgets = Budgets({"team": 10})
    charge(budgets, "listed", "a")
    charge(budgets, "recorded", "a", size=0)
    budgets.charge("listed", "team", "a", None)
    assert not fits(budgets, "other", "b", digest=NEW)
    budgets.charge("recorded", "team", "a", None)
    assert fits(budgets, "other", "b", digest=NEW)
    charge(budgets, "recorded", "a", size=0)
    charge(budgets, "listed", "a")
    assert not fits(budgets, "other", "b", digest=NEW)


def test_a_size_beyond_all_numbers_is_a_shortage_like_any_other() -> None:
    observed = seen(Budgets({"team": 10}), "a", "b")
    huge = {key: fetch_pb2.Resolution(attempt=1, artifact=artifact(size=2**63 - 1)) for key in observed.resolutions}
    report = reported(replace(observed, resolutions=huge))
    assert (report.problem.reason, report.awaited_bytes) == (model_pb2.REASON_BUDGET_EXCEEDED, 2**63 - 1)


def test_a_cordoned_node_that_keeps_an_earlier_revision_takes_no_room_from_the_others() -> None:
    budgets = Budgets({"team": 21})
    there = holding(seen(budgets, "a", "b"), budgets, "a", "b")
    larger = {key: fetch_pb2.Resolution(attempt=2, artifact=artifact(NEW, SIZE + 1)) for key in there.resolutions}
    there = replace(there, resolutions=larger)
    assert assigned(there) == {}
    cordoned = replace(there, nodes={**there.nodes, "b": NodeView("b", {}, False, None)})
    assert assigned(cordoned) == {"a": NEW}

"""Planning: what the controller does about one model, from everything that is known about it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.labels import AVAILABLE_STORAGE_LABEL
from libs.artifact.specification import FINALIZER, RESERVE_LABEL
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import listings, planning
from services.controller.budgets import Budgets
from services.controller.observations import decode_state
from services.controller.planning import Held, NodeView, Observed, Rules, plan
from services.controller.specification import SecretRef, read_model, source_of

NOW = 1_800_000_000.0
RULES = Rules("ome", node_unreachable_seconds=300, retry_initial_seconds=4, retry_max_seconds=60)
DIGEST = "sha256:" + "a" * 64


def item(storage: Mapping[str, object] | None = None, **changes: object) -> dict[str, object]:
    metadata: dict[str, object] = {"name": "m", "uid": "u", "generation": 1, "finalizers": [FINALIZER]}
    metadata.update(changes.pop("metadata", {}))  # type: ignore[call-overload]
    spec = {"storage": {"storageUri": "hf://org/model"} if storage is None else storage, **changes}
    return {"kind": "ClusterBaseModel", "metadata": metadata, "spec": spec}


def observe(model: dict[str, object] | None, *nodes: NodeView, **changes: object) -> Observed:
    known = Observed(
        uid="u",
        model=read_model(model) if model else None,
        nodes={view.name: view for view in nodes or (NodeView("n1", {}, True, None), NodeView("n2", {}, True, None))},
        held={},
        states={},
        resolutions={},
        asked={},
        plan=None,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def listing(observed: Observed, **fields: object) -> dict[str, fetch_pb2.Resolution]:
    assert observed.model is not None
    source = source_of(observed.model, "ome")
    assert source is not None
    return {source.key: fetch_pb2.Resolution(attempt=1, **fields)}  # type: ignore[arg-type]


def resolved(observed: Observed) -> Observed:
    return replace(
        observed, resolutions=listing(observed, artifact=model_pb2.Artifact(digest=DIGEST, bytes=5, files=1))
    )


def apply(observed: Observed, actions: tuple[planning.Action, ...]) -> Observed:
    """What is known after the actions: the fetchers have done nothing yet."""
    held, states, model = dict(observed.held), dict(observed.states), observed.model
    resolutions, asked, report = dict(observed.resolutions), dict(observed.asked), observed.plan
    for action in actions:
        match action:
            case planning.AddFinalizer() if model:
                model = replace(model, finalizers=(*model.finalizers, FINALIZER))
            case planning.RemoveFinalizer():
                model = None
            case listings.AskForListing(_, task):
                asked[task.source_key] = listings.Asked(task.attempt, NOW)
            case planning.Assign(node, assignment, last_revision):
                assert last_revision == (held[node].revision if node in held else 0)
                held[node] = Held(last_revision + 1, assignment)
            case planning.Forget(node):
                held.pop(node, None)
                states.pop(node, None)
            case planning.ForgetListing(key):
                del resolutions[key]
            case planning.Report(decided):
                report = decided
            case planning.Unreport():
                report = None
    return replace(observed, model=model, held=held, states=states, resolutions=resolutions, asked=asked, plan=report)


def answer(observed: Observed) -> Observed:
    """What is known after every fetcher has done what it was told."""
    states = {
        node: fetch_pb2.NodeModelState(
            phase=(
                model_pb2.NODE_PHASE_READY
                if held.assignment.goal == fetch_pb2.GOAL_HOLD
                else model_pb2.NODE_PHASE_DELETED
            ),
            assignment_revision=held.revision,
        )
        for node, held in observed.held.items()
    }
    return replace(observed, states=states)


def settle(observed: Observed) -> Observed:
    for _ in range(6):
        observed = answer(apply(observed, plan(observed, RULES, NOW).actions))
    assert plan(observed, RULES, NOW).actions == ()
    return observed


def kinds(decided: planning.Plan) -> list[str]:
    return [type(action).__name__ for action in decided.actions]


def test_new_model_is_listed_once_before_any_node_is_told() -> None:
    decided = plan(observe(item(metadata={"finalizers": None})), RULES, NOW)
    assert kinds(decided) == ["AddFinalizer", "AskForListing", "Report"]


def test_listing_that_is_under_way_is_not_asked_for_again() -> None:
    observed = observe(item())
    asked = apply(observed, plan(observed, RULES, NOW).actions)
    assert kinds(plan(asked, RULES, NOW + 1)) == []
    assert "AskForListing" in kinds(plan(asked, RULES, NOW + 600))


def test_listed_model_is_assigned_to_every_matching_node() -> None:
    settled = settle(resolved(observe(item())))
    assert {node: held.assignment.artifact.digest for node, held in settled.held.items()} == {
        "n1": DIGEST,
        "n2": DIGEST,
    }
    assert settled.plan is not None
    assert list(settled.plan.desired_nodes) == ["n1", "n2"]


def test_local_model_needs_no_listing() -> None:
    decided = plan(observe(item({"storageUri": "local:///models/m"})), RULES, NOW)
    assert kinds(decided) == ["Assign", "Assign", "Report"]


VENDOR = "vendor://acme/models/m"


def read_in_place(observed: Observed) -> Observed:
    """What is known after a fetcher without a driver for the vendor was asked."""
    return replace(observed, resolutions=listing(observed, artifact=model_pb2.Artifact()))


def test_vendor_model_without_a_driver_is_looked_for_where_the_vendor_puts_it() -> None:
    observed = observe(item({"storageUri": VENDOR, "path": "/opt/models/m"}))
    assert "AskForListing" in kinds(plan(observed, RULES, NOW))
    settled = settle(read_in_place(observed))
    assert {node: held.assignment.path for node, held in settled.held.items()} == {
        "n1": "/opt/models/m",
        "n2": "/opt/models/m",
    }
    assert not any(held.assignment.artifact.digest for held in settled.held.values())
    assert settled.plan is not None
    assert not settled.plan.HasField("artifact"), "there is nothing to resolve"
    assert not settled.plan.HasField("problem")


def test_vendor_model_with_a_driver_is_assigned_as_an_artifact_and_needs_no_path() -> None:
    settled = settle(resolved(observe(item({"storageUri": VENDOR}))))
    assert {held.assignment.artifact.digest for held in settled.held.values()} == {DIGEST}


def test_vendor_model_without_driver_and_path_is_refused_and_listed_again_later() -> None:
    observed = read_in_place(observe(item({"storageUri": VENDOR})))
    decided = plan(observed, RULES, NOW)
    [report] = (action for action in decided.actions if isinstance(action, planning.Report))
    assert report.plan.problem.reason == model_pb2.REASON_INVALID_PATH
    assert "storage.path must name the directory that the vendor's own tools fill" in report.plan.problem.message
    assert "Assign" not in kinds(decided)
    later = apply(observed, decided.actions)
    assert "AskForListing" in kinds(plan(later, RULES, NOW + RULES.retry_max_seconds + 600))
    assert set(settle(resolved(later)).held) == {"n1", "n2"}, "a driver was added"


def test_vendor_model_that_is_not_there_is_listed_again_as_a_driver_may_have_been_added() -> None:
    settled = settle(read_in_place(observe(item({"storageUri": VENDOR, "path": "/opt/models/m"}))))
    missing = fetch_pb2.NodeModelState(
        phase=model_pb2.NODE_PHASE_FAILED, content_digest=settled.held["n1"].assignment.content_digest
    )
    missing.problem.reason = model_pb2.REASON_NOT_FOUND
    decided = plan(replace(settled, states={**settled.states, "n1": missing}), RULES, NOW)
    assert kinds(decided) == ["AskForListing"]


def test_model_that_a_node_has_found_incomplete_is_listed_again_as_it_may_have_been_mended() -> None:
    settled = settle(resolved(observe(item({"storageUri": "hf://a/b"}))))
    broken = fetch_pb2.NodeModelState(
        phase=model_pb2.NODE_PHASE_FAILED, content_digest=settled.held["n1"].assignment.content_digest
    )
    broken.problem.reason = model_pb2.REASON_INCOMPLETE
    [ask] = plan(replace(settled, states={**settled.states, "n1": broken}), RULES, NOW).actions
    assert isinstance(ask, listings.AskForListing)
    assert ask.reason == "the source may have been mended"
    broken.content_digest = "of an earlier edit"
    assert plan(replace(settled, states={**settled.states, "n1": broken}), RULES, NOW).actions == ()


def test_what_is_odd_about_a_listing_reaches_the_plan() -> None:
    observed = observe(item({"storageUri": "hf://a/b"}))
    warning = model_pb2.Remark(finding=model_pb2.FINDING_VARIANT_CHOSEN, message="of two, one is fetched")
    completeness = model_pb2.Completeness(wholeness=model_pb2.WHOLENESS_INCOMPLETE)
    found = listing(
        observed,
        artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64),
        warnings=[warning],
        completeness=completeness,
    )
    known = replace(observed, resolutions=found)
    after = apply(known, plan(known, RULES, NOW).actions)
    assert after.plan is not None
    assert (list(after.plan.warnings), after.plan.completeness) == ([warning], completeness)


def test_secret_of_a_vendor_is_handed_out_with_all_its_keys() -> None:
    source = source_of(read_model(item({"storageUri": VENDOR, "storageKey": "acme-credentials"})), "ome")
    assert source is not None
    assert source.source.has_secret
    assert source.secret == SecretRef("ome", "acme-credentials", "")


@pytest.mark.parametrize(
    ("parameters", "asked_for"),
    [
        ({}, True),
        ({"auth_type": "UserPrincipal"}, True),
        ({"auth_type": "InstancePrincipal"}, False),
        ({"auth_type": "OkeWorkloadIdentity"}, False),
        ({"auth": "InstancePrincipal"}, False),
        ({"auth": "user_principal"}, True),
    ],
)
def test_secret_at_oracle_is_asked_for_only_where_it_is_a_users(parameters: dict[str, str], asked_for: bool) -> None:
    storage = {"storageUri": "oci://n/ns/b/bucket/o/m", "storageKey": "oci-credentials", "parameters": parameters}
    source = source_of(read_model(item(storage)), "ome")
    assert source is not None
    assert source.source.has_secret is asked_for
    assert (source.secret is not None) is asked_for


def test_a_source_is_listed_where_fetchers_are() -> None:
    silent = NodeView("n1", {}, True, NOW - 60)
    served = NodeView("n2", {}, True, None, pool="gpu")
    [asked] = [
        action
        for action in plan(observe(item(), silent, served), RULES, NOW).actions
        if isinstance(action, listings.AskForListing)
    ]
    assert asked.pool == "gpu"


def test_relabelled_node_loses_the_model_and_the_other_gains_it() -> None:
    one, two = NodeView("n1", {"gpu": "yes"}, True, None), NodeView("n2", {}, True, None)
    storage = {"storageUri": "local:///models/m", "nodeSelector": {"gpu": "yes"}}
    settled = settle(observe(item(storage), one, two))
    assert set(settled.held) == {"n1"}
    swapped = settle(replace(settled, nodes={"n1": replace(one, labels={}), "n2": replace(two, labels={"gpu": "yes"})}))
    assert set(swapped.held) == {"n2"}
    assert set(swapped.states) == {"n2"}


def test_edit_that_leaves_the_artifact_the_same_writes_no_assignment() -> None:
    settled = settle(resolved(observe(item())))
    edited = replace(settled, model=read_model(item(metadata={"generation": 2}, displayName="Other")))
    assert kinds(plan(edited, RULES, NOW)) == ["Report"]


def test_changed_source_keeps_the_old_copy_until_the_new_one_is_listed() -> None:
    settled = settle(resolved(observe(item())))
    edited = replace(settled, model=read_model(item({"storageUri": "hf://org/model@v2"})))
    decided = plan(edited, RULES, NOW)
    assert "AskForListing" in kinds(decided)
    assert "Assign" not in kinds(decided)


def ask_of(observed: Observed, now: float = NOW) -> listings.AskForListing:
    [ask] = [action for action in plan(observed, RULES, now).actions if isinstance(action, listings.AskForListing)]
    return ask


def test_going_back_to_an_earlier_source_is_another_asking() -> None:
    """The stream drops a second message with one id for two minutes: the id must not be that of the first asking."""
    observed = observe(item({"storageUri": "hf://org/model@stable"}))
    ids = [ask_of(observed).message_id]
    for generation, revision in ((2, "next"), (3, "stable")):
        edited = item({"storageUri": f"hf://org/model@{revision}"}, metadata={"generation": generation})
        ids.append(ask_of(replace(observed, model=read_model(edited))).message_id)
    assert len(set(ids)) == 3


def test_a_controller_that_starts_anew_repeats_its_asking_under_the_same_id() -> None:
    observed = observe(item())
    assert ask_of(observed).message_id == ask_of(replace(observed, asked={}), NOW + 1).message_id


def test_each_attempt_is_another_asking() -> None:
    observed = observe(item())
    failed = listing(observed, problem=fetch_pb2.Problem(reason=model_pb2.REASON_UNAVAILABLE))
    again = replace(observed, resolutions=failed, heard=dict.fromkeys(failed, NOW))
    assert ask_of(observed).message_id != ask_of(again, NOW + 60).message_id


@pytest.mark.parametrize("change", [{"unschedulable": True}, {"ready": False}])
def test_node_that_takes_nothing_new_keeps_what_it_has(change: dict[str, bool]) -> None:
    settled = settle(resolved(observe(item())))
    shut = NodeView("n2", {}, False, None)
    late = NodeView("n3", {}, False, None)
    known = replace(settled, nodes={**settled.nodes, "n2": shut, "n3": late})
    assert plan(known, RULES, NOW).actions == ()


def test_disabled_model_removes_nothing_and_starts_nothing() -> None:
    settled = settle(resolved(observe(item())))
    disabled = replace(settled, model=read_model(item(disabled=True)))
    more = replace(disabled, nodes={**settled.nodes, "n3": NodeView("n3", {}, True, None)})
    assert kinds(plan(more, RULES, NOW)) == ["Report"]


def test_spec_that_cannot_be_used_is_reported_and_takes_nothing_away() -> None:
    settled = settle(resolved(observe(item())))
    for storage in ({"storageUri": "ftp://x"}, {"storageUri": "hf://a/b", "nodeAffinity": BAD_AFFINITY}):
        decided = plan(replace(settled, model=read_model(item(storage))), RULES, NOW)
        assert "Report" in kinds(decided)
        assert "Assign" not in kinds(decided)
        assert "Forget" not in kinds(decided)


TEAM: dict[str, object] = {"metadata": {"namespace": "team"}}


@pytest.mark.parametrize(
    ("storage", "kind", "words"),
    [
        ({"storageUri": "hf://a/b", "path": "/models/.ome/artifacts/x"}, "ClusterBaseModel", "leads into .ome"),
        ({"storageUri": "hf://a/b", "path": "/models/llama"}, "BaseModel", "namespacedPaths: any of the controller's"),
        ({"storageUri": "local:///models/basemodel/other/m"}, "BaseModel", "below basemodel/team/ of a model root"),
    ],
)
def test_a_path_that_a_model_may_not_name_is_refused_with_the_setting(
    storage: dict[str, object], kind: str, words: str
) -> None:
    confined = replace(RULES, confines=True)
    namespace: dict[str, object] = TEAM if kind == "BaseModel" else {}
    decided = plan(observe({**item(storage, **namespace), "kind": kind}), confined, NOW)
    (report,) = (action.plan for action in decided.actions if isinstance(action, planning.Report))
    assert report.problem.reason == model_pb2.REASON_INVALID_PATH
    assert words in report.problem.message


@pytest.mark.parametrize("path", [None, "/raid/models/basemodel/team/m"])
def test_a_confined_model_may_name_its_own_folder_and_nodes_are_told(path: str | None) -> None:
    storage: dict[str, object] = {"storageUri": "hf://a/b", **({"path": path} if path else {})}
    observed = resolved(observe({**item(storage, **TEAM), "kind": "BaseModel"}))
    for rules in (RULES, replace(RULES, confines=True)):
        assigned = [each for each in plan(observed, rules, NOW).actions if isinstance(each, planning.Assign)]
        assert [each.assignment.confined for each in assigned] == [rules.confines] * 2


BAD_AFFINITY = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}]
    }
}


def test_model_without_storage_says_that_there_is_nothing_to_fetch() -> None:
    observed = observe({**item(), "spec": {"modelType": "custom"}})
    [report] = plan(observed, RULES, NOW).actions
    assert isinstance(report, planning.Report)
    assert report.plan.problem.reason == model_pb2.REASON_NO_STORAGE


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["n1"], "node n1 matches but is cordoned or not ready"),
        (["n1", "n2", "n3"], "all 3 matching nodes are cordoned or not ready"),
    ],
)
def test_a_model_whose_nodes_take_nothing_new_says_which_they_are(names: list[str], said: str) -> None:
    shut = [NodeView(name, {}, False, None) for name in names]
    [report] = plan(observe(item(), *shut), RULES, NOW).actions
    assert isinstance(report, planning.Report)
    assert (report.plan.problem.reason, report.plan.problem.message) == (model_pb2.REASON_NO_MATCHING_NODE, said)


def test_model_that_no_node_matches_is_not_listed() -> None:
    decided = plan(observe(item({"storageUri": "hf://a/b", "nodeSelector": {"gpu": "yes"}})), RULES, NOW)
    assert kinds(decided) == ["Report"]


@pytest.mark.parametrize(
    ("kind", "place", "said"),
    [
        ("ClusterBaseModel", {}, ": node n1 lacks gpu=yes (node n1 has gpu=no)"),
        # What the labels of nodes are is told to nobody who may only write models of a namespace.
        ("BaseModel", TEAM, ": node n1 lacks gpu=yes"),
    ],
)
def test_model_that_no_node_matches_says_what_the_nearest_node_lacks(
    kind: str, place: dict[str, object], said: str
) -> None:
    near = NodeView("n1", {"gpu": "no"}, True, None)
    written = {**item({"storageUri": "hf://a/b", "nodeSelector": {"gpu": "yes"}}, **place), "kind": kind}
    [report] = plan(observe(written, near), RULES, NOW).actions
    assert isinstance(report, planning.Report)
    assert report.plan.problem.message == f"no node matches storage.nodeSelector and storage.nodeAffinity{said}"


def test_failed_listing_is_tried_again_with_growing_delay() -> None:
    observed = observe(item())
    delays = []
    for attempt in range(1, 8):
        failed = listing(observed, problem=fetch_pb2.Problem(reason=model_pb2.REASON_NOT_FOUND))
        for resolution in failed.values():
            resolution.attempt = attempt
            resolution.resolved_at.FromMilliseconds(int(NOW * 1000))
        known = replace(observed, resolutions=failed, heard=dict.fromkeys(failed, NOW))
        delay = plan(known, RULES, NOW).look_again_seconds
        assert delay is not None
        delays.append(delay)
        due = plan(known, RULES, NOW + delay + 0.01)
        [ask] = [action for action in due.actions if isinstance(action, listings.AskForListing)]
        assert ask.task.attempt == attempt + 1
    assert delays[0] <= RULES.retry_initial_seconds
    assert delays[0] < delays[2] < delays[4] <= delays[6] * 2
    assert max(delays) <= RULES.retry_max_seconds


def test_listing_is_not_tried_before_the_source_allows_it() -> None:
    observed = observe(item())
    failed = listing(observed, problem=fetch_pb2.Problem(reason=model_pb2.REASON_RATE_LIMITED))
    for resolution in failed.values():
        resolution.resolved_at.FromMilliseconds(int(NOW * 1000))
        resolution.problem.retry_at.FromMilliseconds(int((NOW + 1000) * 1000))
    known = replace(observed, resolutions=failed, heard=dict.fromkeys(failed, NOW))
    assert plan(known, RULES, NOW).look_again_seconds == pytest.approx(1000)


@pytest.mark.parametrize("years", [-50, -1, 1, 50])
def test_a_clock_of_a_node_that_is_set_to_another_year_holds_no_listing_up_and_causes_no_storm(years: int) -> None:
    observed = observe(item())
    failed = listing(observed, problem=fetch_pb2.Problem(reason=model_pb2.REASON_RATE_LIMITED))
    for resolution in failed.values():
        there = NOW + years * 31_536_000
        resolution.resolved_at.FromMilliseconds(int(there * 1000))
        resolution.problem.retry_at.FromMilliseconds(int((there + 30) * 1000))
    known = replace(observed, resolutions=failed, heard=dict.fromkeys(failed, NOW))
    assert plan(known, RULES, NOW).look_again_seconds == pytest.approx(30)
    assert "AskForListing" in kinds(plan(known, RULES, NOW + 30.01))


def test_a_pause_that_only_a_wrong_clock_can_mean_is_a_day_at_most() -> None:
    observed = observe(item())
    failed = listing(observed, problem=fetch_pb2.Problem(reason=model_pb2.REASON_RATE_LIMITED))
    for resolution in failed.values():
        resolution.resolved_at.FromMilliseconds(1000)
        resolution.problem.retry_at.FromMilliseconds(int(NOW * 1000))
    known = replace(observed, resolutions=failed, heard=dict.fromkeys(failed, NOW))
    assert plan(known, RULES, NOW).look_again_seconds == pytest.approx(86_400)


def test_source_that_no_longer_has_what_was_listed_is_listed_again_and_nothing_is_taken_away() -> None:
    settled = settle(resolved(observe(item())))
    for state in settled.states.values():
        state.phase = model_pb2.NODE_PHASE_FAILED
        state.content_digest = settled.held["n1"].assignment.content_digest
        state.problem.reason = model_pb2.REASON_SOURCE_CHANGED
    [ask] = plan(settled, RULES, NOW).actions
    assert isinstance(ask, listings.AskForListing)
    assert ask.task.attempt == 2
    asked = apply(settled, (ask,))
    assert plan(asked, RULES, NOW + 1).actions == ()


ARTIFACT = model_pb2.Artifact(digest=DIGEST, bytes=5, files=1)
# As a fetcher says it that has found a model on its disk and no assignment of it, and as planning gets to see it.
FOUND = decode_state(fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY, artifact=ARTIFACT).SerializeToString())


def lost(model: dict[str, object] | None, *nodes: NodeView, **states: fetch_pb2.NodeModelState) -> Observed:
    """What is known once NATS has lost its data and the nodes have said what they hold."""
    return observe(model, *nodes, states=states)


def remembered(generation: int = 1, **changes: object) -> dict[str, object]:
    """A model whose status tells of an artifact."""
    status = {"observedGeneration": generation, "artifact": {"digest": DIGEST, "bytes": 5, "files": 1}}
    return {**item(**changes), "status": status}  # type: ignore[arg-type]


def goals(observed: Observed) -> dict[str, int]:
    return {node: held.assignment.goal for node, held in observed.held.items()}


KEEP, ABSENT = fetch_pb2.GOAL_KEEP, fetch_pb2.GOAL_ABSENT


def test_whoever_holds_a_model_of_which_everything_was_lost_is_told_to_keep_it_before_it_is_listed() -> None:
    after = apply(known := lost(item(), n1=FOUND), plan(known, RULES, NOW).actions)
    assert goals(after) == {"n1": KEEP}
    assert after.plan is not None
    assert after.plan.problem.reason == model_pb2.REASON_RESOLVING
    assert not after.plan.artifact.digest, "what a node says alone is no decision"


def test_a_model_whose_status_tells_its_artifact_is_reported_with_it_as_long_as_all_nodes_hold_that() -> None:
    known = lost(remembered(), n1=FOUND, n2=FOUND)
    after = apply(known, plan(known, RULES, NOW).actions)
    assert goals(after) == {"n1": KEEP, "n2": KEEP}
    assert {held.assignment.artifact.digest for held in after.held.values()} == {DIGEST}
    assert after.plan is not None
    assert (after.plan.artifact, after.plan.HasField("problem")) == (ARTIFACT, False)
    failed = replace(after, resolutions=listing(after, problem=fetch_pb2.Problem(reason=model_pb2.REASON_NOT_FOUND)))
    assert plan(failed, RULES, NOW).actions[1:] == (), "it is listed once more, and nothing else"


def test_nodes_that_say_nothing_yet_are_told_to_keep_what_the_status_tells_of() -> None:
    known = lost(remembered())
    after = apply(known, plan(known, RULES, NOW).actions)
    assert goals(after) == {"n1": KEEP, "n2": KEEP}
    assert after.plan is not None
    assert after.plan.artifact == ARTIFACT
    assert after.plan.problem.reason == model_pb2.REASON_RESOLVING


def test_an_artifact_of_an_earlier_generation_is_kept_and_not_reported_as_this_one() -> None:
    known = lost(remembered(generation=0), n1=FOUND)
    after = apply(known, plan(known, RULES, NOW).actions)
    assert goals(after) == {"n1": KEEP, "n2": KEEP}
    assert after.plan is not None
    assert not after.plan.artifact.digest


def test_what_was_kept_is_held_as_soon_as_the_source_is_listed() -> None:
    known = lost(remembered(), n1=FOUND, n2=FOUND)
    after = resolved(apply(known, plan(known, RULES, NOW).actions))
    assert goals(settle(after)) == {"n1": fetch_pb2.GOAL_HOLD, "n2": fetch_pb2.GOAL_HOLD}


def test_a_disabled_model_is_reported_with_what_its_status_tells_and_not_with_what_a_node_says() -> None:
    known = lost(remembered(disabled=True), n1=FOUND)
    after = apply(known, plan(known, RULES, NOW).actions)
    assert after.plan is not None
    assert after.plan.artifact == ARTIFACT
    claimed = lost(item(disabled=True), n1=FOUND)
    alone = apply(claimed, plan(claimed, RULES, NOW).actions)
    assert alone.plan is not None
    assert not alone.plan.artifact.digest


@pytest.mark.parametrize(
    "model",
    [item(disabled=True), item({"storageUri": "ftp://x"}), item({"storageUri": "pvc://claim/m"})],
    ids=["disabled", "invalid", "moved into a claim"],
)
def test_what_is_lost_of_a_model_that_nothing_is_fetched_for_is_kept(model: dict[str, object]) -> None:
    known = lost(model, n1=FOUND)
    assert goals(apply(known, plan(known, RULES, NOW).actions)) == {"n1": KEEP}


def test_a_cordoned_node_keeps_what_it_has_after_a_loss_and_is_given_nothing_for_saying_so() -> None:
    known = resolved(lost(item(), NodeView("n1", {}, False, None), NodeView("n2", {}, True, None), n1=FOUND))
    assert goals(apply(known, plan(known, RULES, NOW).actions)) == {"n1": KEEP, "n2": fetch_pb2.GOAL_HOLD}


def test_what_no_object_names_is_told_to_go_as_unclaimed_and_is_forgotten_once_it_has_gone() -> None:
    known = lost(None, n1=FOUND)
    told = apply(known, plan(known, RULES, NOW).actions)
    [held] = told.held.values()
    assert (held.assignment.goal, held.assignment.unclaimed) == (ABSENT, True)
    assert plan(told, RULES, NOW).actions == ()
    assert settle(told).held == {}


def test_an_object_that_has_gone_without_a_deletion_leaves_its_copies_the_grace_of_orphans() -> None:
    def absences(known: Observed) -> set[tuple[int, bool]]:
        return {(held.assignment.goal, held.assignment.unclaimed) for held in known.held.values()}

    settled = settle(resolved(observe(item())))
    assert absences(settled) == {(fetch_pb2.GOAL_HOLD, False)}
    lost_with_etcd = replace(settled, model=None)
    told = apply(lost_with_etcd, plan(lost_with_etcd, RULES, NOW).actions)
    assert absences(told) == {(ABSENT, True)}
    assert plan(told, RULES, NOW).actions == ()
    seen = deleted(settled)
    told = replace(apply(seen, plan(seen, RULES, NOW).actions), model=None)
    assert absences(told) == {(ABSENT, False)}
    assert "Assign" not in kinds(plan(told, RULES, NOW))


def test_what_a_node_holds_of_a_model_that_is_being_deleted_goes_at_once() -> None:
    known = deleted(lost(item(), n1=FOUND))
    [held] = apply(known, plan(known, RULES, NOW).actions).held.values()
    assert (held.assignment.goal, held.assignment.unclaimed, held.assignment.artifact) == (
        ABSENT,
        False,
        FOUND.artifact,
    )


def deleted(observed: Observed) -> Observed:
    return replace(observed, model=read_model(item(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})))


def test_deletion_waits_for_every_node_and_then_lets_the_object_go() -> None:
    settled = deleted(settle(resolved(observe(item()))))
    told = apply(settled, plan(settled, RULES, NOW).actions)
    assert {held.assignment.goal for held in told.held.values()} == {fetch_pb2.GOAL_ABSENT}
    assert "RemoveFinalizer" not in kinds(plan(told, RULES, NOW))
    assert kinds(plan(answer(told), RULES, NOW))[-1] == "RemoveFinalizer"


def test_confirmation_of_an_older_assignment_does_not_count() -> None:
    settled = deleted(settle(resolved(observe(item()))))
    told = apply(settled, plan(settled, RULES, NOW).actions)
    stale = answer(told)
    for state in stale.states.values():
        state.assignment_revision -= 1
    assert plan(stale, RULES, NOW).actions == ()


def test_deletion_does_not_wait_for_a_node_that_no_longer_exists() -> None:
    settled = deleted(settle(resolved(observe(item()))))
    gone = replace(settled, nodes={})
    assert kinds(plan(gone, RULES, NOW)) == ["Forget", "Forget", "ForgetListing", "Unreport", "RemoveFinalizer"]


def test_deletion_waits_for_an_unreachable_node_only_for_the_configured_time() -> None:
    settled = deleted(settle(resolved(observe(item(), NodeView("n1", {}, True, None)))))
    told = apply(settled, plan(settled, RULES, NOW).actions)
    away = replace(told, nodes={"n1": NodeView("n1", {}, False, unreachable_since=NOW - 100)})
    assert plan(away, RULES, NOW) == planning.Plan((), 200)
    assert kinds(plan(away, RULES, NOW + 200))[-1] == "RemoveFinalizer"


def test_model_whose_object_vanished_is_removed_from_its_nodes_all_the_same() -> None:
    settled = replace(settle(resolved(observe(item()))), model=None)
    assert settle(settled).held == {}


def test_model_with_a_scheme_that_nobody_knows_can_be_deleted() -> None:
    model = item({"storageUri": "ftp://x"}, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert kinds(plan(observe(model), RULES, NOW)) == ["RemoveFinalizer"]


nodes = st.builds(
    NodeView,
    name=st.sampled_from(["n1", "n2", "n3"]),
    labels=st.sampled_from([{}, {"gpu": "yes"}]),
    accepts_new=st.booleans(),
    unreachable_since=st.none(),
)
models = st.builds(
    item,
    st.sampled_from(
        [
            {"storageUri": "hf://org/model"},
            {"storageUri": "hf://org/model", "nodeSelector": {"gpu": "yes"}},
            {"storageUri": "local:///models/m", "path": "/models/x"},
            {"storageUri": "nonsense"},
        ]
    ),
    disabled=st.booleans(),
)


@given(st.lists(nodes, min_size=1), models, st.lists(nodes, min_size=1), models, st.integers(0, 12))
def test_any_change_settles_and_any_prefix_of_the_actions_leads_to_the_same_place(
    before: list[NodeView], first: dict[str, object], after: list[NodeView], second: dict[str, object], cut: int
) -> None:
    def known(observed: Observed, views: list[NodeView], model: dict[str, object]) -> Observed:
        changed = replace(observed, nodes={view.name: view for view in views}, model=read_model(model))
        try:
            return resolved(changed)
        except ValueError:
            return changed

    settled = settle(known(observe(item()), before, first))
    changed = known(settled, after, second)
    interrupted = apply(changed, plan(changed, RULES, NOW).actions[:cut])
    straight, detour = settle(changed), settle(interrupted)
    assert {node: held.assignment for node, held in straight.held.items()} == {
        node: held.assignment for node, held in detour.held.items()
    }
    assert straight.plan == detour.plan


@pytest.mark.parametrize(
    ("labels", "reserved"), [({}, False), ({RESERVE_LABEL: "True"}, True), ({RESERVE_LABEL: "x"}, False)]
)
def test_files_of_a_deleted_model_stay_where_its_label_says_so(labels: dict[str, str], reserved: bool) -> None:
    settled = settle(resolved(observe(item(metadata={"labels": labels}))))
    deleted = item(metadata={"labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z"})
    decided = plan(replace(settled, model=read_model(deleted)), RULES, NOW)
    told = [action.assignment for action in decided.actions if isinstance(action, planning.Assign)]
    assert [each.goal for each in told] == [fetch_pb2.GOAL_ABSENT] * 2
    assert [each.reserve for each in told] == [reserved] * 2


def test_a_label_that_is_set_or_removed_while_nodes_let_go_still_counts_and_the_last_word_stays() -> None:
    """As of somebody who sees that a deletion takes files with it, while Pods still use them."""
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    settled = settle(resolved(observe(item())))
    leaving = replace(settled, model=read_model(item(metadata=gone)))
    leaving = apply(leaving, plan(leaving, RULES, NOW).actions)
    for labels, reserved in (({RESERVE_LABEL: "true"}, True), ({}, False), ({RESERVE_LABEL: "true"}, True)):
        leaving = replace(leaving, model=read_model(item(metadata={**gone, "labels": labels})))
        decided = plan(leaving, RULES, NOW).actions
        told = [action.assignment for action in decided if isinstance(action, planning.Assign)]
        assert [each.reserve for each in told] == [reserved] * 2
        leaving = apply(leaving, decided)
        assert not [each for each in plan(leaving, RULES, NOW).actions if isinstance(each, planning.Assign)]
    forced = replace(leaving, model=None)
    told = [each.assignment for each in plan(forced, RULES, NOW).actions if isinstance(each, planning.Assign)]
    assert all(each.reserve for each in told)
    assert all(held.assignment.reserve for held in leaving.held.values())


def test_files_of_a_deleted_model_do_not_stay_past_the_budget_of_its_namespace() -> None:
    metadata = {"labels": {RESERVE_LABEL: "true"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    settled = settle(resolved(observe(item(metadata={"labels": metadata["labels"]}))))
    account = Budgets({"*": 1 << 60}).account("uid", "team", "")
    deleted = replace(settled, model=read_model(item(metadata=metadata)), budget=account)
    decided = plan(deleted, RULES, NOW)
    told = [action.assignment for action in decided.actions if isinstance(action, planning.Assign)]
    assert [(each.goal, each.reserve) for each in told] == [(fetch_pb2.GOAL_ABSENT, False)] * 2


def test_files_go_from_a_node_that_is_no_longer_selected_whatever_the_label_says() -> None:
    labels = {"labels": {RESERVE_LABEL: "true"}}
    settled = settle(resolved(observe(item(metadata=labels))))
    moved = item({"storageUri": "hf://org/model", "nodeSelector": {"gpu": "yes"}}, metadata=labels)
    decided = plan(replace(settled, model=read_model(moved)), RULES, NOW)
    told = [action.assignment for action in decided.actions if isinstance(action, planning.Assign)]
    assert [(each.goal, each.reserve) for each in told] == [(fetch_pb2.GOAL_ABSENT, False)] * 2


def test_a_model_that_takes_the_room_it_was_placed_by_stays_and_goes_nowhere_else_for_it() -> None:
    term = {"key": AVAILABLE_STORAGE_LABEL, "operator": "Gt", "values": ["500Gi"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    model = item({"storageUri": "hf://org/model", "nodeAffinity": affinity})

    def views(first: str, second: str) -> tuple[NodeView, ...]:
        labels = ({AVAILABLE_STORAGE_LABEL: first}, {AVAILABLE_STORAGE_LABEL: second})
        return tuple(NodeView(f"n{number}", each, True, None) for number, each in enumerate(labels, 1))

    settled = settle(resolved(observe(model, *views("592Gi", "80Gi"))))
    assert settled.held.keys() == {"n1"}
    filled = {view.name: view for view in views("192Gi", "80Gi")}
    for placed, staying in ((None, frozenset[str]()), (frozenset[str](), frozenset({"n1", "n2"}))):
        after = replace(settled, nodes=filled, placed=placed, staying=staying)
        assert plan(after, RULES, NOW).actions == ()


def test_a_model_that_somebody_waits_for_comes_before_others_of_its_word_and_not_before_the_next() -> None:
    storage: dict[str, object] = {"storageUri": "hf://org/model"}
    priorities = []
    for word, demanded in (("Standard", False), ("Standard", True), ("High", False), ("High", True)):
        seen = resolved(observe(item({**storage, "downloadPriority": word}), demanded=demanded))
        actions = plan(seen, RULES, NOW).actions
        priorities.append(next(each.assignment.priority for each in actions if isinstance(each, planning.Assign)))
    assert priorities == [0, 50, 100, 150]


def test_the_largest_priority_stays_a_number_of_32_bits_when_somebody_waits() -> None:
    manifest = item(metadata={"annotations": {"models.ome.io/priority": str(2**31)}})
    actions = plan(resolved(observe(manifest, demanded=True)), RULES, NOW).actions
    assert {each.assignment.priority for each in actions if isinstance(each, planning.Assign)} == {2**31 - 1}


@pytest.mark.parametrize(
    ("residency", "annotations", "told", "demand"),
    [
        (None, {}, fetch_pb2.RESIDENCY_UNSPECIFIED, ""),
        ("Always", {"ome.io/artifact-residency": "Resident"}, fetch_pb2.RESIDENCY_UNSPECIFIED, ""),
        ("Evictable", {"ome.io/artifact-rehydration-id": "r-2"}, fetch_pb2.RESIDENCY_EVICTABLE, "r-2"),
        ("Always", {"ome.io/artifact-residency": "Evicted"}, fetch_pb2.RESIDENCY_EVICTED, ""),
    ],
)
def test_nodes_are_told_whether_they_may_give_a_model_up_and_when_somebody_asked_for_it(
    residency: str | None, annotations: dict[str, str], told: int, demand: str
) -> None:
    storage = {"storageUri": "hf://org/model"} | ({"residency": residency} if residency else {})
    settled = settle(resolved(observe(item(storage, metadata={"annotations": annotations}))))
    for held in settled.held.values():
        assert (held.assignment.residency, held.assignment.demand) == (told, demand)


def test_what_somebody_writes_to_have_a_model_again_is_not_copied_at_length_to_each_node() -> None:
    storage = {"storageUri": "hf://org/model", "residency": "Evictable"}
    told = set()
    for ending in "ab":
        annotations = {"ome.io/artifact-rehydration-id": "é" * 200_000 + ending}
        settled = settle(resolved(observe(item(storage, metadata={"annotations": annotations}))))
        (demand,) = {held.assignment.demand for held in settled.held.values()}
        assert len(demand.encode()) <= 64
        told.add(demand)
    assert len(told) == 2


def test_no_node_gives_up_what_somebody_waits_for() -> None:
    storage = {"storageUri": "hf://org/model", "residency": "Evictable"}
    settled = settle(resolved(observe(item(storage), demanded=True)))
    assert {held.assignment.residency for held in settled.held.values()} == {fetch_pb2.RESIDENCY_UNSPECIFIED}
    left = settle(replace(settled, demanded=False))
    assert {held.assignment.residency for held in left.held.values()} == {fetch_pb2.RESIDENCY_EVICTABLE}


def assigned(storage: dict[str, Any], annotations: dict[str, str], **more: Any) -> dict[str, fetch_pb2.Assignment]:
    """What each node is told of a model with annotations."""
    settled = settle(resolved(observe(item(storage, metadata={"annotations": annotations}), **more)))
    return {node: held.assignment for node, held in settled.held.items()}


def test_a_request_to_verify_reaches_its_node_and_changes_nothing_else() -> None:
    settled = settle(resolved(observe(item())))
    first, *others = sorted(settled.held)
    asked = {"models.ome.io/verify-requested-at": "noon", "models.ome.io/verify-node": first}
    annotated = replace(settled, model=read_model(item(metadata={"annotations": asked})))
    assert kinds(plan(annotated, RULES, NOW)) == ["Assign"]
    told = {node: held.assignment for node, held in settle(annotated).held.items()}
    assert told[first].verify == "noon"
    assert [told[node].verify for node in others] == [""] * len(others)
    assert {each.content_digest for each in told.values()} == {
        held.assignment.content_digest for held in settled.held.values()
    }


def test_a_node_gives_a_model_up_alone_if_its_rules_allow_that_and_no_pod_uses_it_there() -> None:
    storage = {"storageUri": "hf://org/model", "residency": "Evictable"}
    first, second = sorted(assigned(storage, {}))
    asked = {"models.ome.io/evicted-nodes": first}

    def residencies(storage: dict[str, Any], **more: Any) -> list[int]:
        told = assigned(storage, asked, **more)
        return [told[node].residency for node in (first, second)]

    evictable = fetch_pb2.RESIDENCY_EVICTABLE
    assert residencies(storage) == [fetch_pb2.RESIDENCY_EVICTED, evictable]
    assert residencies({**storage, "residency": "Always"}) == [fetch_pb2.RESIDENCY_UNSPECIFIED] * 2
    assert residencies(storage, demanded=True) == [fetch_pb2.RESIDENCY_UNSPECIFIED] * 2
    assert residencies(storage, used={first}) == [evictable, evictable]
    assert residencies(storage, used={second}) == [fetch_pb2.RESIDENCY_EVICTED, evictable]
    # However many there are elsewhere, of which not all are told.
    many = fetch_pb2.ModelUse(pods=9, users=[fetch_pb2.NodeUse(node=second)])
    assert residencies(storage, use=many, used={second}) == [fetch_pb2.RESIDENCY_EVICTED, evictable]


def test_asking_for_a_model_on_one_node_is_a_demand_on_that_node() -> None:
    storage = {"storageUri": "hf://org/model", "residency": "Evictable"}
    first, second = sorted(assigned(storage, {}))
    told = assigned(storage, {"models.ome.io/pulled-nodes": f"{first}=noon"})
    assert (told[first].demand, told[second].demand) == ("+noon", "")


def test_asking_for_an_evicted_model_is_a_new_plan_and_moves_no_other_node() -> None:
    settled = settle(resolved(observe(item())))
    annotated = item(metadata={"annotations": {"ome.io/artifact-rehydration-id": "r-1"}})
    asked = replace(settled, model=read_model(annotated))
    assert kinds(plan(asked, RULES, NOW)) == ["Assign", "Assign", "Report"]
    contents = {held.assignment.content_digest for held in settle(asked).held.values()}
    assert contents == {held.assignment.content_digest for held in settled.held.values()}

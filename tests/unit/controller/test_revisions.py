"""Revisions of one model in planning: pinned or followed, rolled out in steps, gone back to, lost by their source."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.specification import REVISION_ANNOTATION
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import listings, planning
from services.controller.planning import Observed, plan
from services.controller.revisions import REMEMBERED, named_revision, with_revision
from services.controller.specification import read_model, source_of
from tests.unit.controller.test_planning import NOW, RULES, apply, item, observe

A, B, C = (
    model_pb2.Artifact(digest="sha256:" + letter * 64, source_revision=letter * 40, bytes=5, files=1)
    for letter in "abc"
)
HF = {"storageUri": "hf://org/model"}
FOLLOWING = {**HF, "revisionPolicy": "Follow", "followIntervalSeconds": 600}
CAREFUL = {**FOLLOWING, "rollout": {"canary": 1, "maxConcurrentNodes": 1}}
THREE = tuple(planning.NodeView(f"n{number}", {}, True, None) for number in (1, 2, 3))


def lists(observed: Observed, artifact: model_pb2.Artifact, attempt: int = 1) -> Observed:
    """The source has been listed and holds an artifact."""
    assert observed.model is not None
    source = source_of(observed.model, "ome")
    assert source is not None
    found = fetch_pb2.Resolution(attempt=attempt, artifact=artifact)
    found.resolved_at.FromMilliseconds(int(NOW * 1000))
    return replace(observed, resolutions={source.key: found}, heard={source.key: NOW})


def edited(observed: Observed, storage: Mapping[str, object], **annotations: str) -> Observed:
    """The object has changed."""
    named = {f"models.ome.io/{name}": value for name, value in annotations.items()}
    return replace(observed, model=read_model(item(storage, metadata={"annotations": named, "generation": 2})))


def work(observed: Observed, failing: Mapping[str, int] | None = None) -> Observed:
    """Every node has done what it is told, but for those that fail to hold an artifact, by its digest."""
    states = dict(observed.states)
    for node, held in observed.held.items():
        told = held.assignment
        reason = (failing or {}).get(told.artifact.digest, 0)
        phase = model_pb2.NODE_PHASE_FAILED if reason else model_pb2.NODE_PHASE_READY
        states[node] = fetch_pb2.NodeModelState(
            phase=phase,
            content_digest=told.content_digest,
            problem=fetch_pb2.Problem(reason=reason),  # type: ignore[arg-type]
        )
    return replace(observed, states=states)


def settle(observed: Observed, failing: Mapping[str, int] | None = None, now: float = NOW) -> Observed:
    """Plan and work until nothing changes any more."""
    for _ in range(12):
        observed = work(apply(observed, plan(observed, RULES, now).actions), failing)
    left = [each for each in plan(observed, RULES, now).actions if not isinstance(each, listings.AskForListing)]
    assert left == []
    return observed


def held(observed: Observed) -> dict[str, str]:
    """The letter of the artifact that each node is told to hold."""
    return {node: each.assignment.artifact.digest[7:8] for node, each in sorted(observed.held.items())}


def history(observed: Observed) -> list[str]:
    assert observed.plan is not None
    return [each.artifact.digest[7:8] for each in observed.plan.history]


def started(storage: Mapping[str, object]) -> Observed:
    """Three nodes that hold the first revision."""
    return settle(lists(observe(item(storage), *THREE), A))


def test_a_new_revision_goes_everywhere_at_once_and_is_remembered() -> None:
    moved = settle(lists(started(FOLLOWING), B, 2))
    assert held(moved) == {"n1": "b", "n2": "b", "n3": "b"}
    assert history(moved) == ["b", "a"]
    assert moved.plan is not None
    assert not moved.plan.HasField("rollout")


def test_a_model_that_follows_its_source_has_it_listed_at_its_interval_and_a_pinned_one_never() -> None:
    known = started(FOLLOWING)
    decided = plan(known, RULES, NOW)
    assert decided.actions == ()
    assert decided.look_again_seconds is not None
    assert 540 <= decided.look_again_seconds <= 660
    [ask] = plan(known, RULES, NOW + 660).actions
    assert isinstance(ask, listings.AskForListing)
    assert ask.task.attempt == 2
    # A listing of our own is as old as our question, whatever the clock of the node says that made it.
    asked = {ask.task.source_key: listings.Asked(2, NOW + 660)}
    answered = replace(lists(known, A, 2), asked=asked)
    assert plan(answered, RULES, NOW + 661).actions == ()

    pinned = started(HF)
    assert plan(pinned, RULES, NOW + 10**8) == planning.Plan()


def test_intervals_of_many_models_come_apart() -> None:
    model = item(FOLLOWING)
    waits = set()
    for number in range(50):
        model["metadata"]["uid"] = f"u{number}"  # type: ignore[index]
        known = settle(lists(observe(model, *THREE), A))
        waits.add(plan(known, RULES, NOW).look_again_seconds)
    assert len(waits) > 20


def announced(observed: Observed, at: float) -> Observed:
    """A hub has announced a change."""
    return replace(observed, announced_at=at)


def asks(observed: Observed, now: float) -> list[listings.AskForListing]:
    """The listings that are asked for."""
    return [each for each in plan(observed, RULES, now).actions if isinstance(each, listings.AskForListing)]


def test_a_model_that_follows_its_source_looks_within_seconds_after_a_hub_has_announced_a_change() -> None:
    settled = announced(started(FOLLOWING), NOW + 100)
    assert not asks(settled, NOW + 100.1)
    [ask] = asks(settled, NOW + 104)
    assert (ask.task.attempt, ask.reason) == (2, "the source has announced a change")
    # The answer is as old as the question.
    answered = lists(settled, A, attempt=2)
    answered = replace(answered, asked={key: listings.Asked(2, NOW + 104) for key in answered.resolutions})
    assert not asks(answered, NOW + 200)
    # What is announced while the question is under way may have come too late for it.
    again = replace(answered, announced_at=NOW + 104.5)
    assert not asks(again, NOW + 120)
    assert asks(again, NOW + 135)


def test_however_much_is_announced_a_source_is_listed_twice_a_minute_at_most_and_a_pinned_model_not_at_all() -> None:
    settled = started(FOLLOWING)
    for seconds in (1, 5, 20):
        assert not asks(announced(settled, NOW + seconds), NOW + 29)
        assert asks(announced(settled, NOW + seconds), NOW + 31)
    assert not asks(announced(started(HF), NOW + 5), NOW + 7200)
    # What was announced before the last listing is known by that.
    assert not asks(announced(settled, NOW - 5), NOW + 60)


def test_a_source_that_fails_is_asked_sooner_by_what_it_announces_and_not_in_a_row() -> None:
    failing = announced(lists(started(FOLLOWING), A, 20), NOW + 1)
    for resolution in failing.resolutions.values():
        resolution.problem.reason = model_pb2.REASON_UNAVAILABLE
    assert not asks(failing, NOW + 29)
    assert asks(failing, NOW + 31)


NAMED_BY_HUBS = {
    "its repository": ("hf://org/model", "org/model", [], True),
    "its repository in another case": ("hf://org/model", "Org/Model", [], True),
    "the default branch": ("hf://org/model", "org/model", ["main"], True),
    "another branch": ("hf://org/model", "org/model", ["dev", "v1"], False),
    "its branch among others": ("hf://org/model@dev", "org/model", ["v1", "dev"], True),
    "the default branch, which it is not on": ("hf://org/model@dev", "org/model", ["main"], False),
    "another repository": ("hf://org/model", "org/model-2", [], False),
    "a repository of another hub": ("ms://org/model", "org/model", [], False),
    "a prefix in a bucket": ("s3://org/model", "org/model", [], False),
}


@pytest.mark.parametrize("case", NAMED_BY_HUBS)
def test_a_hub_means_a_model_by(case: str) -> None:
    uri, repository, revisions, expected = NAMED_BY_HUBS[case]
    source = source_of(read_model(item({"storageUri": uri})), "ome")
    assert source is not None
    assert listings.is_named(source, repository, revisions) is expected


def test_the_branch_may_be_a_parameter() -> None:
    source = source_of(read_model(item({**HF, "parameters": {"revision": "dev"}})), "ome")
    assert source is not None
    assert listings.is_named(source, "org/model", ["dev"])
    assert not listings.is_named(source, "org/model", ["main"])


def test_a_source_that_is_away_while_it_is_followed_moves_nothing_and_is_asked_with_pauses() -> None:
    known = lists(started(FOLLOWING), A, 2)
    for resolution in known.resolutions.values():
        resolution.problem.reason = model_pb2.REASON_UNAVAILABLE
    decided = plan(known, RULES, NOW)
    assert [type(each) for each in decided.actions] == [planning.Report]
    assert decided.look_again_seconds is not None
    assert decided.look_again_seconds <= RULES.retry_max_seconds


def test_a_source_that_is_away_while_it_is_followed_is_told_with_the_first_failure_and_their_number() -> None:
    observed = settle(started(FOLLOWING))
    [key] = observed.resolutions
    for attempt, told in ((2, 1), (3, 2), (5, 4)):
        away = fetch_pb2.Resolution(attempt=attempt, artifact=A)
        away.problem.reason = model_pb2.REASON_UNAVAILABLE
        away.resolved_at.FromSeconds(int(NOW) + 100 * attempt)
        observed = settle(replace(observed, resolutions={key: away}))
        assert observed.plan is not None
        failure = observed.plan.follow_failure
        assert (failure.attempts, failure.since.ToSeconds()) == (told, int(NOW) + 200)
        assert not observed.plan.HasField("problem")
    back = settle(lists(observed, A, 6))
    assert back.plan is not None
    assert not back.plan.HasField("follow_failure")


def test_a_revision_comes_to_one_node_after_the_other() -> None:
    observed = lists(started(CAREFUL), B, 2)
    seen = []
    for _ in range(4):
        observed = apply(observed, plan(observed, RULES, NOW).actions)
        seen.append("".join(held(observed).values()))
        observed = work(observed)
    assert seen == ["baa", "bba", "bbb", "bbb"]


def test_a_revision_that_fails_on_the_first_node_reaches_no_other_and_says_so() -> None:
    failing = {B.digest: model_pb2.REASON_CHECKSUM_MISMATCH}
    halted = settle(lists(started(CAREFUL), B, 2), failing)
    assert held(halted) == {"n1": "b", "n2": "a", "n3": "a"}
    assert halted.plan is not None
    assert halted.plan.rollout.stage == fetch_pb2.ROLLOUT_STAGE_HALTED
    assert list(halted.plan.rollout.staying_nodes) == ["n2", "n3"]
    assert halted.plan.rollout.message == (
        "revision bbbbbbbbbbbb fails on n1 (ChecksumMismatch), so 2 nodes keep revision aaaaaaaaaaaa: "
        "mend the source or go back to an earlier revision"
    )
    # A node that joins meanwhile gets what has proven itself.
    joined = {**halted.nodes, "n4": planning.NodeView("n4", {}, True, None)}
    assert held(settle(replace(halted, nodes=joined), failing)) == {"n1": "b", "n2": "a", "n3": "a", "n4": "a"}
    # Once it no longer fails, it goes on by itself.
    assert set(held(settle(halted)).values()) == {"b"}


def test_a_revision_that_comes_while_another_fails_is_told_with_what_nodes_really_keep() -> None:
    failing = dict.fromkeys((B.digest, C.digest), model_pb2.REASON_CHECKSUM_MISMATCH)
    halted = settle(lists(started(CAREFUL), B, 2), failing)
    again = settle(lists(halted, C, 3), failing)
    assert held(again) == {"n1": "c", "n2": "a", "n3": "a"}
    assert again.plan is not None
    assert "so 2 nodes keep revision aaaaaaaaaaaa" in again.plan.rollout.message


def test_a_first_node_that_falls_silent_is_waited_for_as_long_as_any_node_and_then_another_tries() -> None:
    rolling = lists(started(CAREFUL), B, 2)
    told = apply(rolling, plan(rolling, RULES, NOW).actions)
    assert held(told) == {"n1": "b", "n2": "a", "n3": "a"}
    silent = replace(told, nodes={**told.nodes, "n1": planning.NodeView("n1", {}, False, NOW)})
    waiting = plan(apply(silent, plan(silent, RULES, NOW + 1).actions), RULES, NOW + 1)
    assert waiting.look_again_seconds is not None
    assert waiting.look_again_seconds <= RULES.node_unreachable_seconds - 1
    later = NOW + RULES.node_unreachable_seconds
    assert held(apply(silent, plan(silent, RULES, later).actions)) == {"n1": "b", "n2": "b", "n3": "a"}


def test_a_revision_comes_in_steps_too_where_nodes_were_told_to_keep_what_they_have() -> None:
    """As after NATS has lost its data while the source has moved on."""
    serving = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY, artifact=A)
    known = observe(item(CAREFUL), *THREE, states={view.name: serving for view in THREE})
    kept = apply(known, plan(known, RULES, NOW).actions)
    assert {each.assignment.goal for each in kept.held.values()} == {fetch_pb2.GOAL_KEEP}
    listed = lists(kept, B, 2)
    after = apply(listed, plan(listed, RULES, NOW).actions)
    goals = {node: each.assignment.goal for node, each in after.held.items()}
    assert goals == {"n1": fetch_pb2.GOAL_HOLD, "n2": fetch_pb2.GOAL_KEEP, "n3": fetch_pb2.GOAL_KEEP}
    assert after.plan is not None
    assert list(after.plan.rollout.staying_nodes) == ["n2", "n3"]


def test_the_pause_after_the_first_node_is_kept_by_a_controller_that_starts_anew() -> None:
    slow = {**FOLLOWING, "rollout": {"canary": 1, "pauseSeconds": 300}}
    paused = settle(lists(started(slow), B, 2))
    assert "".join(held(paused).values()) == "baa"
    assert paused.plan is not None
    assert paused.plan.rollout.stage == fetch_pb2.ROLLOUT_STAGE_PAUSED
    later = plan(paused, RULES, NOW + 200)
    assert later.actions == ()
    assert later.look_again_seconds == pytest.approx(100)
    assert set(held(apply(paused, plan(paused, RULES, NOW + 300).actions)).values()) == {"b"}


def test_going_back_by_name_leaves_the_source_alone_and_the_rest_of_the_nodes_unmoved() -> None:
    failing = {B.digest: model_pb2.REASON_CHECKSUM_MISMATCH}
    halted = settle(lists(started(CAREFUL), B, 2), failing)
    back = settle(edited(halted, CAREFUL, revision="aaaaaaaa"))
    assert set(held(back).values()) == {"a"}
    assert history(back) == ["a", "b"]
    # What the source has counts again as soon as the name is taken away.
    assert set(held(settle(edited(back, CAREFUL))).values()) == {"b"}


def kept(observed: Observed) -> set[tuple[str, ...]]:
    return {tuple(each.assignment.kept_revisions) for each in observed.held.values()}


def test_nodes_are_told_to_keep_as_many_earlier_revisions_as_the_model_says_and_going_back_turns_them_around() -> None:
    observed = settle(started({**FOLLOWING, "revisionHistoryLimit": 1}))
    assert kept(observed) == {()}
    observed = settle(lists(observed, B, 2))
    assert kept(observed) == {(A.digest,)}
    observed = settle(lists(observed, C, 3))
    assert (set(held(observed).values()), kept(observed)) == ({"c"}, {(B.digest,)})
    back = settle(edited(observed, {**FOLLOWING, "revisionHistoryLimit": 2}, revision="b" * 12))
    assert (set(held(back).values()), kept(back)) == ({"b"}, {(C.digest, A.digest)})
    assert kept(settle(edited(back, FOLLOWING, revision="b" * 12))) == {()}


def test_nodes_keep_earlier_revisions_also_while_they_are_only_told_to_keep_what_they_have() -> None:
    observed = settle(lists(settle(started({**FOLLOWING, "revisionHistoryLimit": 1})), B, 2))
    lost = replace(observed, held={}, resolutions={}, asked={}, heard={})
    told = [each.assignment for each in plan(lost, RULES, NOW).actions if isinstance(each, planning.Assign)]
    assert {each.goal for each in told} == {fetch_pb2.GOAL_KEEP}
    assert {tuple(each.kept_revisions) for each in told} == {(A.digest,)}


def test_a_name_that_no_revision_has_is_refused_in_words_and_moves_nothing() -> None:
    known = edited(started(FOLLOWING), FOLLOWING, revision="ffffffff")
    after = settle(known)
    assert held(after) == {"n1": "a", "n2": "a", "n3": "a"}
    assert after.plan is not None
    assert after.plan.problem.reason == model_pb2.REASON_INVALID_PARAMETER
    assert "there are: revision aaaaaaaaaaaa" in after.plan.problem.message


def test_a_source_that_lost_what_nodes_hold_moves_only_the_node_that_misses_it() -> None:
    known = started(HF)
    joined = replace(known, nodes={**known.nodes, "n4": planning.NodeView("n4", {}, True, None)})
    joined = apply(joined, plan(joined, RULES, NOW).actions)
    lost = work(joined)
    state = lost.states["n4"]
    state.phase, state.problem.reason = model_pb2.NODE_PHASE_FAILED, model_pb2.REASON_NOT_FOUND
    [ask] = plan(lost, RULES, NOW + 60).actions
    assert isinstance(ask, listings.AskForListing)

    after = settle(lists(lost, B, 2))
    assert held(after) == {"n1": "a", "n2": "a", "n3": "a", "n4": "b"}
    assert after.plan is not None
    assert after.plan.rollout.stage == fetch_pb2.ROLLOUT_STAGE_DIVERGED
    assert "the source no longer has revision aaaaaaaaaaaa, which 3 nodes hold and keep" in after.plan.rollout.message
    assert plan(after, RULES, NOW + 10**7) == planning.Plan()
    # The next node gets what there is, and an edit moves all.
    more = replace(after, nodes={**after.nodes, "n5": planning.NodeView("n5", {}, True, None)})
    assert held(settle(more))["n5"] == "b"
    again = edited(after, {"storageUri": "hf://org/model@main"})
    assert set(held(settle(lists(again, B))).values()) == {"b"}


def test_an_edit_of_the_source_moves_all_nodes_as_ever() -> None:
    moved = settle(lists(edited(started(HF), {"storageUri": "hf://org/model@next"}), B))
    assert set(held(moved).values()) == {"b"}
    assert history(moved) == ["b", "a"]


def test_what_the_status_tells_of_revisions_is_known_after_nats_has_lost_everything() -> None:
    status = {
        "history": [
            {"digest": B.digest, "sourceRevision": B.source_revision, "since": "2026-11-01T00:00:00Z", "source": "k"},
            {"digest": "nonsense"},
            {"digest": A.digest, "since": "yesterday"},
        ]
    }
    known = observe({**item(FOLLOWING), "status": status}, *THREE)
    decided = apply(known, plan(known, RULES, NOW).actions)
    assert history(decided) == ["b", "a"]


def after_a_loss(observed: Observed, **storage: object) -> Observed:
    """NATS has lost its data: what nodes hold they say, and the object's status tells what they were to hold."""
    assert observed.plan is not None
    source = source_of(read_model(item({**HF, **storage})), "ome")
    assert source is not None
    entry = {"digest": A.digest, "sourceRevision": A.source_revision, "source": source.key}
    status = {"observedGeneration": 1, "artifact": entry, "history": [entry]}
    states = {
        node: fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY, artifact=each.assignment.artifact)
        for node, each in observed.held.items()
    }
    model = read_model({**item({**HF, **storage}), "status": status})
    return replace(observed, model=model, held={}, states=states, resolutions={}, asked={}, heard={}, plan=None)


def asked(observed: Observed, now: float = NOW) -> fetch_pb2.Source:
    [ask] = [each for each in plan(observed, RULES, now).actions if isinstance(each, listings.AskForListing)]
    return ask.task.source


def test_a_pinned_model_is_listed_at_its_own_revision_after_nats_has_lost_everything() -> None:
    lost = after_a_loss(started(HF))
    assert asked(lost).uri == f"hf://org/model@{A.source_revision}"
    again = settle(lists(apply(lost, plan(lost, RULES, NOW).actions), A))
    assert set(held(again).values()) == {"a"}
    assert again.plan is not None
    assert not again.plan.HasField("rollout")
    branch = after_a_loss(started({**HF, "parameters": {"revision": "main"}}), parameters={"revision": "main"})
    assert (asked(branch).uri, dict(asked(branch).parameters)) == (f"hf://org/model@{A.source_revision}", {})


def test_what_a_model_was_pinned_to_stays_on_its_nodes_although_the_source_has_lost_it_meanwhile() -> None:
    lost = after_a_loss(started(HF))
    silent = replace(lost, states={node: state for node, state in lost.states.items() if node != "n3"})
    told = apply(silent, plan(silent, RULES, NOW).actions)
    assert told.model is not None
    source = source_of(told.model, "ome")
    assert source is not None
    gone = fetch_pb2.Problem(reason=model_pb2.REASON_NOT_FOUND)
    refused = replace(
        told,
        resolutions={source.key: fetch_pb2.Resolution(attempt=1, problem=gone)},
        heard={source.key: NOW},
    )
    assert asked(refused, NOW + 600).uri == "hf://org/model"
    moved = lists(refused, B, 2)
    joined = replace(moved, nodes={**moved.nodes, "n4": planning.NodeView("n4", {}, True, None)})
    after = apply(joined, plan(joined, RULES, NOW).actions)
    goals = {node: each.assignment.goal for node, each in after.held.items()}
    assert goals == dict.fromkeys(("n1", "n2", "n3"), fetch_pb2.GOAL_KEEP) | {"n4": fetch_pb2.GOAL_HOLD}
    assert held(after)["n4"] == "b"
    assert after.plan is not None
    assert after.plan.rollout.stage == fetch_pb2.ROLLOUT_STAGE_DIVERGED


def named_after_a_loss(storage: Mapping[str, object]) -> Observed:
    """A model went back from B to A by its annotation; then NATS has lost its data."""
    lost = after_a_loss(started(storage), **storage)
    assert lost.model is not None
    key = source_of(lost.model, "ome")
    assert key is not None
    entries = [{"digest": each.digest, "sourceRevision": each.source_revision, "source": key.key} for each in (A, B)]
    status = {"observedGeneration": 1, "artifact": entries[0], "history": entries}
    metadata = {"annotations": {REVISION_ANNOTATION: "aaaaaaaa"}}
    return replace(lost, model=read_model({**item(storage, metadata=metadata), "status": status}))


@pytest.mark.parametrize("storage", [HF, FOLLOWING])
def test_a_revision_that_is_named_is_listed_after_a_loss_so_that_a_new_node_can_have_it(
    storage: Mapping[str, object],
) -> None:
    lost = named_after_a_loss(storage)
    assert asked(lost).uri == f"hf://org/model@{A.source_revision}"
    again = settle(lists(apply(lost, plan(lost, RULES, NOW).actions), A))
    assert set(held(again).values()) == {"a"}
    joined = settle(replace(again, nodes={**again.nodes, "n4": planning.NodeView("n4", {}, True, None)}))
    assert held(joined)["n4"] == "a"


def test_what_the_source_has_is_listed_once_a_revision_is_named_no_more_after_a_loss() -> None:
    lost = named_after_a_loss(HF)
    again = settle(lists(apply(lost, plan(lost, RULES, NOW).actions), A))
    freed = replace(again, model=read_model(item(HF, metadata={"generation": 2})))
    assert set(held(settle(freed)).values()) == {"a"}
    assert asked(freed, NOW + 60).uri == "hf://org/model"
    answered = lists(settle(freed), B, 2)
    answered = replace(answered, asked={key: listings.Asked(2, NOW + 60) for key in answered.resolutions})
    assert set(held(settle(answered)).values()) == {"b"}
    assert plan(settle(answered), RULES, NOW + 10**7).actions == ()


def test_a_name_of_nothing_lists_the_branch_after_a_loss() -> None:
    lost = named_after_a_loss(HF)
    assert lost.model is not None
    assert asked(replace(lost, model=replace(lost.model, named_revision="ffffffff"))).uri == "hf://org/model"


def test_a_model_that_follows_its_source_takes_what_is_there_after_a_loss() -> None:
    lost = after_a_loss(started(FOLLOWING), revisionPolicy="Follow")
    assert asked(lost).uri == "hf://org/model"
    told = apply(lost, plan(lost, RULES, NOW).actions)
    assert set(held(settle(lists(told, B))).values()) == {"b"}


def test_the_history_is_bounded_and_what_comes_back_moves_to_the_front() -> None:
    known: list[fetch_pb2.Revision] = []
    for number in range(8):
        artifact = model_pb2.Artifact(digest=f"sha256:{number:064}")
        known = with_revision(known, artifact, "k", 100.0 + number)
        assert with_revision(known, artifact, "k", 999.0) == known
    assert len(known) == REMEMBERED
    back = with_revision(known, known[3].artifact, "k", 200.0)
    assert [each.artifact.digest for each in back] == [known[index].artifact.digest for index in (3, 0, 1, 2, 4)]
    assert back[0].since.ToSeconds() == 200


@pytest.mark.parametrize("named", ["c" * 40, "c" * 7, C.digest, C.digest[:20], "c" * 12])
def test_a_revision_is_named_by_the_beginning_of_its_digest_or_of_the_sources_own_word(named: str) -> None:
    known = [fetch_pb2.Revision(artifact=each, source_key="k") for each in (A, B, C)]
    found = named_revision(known, named, "k")
    assert found is not None
    assert found.artifact == C


@pytest.mark.parametrize(("named", "key"), [("cccccc", "k"), ("dddddddd", "k"), (C.digest, "another")])
def test_what_names_no_revision_of_this_source_is_refused(named: str, key: str) -> None:
    known = [fetch_pb2.Revision(artifact=each, source_key="k") for each in (A, B, C)]
    with pytest.raises(InvalidValue, match=REVISION_ANNOTATION):
        named_revision(known, named, key)

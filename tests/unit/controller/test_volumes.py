"""Models in PersistentVolumeClaims: what is decided from a claim, its Jobs and what was reported before."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from ome.parser.v1.parser_pb2 import Finding, InspectionReport, ModelFacts
from services.controller import planning
from services.controller.planning import Held, NodeView, Observed, Rules, plan
from services.controller.specification import read_model
from services.controller.volumes import PATIENCE_SECONDS, Claim, CreateJob, DeleteJob, Job, Refusal, Seen

NOW = 1_800_000_000.0
RULES = Rules(
    "ome", node_unreachable_seconds=300, retry_initial_seconds=4, retry_max_seconds=60, volume_inspect_seconds=3600
)
BOUND = Claim("c", "Bound")
FACTS = ModelFacts(model_type="llama")
FOUND = InspectionReport(facts=FACTS, bytes=5, files=2)


def report(reason: model_pb2.Reason, message: str = "the volume has no directory 'x'") -> InspectionReport:
    return InspectionReport(problem=Finding(reason=reason, message=message))


NOT_FOUND = report(model_pb2.REASON_NOT_FOUND)
UNABLE = report(model_pb2.REASON_UNAVAILABLE)


def item(uri: str = "pvc://storage/llama", kind: str = "BaseModel", **changes: object) -> dict[str, object]:
    metadata: dict[str, object] = {"name": "m", "uid": "u", "generation": 1}
    if kind == "BaseModel":
        metadata["namespace"] = "team-a"
    metadata.update(changes.pop("metadata", {}))  # type: ignore[call-overload]
    return {"kind": kind, "metadata": metadata, "spec": {"storage": {"storageUri": uri}, **changes}}


def observe(model: Mapping[str, object] | None = None, claim: Claim | None = BOUND) -> Observed:
    return Observed(
        uid="u",
        model=read_model(item() if model is None else model),
        nodes={"n1": NodeView("n1", {}, True, None)},
        held={},
        states={},
        resolutions={},
        asked={},
        plan=None,
        volume=Seen(claim),
    )


def apply(observed: Observed, actions: tuple[planning.Action, ...], now: float = NOW) -> Observed:
    """What is known after the actions: Jobs that were created have not looked yet."""
    jobs, decided = list(observed.volume.jobs), observed.plan
    for action in actions:
        match action:
            case CreateJob():
                assert not jobs
                name = f"{action.subject}-{action.number}"
                jobs = [Job(action.place.namespace, name, name, action.subject, action.number, known_since=now)]
            case DeleteJob():
                jobs = [job for job in jobs if job.uid != action.uid]
            case planning.Report():
                decided = action.plan
            case planning.Unreport():
                decided = None
    return replace(observed, plan=decided, volume=replace(observed.volume, jobs=jobs))


def ended(observed: Observed, found: InspectionReport) -> Observed:
    """What is known once the running Job has looked."""
    jobs = [replace(job, ended=found) for job in observed.volume.jobs]
    return replace(observed, volume=replace(observed.volume, jobs=jobs))


def settle(observed: Observed, found: InspectionReport = FOUND, now: float = NOW) -> Observed:
    for _ in range(6):
        observed = ended(apply(observed, plan(observed, RULES, now).actions, now), found)
    assert plan(observed, RULES, now).actions == ()
    return observed


def kinds(decided: planning.Plan) -> list[str]:
    return [type(action).__name__ for action in decided.actions]


def volume_of(observed: Observed) -> fetch_pb2.Volume:
    assert observed.plan is not None
    return observed.plan.volume


def created(decided: planning.Plan) -> CreateJob:
    [create] = [action for action in decided.actions if isinstance(action, CreateJob)]
    return create


def test_model_in_a_bound_claim_is_inspected_once_and_told_of_without_any_node() -> None:
    observed = observe()
    decided = plan(observed, RULES, NOW)
    assert kinds(decided) == ["Report", "CreateJob"]
    waiting = apply(observed, decided.actions)
    assert waiting.plan is not None
    assert waiting.plan.problem.reason == model_pb2.REASON_RESOLVING
    assert plan(waiting, RULES, NOW + 1).actions == ()
    assert kinds(plan(ended(waiting, FOUND), RULES, NOW + 1)) == ["Report", "DeleteJob"]
    settled = settle(observed)
    assert settled.plan is not None
    assert not settled.plan.HasField("problem")
    assert not settled.plan.desired_nodes
    assert volume_of(settled).inspection.facts == FACTS
    assert volume_of(settled).inspection.artifact == model_pb2.Artifact(bytes=5, files=2)
    assert settled.volume.jobs == []


@pytest.mark.parametrize(
    ("claim", "words", "kind"),
    [
        (None, "team-a/storage does not exist", fetch_pb2.PROBLEM_CLASS_MISSING),
        (Claim("c", "Pending"), "is Pending", fetch_pb2.PROBLEM_CLASS_UNAVAILABLE),
        (Claim("c", ""), "is Pending", fetch_pb2.PROBLEM_CLASS_UNAVAILABLE),
        (Claim("c", "Lost"), "is Lost", fetch_pb2.PROBLEM_CLASS_MISSING),
        (Claim("c", "Bound", deleting=True), "is being deleted", fetch_pb2.PROBLEM_CLASS_MISSING),
        (Claim("c", "Bound", block_device=True), "volumeMode Filesystem", fetch_pb2.PROBLEM_CLASS_MISSING),
    ],
)
@pytest.mark.parametrize("before", ["never", "while it is inspected", "after it was found"])
def test_claim_that_cannot_be_used_is_told_and_its_job_removed(
    before: str, claim: Claim | None, words: str, kind: fetch_pb2.ProblemClass
) -> None:
    known = observe()
    if before == "while it is inspected":
        known = apply(known, plan(known, RULES, NOW).actions)
    elif before == "after it was found":
        known = settle(known)
    settled = settle(replace(known, volume=replace(known.volume, claim=claim)))
    assert settled.plan is not None
    assert settled.plan.problem.reason == model_pb2.REASON_VOLUME_NOT_READY
    assert settled.plan.problem.problem_class == kind
    assert words in settled.plan.problem.message
    assert not volume_of(settled).inspection.HasField("found_at")
    assert settled.volume.jobs == []


@pytest.mark.parametrize(
    ("uri", "kind", "namespace"),
    [
        ("pvc://storage/llama", "BaseModel", "team-a"),
        ("pvc://team-a:storage/llama", "BaseModel", "team-a"),
        ("pvc://team-b:storage/llama", "ClusterBaseModel", "team-b"),
        ("pvc://team-b:storage/llama", "FineTunedWeight", "team-b"),
    ],
)
def test_claim_is_looked_for_in_the_namespace_that_is_meant(uri: str, kind: str, namespace: str) -> None:
    create = created(plan(observe(item(uri, kind)), RULES, NOW))
    assert (create.place.namespace, create.place.claim, create.place.path) == (namespace, "storage", "llama")


@pytest.mark.parametrize(
    ("uri", "kind", "advice"),
    [
        ("pvc://team-b:storage/llama", "BaseModel", "write pvc://storage/llama"),
        ("pvc://storage/llama", "ClusterBaseModel", "write pvc://<namespace>:storage/llama"),
        ("pvc://storage/../llama", "BaseModel", "must not contain"),
    ],
)
def test_claim_that_the_model_may_not_use_is_refused_though_it_was_stored(uri: str, kind: str, advice: str) -> None:
    [decided] = plan(observe(item(uri, kind)), RULES, NOW).actions
    assert isinstance(decided, planning.Report)
    assert decided.plan.problem.reason == model_pb2.REASON_INVALID_URI
    assert decided.plan.problem.problem_class == fetch_pb2.PROBLEM_CLASS_INVALID
    assert advice in decided.plan.problem.message


def test_model_that_is_not_there_is_looked_for_again_with_growing_delay() -> None:
    observed, now, delays = observe(), NOW, []
    for number in range(1, 8):
        observed = settle(observed, NOT_FOUND, now)
        assert observed.plan is not None
        assert observed.plan.problem.reason == model_pb2.REASON_NOT_FOUND
        assert "team-a/storage: the volume has no directory" in observed.plan.problem.message
        delay = plan(observed, RULES, now).look_again_seconds
        assert delay is not None
        assert plan(observed, RULES, now + delay - 0.01).actions == ()
        delays.append(delay)
        now += delay + 0.01
        assert created(plan(observed, RULES, now)).number == number + 1
    assert delays[0] <= RULES.retry_initial_seconds
    assert delays[0] < delays[2] < delays[4] <= delays[6] * 2
    assert max(delays) <= RULES.retry_max_seconds


@pytest.mark.parametrize("found", [FOUND, NOT_FOUND])
def test_clock_that_was_set_back_after_an_inspection_does_not_hold_up_the_next(found: InspectionReport) -> None:
    settled = settle(observe(), found, NOW)
    year = 365 * 86_400
    back = replace(settled, clock_offset=-year)
    assert created(plan(back, RULES, NOW)).number == 2
    again = ended(apply(back, plan(back, RULES, NOW).actions, NOW), found)
    for _ in range(3):
        again = apply(again, plan(again, RULES, NOW).actions, NOW)
    assert plan(again, RULES, NOW).actions == (), "once, not again and again"


def test_found_model_is_looked_at_again_now_and_then_and_keeps_its_facts_meanwhile() -> None:
    settled = settle(observe())
    delay = plan(settled, RULES, NOW).look_again_seconds
    assert delay is not None
    assert RULES.volume_inspect_seconds / 2 <= delay <= RULES.volume_inspect_seconds
    later = NOW + delay + 0.01
    decided = plan(settled, RULES, later)
    assert kinds(decided) == ["CreateJob"]
    vanished = settle(settled, NOT_FOUND, later)
    assert vanished.plan is not None
    assert vanished.plan.problem.reason == model_pb2.REASON_NOT_FOUND
    assert not volume_of(vanished).inspection.HasField("found_at")
    assert not volume_of(vanished).inspection.HasField("facts")


def test_incomplete_model_is_not_found_and_looked_for_again_until_it_is_mended_or_allowed() -> None:
    defect = model_pb2.Remark(finding=model_pb2.FINDING_MISSING_SHARDS, message="b.safetensors is missing")
    completeness = model_pb2.Completeness(wholeness=model_pb2.WHOLENESS_INCOMPLETE, defects=[defect])
    facts = ModelFacts(model_type="llama", completeness=completeness)
    settled = settle(observe(), InspectionReport(facts=facts, bytes=5, files=2))
    assert settled.plan is not None
    assert settled.plan.problem.reason == model_pb2.REASON_INCOMPLETE
    assert "b.safetensors is missing; mend it, or set parameters.allowIncomplete" in settled.plan.problem.message
    inspection = volume_of(settled).inspection
    assert (inspection.failures, inspection.HasField("found_at"), inspection.facts) == (1, False, facts)
    assert kinds(plan(settled, RULES, NOW + 61)) == ["CreateJob"]
    storage = {"storageUri": "pvc://storage/llama", "parameters": {"allowIncomplete": "true"}}
    allowed = settle(observe(item(storage=storage)), InspectionReport(facts=facts, bytes=5, files=2))
    assert volume_of(allowed).inspection.HasField("found_at")
    assert kinds(plan(replace(settled, model=allowed.model), RULES, NOW)) == ["Report", "CreateJob"]
    bare = Finding(reason=model_pb2.REASON_INCOMPLETE, message="config.json is empty")
    assert not volume_of(settle(observe(), InspectionReport(parse_problem=bare))).inspection.HasField("found_at")


def test_volume_that_one_node_mounts_at_a_time_is_left_alone_once_the_model_was_found() -> None:
    alone = Claim("c", "Bound", shared=False)
    settled = settle(observe(claim=alone))
    assert plan(settled, RULES, NOW) == planning.Plan()
    assert plan(settled, RULES, NOW + 100 * RULES.volume_inspect_seconds) == planning.Plan()
    missing = settle(observe(claim=alone), NOT_FOUND)
    assert kinds(plan(missing, RULES, NOW + RULES.retry_max_seconds)) == ["CreateJob"]


def test_inspection_that_could_not_be_made_takes_nothing_from_what_was_found() -> None:
    known = settle(observe())
    later = settle(known, UNABLE, NOW + RULES.volume_inspect_seconds)
    inspection = volume_of(later).inspection
    assert inspection.found_at == volume_of(known).inspection.found_at
    assert inspection.facts == FACTS
    assert later.plan is not None
    assert later.plan.problem.problem_class == fetch_pb2.PROBLEM_CLASS_UNAVAILABLE
    recovered = settle(later, FOUND, NOW + RULES.volume_inspect_seconds + RULES.retry_initial_seconds + 0.01)
    assert recovered.plan is not None
    assert not recovered.plan.HasField("problem")


@pytest.mark.parametrize(
    "change",
    [
        item("pvc://storage/other"),
        item(metadata={"annotations": {"ome.io/skip-config-parsing": "true"}}),
        Claim("another", "Bound"),
    ],
    ids=["the path", "the annotation", "the claim itself"],
)
@pytest.mark.parametrize("found", [FOUND, NOT_FOUND, None], ids=["found", "not found", "while it is inspected"])
def test_change_is_acted_upon_at_once_and_replaces_a_job_of_before(
    change: dict[str, object] | Claim, found: InspectionReport | None
) -> None:
    known = observe()
    known = settle(known, found) if found else apply(known, plan(known, RULES, NOW).actions)
    if isinstance(change, Claim):
        changed = replace(known, volume=replace(known.volume, claim=change))
    else:
        changed = replace(known, model=read_model(change))
    cleared = apply(changed, plan(changed, RULES, NOW).actions)
    if found is None:
        assert cleared.volume.jobs == []
        cleared = apply(cleared, plan(cleared, RULES, NOW).actions)
    [job] = cleared.volume.jobs
    assert job.number == 1
    assert job.subject == volume_of(cleared).inspection.subject != volume_of(known).inspection.subject


def test_job_that_is_being_deleted_is_waited_for() -> None:
    known = observe()
    started = apply(known, plan(known, RULES, NOW).actions)
    [job] = started.volume.jobs
    going = replace(started, volume=Seen(BOUND, [replace(job, deleting=True, ended=FOUND)]))
    assert plan(going, RULES, NOW).actions == ()


WAITING = Finding(reason=model_pb2.REASON_VOLUME_NOT_READY, message="Pod cannot be scheduled: no node has room")


def test_pod_that_does_not_start_is_told_after_a_moment_and_given_up_in_the_end() -> None:
    known = observe()
    started = apply(known, plan(known, RULES, NOW).actions)
    jobs = [replace(job, waiting=WAITING) for job in started.volume.jobs]
    stuck = replace(started, volume=Seen(BOUND, jobs))
    soon = plan(stuck, RULES, NOW)
    assert soon.actions == ()
    assert soon.look_again_seconds is not None
    told_at = NOW + soon.look_again_seconds
    [told] = plan(stuck, RULES, told_at).actions
    assert isinstance(told, planning.Report)
    assert told.plan.problem.message == WAITING.message
    assert told.plan.problem.reason == model_pb2.REASON_VOLUME_NOT_READY
    stuck = apply(stuck, (told,))
    assert plan(stuck, RULES, told_at).look_again_seconds == pytest.approx(NOW + PATIENCE_SECONDS - told_at)
    given_up = plan(stuck, RULES, NOW + PATIENCE_SECONDS)
    assert kinds(given_up) == ["Report", "DeleteJob"]
    after = apply(stuck, given_up.actions)
    assert after.plan is not None
    assert WAITING.message in after.plan.problem.message
    assert volume_of(after).inspection.failures == 1


def test_job_that_kubernetes_refuses_counts_as_an_inspection_that_failed() -> None:
    known = observe()
    create = created(plan(known, RULES, NOW))
    refused = apply(known, tuple(a for a in plan(known, RULES, NOW).actions if not isinstance(a, CreateJob)))
    refused = replace(refused, volume=Seen(BOUND, [], Refusal(create.subject, create.number, UNABLE)))
    after = apply(refused, plan(refused, RULES, NOW).actions)
    assert volume_of(after).inspection.failures == 1
    decided = plan(after, RULES, NOW)
    assert decided.actions == ()
    assert decided.look_again_seconds is not None
    assert created(plan(after, RULES, NOW + decided.look_again_seconds + 0.01)).number == 2


def test_disabled_model_keeps_what_is_known_and_starts_nothing() -> None:
    known = settle(observe())
    disabled = replace(known, model=read_model(item(disabled=True)))
    much_later = NOW + 10 * RULES.volume_inspect_seconds
    decided = plan(disabled, RULES, much_later)
    assert kinds(decided) == ["Report"]
    assert volume_of(apply(disabled, decided.actions)) == volume_of(known)


def test_deleted_model_takes_its_job_along() -> None:
    known = observe()
    started = apply(known, plan(known, RULES, NOW).actions)
    for model in (None, read_model(item(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))):
        assert kinds(plan(replace(started, model=model), RULES, NOW)) == ["Unreport", "DeleteJob"]


def test_model_that_moves_into_a_claim_leaves_its_nodes_once_it_was_found_there() -> None:
    hold = Held(1, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD))
    listing = {"u.old": fetch_pb2.Resolution(attempt=1)}
    moving = replace(observe(), held={"n1": hold}, resolutions=listing)
    decided = plan(moving, RULES, NOW)
    assert "Assign" not in kinds(decided)
    assert "ForgetListing" in kinds(decided)
    found = ended(apply(moving, decided.actions), FOUND)
    found = apply(found, plan(found, RULES, NOW).actions)
    [release] = [action for action in plan(found, RULES, NOW).actions if isinstance(action, planning.Assign)]
    assert release.assignment.goal == fetch_pb2.GOAL_ABSENT


def test_model_that_leaves_its_claim_takes_its_job_along() -> None:
    known = observe()
    started = apply(known, plan(known, RULES, NOW).actions)
    moved = replace(started, model=read_model(item("local:///models/m")))
    decided = plan(moved, RULES, NOW)
    assert "DeleteJob" in kinds(decided)
    assert not apply(moved, decided.actions).plan.HasField("volume")  # type: ignore[union-attr]


models = st.sampled_from(
    [item(), item("pvc://storage/other"), item(disabled=True), item(""), item("pvc://b:storage/x")]
)
claims = st.sampled_from([None, BOUND, Claim("c", "Pending"), Claim("d", "Bound")])
reports = st.sampled_from([FOUND, NOT_FOUND, UNABLE, InspectionReport()])


@given(models, claims, reports, models, claims, reports, st.integers(0, 4))
def test_any_change_settles_and_any_prefix_of_the_actions_leads_to_the_same_place(
    first: dict[str, object],
    claim: Claim | None,
    found: InspectionReport,
    second: dict[str, object],
    later_claim: Claim | None,
    later_found: InspectionReport,
    cut: int,
) -> None:
    known = settle(observe(first, claim), found)
    changed = replace(known, model=read_model(second), volume=replace(known.volume, claim=later_claim))
    interrupted = apply(changed, plan(changed, RULES, NOW).actions[:cut])
    straight, detour = settle(changed, later_found), settle(interrupted, later_found)
    assert straight.plan == detour.plan
    assert list(straight.volume.jobs) == list(detour.volume.jobs) == []

"""What a node does and says about a model, case by case."""

from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from ome.fetch.v1.fetch_pb2 import (
    GOAL_ABSENT,
    GOAL_HOLD,
    GOAL_KEEP,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_UNAVAILABLE,
    Assignment,
    Problem,
)
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UNSPECIFIED,
    NODE_PHASE_UPDATING,
    REASON_ARTIFACT_DAMAGED,
    REASON_DELETING,
    REASON_DOWNLOADING,
    REASON_EVICTED,
    REASON_IN_USE,
    REASON_INCOMPLETE,
    REASON_INVALID_PATH,
    REASON_QUEUED,
    REASON_RESOLVING,
    REASON_UNAVAILABLE,
    Artifact,
    ModelRef,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.model.observed import (
    Copy,
    Desired,
    Kept,
    Observed,
    Parsing,
    PublishedName,
    Setback,
    Spared,
    Transfer,
    TransferPhase,
)
from services.fetcher.model.planning import (
    Abandon,
    Parse,
    Prioritize,
    Publish,
    Refuse,
    Reserve,
    StartTransfer,
    StopTransfer,
    Unpublish,
    describe,
    incomplete,
    next_attempt_at,
    plan,
    retry_delay_seconds,
)
from services.fetcher.model.removal import Fate, Holder, Use

NOW = 1000.0
ROOT, OTHER_ROOT, PATH = "/models", "/raid/models", "/models/a"
OLD = Artifact(digest="sha256:" + "0" * 64, source_revision="old", bytes=7, files=1)
NEW = Artifact(digest="sha256:" + "1" * 64, source_revision="new", bytes=8, files=1)
FACTS = ModelFacts(model_type="llama")

HOLD = Desired(5, Assignment(model=ModelRef(uid="u"), goal=GOAL_HOLD, generation=3, artifact=NEW, path=PATH))
URGENT = Desired(6, Assignment(model=ModelRef(uid="u"), goal=GOAL_HOLD, artifact=NEW, path=PATH, priority=7))
SKIP = Desired(5, Assignment(goal=GOAL_HOLD, artifact=NEW, path=PATH, skip_parsing=True))
LOCAL = Desired(5, Assignment(goal=GOAL_HOLD))
KEEP = Desired(7, Assignment(model=ModelRef(uid="u"), goal=GOAL_KEEP))
ABSENT = Desired(6, Assignment(model=ModelRef(uid="u"), goal=GOAL_ABSENT))
RESERVED = Desired(6, Assignment(model=ModelRef(uid="u"), goal=GOAL_ABSENT, reserve=True))

NOTHING = Observed(root=ROOT, path=PATH)
HELD = replace(NOTHING, copy=Copy(held=True))
PUBLISHED = replace(HELD, publications=(PublishedName(ROOT, PATH, NEW, True),))
PARSED = replace(PUBLISHED, parsing=Parsing(facts=FACTS))
DAMAGED = replace(PARSED, copy=Copy(held=True, damaged=("model.safetensors",)))
OLD_PUBLISHED = replace(NOTHING, publications=(PublishedName(ROOT, PATH, OLD, True),))
OLD_DAMAGED = PublishedName(ROOT, PATH, OLD, True, damaged=True)
ELSEWHERE = replace(HELD, publications=(PublishedName(OTHER_ROOT, "/raid/models/a", NEW, True),))
INCOMPLETE = Parsing(facts=FACTS, refusal="a.safetensors is missing")
INVALID_PATH = InvalidValue(Reason.INVALID_PATH, "no")
BUSY = Problem(reason=REASON_UNAVAILABLE, problem_class=PROBLEM_CLASS_UNAVAILABLE)
REFUSED = Problem(reason=REASON_INVALID_PATH, problem_class=PROBLEM_CLASS_INVALID)


def transfer(phase: TransferPhase, digest: str = NEW.digest, root: str = ROOT) -> Transfer:
    return Transfer(root, digest, phase, bytes_done=4)


RUNNING = replace(NOTHING, transfer=transfer(TransferPhase.RUNNING))

MOVING = replace(NOTHING, transfer=replace(transfer(TransferPhase.RUNNING), moving=True))

AWAY = "evicted to make room"
PLANS = {
    "an evicted model loses its name": (HOLD, replace(PARSED, away=AWAY), (Unpublish(ROOT),)),
    "an evicted model is not fetched": (HOLD, replace(NOTHING, away=AWAY), ()),
    "an evicted model is not fetched any further": (
        HOLD,
        replace(RUNNING, away=AWAY),
        (StopTransfer("the model is evicted"),),
    ),
    "what was begun for an evicted model goes": (
        HOLD,
        replace(NOTHING, away=AWAY, leftovers=((ROOT, NEW.digest),)),
        (Abandon(ROOT, NEW.digest),),
    ),
    "a model that is not there is fetched": (HOLD, NOTHING, (StartTransfer(ROOT, NEW.digest, ()),)),
    "nothing is done while it is fetched": (HOLD, RUNNING, ()),
    "a changed priority reaches the transfer": (URGENT, RUNNING, (Prioritize(7),)),
    "a transfer that is stopped has no priority": (
        URGENT,
        replace(NOTHING, transfer=transfer(TransferPhase.QUEUED, OLD.digest)),
        (StopTransfer("another artifact is desired"),),
    ),
    "what has been fetched is parsed and then published": (HOLD, HELD, (Parse(), Publish(ROOT, PATH, NEW.digest))),
    "what is known to be incomplete gets no name": (
        HOLD,
        replace(HELD, parsing=INCOMPLETE),
        (Refuse(incomplete("a.safetensors is missing")),),
    ),
    "what was refused as incomplete waits for another assignment": (
        HOLD,
        replace(HELD, parsing=INCOMPLETE, setback=Setback(5, REFUSED, None)),
        (),
    ),
    "what has a name keeps it although it is found to be incomplete": (HOLD, replace(PARSED, parsing=INCOMPLETE), ()),
    "what is published is parsed": (HOLD, PUBLISHED, (Parse(),)),
    "what is parsed needs nothing": (HOLD, PARSED, ()),
    "parsing is skipped on request": (SKIP, PUBLISHED, ()),
    "a damaged copy is repaired": (HOLD, DAMAGED, (StartTransfer(ROOT, NEW.digest, ("model.safetensors",)),)),
    "damage is told before it is repaired": (HOLD, replace(DAMAGED, repair_at=NOW + 1), ()),
    "and repaired then": (
        HOLD,
        replace(DAMAGED, repair_at=NOW),
        (StartTransfer(ROOT, NEW.digest, ("model.safetensors",)),),
    ),
    "what another model has brought is asked of this one's source": (
        HOLD,
        replace(NOTHING, copy=Copy(held=True, foreign=True)),
        (StartTransfer(ROOT, NEW.digest, ()),),
    ),
    "what is published was asked for before": (HOLD, replace(PARSED, copy=Copy(held=True, foreign=True)), ()),
    "a model leaves a place of others and says so": (
        HOLD,
        replace(PARSED, evicted=(ROOT,), obstacle=INVALID_PATH),
        (Unpublish(ROOT), Refuse(INVALID_PATH)),
    ),
    "a link that was tampered with is put right": (
        HOLD,
        replace(PARSED, publications=(PublishedName(ROOT, PATH, NEW, False),)),
        (Publish(ROOT, PATH, NEW.digest),),
    ),
    "a new revision is fetched beside the old one": (HOLD, OLD_PUBLISHED, (StartTransfer(ROOT, NEW.digest, ()),)),
    "another path of the same root is published without a transfer": (
        HOLD,
        replace(PARSED, publications=(PublishedName(ROOT, "/models/b", NEW, True),)),
        (Publish(ROOT, PATH, NEW.digest),),
    ),
    "a name in another root goes after the new one stands": (
        HOLD,
        ELSEWHERE,
        (Parse(), Publish(ROOT, PATH, NEW.digest), Unpublish(OTHER_ROOT)),
    ),
    "a transfer of another artifact is stopped": (
        HOLD,
        replace(NOTHING, transfer=transfer(TransferPhase.RUNNING, OLD.digest)),
        (StopTransfer("another artifact is desired"),),
    ),
    "a transfer into another root is stopped": (
        HOLD,
        replace(NOTHING, transfer=transfer(TransferPhase.QUEUED, root=OTHER_ROOT)),
        (StopTransfer("another artifact is desired"),),
    ),
    "a transfer that asks another source, or in another way, is stopped": (
        HOLD,
        replace(NOTHING, transfer=replace(transfer(TransferPhase.RUNNING), source=("hf://a/b", (("endpoint", "x"),)))),
        (StopTransfer("the source is to be asked in another way"),),
    ),
    "a transfer that asks the same goes on": (
        HOLD,
        replace(NOTHING, transfer=replace(transfer(TransferPhase.RUNNING), source=HOLD.source)),
        (),
    ),
    "a transfer that is stopping is waited for": (
        HOLD,
        replace(NOTHING, transfer=transfer(TransferPhase.STOPPING, OLD.digest)),
        (),
    ),
    "a setback is waited out": (HOLD, replace(NOTHING, setback=Setback(5, BUSY, NOW + 1)), ()),
    "a setback that is over is followed by another attempt": (
        HOLD,
        replace(NOTHING, setback=Setback(5, BUSY, NOW)),
        (StartTransfer(ROOT, NEW.digest, ()),),
    ),
    "a setback of an earlier assignment does not hold the next one up": (
        HOLD,
        replace(NOTHING, setback=Setback(4, REFUSED, None)),
        (StartTransfer(ROOT, NEW.digest, ()),),
    ),
    "a final setback is not tried again": (HOLD, replace(NOTHING, setback=Setback(5, REFUSED, None)), ()),
    "an unusable path is refused before anything is fetched": (
        HOLD,
        replace(NOTHING, obstacle=INVALID_PATH),
        (Refuse(INVALID_PATH),),
    ),
    "the parser is asked again when it is due": (
        HOLD,
        replace(PUBLISHED, parsing=Parsing(problem=BUSY, retry_at=NOW)),
        (Parse(),),
    ),
    "the parser is not asked again before": (
        HOLD,
        replace(PUBLISHED, parsing=Parsing(problem=BUSY, retry_at=NOW + 1)),
        (),
    ),
    "facts that other rules have made are asked for anew": (
        HOLD,
        replace(PUBLISHED, parsing=Parsing(facts_key="older", outdated=True)),
        (Parse(),),
    ),
    "facts that other rules have made are not asked for again before it is time": (
        HOLD,
        replace(PUBLISHED, parsing=Parsing(facts_key="older", outdated=True, retry_at=NOW + 1)),
        (),
    ),
    "what cannot be parsed is not parsed again": (HOLD, replace(PUBLISHED, parsing=Parsing(problem=REFUSED)), ()),
    "what an earlier artifact left in staging goes once the new one is there": (
        HOLD,
        replace(PARSED, leftovers=((ROOT, OLD.digest),)),
        (Abandon(ROOT, OLD.digest),),
    ),
    "a local directory is parsed in place": (LOCAL, HELD, (Parse(),)),
    "a local directory that is not there is refused": (
        LOCAL,
        replace(NOTHING, obstacle=INVALID_PATH),
        (Refuse(INVALID_PATH),),
    ),
    "a copy goes when the model is now read in place": (
        LOCAL,
        replace(PARSED, publications=(PublishedName(ROOT, PATH, OLD, True),)),
        (Unpublish(ROOT),),
    ),
    "a deleted model loses its name": (ABSENT, PARSED, (Unpublish(ROOT),)),
    "a deleted model whose files are to stay keeps its name": (RESERVED, PARSED, (Reserve(ROOT),)),
    "a link that leads elsewhere is not kept": (
        RESERVED,
        replace(PARSED, publications=(PublishedName(ROOT, PATH, NEW, False),)),
        (Unpublish(ROOT),),
    ),
    "what has been fetched in part is not kept": (
        RESERVED,
        replace(NOTHING, leftovers=((ROOT, NEW.digest),)),
        (Abandon(ROOT, NEW.digest),),
    ),
    "a deleted model's transfer is stopped first": (
        ABSENT,
        replace(PARSED, transfer=transfer(TransferPhase.RUNNING)),
        (StopTransfer("the model is deleted"),),
    ),
    "a deleted model's staging goes": (
        ABSENT,
        replace(NOTHING, leftovers=((ROOT, NEW.digest),)),
        (Abandon(ROOT, NEW.digest),),
    ),
    "a model that was never there is gone at once": (ABSENT, Observed(), ()),
    "a deletion that failed is waited out": (ABSENT, replace(PARSED, setback=Setback(6, BUSY, NOW + 1)), ()),
    "what is to be kept stays, and nothing is begun": (KEEP, PARSED, ()),
    "what is to be kept stays, and what runs goes on": (KEEP, RUNNING, ()),
    "nothing is repaired of what is to be kept": (KEEP, DAMAGED, ()),
}


@pytest.mark.parametrize(("desired", "observed", "expected"), PLANS.values(), ids=PLANS.keys())
def test_plan(desired: Desired, observed: Observed, expected: tuple[object, ...]) -> None:
    assert [_comparable(action) for action in plan(desired, observed, NOW)] == [_comparable(each) for each in expected]


def _comparable(action: object) -> object:
    """Errors are compared by what they say."""
    return str(action.error) if isinstance(action, Refuse) else action


DESCRIPTIONS = {
    "a model that waits for a slot is updating": (HOLD, NOTHING, NODE_PHASE_UPDATING, REASON_QUEUED, ""),
    "a model that is fetched is updating": (HOLD, RUNNING, NODE_PHASE_UPDATING, REASON_DOWNLOADING, ""),
    "a published model is ready": (HOLD, PARSED, NODE_PHASE_READY, 0, NEW.digest),
    "a model is ready without facts": (
        HOLD,
        replace(PUBLISHED, parsing=Parsing(problem=BUSY, retry_at=NOW)),
        NODE_PHASE_READY,
        0,
        NEW.digest,
    ),
    "a model that is fetched but not published is not ready": (HOLD, HELD, NODE_PHASE_UPDATING, REASON_QUEUED, ""),
    "a setback without a usable copy is a failure": (
        HOLD,
        replace(NOTHING, setback=Setback(5, BUSY, NOW + 1)),
        NODE_PHASE_FAILED,
        REASON_UNAVAILABLE,
        "",
    ),
    "another attempt is a failure until it does better": (
        HOLD,
        replace(RUNNING, setback=Setback(5, BUSY, NOW)),
        NODE_PHASE_FAILED,
        REASON_UNAVAILABLE,
        "",
    ),
    "another attempt that brings bytes is an update": (
        HOLD,
        replace(MOVING, setback=Setback(5, BUSY, NOW)),
        NODE_PHASE_UPDATING,
        REASON_DOWNLOADING,
        "",
    ),
    "a new revision comes beside an old copy, which is what counts": (
        HOLD,
        replace(OLD_PUBLISHED, transfer=Transfer(ROOT, NEW.digest, TransferPhase.RUNNING)),
        NODE_PHASE_READY,
        REASON_DOWNLOADING,
        OLD.digest,
    ),
    "a setback beside an old copy names what readers see": (
        HOLD,
        replace(OLD_PUBLISHED, setback=Setback(5, BUSY, NOW + 1)),
        NODE_PHASE_READY,
        REASON_UNAVAILABLE,
        OLD.digest,
    ),
    "a final setback takes nothing from those who read an old copy": (
        HOLD,
        replace(OLD_PUBLISHED, setback=Setback(5, REFUSED, None)),
        NODE_PHASE_READY,
        REASON_INVALID_PATH,
        OLD.digest,
    ),
    "a damaged copy is no longer ready": (HOLD, DAMAGED, NODE_PHASE_UPDATING, REASON_ARTIFACT_DAMAGED, ""),
    "a local directory is ready without a digest": (
        LOCAL,
        replace(HELD, parsing=Parsing(facts=FACTS)),
        NODE_PHASE_READY,
        0,
        "",
    ),
    "what is known to be incomplete is a failure": (
        HOLD,
        replace(HELD, parsing=INCOMPLETE, setback=Setback(5, REFUSED, None)),
        NODE_PHASE_FAILED,
        REASON_INCOMPLETE,
        "",
    ),
    "an old copy that is damaged is not what readers see": (
        HOLD,
        replace(NOTHING, publications=(OLD_DAMAGED,), setback=Setback(5, BUSY, NOW + 1)),
        NODE_PHASE_FAILED,
        REASON_UNAVAILABLE,
        "",
    ),
    "of several copies the one that is whole is what readers see": (
        HOLD,
        replace(NOTHING, publications=(OLD_DAMAGED, PublishedName(OTHER_ROOT, "/raid/models/a", OLD, True))),
        NODE_PHASE_READY,
        REASON_QUEUED,
        OLD.digest,
    ),
    "what is incomplete beside an old copy names what readers see": (
        HOLD,
        replace(OLD_PUBLISHED, copy=Copy(held=True), parsing=INCOMPLETE),
        NODE_PHASE_READY,
        REASON_INCOMPLETE,
        OLD.digest,
    ),
    "a local directory that is incomplete is a failure": (
        LOCAL,
        replace(HELD, parsing=INCOMPLETE),
        NODE_PHASE_FAILED,
        REASON_INCOMPLETE,
        "",
    ),
    "what is kept is ready as it is": (KEEP, PARSED, NODE_PHASE_READY, 0, NEW.digest),
    "what is kept and damaged is not ready": (KEEP, DAMAGED, NODE_PHASE_UPDATING, REASON_ARTIFACT_DAMAGED, ""),
    "of what is kept there may be nothing": (KEEP, Observed(), NODE_PHASE_UPDATING, REASON_RESOLVING, ""),
    "a model with nothing left is deleted": (ABSENT, Observed(), NODE_PHASE_DELETED, 0, ""),
    "a model is not deleted while bytes are written": (
        ABSENT,
        Observed(transfer=transfer(TransferPhase.STOPPING)),
        NODE_PHASE_UPDATING,
        REASON_DELETING,
        "",
    ),
    "a model is not deleted while staging is left": (
        ABSENT,
        Observed(leftovers=((ROOT, NEW.digest),)),
        NODE_PHASE_UPDATING,
        REASON_DELETING,
        "",
    ),
    "a model is not deleted because nobody could look": (
        ABSENT,
        Observed(complete=False, setback=Setback(6, BUSY, NOW + 1)),
        NODE_PHASE_FAILED,
        REASON_UNAVAILABLE,
        "",
    ),
    "a deletion that the disk refuses is a failure": (
        ABSENT,
        replace(PARSED, setback=Setback(6, BUSY, NOW + 1)),
        NODE_PHASE_FAILED,
        REASON_UNAVAILABLE,
        "",
    ),
}


@pytest.mark.parametrize(
    ("desired", "observed", "phase", "reason", "digest"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys()
)
def test_describe(desired: Desired, observed: Observed, phase: int, reason: int, digest: str) -> None:
    state = describe(desired, observed)

    assert (state.phase, state.problem.reason, state.artifact.digest) == (phase, reason, digest)
    assert state.assignment_revision == desired.revision
    assert state.model == desired.assignment.model


UPDATES = {
    "what is desired stands": (PUBLISHED, NODE_PHASE_UNSPECIFIED),
    "nothing stands": (HELD, NODE_PHASE_UNSPECIFIED),
    "an old copy stands and nothing is wrong": (OLD_PUBLISHED, NODE_PHASE_UPDATING),
    "an old copy stands and the next attempt comes": (
        replace(OLD_PUBLISHED, setback=Setback(5, BUSY, NOW + 1)),
        NODE_PHASE_UPDATING,
    ),
    "an old copy stands and there is no next attempt": (
        replace(OLD_PUBLISHED, setback=Setback(5, REFUSED, None)),
        NODE_PHASE_FAILED,
    ),
    "an old copy stands and the new one is incomplete": (
        replace(OLD_PUBLISHED, copy=Copy(held=True), parsing=INCOMPLETE),
        NODE_PHASE_FAILED,
    ),
    "the desired copy stands and is known to be incomplete": (
        replace(PUBLISHED, parsing=INCOMPLETE),
        NODE_PHASE_UNSPECIFIED,
    ),
    "the desired copy stands and is damaged": (DAMAGED, NODE_PHASE_UNSPECIFIED),
    "the disk of an old copy cannot be read": (
        replace(OLD_PUBLISHED, obstacle=Unavailable(Reason.DISK_ERROR, "EIO")),
        NODE_PHASE_UNSPECIFIED,
    ),
    "an old copy stands and the new place is refused": (
        replace(OLD_PUBLISHED, obstacle=INVALID_PATH, setback=Setback(5, REFUSED, None)),
        NODE_PHASE_FAILED,
    ),
    "an old copy stands and the new one is damaged": (
        replace(OLD_PUBLISHED, copy=Copy(True, ("config.json",), NEW.digest)),
        NODE_PHASE_UPDATING,
    ),
}


@pytest.mark.parametrize("case", UPDATES)
def test_a_node_has_a_word_of_its_own_for_what_comes_beside_a_good_copy_when(case: str) -> None:
    observed, update = UPDATES[case]
    state = describe(HOLD, observed)
    assert state.update == update
    assert not update or (state.phase, state.artifact, state.path) == (NODE_PHASE_READY, OLD, PATH)


USERS = Use(2, (Holder("serving", "llama-0"),))
KEPT = Kept(OLD, PATH, 1000.0, 1000.0 + 86400, USERS)


def test_a_node_tells_which_earlier_revisions_it_keeps_apart_from_what_pods_hold() -> None:
    kept = replace(KEPT, artifact=Artifact(digest="sha256:" + "c" * 64), revision=True, use=None)
    state = describe(HOLD, replace(OLD_PUBLISHED, kept=(KEPT, kept)))
    assert [each.artifact for each in state.held] == [OLD]
    assert [*state.kept_revisions] == [kept.artifact.digest]


ABSENCES: dict[str, tuple[Observed, int, int, str]] = {
    "nothing is left": (Observed(), NODE_PHASE_DELETED, 0, ""),
    "the name stands": (OLD_PUBLISHED, NODE_PHASE_UPDATING, REASON_DELETING, "removing"),
    "nobody has said who uses what has no name": (
        Observed(kept=(replace(KEPT, use=None),)),
        NODE_PHASE_UPDATING,
        REASON_DELETING,
        "removing",
    ),
    "Pods use what has no name": (
        Observed(kept=(KEPT,)),
        NODE_PHASE_UPDATING,
        REASON_IN_USE,
        "Pod serving/llama-0 and 1 more Pod use it: the files stay until 1970-01-02T00:16:40Z at the latest",
    ),
    "the name is spared for a moment": (
        replace(OLD_PUBLISHED, spared=Spared(Fate.SPARED, 60.0, None)),
        NODE_PHASE_UPDATING,
        REASON_IN_USE,
        "stays for a moment in case it is again",
    ),
    "Pods use the name": (
        replace(OLD_PUBLISHED, spared=Spared(Fate.HELD, 60.0, USERS)),
        NODE_PHASE_UPDATING,
        REASON_IN_USE,
        "Pod serving/llama-0 and 1 more Pod use it: it stays until 1970-01-01T00:01:00Z at the latest",
    ),
}


@pytest.mark.parametrize("case", ABSENCES)
def test_a_removal_says_what_it_waits_for_when(case: str) -> None:
    observed, phase, reason, said = ABSENCES[case]
    state = describe(ABSENT, observed)
    assert (state.phase, state.problem.reason) == (phase, reason)
    assert said in state.problem.message
    assert len(state.held) == len(observed.kept)


def test_what_pods_use_is_not_abandoned_before_they_are_done_with_it() -> None:
    leaving = Observed(leftovers=((ROOT, OLD.digest), (ROOT, NEW.digest)), kept=(KEPT,))
    assert plan(ABSENT, leaving, NOW) == (Abandon(ROOT, NEW.digest),)
    assert plan(ABSENT, replace(leaving, kept=()), NOW) == (Abandon(ROOT, OLD.digest), Abandon(ROOT, NEW.digest))
    assert describe(ABSENT, replace(leaving, leftovers=((ROOT, OLD.digest),))).problem.reason == REASON_IN_USE


def test_a_name_that_is_spared_is_not_taken_away_and_its_download_ends() -> None:
    spared = replace(OLD_PUBLISHED, spared=Spared(Fate.HELD, 60.0, USERS), leftovers=((ROOT, NEW.digest),))
    assert plan(ABSENT, spared, NOW) == ()
    running = replace(spared, transfer=Transfer(ROOT, NEW.digest, TransferPhase.RUNNING))
    assert [type(action) for action in plan(ABSENT, running, NOW)] == [StopTransfer]


def test_what_is_incomplete_is_told_with_its_facts_and_with_what_to_do() -> None:
    state = describe(HOLD, replace(HELD, parsing=replace(INCOMPLETE, facts=None, facts_key="key")))
    assert state.facts_key == "key"
    assert state.problem.problem_class == PROBLEM_CLASS_INVALID
    assert state.problem.message == (
        'a.safetensors is missing; mend the source, or set parameters.allowIncomplete to "true"'
    )


def test_description_of_a_setback_says_when_the_next_attempt_is() -> None:
    problem = Problem(reason=REASON_UNAVAILABLE, retry_at=Timestamp(seconds=1001))
    setback = Setback(5, problem, NOW + 1)

    assert describe(HOLD, replace(NOTHING, setback=setback)).problem.retry_at.ToSeconds() == 1001
    attempting = replace(NOTHING, setback=setback, transfer=transfer(TransferPhase.QUEUED))
    assert not describe(HOLD, attempting).problem.HasField("retry_at"), "the next attempt is under way"
    assert problem.HasField("retry_at"), "the remembered problem is not touched"


def test_retry_delay_grows_to_its_ceiling_and_never_falls_below_the_first_delay() -> None:
    highest = [retry_delay_seconds(attempt, 2, 60, 0.999, None) for attempt in range(1, 10)]
    lowest = [retry_delay_seconds(attempt, 2, 60, 0.0, None) for attempt in range(1, 10)]

    assert highest == sorted(highest)
    assert 59 < highest[-1] <= 60
    assert set(lowest) == {2.0}


def test_retry_delay_respects_what_the_other_side_asked_for() -> None:
    assert retry_delay_seconds(1, 2, 60, 0.0, 30.0) >= 30


def test_facts_that_the_fleet_shares_are_referred_to_and_not_repeated() -> None:
    shared = describe(HOLD, replace(PUBLISHED, parsing=Parsing(facts_key="key")))
    assert (shared.facts_key, shared.HasField("facts")) == ("key", False)
    alone = describe(HOLD, replace(PUBLISHED, parsing=Parsing(facts=FACTS)))
    assert (alone.facts_key, alone.facts) == ("", FACTS)
    assert plan(HOLD, replace(PUBLISHED, parsing=Parsing(facts_key="key")), NOW) == ()
    older = describe(HOLD, replace(PUBLISHED, parsing=Parsing(facts_key="older", outdated=True, retry_at=NOW)))
    assert (older.phase, older.facts_key, older.HasField("parse_problem")) == (NODE_PHASE_READY, "older", False)


def test_an_evicted_model_says_so_once_its_name_is_gone() -> None:
    gone = describe(HOLD, replace(NOTHING, away=AWAY))
    assert (gone.phase, gone.problem.reason, gone.artifact.digest) == (NODE_PHASE_EVICTED, REASON_EVICTED, "")
    assert gone.problem.message == AWAY
    assert describe(HOLD, replace(PARSED, away=AWAY)).phase == NODE_PHASE_UPDATING


ATTEMPTS = {
    "nothing failed": (None, None),
    "what failed is attempted when it is due": (Setback(5, BUSY, NOW + 9), NOW + 9),
    "what was due has been done": (Setback(5, BUSY, NOW - 60), None),
    "what failed for an earlier assignment is over": (Setback(4, BUSY, NOW + 9), None),
    "so it is with what was due then": (Setback(4, BUSY, NOW - 60), None),
    "what only an edit ends has no time": (Setback(5, REFUSED, None), None),
}


@pytest.mark.parametrize(("setback", "expected"), ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_a_model_that_waits_is_not_looked_at_for_an_attempt_that_has_been_made(
    setback: Setback | None, expected: float | None
) -> None:
    """One that is evicted, or that Pods hold, stays so for hours: what failed before must not have it looked at."""
    assert next_attempt_at(HOLD, setback, NOW) == expected

"""Folds what the fetchers say about one model into one statement about it: its status, its facts, its events.

Gathers the situation and lays out the document; conditions judges it, wording puts it into English. It is total and
deterministic, does not depend on the order of its inputs, and folding its own result again changes nothing. Must not
do I/O and must not know the time but by argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from libs.artifact.digest import digest_directory
from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.specification import planning_digest, skips_parsing
from libs.artifact.uri import Listing, allows_incomplete, syntax_of
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import ModelPlan, NodeModelState, Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UNSPECIFIED,
    NODE_PHASE_UPDATING,
    REASON_NODE_UNREACHABLE,
    REASON_QUEUED,
    Artifact,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.status import wording
from services.status.completeness import judge_whole, warnings_document
from services.status.conditions import (
    Cause,
    Judgement,
    NodeStanding,
    Situation,
    deletion_cause,
    foremost_reason,
    judge,
    not_planned,
    obstacle_of,
    parse_failure,
    parsing_skipped,
    unreachable_cause,
)
from services.status.facts import facts_document, spec_to_apply
from services.status.history import history_document
from services.status.progress import download_document, progress_document
from services.status.relations import NO_RELATIONS, Relations, relation_conditions, relation_fields
from services.status.serving import served_document, update_document, use_document
from services.status.transitions import EventDraft, transitions
from services.status.verifying import verification_document

FAILURES_LIMIT = 50


@dataclass(frozen=True)
class StatusView:
    """What there is to say about a model: status is .status as a document, spec_facts the spec to apply, if any."""

    status: dict[str, Any]
    spec_facts: dict[str, Any] | None
    events: tuple[EventDraft, ...]
    nodes: tuple[NodeStanding, ...]
    artifact: Artifact | None
    facts: ModelFacts | None


def fold(
    model: Mapping[str, Any],
    plan: ModelPlan | None,
    states: Mapping[str, NodeModelState],
    nodes: Mapping[str, bool],
    transfers: Mapping[str, Progress],
    previous: Mapping[str, Any],
    now: datetime,
    relations: Relations = NO_RELATIONS,
) -> StatusView:
    """Fold one model.

    model is the object as the API server has it, plan what the controller decided, states what each node says, nodes
    the nodes that exist and whether each can be reached, transfers the figures of downloads under way by node, previous
    the .status that was last written, relations the models that it is tied to.
    """
    spec = model.get("spec") or {}
    deleting = "deletionTimestamp" in model["metadata"]
    current = plan is not None and plan.spec_digest == planning_digest(spec, _annotations(model))
    situation = _assess(spec, deleting, plan, states, nodes)

    served = served_document(situation.artifact, plan, situation.desired, states, previous)
    update = None
    if not situation.complete:
        update = update_document(situation.artifact, plan, served, situation.desired, states, previous)
    facts, parse_cause = _facts(model, situation, states)
    # The facts are about what readers see; whether the model is whole is asked of what they are to see.
    shown = facts if not (served and situation.artifact) or served["digest"] == situation.artifact.digest else None
    metadata = facts_document(shown) if shown else _kept_metadata(model, plan, situation, served, previous)
    holding = [view for view in situation.desired if view.phase != NODE_PHASE_EVICTED]
    progress = progress_document(holding, situation.artifact, transfers, previous, now)
    kept = bool(metadata) and facts is None and not update
    whole = judge_whole(situation, plan if current else None, facts, kept, previous)
    ties = relation_conditions(model, relations, metadata)
    parsed = metadata if shown or metadata else None
    conditions = judge(situation, parsed, parse_cause, whole, ties, progress, previous, now)
    status: dict[str, Any] = {
        "state": situation.state,
        "lifecycle": _lifecycle(spec, deleting, situation, whole),
        "reason": foremost_reason(conditions),
        "nodesReady": list(situation.ready),
        "nodesFailed": [view.node for view in situation.failed],
        "nodes": {
            "desired": len(situation.desired),
            "ready": len(situation.ready),
            "updating": len(holding) - len(situation.ready) - len(situation.failed),
            "failed": len(situation.failed),
            "summary": "-" if situation.volume else f"{len(situation.ready)}/{len(situation.desired)}",
        },
        "conditions": conditions,
        "failures": _failures(situation),
    }
    generation = _observed_generation(model, plan, current, previous)
    if generation:
        status["observedGeneration"] = generation
    told = {"artifact": served, "update": update, "inUse": use_document(plan, states)}
    told["verification"] = verification_document(_annotations(model), situation.desired, states)
    status |= {name: document for name, document in told.items() if document}
    status |= relation_fields(model, relations, metadata)
    if history := history_document(plan, states, previous):
        status["history"] = history
        if "artifact" in status and len(history) > 1:
            status["artifact"]["previous"] = history[1]["digest"]
    if situation.evicted:
        status["nodesEvicted"] = [view.node for view in situation.evicted]
        status["nodes"]["evicted"] = len(situation.evicted)
    if progress:
        status["progress"] = progress
    if download := download_document(
        situation.complete and not deleting, situation.artifact, len(holding), previous, now
    ):
        status["download"] = download
    path = next((view.path for view in situation.desired if view.phase == NODE_PHASE_READY and view.path), "")
    if path:
        status["path"] = path
    if metadata:
        status["metadata"] = metadata
    if warnings := warnings_document(plan, facts, kept, previous):
        status["warnings"] = warnings
    return StatusView(
        status=status,
        spec_facts=spec_to_apply(model, shown) if shown and not deleting else None,
        events=transitions(previous, status),
        nodes=situation.nodes,
        artifact=situation.artifact,
        facts=shown,
    )


def _assess(
    spec: Mapping[str, Any],
    deleting: bool,
    plan: ModelPlan | None,
    states: Mapping[str, NodeModelState],
    nodes: Mapping[str, bool],
) -> Situation:
    artifact = plan.artifact if plan and plan.HasField("artifact") else None
    uri = (spec.get("storage") or {}).get("storageUri") or ""
    volume = plan.volume if plan and plan.HasField("volume") and uri.startswith("pvc://") else None
    if volume and volume.inspection.HasField("artifact"):
        artifact = volume.inspection.artifact
    if deleting:
        desired = {node for node, state in states.items() if state.phase != NODE_PHASE_DELETED}
    elif not spec.get("storage"):
        desired = set()
    elif spec.get("disabled"):
        desired = {node for node, state in states.items() if state.phase == NODE_PHASE_READY}
    else:
        desired = set(plan.desired_nodes) if plan else set()
    # They hold an earlier revision because they are told to.
    staying = frozenset(plan.rollout.staying_nodes) if plan and not deleting else frozenset[str]()
    holders = {node for node, state in states.items() if state.phase != NODE_PHASE_DELETED and node in nodes}
    # All nodes of a fleet say the same of a model, in one message: each such case is judged once.
    judged: dict[tuple[int, bool | None, bool], dict[str, Any]] = {}
    views = []
    for node in sorted(desired | holders):
        state, reachable, stays = states.get(node), nodes.get(node), node in staying
        case = id(state), reachable, stays
        if case not in judged:
            judged[case] = _standing(state, None if stays else plan, reachable)
        views.append(NodeStanding(node=node, desired=node in desired, **judged[case]))
    wanted = tuple(view for view in views if view.desired)
    unreachable = tuple(view for view in wanted if not view.reachable)
    return Situation(
        desired=wanted,
        ready=tuple(view.node for view in wanted if view.phase == NODE_PHASE_READY),
        failed=tuple(view for view in wanted if view.phase == NODE_PHASE_FAILED),
        failed_revisions=tuple(view for view in wanted if view.revision_failed),
        evicted=tuple(view for view in wanted if view.phase == NODE_PHASE_EVICTED),
        unreachable=unreachable,
        obstacle=_obstacle(spec, deleting, plan, wanted, unreachable),
        artifact=artifact,
        listed=_is_listed(uri),
        volume=volume,
        nodes=tuple(views),
        rollout=plan.rollout if plan and plan.HasField("rollout") and not deleting else None,
        follow_failure=plan.follow_failure if plan and plan.HasField("follow_failure") and not deleting else None,
    )


def _is_listed(uri: str) -> bool:
    """Whether a source has to be listed before anything can be fetched; of others perhaps nothing is copied."""
    try:
        return syntax_of(uri).listing is Listing.SOURCE
    except InvalidValue:
        return False


def _standing(state: NodeModelState | None, plan: ModelPlan | None, reachable: bool | None) -> dict[str, Any]:
    """Judge how nodes stand that say the same; reachable is None for those that do not exist."""
    phase = state.phase if state else NODE_PHASE_UNSPECIFIED
    reason, message = (state.problem.reason, state.problem.message) if state else (REASON_QUEUED, "")
    if reachable is None:
        phase, reason, message = NODE_PHASE_UPDATING, REASON_NODE_UNREACHABLE, wording.NODE_GONE
    elif phase in (NODE_PHASE_UNSPECIFIED, NODE_PHASE_DELETED):
        phase, reason, message = NODE_PHASE_UPDATING, REASON_QUEUED, wording.NOT_REPORTED
    revising = phase == NODE_PHASE_READY and state is not None and _is_revising(state, plan)
    if state and revising and not state.update:
        reason, message = REASON_QUEUED, wording.NODE_OUTDATED
    if reachable is False and phase != NODE_PHASE_FAILED:
        # What the node held when it was last heard of is still the best guess, so a Ready copy stays Ready.
        reason, message = REASON_NODE_UNREACHABLE, wording.NODE_SILENT
    return {
        "phase": phase,
        "reason": reason,
        "message": message,
        "reachable": bool(reachable),
        "path": state.path if state else "",
        "bytes_done": state.bytes_done if state else 0,
        "revising": revising,
        "revision_failed": revising and state is not None and state.update == NODE_PHASE_FAILED,
    }


def _is_revising(state: NodeModelState, plan: ModelPlan | None) -> bool:
    """Whether the good copy that readers see is not what they are to see."""
    return bool(state.update) or (plan is not None and _is_outdated(state, plan))


def _is_outdated(state: NodeModelState, plan: ModelPlan) -> bool:
    """Whether a node answers an earlier assignment, with other bytes or at another place."""
    if plan.HasField("artifact") and plan.artifact.digest != state.artifact.digest:
        return True
    return bool(plan.content_digest) and plan.content_digest != state.content_digest


def _obstacle(
    spec: Mapping[str, Any],
    deleting: bool,
    plan: ModelPlan | None,
    desired: Sequence[NodeStanding],
    unreachable: Sequence[NodeStanding],
) -> Cause | None:
    """What stands between the object and its nodes as a whole, if anything does."""
    if deleting:
        if unreachable:
            return unreachable_cause(unreachable)
        return deletion_cause(desired)
    if not spec.get("storage"):
        return Cause(Reason.NO_STORAGE, wording.NO_STORAGE)
    if spec.get("disabled"):
        return Cause(Reason.DISABLED, wording.DISABLED)
    if plan is None:
        return not_planned()
    if plan.HasField("problem"):
        return obstacle_of(plan.problem)
    if not desired and not plan.HasField("volume"):
        return Cause(Reason.NO_MATCHING_NODE, wording.NO_MATCHING_NODE)
    return None


def _facts(
    model: Mapping[str, Any], situation: Situation, states: Mapping[str, NodeModelState]
) -> tuple[ModelFacts | None, Cause | None]:
    """The facts to report, and why there are none. Facts of another artifact than the planned one do not count."""
    artifact = situation.artifact
    if skips_parsing(_annotations(model)):
        return None, parsing_skipped()
    if situation.volume:
        inspection = situation.volume.inspection
        if inspection.HasField("parse_problem"):
            return None, parse_failure(inspection.parse_problem)
        return (inspection.facts, None) if inspection.HasField("facts") else (None, None)
    # All nodes of a fleet say the same of a model, in one message: each of these is looked at once.
    distinct = {id(state): state for state in states.values()}
    directory = digest_directory(artifact.digest) if artifact and artifact.digest else ""
    about = {key for key, state in distinct.items() if not artifact or _is_about(state, artifact, directory)}
    ready = {key for key, state in distinct.items() if state.phase == NODE_PHASE_READY}
    for has in ("facts", "parse_problem"):
        having = {key for key in about if distinct[key].HasField(has)}
        if not having:
            continue
        telling = ((id(state) not in ready, node) for node, state in states.items() if id(state) in having)
        state = states[min(telling)[1]]
        return (state.facts, None) if has == "facts" else (None, parse_failure(state.parse_problem))
    return None, None


def _is_about(state: NodeModelState, artifact: Artifact, directory: str) -> bool:
    """Whether what a node tells of files is about an artifact: by the key of the facts that it refers to, if any.

    directory is that of the artifact. One that is refused as incomplete is not the one that readers see.
    """
    if state.facts_key:
        return bool(directory) and state.facts_key.startswith(f"{directory}.")
    return state.artifact.digest == artifact.digest


def _kept_metadata(
    model: Mapping[str, Any],
    plan: ModelPlan | None,
    situation: Situation,
    served: Mapping[str, Any] | None,
    previous: Mapping[str, Any],
) -> dict[str, Any]:
    """What was known of the same artifact stays known while no node says it, or while nobody says what it is."""
    if situation.volume:
        # The plan says all that is known of a volume.
        return {}
    digest = served["digest"] if served else ""
    other = plan is not None and (previous.get("artifact") or {}).get("digest", "") != digest
    if skips_parsing(_annotations(model)) or other:
        return {}
    return dict(previous.get("metadata") or {})


def _annotations(model: Mapping[str, Any]) -> Mapping[str, str]:
    return model["metadata"].get("annotations") or {}


def _failures(situation: Situation) -> list[dict[str, str]]:
    troubled = {view.node: view for view in (*situation.unreachable, *situation.troubled)}
    return [
        {
            "node": node,
            "reason": word_of(view.reason) or str(Reason.INTERNAL),
            "message": wording.sentence(view.message),
        }
        for node, view in sorted(troubled.items())
    ][:FAILURES_LIMIT]


def _lifecycle(spec: Mapping[str, Any], deleting: bool, situation: Situation, whole: Judgement) -> str:
    if deleting:
        return "Deleting"
    if spec.get("disabled"):
        return "Disabled"
    allowed = allows_incomplete((spec.get("storage") or {}).get("parameters") or {})
    if whole[0] == "False" and not (situation.ready or situation.found_in or allowed):
        return "Incomplete"
    return situation.state


def _observed_generation(
    model: Mapping[str, Any], plan: ModelPlan | None, current: bool, previous: Mapping[str, Any]
) -> int:
    """The generation that this status answers: the object's own as soon as nothing that planning reads is newer."""
    if current or not (model.get("spec") or {}).get("storage"):
        return int(model["metadata"].get("generation") or 0)
    return max(int(previous.get("observedGeneration") or 0), plan.generation if plan else 0)

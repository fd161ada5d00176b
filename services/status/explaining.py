"""Gathers what this replica knows of nodes for an explanation. What is said about it is decided in libs.model.

For the page as well as for gRPC. Must not wait for anything.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from libs.chassis.kube import Object
from libs.model.explanation import (
    EVICTED,
    FAILED,
    READY,
    UPDATING,
    Explanation,
    NodeFacts,
    Standing,
    explain_model,
    explain_node,
)
from libs.model.placement import placed_like
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import NodeModelState, Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    NodePhase,
)
from ome.status.v1.status_pb2 import ExplainResponse, Rule
from services.status.cluster import Cluster
from services.status.observations import Observations

_STATES: dict[NodePhase, str] = {
    NODE_PHASE_READY: READY,
    NODE_PHASE_UPDATING: UPDATING,
    NODE_PHASE_FAILED: FAILED,
    NODE_PHASE_EVICTED: EVICTED,
}


class Explainer:
    """Explains models from the objects and the words of nodes that this replica has heard."""

    def __init__(self, cluster: Cluster, observations: Observations) -> None:
        self._cluster = cluster
        self._observations = observations

    def knows_node(self, name: str) -> bool:
        """Whether there is a node of this name, or anything that it has said."""
        said = self._observations.states_of_node(name) or self._observations.heartbeat(name)
        return self._cluster.node(name) is not None or bool(said)

    def on_node(self, uid: str, node: str) -> Explanation | None:
        """Why a model is, or is not, on a node; None if there is no such model."""
        model = self._cluster.models.get(uid)
        if model is None:
            return None
        return explain_node(model, self._facts(uid, node), datetime.now(UTC), self._placement(model))

    def in_cluster(self, uid: str, with_other_nodes: bool) -> Explanation | None:
        """Why a model is not on more nodes; None if there is no such model.

        with_other_nodes looks also at nodes that neither hold it nor are meant to.
        """
        model = self._cluster.models.get(uid)
        if model is None:
            return None
        own = {*self._planned(uid), *self._observations.states_of_model(uid)}
        names: Iterable[str] = {*own, *self._cluster.node_names()} if with_other_nodes else own
        facts = [self._facts(uid, name) for name in names]
        return explain_model(model, facts, self._placement(model), with_labels=with_other_nodes)

    def _placement(self, model: Object) -> Mapping[str, Any] | None:
        """The storage whose rules choose the nodes of a weight that follows its base; None for other models."""
        base, storage = self._cluster.relations(model).base, (model.get("spec") or {}).get("storage")
        return placed_like(storage, (base.get("spec") or {}).get("storage") or {}) if base and storage else None

    def _facts(self, uid: str, name: str) -> NodeFacts:
        node: Object | None = self._cluster.node(name)
        state = self._observations.states_of_model(uid).get(name)
        plan = self._observations.plan(uid)
        return NodeFacts(
            name=name,
            labels=(node or {"metadata": {}})["metadata"].get("labels") or {},
            exists=node is not None,
            reports=self._observations.reachable(name),
            planned=None if plan is None else name in self._planned(uid),
            standing=standing_of(state, self._observations.progress(name, uid)) if state else None,
        )

    def _planned(self, uid: str) -> frozenset[str]:
        return self._observations.desired_nodes(uid)


def standing_of(state: NodeModelState, progress: Progress | None) -> Standing | None:
    """What a node says of a model; None if it says that it has nothing of it."""
    if state.phase not in _STATES:
        return None
    problem, figures = state.problem, progress or Progress(bytes_done=state.bytes_done)
    return Standing(
        state=_STATES[state.phase],
        reason=word_of(problem.reason),
        message=problem.message,
        path=state.path,
        retry_at=problem.retry_at.ToDatetime(UTC) if problem.HasField("retry_at") else None,
        bytes_done=figures.bytes_done,
        bytes_total=figures.bytes_total or state.artifact.bytes,
        bytes_per_second=figures.bytes_per_second,
        eta_seconds=figures.eta_seconds,
        update=_STATES.get(state.update, ""),
    )


def explanation_message(explained: Explanation) -> ExplainResponse:
    """An explanation as StatusService tells it."""
    return ExplainResponse(
        verdict=explained.verdict,
        wanted=explained.wanted,
        rules=[
            Rule(term=rule.term, requirement=rule.requirement, satisfied=rule.satisfied, found=rule.had)
            for rule in explained.rules
        ],
        details=explained.details,
        last=explained.last,
        next=explained.next,
        who=explained.who,
        todo=explained.todo,
    )

"""Models, plans and states to fold."""

from datetime import UTC, datetime
from typing import Any

from libs.artifact.specification import planning_digest
from libs.model.kinds import model_ref
from ome.fetch.v1.fetch_pb2 import ModelPlan, NodeModelState, Problem, ProblemClass, Progress, Volume, VolumeInspection
from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    Artifact,
    NodePhase,
    Reason,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.status.folding import StatusView, fold

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 13, 0, 0, tzinfo=UTC)
UID = "0b6e4cf5-9a55-4b0a-8f1f-3d6f0e1c2a11"
DIGEST = "sha256:" + "a" * 64
OLD_DIGEST = "sha256:" + "b" * 64
ARTIFACT = Artifact(digest=DIGEST, source_revision="c0ffee", bytes=91_000_000, files=9)
FACTS = ModelFacts(model_type="bert", architecture="BertModel", parameter_size="22M", context_length=512)


def a_model(uri: str = "hf://org/model", kind: str = "ClusterBaseModel", **spec: Any) -> dict[str, Any]:
    """A model object of generation 3; without a URI it has no storage."""
    storage = {"storage": {"storageUri": uri}} if uri else {}
    return {
        "apiVersion": "ome.io/v1beta1",
        "kind": kind,
        "metadata": {"name": "minilm", "uid": UID, "generation": 3},
        "spec": {**storage, **spec},
    }


def a_plan(model: dict[str, Any], *nodes: str, artifact: Artifact | None = ARTIFACT, **more: Any) -> ModelPlan:
    """The plan that answers the model as it is."""
    return ModelPlan(
        model=model_ref(model),
        generation=model["metadata"]["generation"],
        spec_digest=planning_digest(model["spec"], model["metadata"].get("annotations") or {}),
        desired_nodes=sorted(nodes),
        artifact=artifact,
        **more,
    )


def a_volume(found: bool = True, **more: Any) -> Volume:
    """A claim, and what was found in its volume."""
    inspection = VolumeInspection(subject="s", number=1, **more)
    if found:
        inspection.found_at.FromSeconds(1)
        inspection.artifact.CopyFrom(Artifact(bytes=91_000_000, files=9))
    return Volume(namespace="team-a", claim="storage", path="minilm", inspection=inspection)


def a_problem(reason: Reason, message: str = "it went wrong", kind: ProblemClass = 0) -> Problem:  # type: ignore[assignment]
    """A problem."""
    return Problem(reason=reason, message=message, problem_class=kind)


def a_state(phase: NodePhase, problem: Problem | None = None, **more: Any) -> NodeModelState:
    """What a node says."""
    return NodeModelState(phase=phase, problem=problem, path="/models/minilm", **more)


def ready(digest: str = DIGEST, **more: Any) -> NodeModelState:
    """A node that holds an artifact."""
    return a_state(NODE_PHASE_READY, artifact=Artifact(digest=digest), **more)


def updating(reason: Reason = REASON_DOWNLOADING) -> NodeModelState:
    """A node that fetches."""
    return a_state(NODE_PHASE_UPDATING, a_problem(reason, ""))


def beside(reason: Reason, update: NodePhase = NODE_PHASE_UPDATING, digest: str = OLD_DIGEST) -> NodeModelState:
    """A node whose readers see a good copy of an earlier revision, while it fetches another."""
    return ready(digest, problem=a_problem(reason), update=update)


def failed(reason: Reason, message: str = "it went wrong") -> NodeModelState:
    """A node that has failed."""
    return a_state(NODE_PHASE_FAILED, a_problem(reason, message))


def folded(
    model: dict[str, Any],
    plan: ModelPlan | None = None,
    states: dict[str, NodeModelState] | None = None,
    nodes: dict[str, bool] | None = None,
    previous: dict[str, Any] | None = None,
    transfers: dict[str, Progress] | None = None,
    now: datetime = NOW,
) -> StatusView:
    """Fold; the nodes that exist are by default those that are planned, all of them reachable."""
    states = states or {}
    live = dict.fromkeys((*(plan.desired_nodes if plan else ()), *states), True)
    return fold(model, plan, states, live if nodes is None else nodes, transfers or {}, previous or {}, now)


def conditions(view: StatusView) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    return {item["type"]: (item["status"], item["reason"]) for item in view.status["conditions"]}


def message(view: StatusView, name: str) -> str:
    """The message of a condition."""
    return next(str(item["message"]) for item in view.status["conditions"] if item["type"] == name)

"""Reports one model: folds what is known, shows it to gRPC, and on the leader writes facts, status and events.

Owns the order and the number of writes. What is written is decided by folding, when by pacing.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from libs.artifact.reasons import Reason
from libs.chassis.budget import Budget
from libs.chassis.errors import Invalid, Missing, ServiceError
from libs.chassis.kube import Object
from libs.model.reasons import word_of
from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY
from services.status.catalog import Catalog
from services.status.cluster import MODELS, Cluster
from services.status.folding import StatusView, fold
from services.status.kube import Resource, Writer
from services.status.messages import model_message
from services.status.metrics import FAILURES, FOLD_SECONDS, MODELS_IN_STATE, READY_SECONDS
from services.status.observations import Observations
from services.status.pacing import (
    Pacer,
    ProgressPacer,
    differs_in_progress_alone,
    fold_patience_seconds,
    status_patience_seconds,
)
from services.status.tally import Tally, waited_seconds
from services.status.trail import Trail
from services.status.transitions import NOTE_BYTES, EventDraft

EVENTS = Resource("events.k8s.io/v1", "events", "Event")
REPORTING_CONTROLLER = "ome.io/status"
# Events of cluster-scoped objects stand in this namespace, as client-go's recorder has it.
_EVENTS_NAMESPACE = "default"
# Leaves room for the time in a name of at most 253 characters.
_EVENT_NAME_LENGTH = 230

# Of the time, what folding all models may take while all of them change, and what requests to write may be under way.
_FOLDING_SHARE, _WRITING_SHARE, _LONGEST_SECONDS = 0.05, 0.5, 10.0

# How often a download that stands still is looked at.
_PROGRESS_LOOK_SECONDS = 1.0
_log = structlog.get_logger()


class ModelLoop:
    """Reconciles models by uid; only the leader writes."""

    def __init__(
        self,
        writer: Writer,
        cluster: Cluster,
        observations: Observations,
        catalog: Catalog,
        leading: Callable[[], bool],
        instance: str,
        trail: Trail,
    ) -> None:
        self._writer = writer
        self._cluster = cluster
        self._observations = observations
        self._catalog = catalog
        self._leading = leading
        self._instance = instance
        self._trail = trail
        self._tally = Tally()
        self._pacer: Pacer[str] = Pacer()
        self._progress: ProgressPacer[str] = ProgressPacer()
        self._folds: Budget[str] = Budget(_FOLDING_SHARE, _LONGEST_SECONDS)
        self._writes: Budget[str] = Budget(_WRITING_SHARE, _LONGEST_SECONDS)
        # What was asked for and what the API server made of it: a schema that drops a field must not make us ask
        # again and again.
        self._written: dict[str, tuple[Object, Object]] = {}
        self._refused: dict[str, Object] = {}

    def patience_seconds(self, uid: str) -> float:
        """How long a model that has changed may wait to be folded."""
        gathering = fold_patience_seconds(len(self._observations.states_of_model(uid)))
        return max(gathering, self._folds.patience_seconds(uid))

    def show(self, uid: str) -> None:
        """Have gRPC tell of a model, without writing anything."""
        model = self._cluster.models.get(uid)
        if model:
            self._fold(model)

    async def reconcile(self, uid: str) -> float | None:
        """Bring everything that is said about a model up to date; returns when to look again, in seconds."""
        model = self._cluster.models.get(uid)
        if model is None:
            self._forget(uid)
            return None
        folding, view = self._trail.now(), self._fold(model)
        if not self._leading():
            return None
        try:
            if view.spec_facts is not None and view.spec_facts != self._refused.get(uid):
                model = await self._apply_facts(uid, model, view.spec_facts)
                folding, view = self._trail.now(), self._fold(model)
            return await self._write_status(uid, model, view, folding)
        except Missing as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            # The object went while we wrote; the watch is about to say so.
            return None

    def _fold(self, model: Object) -> StatusView:
        uid, started = model["metadata"]["uid"], time.thread_time()
        nodes, states = self._reachable_nodes(model), self._observations.states_of_model(uid)
        figures = ((node, self._observations.progress(node, uid)) for node in states)
        with FOLD_SECONDS.time():
            view = fold(
                model,
                self._observations.plan(uid),
                states,
                nodes,
                {node: each for node, each in figures if each},
                model.get("status") or {},
                datetime.now(UTC),
                self._cluster.relations(model),
            )
        self._catalog.put(model_message(model, view))
        self._count(uid, view)
        self._folds.spent(uid, time.thread_time() - started)
        return view

    def _count(self, uid: str, view: StatusView) -> None:
        failed = [word_of(node.reason) for node in view.nodes if node.desired and node.phase == NODE_PHASE_FAILED]
        self._tally.put(uid, view.status["lifecycle"], failed)
        self._show_counts()

    def _show_counts(self) -> None:
        for state, number in self._tally.states():
            MODELS_IN_STATE.labels(state).set(number)
        for reason, number in self._tally.failures():
            FAILURES.labels(reason).set(number)

    def _reachable_nodes(self, model: Object) -> dict[str, bool]:
        """Every node and whether it can be reached. Until that is known, what was written last is taken to hold, so
        that a restart makes no difference to anyone."""
        failures = (model.get("status") or {}).get("failures") or []
        lost = {failure["node"] for failure in failures if failure["reason"] == Reason.NODE_UNREACHABLE}
        reachable = self._observations.reachable
        return {
            node: node not in lost if (answer := reachable(node)) is None else answer
            for node in self._cluster.node_names()
        }

    async def _apply_facts(self, uid: str, model: Object, spec: Object) -> Object:
        try:
            applied = await self._writer.apply(MODELS[model["kind"]], {"metadata": _address(model), "spec": spec})
        except Invalid as error:
            # The facts remain in .status.metadata; only the convenience of having them in the spec is lost.
            _log.warning("facts_refused", model=_name(model), message=error.message)
            self._refused[uid] = spec
            return model
        self._refused.pop(uid, None)
        self._cluster.absorb_model(applied)
        return applied

    async def _write_status(self, uid: str, model: Object, view: StatusView, folding: float) -> float | None:
        before, now = model.get("status") or {}, asyncio.get_running_loop().time()
        if "progress" not in view.status:
            self._progress.ended(uid)
        if view.status == before or self._written.get(uid) == (view.status, before):
            self._pacer.settled(uid)
            self._writes.forget(uid)
            return self._next_progress_seconds(uid, view, now)
        progress_alone = differs_in_progress_alone(before, view.status)
        if progress_alone:
            self._pacer.settled(uid)
            remaining = self._progress.remaining_seconds(uid, now)
        else:
            patience = status_patience_seconds(before, view.status)
            if patience:
                patience = max(patience, self._writes.patience_seconds(uid))
            remaining = self._pacer.remaining_seconds(uid, patience, now)
        if remaining > 0:
            return remaining
        body = {"metadata": _address(model), "status": view.status}
        ready, writing = self._ready_nodes(uid) if self._trail.heard else [], self._trail.now()
        applied = await self._writer.apply(MODELS[model["kind"]], body, "status", force=True)
        ended = asyncio.get_running_loop().time()
        self._pacer.written(uid, now, ended)
        if progress_alone:
            self._progress.written(uid, ended)
        self._writes.spent(uid, ended - now)
        self._written[uid] = (view.status, applied.get("status") or {})
        self._cluster.absorb_model(applied)
        self._trail.written(applied, before, ready, folding, writing)
        if (waited := waited_seconds(model, before, view.status)) is not None:
            READY_SECONDS.observe(waited)
        counts = view.status["nodes"]
        _log.info("status_written", model=_name(model), uid=uid, state=view.status["state"], **counts)
        for draft in view.events:
            await self._record(model, draft)
        return self._next_progress_seconds(uid, view, ended)

    def _ready_nodes(self, uid: str) -> list[tuple[str, str]]:
        """Each node that says that it is Ready, with the digest of its copy."""
        states = self._observations.states_of_model(uid).items()
        return [(node, state.artifact.digest) for node, state in states if state.phase == NODE_PHASE_READY]

    def _next_progress_seconds(self, uid: str, view: StatusView, now: float) -> float | None:
        """When to look how far the nodes are: nothing else tells of bytes that arrive."""
        if "progress" not in view.status:
            return None
        return max(_PROGRESS_LOOK_SECONDS, self._progress.remaining_seconds(uid, now))

    async def _record(self, model: Object, draft: EventDraft) -> None:
        metadata = model["metadata"]
        namespace = metadata.get("namespace", "")
        regarding = {"apiVersion": model["apiVersion"], "kind": model["kind"], "name": metadata["name"]}
        regarding |= {"uid": metadata["uid"], "namespace": namespace}
        now = datetime.now(UTC)
        body = {
            # The API server's generateName takes no prefix that ends in a dot, which is how events are named elsewhere.
            "metadata": {"name": f"{metadata['name'][:_EVENT_NAME_LENGTH]}.{int(now.timestamp() * 1e6):x}"},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Report",
            "type": draft.type,
            "reason": draft.reason,
            "note": draft.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "regarding": regarding,
        }
        try:
            await self._writer.create(EVENTS, body, namespace or _EVENTS_NAMESPACE)
        except ServiceError as error:
            # An event is a courtesy; the status that it tells of is written already and is not written twice for it.
            _log.warning("event_not_recorded", model=_name(model), about=draft.reason, message=error.message)

    def _forget(self, uid: str) -> None:
        self._catalog.remove(uid)
        self._tally.remove(uid)
        self._show_counts()
        self._pacer.forget(uid)
        self._progress.ended(uid)
        self._folds.forget(uid)
        self._writes.forget(uid)
        self._written.pop(uid, None)
        self._refused.pop(uid, None)
        self._trail.forget(uid)


def _address(model: Object) -> Object:
    """Names an object so that a write can neither create it nor hit a successor of the same name."""
    metadata = model["metadata"]
    return {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}


def _name(model: Object) -> str:
    metadata = model["metadata"]
    return "/".join(filter(None, (model["kind"], metadata.get("namespace"), metadata["name"])))

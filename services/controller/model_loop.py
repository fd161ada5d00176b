"""The model loop: for one model at a time, gather what is known, plan, apply in order. Planning decides what to do."""

import time
from collections import Counter
from functools import partial
from itertools import groupby

import prometheus_client
import structlog
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.budget import Budget
from libs.chassis.health import Health
from libs.chassis.kube import KubeClient
from libs.chassis.nats_client import delete_key, publish_once, put_if
from libs.chassis.tasks import run_pipelined
from libs.chassis.work import KeyedQueue
from services.controller import listings, planning, volumes
from services.controller.kube import add_finalizer, remove_finalizer
from services.controller.observations import Observations
from services.controller.settings import Settings
from services.controller.streams import ensure_pool
from services.controller.trail import Trail

_TOLD_TO_NODES = (planning.Assign, planning.Forget)
# Writes of one model that wait for their acknowledgements at a time. As many models are worked on as there are workers.
_IN_FLIGHT = 32
# Of the time, what planning all models may take while nodes have news of all of them.
_PLANNING_SHARE, _LONGEST_SECONDS = 0.1, 10.0
_log = structlog.get_logger()
_actions = prometheus_client.Counter("ome_controller_actions", "Actions applied, by kind.", ["action"])


class ModelLoop:
    """Brings the fleet's desired state in line with the model objects."""

    def __init__(self, settings: Settings, health: Health, trail: Trail) -> None:
        self._trail = trail
        self.queue: KeyedQueue[str] = KeyedQueue("models")
        self._budget: Budget[str] = Budget(_PLANNING_SHARE, _LONGEST_SECONDS)
        self.observations = Observations(settings, health, self.queue.add, self.queue.add_later, self._changed_soon)
        self._resync_seconds = settings.resync_seconds

    def lead(self, leading: bool) -> None:
        """This replica begins or ceases to lead."""
        if leading:
            self.observations.look_at_everything()
            self.observations.gates.look_at_everything()
        else:
            self.observations.secrets.clear()

    async def reconcile(self, kube: KubeClient, js: JetStreamContext, uid: str) -> float | None:
        """Bring one model's desired state up to date; returns when to look again, in seconds.

        For the leader alone: two that write would undo each other's work.
        """
        known, started, began = self.observations, time.thread_time(), self._trail.now()
        observed = known.observed_of(uid)
        decided = planning.plan(observed, known.rules, time.monotonic())
        self._budget.spent(uid, time.thread_time() - started)
        planned = self._trail.now()
        known.decided(observed, decided.actions)
        known.secrets.follow(uid, decided.awaited_secret)
        # What is told to one node does not depend on another; everything else happens in order.
        for told, actions in groupby(decided.actions, lambda action: isinstance(action, _TOLD_TO_NODES)):
            steps = [partial(self._apply, kube, js, uid, action) for action in actions]
            await run_pipelined(steps, _IN_FLIGHT if told else 1)
        for action in decided.actions:
            if isinstance(action, planning.Assign):
                self._trail.assigned(observed, action.node, action.assignment, began, planned)
        if decided.actions:
            counts = Counter(f"{type(action).__name__}: {action.reason}" for action in decided.actions)
            _log.info(
                "reconciled",
                model=observed.model.ref.name if observed.model else None,
                uid=uid,
                actions=[f"{each} ({count})" if count > 1 else each for each, count in counts.items()],
            )
        if not known.knows(uid):
            known.forget_asking(uid)
            return None
        return min(filter(None, (decided.look_again_seconds, self._resync_seconds)))

    def _changed_soon(self, uid: str) -> None:
        """What one of a model's nodes says has changed: of a thousand that follow each other many make one plan."""
        self.queue.add_later(uid, self._budget.patience_seconds(uid))

    async def _apply(self, kube: KubeClient, js: JetStreamContext, uid: str, action: planning.Action) -> None:
        known = self.observations
        _actions.labels(type(action).__name__).inc()
        match action:
            case planning.AddFinalizer() if item := known.item(uid):
                await add_finalizer(kube, item)
            case planning.RemoveFinalizer() if item := known.item(uid):
                await remove_finalizer(kube, item)
                # The watch says what becomes of the object, and may have said it before the answer came; until then
                # there is nothing more to do.
                known.forget_object(uid)
            case listings.AskForListing():
                await self._ask(js, uid, action)
            case planning.Assign(node, assignment, last_revision):
                key = names.node_key(node, uid)
                revision = await put_if(js, names.DESIRED_BUCKET, key, assignment.SerializeToString(), last_revision)
                known.assigned(node, uid, revision, assignment)
            case planning.Forget(node):
                key = names.node_key(node, uid)
                await delete_key(js, names.DESIRED_BUCKET, key)
                await delete_key(js, names.OBSERVED_BUCKET, key)
            case planning.ForgetListing(key):
                await delete_key(js, names.RESOLVED_BUCKET, key)
                known.listing_forgotten(uid, key)
            case planning.Report(report):
                revision = await put_if(
                    js, names.PLANS_BUCKET, uid, report.SerializeToString(), known.plans.revision(uid)
                )
                known.plans.remember(uid, revision, report)
            case planning.Unreport():
                await delete_key(js, names.PLANS_BUCKET, uid)
            case volumes.CreateJob():
                await known.volumes.create(kube, action)
            case volumes.DeleteJob():
                await known.volumes.delete(kube, action)

    async def _ask(self, js: JetStreamContext, uid: str, ask: listings.AskForListing) -> None:
        await ensure_pool(js, ask.pool)
        subject = names.resolve_subject(ask.pool)
        await publish_once(js, subject, ask.task.SerializeToString(), ask.message_id)
        self.observations.listing_asked(uid, ask.task, ask.secret_version)

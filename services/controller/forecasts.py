"""Answers the status service what would come of a manifest: plans it as it would be planned, and has its source tried.

Writes nothing. Whether the caller may create such a model, the status service has made sure of: so the Secret that the
manifest names is one that a model of the caller's could name, and goes where that model's could go, and no further.
"""

import contextlib
import time
from dataclasses import replace

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, ServiceError, Unavailable
from libs.chassis.kube import Object
from libs.chassis.nats_answering import answer_each
from libs.model.placement import check_placement
from libs.model.posted import read_manifest
from libs.model.problems import problem_of
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import forecasting, planning
from services.controller.bases import placement_of
from services.controller.credentials import CredentialsServer
from services.controller.listings import AskForListing
from services.controller.observations import Observations
from services.controller.specification import ModelSource, ModelSpec

_QUEUE = "ome-forecasts"
# A resolver answers within 20 seconds.
_TRIAL_SECONDS = 25.0
_MOST_FORECASTS = 8
_UNREADABLE = (
    "the manifest has a field of another type than the CRD says: kubectl apply --dry-run=server names the field"
)
_log = structlog.get_logger()


class ForecastServer:
    """Answers from what this replica knows; replicas share the work."""

    def __init__(self, client: Client, known: Observations, credentials: CredentialsServer) -> None:
        self._client = client
        self._known = known
        self._credentials = credentials
        self._running = 0

    async def run(self) -> None:
        """Answer until cancelled."""
        await answer_each(self._client, names.FORECAST_SUBJECT, _QUEUE, self._answer)

    async def _answer(self, message: Msg) -> None:
        reply = fetch_pb2.ForecastReply()
        self._running += 1
        try:
            if self._running > _MOST_FORECASTS:
                raise Unavailable(Reason.OVERLOADED, "too many plans are made at this time: ask again later")
            request = fetch_pb2.ForecastRequest.FromString(message.data)
            reply.forecast.CopyFrom(await self._forecast(request, read_manifest(request.manifest)))
        except (DecodeError, InvalidValue, ServiceError) as error:
            reply.problem.CopyFrom(problem_of(error, "controller"))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            # Admission refuses what has other types than the CRD says, so what reads a model takes them for given.
            _log.info("manifest_unreadable", error=type(error).__name__)
            reply.problem.CopyFrom(problem_of(Invalid(Reason.INVALID_PARAMETER, _UNREADABLE), "controller"))
        finally:
            self._running -= 1
        try:
            await message.respond(reply.SerializeToString())
        except nats.errors.Error as error:
            _log.warning("forecast_unanswered", error=f"{type(error).__name__}: {error}")

    async def _forecast(self, request: fetch_pb2.ForecastRequest, item: Object) -> model_pb2.Forecast:
        observed = self._known.observed_if(item)
        plan, model = self._plan(observed), observed.model
        assert model
        forecast = model_pb2.Forecast(model=model.ref, exists=bool(model.ref.uid))
        forecast.source = (model.storage or {}).get("storageUri") or ""
        source = self._usable_source(model, forecasting.reported(plan))
        resolution = None
        if source is not None:
            forecast.credentials = forecasting.credentials_in_words(source)
            resolution = await self._tried(forecast, model, source, _pool_of(plan))
        if source is not None and resolution is not None:
            # As planning would hear of it: its answer to the same listing is the one that counts.
            plan = self._plan(replace(observed, resolutions={source.key: resolution}))
        report = forecasting.reported(plan)
        self._tell(forecast, request, observed, report, model)
        return forecast

    def _plan(self, observed: planning.Observed) -> planning.Plan:
        return planning.plan(observed, self._known.rules, time.monotonic())

    def _usable_source(self, model: ModelSpec, report: fetch_pb2.ModelPlan) -> ModelSource | None:
        """The source that is to be listed; None where nothing of it is, or not as the model is written."""
        if model.disabled or report.problem.problem_class == fetch_pb2.PROBLEM_CLASS_INVALID:
            return None
        source = self._known.source_of(model)
        return source if source and source.needs_listing else None

    async def _tried(
        self, forecast: model_pb2.Forecast, model: ModelSpec, source: ModelSource, pool: str
    ) -> fetch_pb2.Resolution | None:
        """What listing the source has found or failed with; None where nobody could list it."""
        schema_path = (model.storage or {}).get("schemaPath") or ""
        task = fetch_pb2.TrialTask(source=source.source, namespace=model.ref.namespace, schema_path=schema_path)
        try:
            if source.source.has_secret:
                await self._credentials.read(task.credentials, model, source)
            reply = await self._try(task, pool)
        except (InvalidValue, ServiceError) as error:
            problem = problem_of(error, "controller")
            forecast.source_reason, forecast.source_message = problem.reason, problem.message
            is_final = isinstance(error, InvalidValue) or not isinstance(error, Unavailable)
            # What is wrong with the credentials, a listing would tell as well.
            return fetch_pb2.Resolution(problem=problem) if is_final else None
        forecast.files.extend(reply.files)
        forecast.disk_bytes = reply.disk_bytes
        if reply.HasField("facts"):
            forecast.facts.CopyFrom(reply.facts)
        problem = reply.resolution.problem
        forecast.source_reason, forecast.source_message = problem.reason, problem.message
        forecast.listed = reply.resolution.HasField("artifact") and bool(reply.resolution.artifact.digest)
        forecast.completeness.CopyFrom(reply.resolution.completeness)
        return reply.resolution

    async def _try(self, task: fetch_pb2.TrialTask, pool: str) -> fetch_pb2.TrialReply:
        try:
            subject = names.trial_subject(pool)
            message = await self._client.request(subject, task.SerializeToString(), timeout=_TRIAL_SECONDS)
            return fetch_pb2.TrialReply.FromString(message.data)
        except (TimeoutError, nats.errors.Error, DecodeError) as error:
            why = f"no resolver of pool {pool} answers, so nobody can list the source now: {type(error).__name__}"
            raise Unavailable(Reason.UNAVAILABLE, why) from error

    def _tell(
        self,
        forecast: model_pb2.Forecast,
        request: fetch_pb2.ForecastRequest,
        observed: planning.Observed,
        report: fetch_pb2.ModelPlan,
        model: ModelSpec,
    ) -> None:
        """Put what was decided, and how it is on the nodes, into the forecast."""
        if report.problem.reason != model_pb2.REASON_RESOLVING:
            forecast.reason, forecast.message = report.problem.reason, report.problem.message
        forecast.artifact.CopyFrom(report.artifact)
        forecast.remarks.extend(report.warnings)
        path = (model.storage or {}).get("path") or ""
        rooms = [self._room(node, observed) for node in report.desired_nodes]
        uids = {uid for room in rooms for each in room.residents for uid in each.models}
        refs = {uid: ref for uid in uids if (ref := self._known.ref_of(uid))}
        forecasting.add_nodes(forecast, rooms, path, refs)
        placement = placement_of(model, observed.base)
        if request.tells_nodes and placement and not report.HasField("volume"):
            # Where the rules cannot be read, the problem says so.
            with contextlib.suppress(InvalidValue):
                check_placement(placement)
                found = forecasting.misses(placement, observed.nodes.values(), report.desired_nodes, with_labels=True)
                forecast.misses.extend(found)
        if not request.tells_nodes:
            for node in forecast.nodes:
                node.total_bytes = node.free_bytes = node.reserved_bytes = node.evictable_bytes = 0

    def _room(self, node: str, observed: planning.Observed) -> forecasting.NodeRoom:
        residents = self._known.residents(node)
        held = observed.states.get(node)
        return forecasting.NodeRoom(
            name=node,
            heartbeat=self._known.heartbeats.get(names.node_token(node)),
            residents=residents,
            paths={uid: self._known.path_on_nodes(uid) for each in residents for uid in each.models},
            digest=held.artifact.digest if held and held.phase == model_pb2.NODE_PHASE_READY else "",
        )


def _pool_of(plan: planning.Plan) -> str:
    """The pool that would be asked to list the source; the usual one while there is no node to ask for."""
    asked = (action.pool for action in plan.actions if isinstance(action, AskForListing))
    return next(asked, planning.DEFAULT_POOL)

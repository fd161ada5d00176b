"""Lists a source once for who asks what would come of a model, before there is one, and has its configuration parsed.

For the resolver. Nothing of it is stored. A trial takes its turn among the listings of the fleet, as one of its
namespace.
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Sequence

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import Manifest
from libs.artifact.model_directory import ModelFile
from libs.artifact.names import trial_subject
from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.chassis.errors import ServiceError, Unavailable
from libs.chassis.nats_answering import answer_each
from libs.model.problems import problem_of
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import Resolution, TrialReply, TrialTask
from ome.model.v1.model_pb2 import Artifact, ForecastFacts, ForecastFile
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.fleet.listing import ListingLoop
from services.fetcher.listers.frames import Listed
from services.fetcher.listers.listers import Listers
from services.fetcher.sources.catalogue import Sources
from services.fetcher.store.space import on_disk_bytes

_QUEUE = "ome-trials"
# Who asks waits for it.
_MOST_SECONDS = 20.0
# Of them, those that the parser may take: what is listed is told in any case.
_PARSE_SECONDS = 4.0
# That wait or run at one time.
_MOST_TRIALS = 16
_FILES_TOLD = 20
# Words of a configuration are a stranger's.
_WORD_CHARACTERS, _PROBLEM_CHARACTERS, _MOST_CAPABILITIES = 253, 1024, 32
# Facts of files that were read already.
Parse = Callable[[Sequence[ModelFile], str], Awaitable[ModelFacts]]
_log = structlog.get_logger()


class TrialServer:
    """Answers trials of one pool; its resolvers share them."""

    def __init__(
        self,
        client: Client,
        pool: str,
        sources: Sources,
        listers: Listers,
        listings: ListingLoop,
        parse: Parse | None = None,
    ) -> None:
        """Without parse, no facts are told."""
        self._parse = parse
        self._client = client
        self._pool = pool
        self._sources = sources
        self._listers = listers
        self._listings = listings
        self._running = 0

    async def run(self) -> None:
        """Answer until cancelled, which ends the trials under way."""
        await answer_each(self._client, trial_subject(self._pool), _QUEUE, self._answer)

    async def _answer(self, message: Msg) -> None:
        reply = TrialReply()
        self._running += 1
        try:
            task = TrialTask.FromString(message.data)
            if self._running > _MOST_TRIALS:
                raise Unavailable(Reason.OVERLOADED, "too many plans are made at this time: ask again later")
            until = asyncio.get_running_loop().time() + _MOST_SECONDS
            async with asyncio.timeout_at(until), self._listings.turn(task.namespace):
                await self._list(task, reply, until)
        except TimeoutError:
            late = f"the source was not listed within {_MOST_SECONDS:g} seconds, for which a plan waits"
            reply.resolution.problem.CopyFrom(problem_of(Unavailable(Reason.UNAVAILABLE, late), "resolver"))
        except (DecodeError, InvalidValue, ServiceError) as error:
            reply.resolution.problem.CopyFrom(problem_of(error, "resolver"))
        finally:
            self._running -= 1
        _log.info("source_tried", result=word_of(reply.resolution.problem.reason) or "Ok")
        reply.resolution.resolved_at.FromMilliseconds(int(time.time() * 1000))
        try:
            await message.respond(reply.SerializeToString())
        except nats.errors.Error as error:
            _log.warning("trial_unanswered", error=f"{type(error).__name__}: {error}")

    async def _list(self, task: TrialTask, reply: TrialReply, until: float) -> None:
        source = task.source
        if self._sources.read_in_place(source.uri):
            reply.resolution.artifact.CopyFrom(Artifact())
            return
        credentials = dict(task.credentials.values)
        left = until - asyncio.get_running_loop().time() - 2 * _PARSE_SECONDS
        listed = await self._listers.list(
            source.uri,
            source.parameters,
            credentials,
            bool(task.namespace),
            declared_seconds=max(0.0, left) if self._parse else 0.0,
            schema_path=task.schema_path,
        )
        reply.resolution.CopyFrom(_resolution(listed.manifest))
        reply.resolution.secret_version = task.credentials.secret_version
        reply.resolution.warnings.extend(listed.warnings)
        reply.resolution.completeness.CopyFrom(listed.completeness)
        largest = heapq.nlargest(_FILES_TOLD, listed.manifest.files, key=lambda file: file.size_bytes)
        reply.files.extend(ForecastFile(path=file.path, bytes=file.size_bytes) for file in largest)
        reply.disk_bytes = sum(on_disk_bytes(file.size_bytes) for file in listed.manifest.files)
        reply.facts.CopyFrom(await self._facts(listed, task.schema_path))

    async def _facts(self, listed: Listed, schema_path: str) -> ForecastFacts:
        """What the parser makes of what was read. That there are none fails no plan."""
        if self._parse is None:
            return ForecastFacts(problem="the resolver is not told of a parser")
        if not listed.declared:
            return ForecastFacts(problem="the configuration could not be read in the time and size that a plan has")
        try:
            async with asyncio.timeout(_PARSE_SECONDS):
                return forecast_facts(await self._parse(listed.declared, schema_path))
        except TimeoutError:
            return ForecastFacts(problem=f"the parser did not answer within {_PARSE_SECONDS:g} seconds")
        except (InvalidValue, ServiceError) as error:
            return ForecastFacts(problem=one_line(error.message, _PROBLEM_CHARACTERS))


def forecast_facts(facts: ModelFacts) -> ForecastFacts:
    """What of the facts is told before the model is there."""
    quantization = facts.quantization
    return ForecastFacts(
        architecture=one_line(facts.architecture, _WORD_CHARACTERS),
        model_type=one_line(facts.model_type, _WORD_CHARACTERS),
        parameters=facts.parameters.count,
        parameters_exact=facts.parameters.exact,
        parameter_size=one_line(facts.parameter_size, _WORD_CHARACTERS),
        context_length=facts.usable_context_length or facts.context_length,
        quantization=one_line(quantization.spec_value or quantization.method or quantization.format, _WORD_CHARACTERS),
        dtype=one_line(facts.dtype, _WORD_CHARACTERS),
        capabilities=[one_line(each, _WORD_CHARACTERS) for each in facts.capabilities[:_MOST_CAPABILITIES]],
        format=one_line(facts.format, _WORD_CHARACTERS),
        weight_bytes=facts.weight_bytes,
    )


def _resolution(manifest: Manifest) -> Resolution:
    artifact = Artifact(
        digest=manifest.digest,
        source_revision=manifest.source_revision,
        bytes=manifest.size_bytes,
        files=len(manifest.files),
    )
    return Resolution(artifact=artifact)

"""ParserService over gRPC: takes the stream in part by part and answers with facts.

Owns the bounds on concurrent work. Must not interpret files.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import prometheus_client
from google.rpc import code_pb2

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Unavailable
from ome.parser.v1.parser_pb2 import FileChunk, ModelFacts, ParseRequest, ParseResponse
from ome.parser.v1.parser_pb2_grpc import ParserServiceServicer
from services.parser.errors import INVALID_LISTING, ParseError, TooLarge
from services.parser.intake import Intake
from services.parser.parsing import parse_directory

# What clients have sent and not yet got an answer for, together: a slow client holds memory, so there is an end to it.
_MAX_HELD_BYTES = 256 << 20
# The largest real directory takes a second or two on loopback.
_MAX_SECONDS = 60.0

T = TypeVar("T")

_PARSES = prometheus_client.Counter("ome_parser_parses", "Directories parsed, by result.", ["result"])
_SECONDS = prometheus_client.Histogram(
    "ome_parser_parse_seconds", "Time from the first part of a directory to its facts."
)


class TooLargeRefused(Invalid):
    """The input exceeds the limits of the service."""

    grpc_code = code_pb2.RESOURCE_EXHAUSTED


class Servicer(ParserServiceServicer):
    """Parses directories. The work itself runs on the executor, which bounds it and lets health answer meanwhile."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._held_bytes = 0

    async def Parse(self, request_iterator: AsyncIterator[ParseRequest], context: Any) -> ParseResponse:
        """See parser.proto."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(_MAX_SECONDS):
                facts = await self._parse(request_iterator)
        except TimeoutError as error:
            raise Unavailable(
                Reason.OVERLOADED, f"the directory did not arrive within {_MAX_SECONDS:g} seconds"
            ) from error
        except ParseError as error:
            _PARSES.labels(result=error.reason).inc()
            kind = TooLargeRefused if isinstance(error, TooLarge) else Invalid
            raise kind(error.reason, error.message) from error
        _PARSES.labels(result="Ok").inc()
        _SECONDS.observe(time.monotonic() - started)
        return ParseResponse(facts=facts)

    async def _parse(self, requests: AsyncIterator[ParseRequest]) -> ModelFacts:
        intake: Intake | None = None
        held = 0
        try:
            async for request in requests:
                part = request.WhichOneof("part")
                if part == "options":
                    if intake is not None:
                        raise ParseError(INVALID_LISTING, "options come first, and once")
                    intake = Intake(request.options.schema_path)
                elif part == "file":
                    intake = intake or Intake()
                    held += len(request.file.data)
                    self._hold(len(request.file.data))
                    await self._add(intake, request.file)
            return await self._run(_finish, intake or Intake())
        finally:
            self._held_bytes -= held

    async def _add(self, intake: Intake, file: FileChunk) -> None:
        if file.data:
            await self._run(intake.add, file.path, file.size_bytes, file.data)
        else:
            # A name and a size take no time; a listing has thousands of them.
            intake.add(file.path, file.size_bytes, b"")

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def _hold(self, count: int) -> None:
        self._held_bytes += count
        if self._held_bytes > _MAX_HELD_BYTES:
            raise Unavailable(Reason.OVERLOADED, "the parser holds too many directories at once", retry_after_seconds=1)


def _finish(intake: Intake) -> ModelFacts:
    return parse_directory(intake.finish())

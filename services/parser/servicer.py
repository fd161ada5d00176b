"""ParserService over gRPC: takes the stream in part by part and answers with facts.

Owns the bounds on concurrent work. Must not interpret files.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any

import grpc
import prometheus_client
from google.rpc import code_pb2

from libs.chassis.errors import Invalid
from ome.parser.v1.parser_pb2 import ModelFacts, ParseRequest, ParseResponse
from ome.parser.v1.parser_pb2_grpc import ParserServiceServicer
from services.parser.errors import INVALID_LISTING, ParseError, TooLarge
from services.parser.intake import Intake
from services.parser.parsing import parse_directory

# Each open intake may hold a directory's documents in memory.
_MAX_CONCURRENT = 4

_PARSES = prometheus_client.Counter("ome_parser_parses", "Directories parsed, by result.", ["result"])
_SECONDS = prometheus_client.Histogram("ome_parser_parse_seconds", "Time from the first part of a directory to its facts.")


class TooLargeRefused(Invalid):
    """The input exceeds the limits of the service."""

    grpc_code = code_pb2.RESOURCE_EXHAUSTED


class Servicer(ParserServiceServicer):
    """Parses directories, at most a few at a time; the work itself runs on the executor so that health answers."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def Parse(self, request_iterator: AsyncIterator[ParseRequest], context: Any) -> ParseResponse:
        """See parser.proto."""
        started = time.monotonic()
        try:
            async with self._slots:
                facts = await self._parse(request_iterator)
        except ParseError as error:
            _PARSES.labels(result=error.reason).inc()
            kind = TooLargeRefused if isinstance(error, TooLarge) else Invalid
            raise kind(error.reason, error.message) from error
        _PARSES.labels(result="Ok").inc()
        _SECONDS.observe(time.monotonic() - started)
        return ParseResponse(facts=facts)

    async def _parse(self, requests: AsyncIterator[ParseRequest]) -> ModelFacts:
        loop = asyncio.get_running_loop()
        intake: Intake | None = None
        async for request in requests:
            part = request.WhichOneof("part")
            if part == "options":
                if intake is not None:
                    raise ParseError(INVALID_LISTING, "options come first, and once")
                intake = Intake(request.options.schema_path)
            elif part == "file":
                intake = intake or Intake()
                file = request.file
                if file.data:
                    await loop.run_in_executor(self._executor, intake.add, file.path, file.size_bytes, file.data)
                else:
                    intake.add(file.path, file.size_bytes, file.data)
        return await loop.run_in_executor(self._executor, _finish, intake or Intake())


def _finish(intake: Intake) -> ModelFacts:
    return parse_directory(intake.finish())

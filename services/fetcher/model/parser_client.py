"""The parser's client: one channel, one stream of a model's metadata, facts or an error of ours in return."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from libs.artifact.model_directory import ModelFile
from libs.artifact.reasons import Reason, reason_named
from libs.chassis.errors import Invalid, ServiceError, Unavailable
from ome.parser.v1.parser_pb2 import FileChunk, ModelFacts, ParseOptions, ParseRequest, ParseResponse
from ome.parser.v1.parser_pb2_grpc import ParserServiceStub
from services.fetcher import metrics

_DEADLINE_SECONDS = 20
# FileChunk.data takes at most this.
_CHUNK_BYTES = 1 << 20
# What another attempt with the same files cannot change.
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_OPTIONS = (
    # Facts carry the configuration as published.
    ("grpc.max_receive_message_length", 64 << 20),
    # A parser that was restarted is found again soon.
    ("grpc.max_reconnect_backoff_ms", 5000),
)

ReadFiles = Callable[[Path, str], Awaitable[list[ModelFile]]]


class ParserClient:
    """Asks for facts about the files below a directory."""

    def __init__(self, stub: "ParserServiceStub", read_files: ReadFiles) -> None:
        self._stub = stub
        self._read_files = read_files

    async def parse(self, directory: Path, schema_path: str) -> ModelFacts:
        """The facts of a model.

        Raises Invalid (NoConfig, ParseFailed, InvalidListing), or Unavailable when there is no answer.
        """
        try:
            facts = await self._parse(directory, schema_path)
        except ServiceError as error:
            metrics.PARSES.labels(result=error.reason).inc()
            raise
        metrics.PARSES.labels(result="Ok").inc()
        return facts

    async def _parse(self, directory: Path, schema_path: str) -> ModelFacts:
        files = await self._read_files(directory, schema_path)
        try:
            response: ParseResponse = await self._stub.Parse(_requests(files, schema_path), timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from error
        return response.facts


@asynccontextmanager
async def connect_parser(address: str, read_files: ReadFiles) -> AsyncIterator[ParserClient]:
    """A client that connects when it is first used, and again whenever that is needed."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        yield ParserClient(ParserServiceStub(channel), read_files)


async def _requests(files: Sequence[ModelFile], schema_path: str) -> AsyncIterator[ParseRequest]:
    yield ParseRequest(options=ParseOptions(schema_path=schema_path))
    for file in files:
        for start in range(0, max(1, len(file.data)), _CHUNK_BYTES):
            data = file.data[start : start + _CHUNK_BYTES]
            yield ParseRequest(file=FileChunk(path=file.path, size_bytes=file.size_bytes, data=data))


def _error(error: grpc.aio.AioRpcError) -> ServiceError:
    message = error.details() or error.code().name
    reason, pause = _details(error)
    if error.code() in _REFUSALS:
        return Invalid(reason or Reason.PARSE_FAILED, message)
    return Unavailable(reason or Reason.UNAVAILABLE, f"the parser gives no answer: {message}", pause)


def _details(error: grpc.aio.AioRpcError) -> tuple[Reason | None, float | None]:
    """The reason and the seconds to wait among the details of a google.rpc.Status, as far as they are there."""
    reason, pause = None, None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    reason = reason_named(info.reason)
                elif detail.Unpack(retry):
                    pause = retry.retry_delay.ToNanoseconds() / 1e9
    return reason, pause

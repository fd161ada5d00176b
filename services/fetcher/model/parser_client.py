"""The parser's client: one channel, one stream of a model's metadata, facts or an error of ours in return."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from libs.artifact.model_directory import ModelFile
from libs.artifact.reasons import Reason, reason_named
from libs.chassis.errors import Invalid, ServiceError, Unavailable
from libs.chassis.tls_files import TlsFiles, TlsIdentity
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
    # The proxy of the environment is for sources: gRPC would take https_proxy and grpc_proxy for itself.
    ("grpc.enable_http_proxy", 0),
    # A parser that was restarted is found again soon.
    ("grpc.max_reconnect_backoff_ms", 5000),
)

ReadFiles = Callable[[Path, str], Awaitable[list[ModelFile]]]


class ParserClient:
    """Asks for facts about the files below a directory."""

    def __init__(self, connection: "_Connection", read_files: ReadFiles | None) -> None:
        self._connection = connection
        self._read_files = read_files

    async def parse(self, directory: Path, schema_path: str) -> ModelFacts:
        """The facts of a model.

        Raises Invalid (NoConfig, ParseFailed, InvalidListing), or Unavailable when there is no answer.
        """
        assert self._read_files
        return await _counted(self._parse_directory(self._read_files, directory, schema_path))

    async def parse_files(self, files: Sequence[ModelFile], schema_path: str) -> ModelFacts:
        """The facts of a model whose files were read already; raises as parse does."""
        return await _counted(self._parse(files, schema_path))

    async def _parse_directory(self, read_files: ReadFiles, directory: Path, schema_path: str) -> ModelFacts:
        return await self._parse(await read_files(directory, schema_path), schema_path)

    async def _parse(self, files: Sequence[ModelFile], schema_path: str) -> ModelFacts:
        stub = self._connection.stub()
        try:
            response: ParseResponse = await stub.Parse(_requests(files, schema_path), timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from error
        return response.facts


class _Connection:
    """The channel to the parser, made anew when the files of TLS have changed."""

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        self._address = address
        self._tls = tls
        self._shown: TlsIdentity | None = None
        self._channel: grpc.aio.Channel | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def stub(self) -> "ParserServiceStub":
        """The parser under the certificates that are in force now. Raises Unavailable when there are none."""
        if self._tls is not None and self._tls.current is None:
            raise Unavailable(Reason.UNAVAILABLE, f"the parser cannot be called: {self._tls.problem}")
        identity = self._tls.current if self._tls is not None else None
        if self._channel is None or identity != self._shown:
            self._leave()
            self._shown, self._channel = identity, _channel(self._address, identity)
        return ParserServiceStub(self._channel)

    def _leave(self) -> None:
        """Let the calls of the last channel end, and close it."""
        if self._channel is not None:
            task = asyncio.create_task(self._channel.close(_DEADLINE_SECONDS))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Cancel all calls."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()


@asynccontextmanager
async def connect_parser(
    address: str, tls: TlsFiles | None, read_files: ReadFiles | None = None
) -> AsyncIterator[ParserClient]:
    """A client that connects when it is first used, and again whenever that is needed.

    Without read_files it parses what was read already, and no directories.
    With tls None it speaks plain text; otherwise no byte of a request is sent to whom the authority has not certified.
    """
    async with AsyncExitStack() as stack:
        if tls is not None:
            await stack.enter_async_context(tls.followed())
        connection = _Connection(address, tls)
        stack.push_async_callback(connection.close)
        yield ParserClient(connection, read_files)


async def _counted(parsing: Awaitable[ModelFacts]) -> ModelFacts:
    try:
        facts = await parsing
    except ServiceError as error:
        metrics.PARSES.labels(result=error.reason).inc()
        raise
    metrics.PARSES.labels(result="Ok").inc()
    return facts


def _channel(address: str, identity: TlsIdentity | None) -> grpc.aio.Channel:
    if identity is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(identity.authority, identity.key, identity.certificate)
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


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

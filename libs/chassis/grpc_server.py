"""The gRPC server of a process: TLS, health, reflection, one error mapping for every RPC, and a drain at the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from libs.chassis.errors import Conflict, Corrupt, Invalid, Missing, ServiceError, Unavailable
from libs.chassis.health import Health
from libs.chassis.tls_files import TlsFiles, TlsIdentity

# A caller's certificate is looked at when it connects. So no connection outlives this time and the grace by much, and a
# call that runs has time to end: parsing, the only one under such certificates, has 20 seconds.
_CERTIFIED_CONNECTION_SECONDS = 300.0
_GRACE_SECONDS = 30.0
_PORT_CHECK = "grpc_port"
_DOMAIN = "ome.io"
_CODES: dict[type[ServiceError], int] = {
    Invalid: code_pb2.INVALID_ARGUMENT,
    Missing: code_pb2.NOT_FOUND,
    Conflict: code_pb2.ABORTED,
    Unavailable: code_pb2.UNAVAILABLE,
    Corrupt: code_pb2.DATA_LOSS,
}
_log = structlog.get_logger()


def error_status(error: ServiceError) -> status_pb2.Status:
    """The google.rpc.Status of an error: its reason as ErrorInfo, the time to wait as RetryInfo where there is one.

    A subclass may choose its code as `grpc_code`.
    """
    code = getattr(error, "grpc_code", None)
    if code is None:
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), code_pb2.UNKNOWN)
    details = [any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=error.metadata))
    if isinstance(error, Unavailable) and error.retry_after_seconds:
        pause = duration_pb2.Duration()
        pause.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        details.append(any_pb2.Any())
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=pause))
    return status_pb2.Status(code=code, message=error.message, details=details)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Ends every RPC that raised with a status: ours with its reason, anything else as INTERNAL without a traceback."""

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wrap the handler of one RPC."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method

        async def unary(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
            try:
                return await (handler.unary_unary or handler.stream_unary)(request, context)
            except Exception as error:
                await _abort(context, method, error)

        async def stream(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> AsyncIterator[Any]:
            try:
                async for response in (handler.unary_stream or handler.stream_stream)(request, context):
                    yield response
            except Exception as error:
                await _abort(context, method, error)

        coders = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        # The handlers of health and reflection are not coroutines; they raise nothing of ours.
        if method.startswith("/grpc."):
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(unary, **coders)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(unary, **coders)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(stream, **coders)
        return grpc.stream_stream_rpc_method_handler(stream, **coders)


async def _abort(context: "grpc.aio.ServicerContext[Any, Any]", method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, ServiceError):
        await context.abort_with_status(rpc_status.to_status(error_status(error)))
    _log.error("rpc_crashed", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "the service failed; its log says why")


@asynccontextmanager
async def serve_grpc(
    host: str,
    port: int,
    servicers: Mapping[str, Callable[[grpc.aio.Server], None]],
    health: Health,
    tls: TlsFiles | None,
    drain_seconds: float = 5.0,
    options: tuple[tuple[str, Any], ...] = (),
    certified_connection_seconds: float = _CERTIFIED_CONNECTION_SECONDS,
) -> AsyncIterator[int]:
    """Serve servicers until the block ends; yields the port, which the kernel chose when port is 0.

    servicers maps the full name of each service to a function that adds its servicer to the server. At the end the
    service stops being SERVING first, then running calls get drain_seconds.

    With tls None the port speaks plain text. Otherwise it takes up new files without a restart. It is opened once the
    files can be used: until then the block runs, with 0 for the port, and the health check of the files says why. Under
    an authority, callers must show a certificate of it, again after certified_connection_seconds.
    """
    if tls is not None and tls.with_authority:
        options = (
            *options,
            ("grpc.max_connection_age_ms", int(certified_connection_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", int(_GRACE_SECONDS * 1000)),
        )
    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=options)
    health_servicer = grpc_health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    for add in servicers.values():
        add(server)
    reflection.enable_server_reflection((*servicers, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    # An IPv6 address has colons of its own.
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    tasks: set[asyncio.Task[None]] = set()

    def publish() -> None:
        task = asyncio.get_running_loop().create_task(set_serving())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def set_serving() -> None:
        status = health_pb2.HealthCheckResponse.SERVING if health.ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *servicers):
            await health_servicer.set(name, status)

    await set_serving()
    health.on_change(publish)
    try:
        async with _opened(server, address, tls, health) as bound:
            yield bound
    finally:
        await health_servicer.enter_graceful_shutdown()
        await server.stop(drain_seconds)


@asynccontextmanager
async def _opened(server: grpc.aio.Server, address: str, tls: TlsFiles | None, health: Health) -> AsyncIterator[int]:
    if tls is None:
        _log.warning("grpc_in_plain_text", address=address)
        bound = server.add_insecure_port(address)
        await server.start()
        yield bound
        return
    async with tls.followed():
        if tls.current is not None:
            yield await _open_tls(server, address, tls)
            return
        opening = asyncio.create_task(_open_later(server, address, tls, health))
        try:
            yield 0
        finally:
            opening.cancel()
            await asyncio.wait([opening])


async def _open_later(server: grpc.aio.Server, address: str, tls: TlsFiles, health: Health) -> None:
    try:
        await _open_tls(server, address, tls)
    except RuntimeError as error:
        # The process is at work meanwhile: it does not end, as it does when the port is taken at the start.
        _log.error("grpc_port_not_opened", address=address, error=str(error))
        health.fail(_PORT_CHECK, f"{address} cannot be opened: {error}")


async def _open_tls(server: grpc.aio.Server, address: str, tls: TlsFiles) -> int:
    given = first = await tls.usable()

    def replacement() -> Any:
        """The files if they are new, and None if not: gRPC asks at each handshake, from a thread of its own."""
        nonlocal given
        if tls.current is None or tls.current == given:
            return None
        given = tls.current
        return _configuration(given)

    credentials = grpc.dynamic_ssl_server_credentials(
        _configuration(first), replacement, require_client_authentication=tls.with_authority
    )
    bound = server.add_secure_port(address, credentials)
    await server.start()
    return bound


def _configuration(identity: TlsIdentity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.certificate)], root_certificates=identity.authority or None
    )

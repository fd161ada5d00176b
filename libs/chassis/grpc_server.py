"""The gRPC server of a process: health, reflection, one error mapping for every RPC, and a drain at the end."""

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
    drain_seconds: float = 5.0,
    options: tuple[tuple[str, Any], ...] = (),
) -> AsyncIterator[int]:
    """Serve servicers until the block ends; yields the port, which the kernel chose when port is 0.

    servicers maps the full name of each service to a function that adds its servicer to the server. At the end the
    service stops being SERVING first, then running calls get drain_seconds.
    """
    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=options)
    health_servicer = grpc_health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    for add in servicers.values():
        add(server)
    reflection.enable_server_reflection((*servicers, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    # An IPv6 address has colons of its own.
    bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    await server.start()

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
        yield bound
    finally:
        await health_servicer.enter_graceful_shutdown()
        await server.stop(drain_seconds)

"""A collector of traces that speaks OTLP over gRPC on a port of its own, and keeps what it is sent."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """A span as it came, with the name of the service that sent it. Ids are in hexadecimal; times in nanoseconds."""

    service: str
    name: str
    trace: str
    identity: str
    parent: str
    started: int
    ended: int
    about: dict[str, str]
    failed: bool
    why: str


class TraceCollector(TraceServiceServicer):
    """What was sent, in the order in which it came."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self.endpoint = ""

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        """Keep a batch, as every collector takes it."""
        for resource in request.resource_spans:
            service = _texts(resource.resource.attributes)["service.name"]
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            with self._lock:
                self._spans += [_span(service, span) for span in spans]
        return ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """All spans that came so far."""
        with self._lock:
            return list(self._spans)


@contextmanager
def running_collector() -> Iterator[TraceCollector]:
    """A collector on a free port of loopback until the context ends."""
    collector = TraceCollector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=0).wait()


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        identity=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        about=_texts(span.attributes),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        why=span.status.message,
    )


def _texts(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value or str(each.value.int_value) for each in attributes}

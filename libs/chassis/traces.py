"""Traces of work that several services do, sent to a collector by OTLP; off unless there is the address of one.

Owns ids: those of a trace follow from its key, so that each service adds its part without being told of the others, and
a part that is done again by another process still belongs to it. What is a trace, and of which parts, is for services.
OpenTelemetry is imported when traces are sent, as it takes memory.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from libs.artifact.wording import one_line

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext

Attributes = Mapping[str, str | int]
_CLOSE_MILLISECONDS = 3000


class Traces(Protocol):
    """Where services say what they have done; times are seconds since the epoch."""

    def part(self, trace: str, name: str, started: float, ended: float, about: Attributes, failed: str = "") -> None:
        """A part of a trace that took so long; `failed` says how it failed, if it did."""
        ...

    def whole(self, trace: str, name: str, started: float, ended: float, about: Attributes) -> None:
        """The whole of a trace, which its parts belong to: said by whoever sees its end."""
        ...


class NoTraces:
    """Nobody is told."""

    def part(self, trace: str, name: str, started: float, ended: float, about: Attributes, failed: str = "") -> None:
        """Do nothing."""

    def whole(self, trace: str, name: str, started: float, ended: float, about: Attributes) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TraceIds:
    """The numbers of a trace, and of the span that is the whole of it."""

    trace: int
    whole: int

    def is_sent(self, share: float) -> bool:
        """Whether a trace is among the share that is sent: the same for every service, as it follows from its id."""
        return (self.trace & (1 << 64) - 1) < share * (1 << 64)


def ids_of(key: str) -> TraceIds:
    """The ids of the trace with this key. OpenTelemetry allows no id to be zero."""
    digest = hashlib.sha256(key.encode()).digest()
    return TraceIds(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1)


class SentTraces:
    """Hands spans to OpenTelemetry, which sends them in batches from a thread of its own and drops what is too much."""

    def __init__(self, processor: "SpanProcessor", resource: "Resource", share: float) -> None:
        self._processor = processor
        self._resource = resource
        self._share = share

    def part(self, trace: str, name: str, started: float, ended: float, about: Attributes, failed: str = "") -> None:
        """See Traces."""
        ids = ids_of(trace)
        own = ids_of(f"{trace} {name} {started}").whole
        self._end(ids, own, ids.whole, name, started, ended, about, failed)

    def whole(self, trace: str, name: str, started: float, ended: float, about: Attributes) -> None:
        """See Traces."""
        ids = ids_of(trace)
        self._end(ids, ids.whole, None, name, started, ended, about, "")

    def _end(
        self,
        ids: TraceIds,
        own: int,
        parent: int | None,
        name: str,
        started: float,
        ended: float,
        about: Attributes,
        failed: str,
    ) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        if not ids.is_sent(self._share):
            return
        span = ReadableSpan(
            name,
            context=_context(ids.trace, own),
            parent=_context(ids.trace, parent) if parent else None,
            resource=self._resource,
            # What cannot be sent would take all spans of its batch with it.
            attributes={key: one_line(value) if isinstance(value, str) else value for key, value in about.items()},
            status=Status(StatusCode.ERROR, one_line(failed)) if failed else Status(StatusCode.OK),
            start_time=int(started * 1e9),
            # Clocks are set now and then; a span that ends before it begins is shown as one of many years.
            end_time=int(max(started, ended) * 1e9),
        )
        self._processor.on_end(span)


def _context(trace: int, span: int) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


@asynccontextmanager
async def open_traces(service: str, instance: str, endpoint: str, share: float) -> AsyncIterator[Traces]:
    """Where this process tells of its work until the context ends, which sends what is left for some seconds at most.

    `endpoint` is the address of a collector that speaks OTLP by gRPC, such as http://otel:4317; empty for none.
    """
    if not endpoint:
        yield NoTraces()
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource({"service.namespace": "ome", "service.name": service, "service.instance.id": instance})
    # The proxy of the environment is for sources: gRPC would take it for itself.
    options: Any = (("grpc.enable_http_proxy", 0),)
    insecure = not endpoint.startswith("https://")
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, channel_options=options)
    processor = BatchSpanProcessor(exporter)
    try:
        yield SentTraces(processor, resource, share)
    finally:
        await asyncio.to_thread(processor.force_flush, _CLOSE_MILLISECONDS)
        await asyncio.to_thread(processor.shutdown)

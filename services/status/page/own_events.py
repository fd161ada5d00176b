"""Reads the Kubernetes Events of a model as the person who looks at the page: with that person's own token.

The service may write events of models and read none: those of a namespace tell of much else. Decides which are shown.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from libs.artifact.wording import one_line
from libs.chassis.kube import KubeClient, Object
from ome.model.v1.model_pb2 import ModelRef

# Where Kubernetes keeps events of what is in no namespace.
CLUSTER_NAMESPACE = "default"
_MOST_READ, _MOST_SHOWN = 500, 50
# Whoever may write events of a namespace may make each as large as an object may be.
_MOST_BYTES = 4 << 20
_AT_A_TIME = 4


class ReadsEvents(Protocol):
    """Reads events on behalf of the one whose token is given."""

    async def of_model(self, token: str, ref: ModelRef) -> list[Object]:
        """The events of a model. Raises ServiceError."""
        ...


class KubeEvents:
    """Asks the API server."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._asking = asyncio.Semaphore(_AT_A_TIME)

    async def of_model(self, token: str, ref: ModelRef) -> list[Object]:
        """The events of a model, as KubeClient.get raises."""
        path = f"/api/v1/namespaces/{ref.namespace or CLUSTER_NAMESPACE}/events"
        query = {"fieldSelector": f"involvedObject.uid={ref.uid}", "limit": str(_MOST_READ)}
        async with self._asking:
            answer = await self._kube.as_bearer(token).get(path, query, most_bytes=_MOST_BYTES)
        found: list[Object] = answer.get("items") or []
        return found


@dataclass(frozen=True)
class ShownEvent:
    """One event, in words."""

    time: str
    reason: str
    message: str
    is_warning: bool
    times: int


def shown_events(events: list[Object]) -> list[ShownEvent]:
    """The newest events first, as many as somebody reads."""
    return [_shown(event) for event in sorted(events, key=_moment, reverse=True)[:_MOST_SHOWN]]


def _shown(event: Mapping[str, Any]) -> ShownEvent:
    series = event.get("series") or {}
    return ShownEvent(
        # Events have microseconds, which nobody reads.
        _moment(event)[:19].replace("T", " "),
        one_line(str(event.get("reason") or "")),
        one_line(str(event.get("message") or event.get("note") or "")),
        event.get("type") == "Warning",
        int(series.get("count") or event.get("count") or 1),
    )


def _moment(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or (event.get("metadata") or {}).get("creationTimestamp")
        or ""
    )
